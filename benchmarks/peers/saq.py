"""SAQ: one worker, ten coroutines."""

from __future__ import annotations

import time

from benchmarks import work
from benchmarks.peers import THREADS, App, AsyncApp, Peer, Task

PEER = Peer(
    "SAQ",
    "saq",
    ("saq[redis,hiredis]", "typing-extensions"),
    "at least once, once a job's heartbeat or timeout is set; stuck jobs are swept",
    "`Worker(concurrency=10)` with hiredis, which its README recommends, and `ttl=-1` (no results kept).",
    many=False,
)


def connect(url: str) -> App:
    from saq import Queue, Worker

    queue = Queue.from_url(url)

    class SAQ(AsyncApp):
        def dispatch(self, task: Task, ids: range) -> None:
            self.run(self._enqueue(task, ids, 0.0))

        async def _enqueue(self, task: Task, ids: range, delay_s: float) -> None:
            scheduled = {"scheduled": int(time.time() + delay_s)} if delay_s else {}
            for n in ids:
                await queue.enqueue(f"{task}_async", user_id=n, email=work.email(n), ttl=-1, **scheduled)

        def many(self, ids: range) -> None:
            raise NotImplementedError

        def later(self, ids: range, delay_s: float) -> None:
            self.run(self._enqueue("noop", ids, delay_s))

        def work(self) -> None:
            self.run(Worker(queue, functions, concurrency=THREADS).start())

    def named(name: str, task: object) -> tuple[str, object]:
        async def run(ctx: object, *, user_id: int, email: str) -> None:
            await task(user_id, email)  # type: ignore[operator]

        return name, run

    functions = [named(name, getattr(work, name)) for name in ("noop_async", "nap_async", "burn_async")]
    return SAQ()
