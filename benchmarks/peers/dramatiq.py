"""Dramatiq: what its command line runs in each process, a Worker with ten threads."""

from __future__ import annotations

import signal

from benchmarks import work
from benchmarks.peers import THREADS, App, Peer, Task

PEER = Peer(
    "Dramatiq",
    "dramatiq",
    ("dramatiq[redis]",),
    "at least once",
    "`Worker(worker_threads=10)`, which is what `dramatiq --processes 1 --threads 10` runs; the default middleware "
    "and prefetch (twice the threads), which its guide leaves as they are.",
    many=False,
)


def connect(url: str) -> App:
    import dramatiq
    from dramatiq.brokers.redis import RedisBroker

    broker = RedisBroker(url=url)
    dramatiq.set_broker(broker)
    actors = {name: dramatiq.actor(getattr(work, name)) for name in ("noop", "nap", "burn")}

    class Dramatiq:
        def dispatch(self, task: Task, ids: range) -> None:
            for n in ids:
                actors[task].send(n, work.email(n))

        def many(self, ids: range) -> None:
            raise NotImplementedError

        def later(self, ids: range, delay_s: float) -> None:
            for n in ids:
                actors["noop"].send_with_options(args=(n, work.email(n)), delay=int(delay_s * 1000))

        def work(self) -> None:
            dramatiq.Worker(broker, worker_threads=THREADS).start()
            signal.pause()

    return Dramatiq()
