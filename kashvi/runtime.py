"""The real clock, threads and chance: with ``loops``, the only module that touches them."""

from __future__ import annotations

import atexit
import contextlib
import os
import random
import sys
import threading
import time
import weakref
from collections.abc import Awaitable, Callable
from contextvars import Context
from types import FrameType
from typing import NoReturn

import uuid_utils

from .ports import Condition, Task


class _Process:
    """This process: its cached number, the callbacks after a fork, and the callbacks at shutdown."""

    def __init__(self) -> None:
        self.number = os.getpid()
        self.closing = False
        self._watched = False
        self._told_of_end: list[Callable[[], object]] = []
        self._told_of_forks: list[weakref.WeakMethod[Callable[[], None]]] = []
        if hasattr(os, "register_at_fork"):  # no forks on Windows
            os.register_at_fork(after_in_child=self._forked)

    def tell_of_forks(self, run: Callable[[], None]) -> None:
        self._told_of_forks = [one for one in self._told_of_forks if one() is not None]
        self._told_of_forks.append(weakref.WeakMethod(run))

    def _forked(self) -> None:
        """In the child of a fork, before anything else runs: the only place that repairs state after a fork."""
        self.number = os.getpid()
        self._told_of_end.clear()
        for told in self._told_of_forks:
            if (run := told()) is not None:
                run()

    def tell_of_end(self, run: Callable[[], object]) -> Callable[[], None]:
        if not self._watched:
            self._watched = True
            self._watch()
        self._told_of_end.append(run)

        def forget() -> None:
            with contextlib.suppress(ValueError):
                self._told_of_end.remove(run)

        return forget

    def _watch(self) -> None:
        """Register with threading's private shutdown hook: executors refuse work long before ``atexit`` runs."""
        import concurrent.futures.thread  # noqa: F401  # the last hook is called first, so that theirs comes after ours

        register: Callable[..., object] = getattr(threading, "_register_atexit", atexit.register)
        try:
            register(self._closes)
        except RuntimeError:
            self.closing = True

    def _closes(self) -> None:
        self.closing = True
        for run in self._told_of_end[:]:
            with contextlib.suppress(Exception):
                run()


_PROCESS = _Process()


class SystemRuntime:
    """The Runtime of a real process.

    ``now`` follows a test's frozen clock, as users of freezegun and time-machine expect of delayed jobs.
    ``monotonic`` and waiting stay real, so that leases and workers go on under a frozen clock.
    """

    # Bound in the class, where libraries that patch modules don't reach them.
    monotonic = staticmethod(time.monotonic)
    sleep = staticmethod(time.sleep)

    def process(self) -> int:
        return _PROCESS.number

    def host(self) -> str:
        import socket  # 1.5 ms that only a worker spends

        return socket.gethostname()

    def now(self) -> float:
        return time.time()

    def condition(self) -> Condition:
        return threading.Condition()

    def spawn(self, run: Callable[[], None], name: str) -> Task:
        thread = threading.Thread(target=run, name=name, daemon=True)
        thread.start()
        return thread

    def new_id(self) -> str:
        return str(uuid_utils.uuid7())

    def random(self) -> float:
        return random.random()

    def thread(self) -> int:
        return threading.get_ident()

    def frame(self, thread: int) -> FrameType | None:
        return sys._current_frames().get(thread)

    def interruptible(self) -> bool:
        return threading.current_thread() is threading.main_thread()

    def exit(self, error: BaseException | None) -> NoReturn:
        code = error.code if isinstance(error, SystemExit) else error and 1
        os._exit(code if isinstance(code, int) else 1 if code else 0)

    def closing(self) -> bool:
        return _PROCESS.closing

    def at_closing(self, run: Callable[[], object]) -> Callable[[], None]:
        return _PROCESS.tell_of_end(run)

    def at_fork(self, run: Callable[[], None]) -> None:
        _PROCESS.tell_of_forks(run)

    async def aside(self, run: Callable[[], None], timeout_s: float | None) -> None:
        import asyncio  # only programs with an event loop need it

        await asyncio.wait_for(asyncio.to_thread(run), timeout_s)

    def run_async(self, awaitable: Awaitable[object], context: Context) -> object:
        from . import loops  # only workers of async jobs need it

        return loops.run(awaitable, context)

    def end_thread(self) -> None:
        if "kashvi.loops" in sys.modules:
            from . import loops

            loops.close()

    def at_exit(self, run: Callable[[], object]) -> Callable[[], None]:
        atexit.register(run)
        return lambda: atexit.unregister(run)
