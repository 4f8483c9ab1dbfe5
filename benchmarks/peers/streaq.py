"""streaQ: one worker, ten coroutines."""

from __future__ import annotations

from contextlib import AsyncExitStack
from datetime import timedelta

from benchmarks import work
from benchmarks.peers import THREADS, App, AsyncApp, Peer, Task

PEER = Peer(
    "streaQ",
    "streaq",
    ("streaq",),
    "at least once (idle for a minute: again)",
    "`Worker(concurrency=10)` and its default prefetch; `ttl=0` (no results kept), `silent` (no log line a job).",
)


def connect(url: str) -> App:
    from streaq import Worker

    worker = Worker(redis_url=url, concurrency=THREADS)
    options = {"ttl": 0, "silent": True}
    tasks = {
        "noop": worker.task(name="noop", **options)(work.noop_async),
        "nap": worker.task(name="nap", **options)(work.nap_async),
        "burn": worker.task(name="burn", **options)(work.burn_async),
    }

    class Streaq(AsyncApp):
        def __init__(self) -> None:
            super().__init__()
            self._entered: AsyncExitStack | None = None

        async def _enter(self) -> None:
            if self._entered is None:
                self._entered = AsyncExitStack()
                await self._entered.enter_async_context(worker)

        def dispatch(self, task: Task, ids: range) -> None:
            self.run(self._dispatch(task, ids))

        async def _dispatch(self, task: Task, ids: range) -> None:
            await self._enter()
            for n in ids:
                await tasks[task].enqueue(n, work.email(n))

        def many(self, ids: range) -> None:
            self.run(self._many(ids, None))

        async def _many(self, ids: range, delay: timedelta | None) -> None:
            await self._enter()
            await worker.enqueue_many([tasks["noop"].enqueue(n, work.email(n)).start(delay=delay) for n in ids])

        def later(self, ids: range, delay_s: float) -> None:
            self.run(self._many(ids, timedelta(seconds=delay_s)))

        def work(self) -> None:
            worker.run_sync()

    return Streaq()
