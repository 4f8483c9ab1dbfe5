"""RQ: SimpleWorker, which does not fork for every job."""

from __future__ import annotations

from datetime import timedelta

from benchmarks import work
from benchmarks.peers import App, Peer, Task

PEER = Peer(
    "RQ",
    "rq",
    ("rq",),
    "at least once (a dead worker's jobs are put in the failed registry, or retried)",
    "`SimpleWorker`, which its page on performance names for jobs of milliseconds; no results kept. A worker runs "
    "one job at a time: there are no ten threads.",
)


def connect(url: str) -> App:
    import redis
    from rq import Queue, SimpleWorker

    client = redis.Redis.from_url(url)
    queue = Queue(connection=client)
    tasks = {"noop": work.noop, "nap": work.nap, "burn": work.burn}

    class RQ:
        def dispatch(self, task: Task, ids: range) -> None:
            for n in ids:
                queue.enqueue(tasks[task], n, work.email(n), result_ttl=0)

        def many(self, ids: range) -> None:
            queue.enqueue_many([Queue.prepare_data(work.noop, (n, work.email(n)), result_ttl=0) for n in ids])

        def later(self, ids: range, delay_s: float) -> None:
            for n in ids:
                queue.enqueue_in(timedelta(seconds=delay_s), work.noop, n, work.email(n), result_ttl=0)

        def work(self) -> None:
            SimpleWorker([queue], connection=client).work(with_scheduler=True, logging_level="ERROR")

    return RQ()
