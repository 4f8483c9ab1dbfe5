"""Huey: the consumer, ten threads."""

from __future__ import annotations

from benchmarks import work
from benchmarks.peers import THREADS, App, Peer, Task

PEER = Peer(
    "Huey",
    "huey",
    ("huey", "redis"),
    "at most once: a job is taken off Redis before it runs",
    "`RedisHuey` with its blocking pop and `results=False`; consumer with ten threads, no periodic tasks. Its guide: "
    "threads for I/O, no result store where results are not read.",
    many=False,
)


def connect(url: str) -> App:
    from huey import RedisHuey

    huey = RedisHuey("bench", url=url, results=False)
    tasks = {name: huey.task()(getattr(work, name)) for name in ("noop", "nap", "burn")}

    class Huey:
        def dispatch(self, task: Task, ids: range) -> None:
            for n in ids:
                tasks[task](n, work.email(n))

        def many(self, ids: range) -> None:
            raise NotImplementedError

        def later(self, ids: range, delay_s: float) -> None:
            for n in ids:
                tasks["noop"].schedule((n, work.email(n)), delay=delay_s)

        def work(self) -> None:
            huey.create_consumer(workers=THREADS, worker_type="thread", periodic=False).run()

    return Huey()
