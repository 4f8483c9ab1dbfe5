"""The runtime's event loops for ``async def handle``: one for each thread, from its first such job to its end."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable
from contextvars import Context

from .errors import LoopIsRunning, TimedOut
from .events import warn

_here = threading.local()


def run(awaitable: Awaitable[object], context: Context) -> object:
    """Await it on this thread's loop, which is kept for the next attempt. Raises LoopIsRunning."""
    if asyncio._get_running_loop() is not None:
        if inspect.iscoroutine(awaitable):
            awaitable.close()
        raise LoopIsRunning
    runner: asyncio.Runner | None = getattr(_here, "runner", None)
    if runner is None:
        runner = _here.runner = asyncio.Runner()
    return run_on(runner, awaitable, context)


def run_on(runner: asyncio.Runner, awaitable: Awaitable[object], context: Context) -> object:
    """Await it on the runner's loop, and cancel the tasks that it leaves behind."""
    try:
        return runner.run(_awaited(awaitable), context=context)
    finally:
        if left := asyncio.all_tasks(runner.get_loop()):
            runner.run(cancel(left))


async def within(awaitable: Awaitable[object], seconds: float, timeout_s: float) -> object:
    """Await it for ``seconds``, then cancel it. Raises TimedOut, with the time limit, if it ends by that."""
    limit = asyncio.timeout(max(seconds, 0.0))
    try:
        async with limit:
            return await awaitable
    except TimeoutError:
        if limit.expired():
            raise TimedOut(timeout_s) from None
        raise


async def _awaited(awaitable: Awaitable[object]) -> object:
    """A coroutine of any awaitable."""
    return await awaitable


async def cancel(tasks: set[asyncio.Task[object]]) -> None:
    """Cancel the tasks, and wait until they have ended."""
    one = next(iter(tasks)).get_coro()
    warn(f"handle() ended before {len(tasks)} of its tasks ({one}); they are cancelled")
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def close() -> None:
    """This thread makes no more attempts."""
    runner: asyncio.Runner | None = getattr(_here, "runner", None)
    if runner is not None:
        del _here.runner
        runner.close()
