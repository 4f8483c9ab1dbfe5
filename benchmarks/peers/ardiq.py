"""ArdiQ: one worker with its Rust core, ten at a time."""

from __future__ import annotations

from benchmarks import work
from benchmarks.peers import THREADS, App, AsyncApp, Peer, Task

PEER = Peer(
    "ArdiQ",
    "ardiq",
    ("ardiq",),
    "at least once (reclaimed with XAUTOCLAIM)",
    "`Ardiq(concurrency=10)` and its default prefetch, coroutines as tasks, as its guide to performance runs it.",
)


def connect(url: str) -> App:
    from ardiq import Ardiq

    app = Ardiq(url, concurrency=THREADS)
    tasks = {
        "noop": app.task(name="noop")(work.noop_async),
        "nap": app.task(name="nap")(work.nap_async),
        "burn": app.task(name="burn")(work.burn_async),
    }

    class ArdiqApp(AsyncApp):
        def dispatch(self, task: Task, ids: range) -> None:
            self.run(self._dispatch(task, ids))

        async def _dispatch(self, task: Task, ids: range) -> None:
            for n in ids:
                await tasks[task].enqueue(n, work.email(n))

        def many(self, ids: range) -> None:
            self.run(app.enqueue_many(tasks["noop"].prepare(n, work.email(n)) for n in ids))

        def later(self, ids: range, delay_s: float) -> None:
            delayed = tasks["noop"].options(delay_ms=int(delay_s * 1000))
            self.run(app.enqueue_many(delayed.prepare(n, work.email(n)) for n in ids))

        def work(self) -> None:
            self.run(app.run())

    return ArdiqApp()
