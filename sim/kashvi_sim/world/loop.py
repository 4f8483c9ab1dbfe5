"""Event loops of simulated handlers: their time is virtual, and other tasks of the kernel go on while they wait."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable
from contextvars import Context
from selectors import DefaultSelector, SelectorKey

from kashvi.loops import run_on

from .kernel import EPOCH, Kernel


class _Selector(DefaultSelector):
    """Waits in virtual time for the loop's next timer; in real time where only a file or a thread can end the wait."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__()
        self._kernel = kernel

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        if timeout is None:
            return super().select(None)
        ready = super().select(0)
        if ready or timeout <= 0:
            return ready
        self._let_others_run(timeout)
        return super().select(0)

    def _let_others_run(self, seconds: float) -> None:
        """Their loops run in this thread, too: what Python keeps for each thread is put back afterwards."""
        running, hooks = asyncio._get_running_loop(), sys.get_asyncgen_hooks()
        asyncio._set_running_loop(None)
        try:
            self._kernel.sleep(seconds)
        finally:
            asyncio._set_running_loop(running)
            sys.set_asyncgen_hooks(*hooks)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is the kernel's."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(_Selector(kernel))
        self._kernel = kernel

    def time(self) -> float:
        return self._kernel.time - EPOCH + 1_000.0


def run(kernel: Kernel, awaitable: Awaitable[object], context: Context) -> object:
    """As ``kashvi.loops.run``, on a loop of its own."""
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(kernel)) as runner:
        return run_on(runner, awaitable, context)
