"""The simulator tells the truth: threads and a real server, in real time, give the events it gives."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from kashvi_sim.world.world import World

from kashvi import events
from kashvi.drivers.redis import RedisDriver
from kashvi.events import Event, JobEvent
from kashvi.queue import Queue
from kashvi.registry import Registry

from .launch import RedisServer

TAKES_S = 0.15


@dataclass
class Work:
    """Fails ``fails`` times; asks an ordinary clock to let time pass."""

    fails: int

    def handle(self) -> None:
        time.sleep(TAKES_S)
        tried[self.fails] = tried.get(self.fails, 0) + 1
        if tried[self.fails] <= self.fails:
            raise ValueError(f"failed {self.fails}")


tried: dict[int, int] = {}
"""Attempts, by how often the job fails."""


@pytest.fixture
def registry() -> Registry:
    tried.clear()
    registry = Registry()
    registry.register("jobs.Work", Work)
    return registry


def dispatch_all(queue: Queue) -> None:
    """One that succeeds, one that fails once, one that fails for good, one that comes later, garbage in between."""
    queue.dispatch(Work(0))
    queue.dispatch(Work(1))
    queue.driver.push([b'{"id":"x","type":"jobs.Unheard","payload":{}}'])
    queue.dispatch(Work(5))
    queue.dispatch_after(Work(0), 0.5)


def story(seen: list[Event]) -> list[tuple[object, ...]]:
    """What happened to which job, in order: without times, and with numbers in place of ids.

    Rows are last: a thread of their own writes them, as soon as the database answers.
    """
    numbers: dict[str, int] = {}
    told: list[tuple[object, ...]] = []
    for event in seen:
        if isinstance(event, JobEvent):
            number = numbers.setdefault(event.job_id, len(numbers))
            facts = [getattr(event, name, None) for name in ("attempt", "attempts", "wait_s", "error", "undeliverable")]
            told.append((type(event).__name__, number, *facts))
    return sorted(told, key=lambda one: one[0] == "FailureRecorded")


def in_real_time(server: RedisServer, registry: Registry, database: str) -> list[Event]:
    queue = Queue(RedisDriver(server.url), registry=registry, database=database, unknown_for_s=0)
    seen: list[Event] = []
    queue.observe(seen.append)
    dispatch_all(queue)
    queue.work(drain=True)
    return seen


def in_virtual_time(registry: Registry, **place: object) -> list[Event]:
    world = World(registry=registry, database="sqlite://", **place)  # type: ignore[arg-type]
    queue = world.process()
    queue.unknown_for_s = 0
    queue.process.spawn(lambda: dispatch_all(queue), "dispatch")
    world.run()
    world.drain(queue)
    assert world.violations() == []
    return world.events


@pytest.mark.parametrize("where", ["memory", "the same server"])
def test_real_time_and_virtual_time_tell_the_same_story(
    valkey: RedisServer, registry: Registry, tmp_path: Path, where: str
) -> None:
    """Dispatches, attempts, errors, retries, settlements and rows, one after the other."""
    real = story(in_real_time(valkey, registry, f"sqlite:///{tmp_path}/k.db"))
    tried.clear()
    valkey.client().flushall()
    virtual = story(in_virtual_time(registry, **({} if where == "memory" else {"client": valkey.client()})))
    assert virtual == real
    kinds = [kind for kind, *_ in real]
    assert kinds.count("AttemptStarted") == 7
    assert {"RetryScheduled", "JobFailed", "FailureRecorded", "JobSucceeded"} <= set(kinds)


def test_waits_between_attempts_are_the_same_in_both(valkey: RedisServer, registry: Registry, tmp_path: Path) -> None:
    """One second, then two; a real one never shorter, and a virtual one exact."""
    real = in_real_time(valkey, registry, f"sqlite:///{tmp_path}/k.db")
    tried.clear()
    virtual = in_virtual_time(registry)
    for seen, exact in ((real, False), (virtual, True)):
        waits = gaps(seen)
        assert len(waits) == 3
        for waited, wanted in zip(waits, [1, 1, 2], strict=True):
            assert wanted - 1e-5 <= waited < wanted + (TAKES_S * 2 + 1e-5 if exact else 1.0)


def gaps(seen: list[Event]) -> list[float]:
    """Seconds from each failed attempt to the next start."""
    ended: dict[str, float] = {}
    found: list[float] = []
    for event in seen:
        if isinstance(event, events.AttemptFailed) and event.attempt:
            ended[event.job_id] = event.at
        elif isinstance(event, events.AttemptStarted) and event.job_id in ended:
            found.append(event.at - ended[event.job_id])
    return sorted(found)
