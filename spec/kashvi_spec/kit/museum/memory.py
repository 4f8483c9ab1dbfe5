"""Bugs of the default queue and the memory driver: other defaults, files, differences from Redis."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fakeredis

from kashvi.drivers.memory import MemoryDriver
from kashvi.drivers.redis import RedisDriver
from kashvi.errors import InvalidSetting
from kashvi.ports import Exchange
from kashvi.queue import _DefaultQueue
from kashvi.queues import Queue

from . import Patch, exhibit, where


@exhibit(
    "no queue without a setting",
    "the first program ends with an error",
    "MEMORY-1",
    source="Celery",
    also="MEMORY-5 WORKERS-16",
)
def _(patch: Patch) -> None:
    def default_driver(self: _DefaultQueue) -> Any:
        raise InvalidSetting("KASHVI_REDIS_URL", None, "set")

    default(patch, default_driver)


@exhibit(
    "a Redis of its own is the default",
    "which the process has to start first",
    "MEMORY-1",
    source="Celery, RQ",
    also="MEMORY-5 WORKERS-16",
)
def _(patch: Patch) -> None:
    default(patch, lambda self: RedisDriver(fakeredis.FakeRedis()))


def default(patch: Patch, choose: Any) -> None:
    """Replace the default driver."""
    import os

    real = _DefaultQueue._default_driver

    def default_driver(self: _DefaultQueue) -> Any:
        return real(self) if os.environ.get("KASHVI_REDIS_URL") else choose(self)

    patch.setattr(_DefaultQueue, "_default_driver", default_driver)


@exhibit("memory is written down", "into a file of the current directory", "MEMORY-2")
def _(patch: Patch) -> None:
    remembering(patch, read=False)


@exhibit(
    "memory outlives its process",
    "the next process finds the jobs of the last",
    "MEMORY-2",
    also="JOBS-22 JOBS-24",
)
def _(patch: Patch) -> None:
    remembering(patch, read=True)


def remembering(patch: Patch, read: bool) -> None:
    """Keep the jobs of a memory queue in a file."""
    file = Path("jobs.queue.read" if read else "jobs.queue")  # each its own: exhibits are tried at the same time
    file.unlink(missing_ok=True)  # of an earlier trial

    def chosen(self: Queue, driver: Any = None, **named: Any) -> bool:
        return type(driver) is MemoryDriver

    def init(real: Any, self: Queue, driver: MemoryDriver, **named: Any) -> None:
        real(self, driver, **named)
        if read and file.exists():
            driver.push(file.read_bytes().splitlines())

    def push(real: Any, self: Queue, *sealed: Any) -> Any:
        ids = real(self, *sealed)
        file.write_bytes(b"\n".join(self._driver.store.jobs))  # type: ignore[union-attr]
        return ids

    where(patch, Queue, "__init__", chosen, init)
    where(patch, Queue, "_push", lambda self, *args: self._driver_set and type(self._driver) is MemoryDriver, push)


@exhibit("Redis does not say when the next is due", "memory does", "MEMORY-3", source="Laravel: two drivers, two ways")
def _(patch: Patch) -> None:
    patch.setattr(RedisDriver, "next_due", lambda self, *queues: None)


@exhibit("times of Redis have three digits", "those of memory have all digits", "MEMORY-3")
def _(patch: Patch) -> None:
    real = RedisDriver.exchange

    def exchange(self: RedisDriver, *args: Any) -> Exchange:
        answer = real(self, *args)
        return answer._replace(server_at=round(answer.server_at, 2))

    patch.setattr(RedisDriver, "exchange", exchange)


@exhibit("the environment goes before the program", "a variable overrules the program's choice", "MEMORY-5")
def _(patch: Patch) -> None:
    import os

    real = Queue.driver
    assert isinstance(real, property)

    def driver(self: Queue) -> Any:
        if isinstance(self, _DefaultQueue) and (url := os.environ.get("KASHVI_REDIS_URL")):
            return RedisDriver(url)
        return real.fget(self) if real.fget else None

    patch.setattr(_DefaultQueue, "driver", property(driver))


@exhibit("only the worker reads the environment", "producers stay in memory", "MEMORY-5")
def _(patch: Patch) -> None:
    patch.setattr(_DefaultQueue, "_default_driver", Queue._default_driver)


@exhibit("a table is asked for by the program alone", "its variable is ignored", "MEMORY-5")
def _(patch: Patch) -> None:
    patch.setattr(_DefaultQueue, "store", property(lambda self: self._store))
