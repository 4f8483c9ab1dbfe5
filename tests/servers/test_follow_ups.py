"""Follow-ups on real servers: a full one, a cluster of keys, and worker processes that are killed."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kashvi import current
from kashvi.drivers.redis import RedisDriver
from kashvi.queue import Queue
from kashvi.registry import Registry

from .launch import RedisServer, until_true
from .test_kills import Nursery

ran: list[int] = []

APP = """
import os, time
from dataclasses import dataclass
from kashvi import current, queue

def note(*what):
    fd = os.open("ran.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, " ".join(map(str, what)).encode() + b"\\n")
    os.close(fd)

@queue.job("jobs.Order")
@dataclass
class Order:
    n: int

    def handle(self):
        note(self.n, os.getpid(), 0)
        run = time.monotonic_ns()
        current().dispatch_many([Item(self.n, run, k) for k in (1, 2)])
        time.sleep(0.002)  # a moment in which a kill may come
        current().dispatch_after(Item(self.n, run, 3), 0.05)

@queue.job("jobs.Item")
@dataclass
class Item:
    n: int
    run: int
    k: int

    def handle(self):
        note(self.n, os.getpid(), self.run, self.k)
"""


@dataclass
class Parent:
    n: int

    def handle(self) -> None:
        current().dispatch_many([Child(self.n + k) for k in range(2)])
        current().dispatch_after(Child(self.n + 2), 0.05)


@dataclass
class Child:
    n: int

    def handle(self) -> None:
        ran.append(self.n)


@dataclass
class Other:
    n: int

    def handle(self) -> None:
        ran.append(self.n)
        current().dispatch_many([Child(self.n + 1)])
        current().dispatch(Other(self.n + 2))


@dataclass
class Order:
    n: int

    def handle(self) -> None:
        """Runs in the worker process."""


def queue_on(server: RedisServer) -> Queue:
    ran.clear()
    queue = Queue(RedisDriver(server.url), registry=Registry())
    queue.register("jobs.Parent", Parent)
    queue.register("jobs.Child", Child)
    return queue


def test_a_full_server_takes_follow_ups(redis_server: RedisServer) -> None:
    """The settlement that they come with makes room, and must not fail for ever."""
    queue = queue_on(redis_server)
    queue.dispatch(Parent(1))
    client: Any = redis_server.client()
    client.config_set("maxmemory", client.info("memory")["used_memory"] - 100_000)
    try:
        queue.work(drain=True)
    finally:
        client.config_set("maxmemory", 0)
    assert ran == [1, 2, 3]
    assert queue.stats().held == queue.stats().workers == 0


def test_a_follow_up_to_a_key_of_the_wrong_type_fails_its_attempt(redis_server: RedisServer) -> None:
    """Counted, and not run again without end; the others are not sent either."""
    queue = queue_on(redis_server)
    queue.set_max_retry(2)
    queue.register("jobs.Other", Other, queue="mail")
    redis_server.client().set("kashvi:queue:mail:jobs", "of another program")
    queue.dispatch(Other(1), queue="default")
    queue.work(drain=True, max_jobs=5)
    [failed] = queue.failed_jobs()
    assert (failed.attempts, ran) == (2, [1, 1])
    assert "kashvi:queue:mail:jobs is no list" in failed.error


def test_a_worker_that_waits_starts_a_follow_up_that_is_due_soon(valkey: RedisServer) -> None:
    """It is on time, as one that a producer delays (DELAY-2): the worker that waits hears of it."""
    queue, other = queue_on(valkey), Queue(RedisDriver(valkey.url), registry=Registry())
    other.register("jobs.Parent", Parent)
    other.register("jobs.Child", Child)
    with other.start_workers(2):
        queue.dispatch(Parent(1))
        until_true(lambda: len(ran) == 3, 20)
    assert sorted(ran) == [1, 2, 3]


@pytest.fixture
def nursery(valkey: RedisServer, tmp_path: Path) -> Iterator[Nursery]:
    nursery = Nursery(valkey, tmp_path, APP)
    nursery.queue.register("jobs.Order", Order)
    yield nursery
    nursery.stop()


def test_a_killed_worker_leaves_all_follow_ups_or_none(nursery: Nursery) -> None:
    """Of each attempt, and all of one attempt of each job."""
    rng = random.Random(3)
    for _ in range(2):
        nursery.start(workers=2, attempts=6)
    for kill in range(12):
        nursery.queue.dispatch_many([Order(n) for n in range(kill * 20, kill * 20 + 20)])
        until_true(nursery.at_work, 60, "no process started a job")
        until_true(lambda: rng.random() < 0.2, 60)
        victim = rng.choice(nursery.at_work())
        victim.kill()
        victim.wait()
        nursery.start(workers=2, attempts=6)
    until_true(nursery.empty, 60)
    runs: defaultdict[int, Counter[int]] = defaultdict(Counter)
    seen: defaultdict[int, set[tuple[int, int]]] = defaultdict(set)
    for line in (nursery.directory / "ran.txt").read_text().splitlines():
        order, _, run, *item = map(int, line.split())
        if item:
            seen[order].add((run, item[0]))
    for order, items in seen.items():
        runs[order].update(run for run, _ in items)
    assert {order: list(by_run.values()) for order, by_run in runs.items()} == {n: [3] for n in range(240)}
    assert nursery.failed() == []
