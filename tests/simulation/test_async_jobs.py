"""Async handlers in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from kashvi_sim.world.kernel import EPOCH
from kashvi_sim.world.world import World

told: list[tuple[str, float]] = []
world_of: list[World] = []


def at() -> float:
    return round(world_of[0].kernel.time - EPOCH, 6)


@dataclass
class Waits:
    name: str
    seconds: float

    async def handle(self) -> None:
        told.append((f"{self.name} begins", at()))
        async with asyncio.timeout(30):
            await asyncio.gather(asyncio.sleep(self.seconds), asyncio.sleep(self.seconds / 2))
        told.append((f"{self.name} ends", at()))


@dataclass
class TooSlow:
    async def handle(self) -> None:
        async with asyncio.timeout(5):
            await asyncio.sleep(3600)


@pytest.fixture
def world() -> Iterator[World]:
    told.clear()
    world = World(max_attempts=2)
    world_of[:] = [world]
    for job_class in (Waits, TooSlow):
        world.registry.register(job_class.__name__, job_class)
    yield world
    world.close()


def test_async_handlers_of_two_processes_wait_in_virtual_time(world: World) -> None:
    """Each on its own loop, at the same time; an hour takes no time."""
    one, other = world.process(), world.process()
    one.dispatch_many([Waits("a", 10), Waits("b", 4)])
    one.start_workers(1)
    other.start_workers(1)
    world.run(for_s=20)
    assert sorted(told, key=lambda entry: (entry[1], entry[0])) == [
        ("a begins", 0.0), ("b begins", 0.0), ("b ends", 4.0), ("a ends", 10.0),
    ]  # fmt: skip
    assert world.violations() == []
    assert world.escapes == []


def test_a_timeout_of_asyncio_is_a_failed_attempt_at_its_time(world: World) -> None:
    """And the next attempt comes after the backoff."""
    queue = world.process()
    queue.dispatch(TooSlow())
    queue.start_workers(1)
    world.run(for_s=20)
    assert [(event.at - EPOCH, event.error) for event in world.events if type(event).__name__ == "AttemptFailed"] == [
        (5.0, "TimeoutError"), (11.0, "TimeoutError"),
    ]  # fmt: skip
