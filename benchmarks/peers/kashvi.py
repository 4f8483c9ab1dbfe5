"""kashvi, as a program uses it: ``start_workers`` on a queue of its own."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks import work
from benchmarks.peers import THREADS, App, Peer, Task

PEER = Peer(
    "kashvi",
    "kashvi",
    (),
    "at least once, fenced",
    "`queue.start_workers(10)`, all defaults, with hiredis (an extra of kashvi; redis-py alone has it here too).",
)


@dataclass
class Noop:
    user_id: int
    email: str

    def handle(self) -> None:
        work.noop(self.user_id, self.email)


@dataclass
class Nap:
    user_id: int
    email: str

    def handle(self) -> None:
        work.nap(self.user_id, self.email)


@dataclass
class Burn:
    user_id: int
    email: str

    def handle(self) -> None:
        work.burn(self.user_id, self.email)


def connect(url: str) -> App:
    from kashvi.queue import Queue, RedisDriver, Registry

    registry = Registry()
    registry.register("bench.Noop", Noop)
    registry.register("bench.Nap", Nap)
    registry.register("bench.Burn", Burn)
    queue = Queue(RedisDriver(url), registry=registry)
    types = {"noop": Noop, "nap": Nap, "burn": Burn}

    class Kashvi:
        def dispatch(self, task: Task, ids: range) -> None:
            for n in ids:
                queue.dispatch(types[task](n, work.email(n)))

        def many(self, ids: range) -> None:
            queue.dispatch_many([Noop(n, work.email(n)) for n in ids])

        def later(self, ids: range, delay_s: float) -> None:
            for n in ids:
                queue.dispatch_after(Noop(n, work.email(n)), delay_s)

        def work(self) -> None:
            queue.start_workers(THREADS).join()

    return Kashvi()
