"""A driver under test: its factory and its abilities."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import redis

from kashvi.drivers.address import client_of
from kashvi.drivers.lines import MemoryStore
from kashvi.drivers.memory import MemoryDriver
from kashvi.drivers.redis import RedisDriver
from kashvi.errors import DriverUnavailable, InvalidSetting, UnusableSetting
from kashvi.ports import Driver
from kashvi.runtime import SystemRuntime
from kashvi.worker.attempt import describe

Clock = Callable[[], float]
"""Unix seconds."""


@dataclass(frozen=True)
class DriverUnderTest:
    """A driver of the port ``kashvi.ports.Driver``, for the suite. A factory returns one."""

    empty: Callable[[Clock], Driver]
    """Returns an empty queue at each of some hundred calls. All its times are the clock's."""
    name: str = ""
    """The name in reports; by default the factory's place."""
    again: Callable[[Any], Driver] | None = None
    """Returns another handle on the same queue, for a second process. None: jobs live and die with one process."""
    heeds_clock: bool = True
    """False: it has its own clock. Then examples can't run, and steps take real time."""


def subject_of(text: str) -> DriverUnderTest:
    """The driver for ``memory``, ``fakeredis``, a URL, or ``package.module:factory``.

    Raises InvalidSetting, DriverUnavailable.
    """
    if text == "memory":
        return DriverUnderTest(_memory, "memory", _beside)
    if text == "fakeredis":
        import fakeredis

        keys = _Keys(fakeredis.FakeRedis())
        return DriverUnderTest(keys.empty, "fakeredis", keys.again)
    if "://" in text:
        return _server(text)
    found = _import(text)
    try:
        subject = found() if callable(found) else found
    except (Exception, SystemExit) as error:  # a user's function may raise anything
        raise UnusableSetting(f"the driver {text}", f"the function raises {describe(error)}") from error
    if not isinstance(subject, DriverUnderTest):
        raise UnusableSetting(f"the driver {text}", f"the function returns {subject!r}, not a DriverUnderTest")
    return subject if subject.name else DriverUnderTest(**{**vars(subject), "name": text.partition(":")[2]})


def _import(text: str) -> Any:
    module, colon, name = text.partition(":")
    allowed = "memory, fakeredis, a redis:// URL or package.module:factory"
    if not colon or not name or not all(part.isidentifier() for part in module.split(".")):
        raise InvalidSetting("the driver", text, allowed)
    try:
        return getattr(importlib.import_module(module), name)
    except (Exception, SystemExit) as error:  # an imported module may raise anything
        raise UnusableSetting(f"the driver {text}", f"it can't be imported ({describe(error)})") from error


def _memory(now: Clock) -> Driver:
    return MemoryDriver(store=MemoryStore(now, SystemRuntime().condition()))


def _beside(driver: MemoryDriver) -> Driver:
    return MemoryDriver(store=driver.store)


def _server(url: str) -> DriverUnderTest:
    try:
        client = client_of(url)
        about: dict[str, Any] = client.info("server")
    except (ValueError, TypeError):
        raise UnusableSetting("the Redis URL", "it has an option that redis-py does not know") from None
    except (redis.RedisError, OSError, OverflowError) as error:
        raise DriverUnavailable(str(error), url.rpartition("@")[2]) from None
    kind = "Valkey" if "valkey_version" in about else "Redis"
    keys = _Keys(client)
    return DriverUnderTest(keys.empty, f"{kind} {about.get('valkey_version') or about['redis_version']}", keys.again)


class _Keys:
    """A queue on a Redis, under keys that begin with ``kashvi-spec:`` and this process's number."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._prefix = f"kashvi-spec:{os.getpid()}"
        self._now: Clock | None = None

    def empty(self, now: Clock) -> Driver:
        if keys := list(self._client.scan_iter(match=f"{self._prefix}:*", count=1000)):
            self._client.delete(*keys)
        self._now = now
        return self.again()

    def again(self, driver: Driver | None = None) -> Driver:
        return RedisDriver(self._client, prefix=self._prefix, server_now=self._now)
