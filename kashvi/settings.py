"""The settings that an app gives to a queue: their checks, and a default."""

from __future__ import annotations

import logging

from .delays import DELAY_MAX_S
from .dispatch import naming
from .errors import DriverError, InvalidSetting, SettingsRefused
from .named import NamedQueues
from .names import DEFAULT, queue_name
from .ports import Checking, Driver, Pausing

UNKNOWN_FOR_S = 600.0
"""How long a job waits for a worker that knows its type: as long as Kubernetes waits for a stuck rollout."""
OBEY_S = 5.0
"""How long a handler may take to end after its time limit."""

log = logging.getLogger("kashvi")


def driver_of(driver: Driver | str) -> Driver:
    """The driver, also for a URL. Raises InvalidSetting for anything else."""
    if isinstance(driver, str):
        from .drivers.redis import RedisDriver

        return RedisDriver(driver)
    if isinstance(driver, type):
        made = f"an instance, {driver.__name__}(...)"
        raise InvalidSetting("the driver", f"the class {driver.__name__}", made)
    if not callable(getattr(driver, "exchange", None)):  # its repr may hold a password
        allowed = "a redis:// URL, a RedisDriver(client), a MemoryDriver() or another Driver"
        raise InvalidSetting("the driver", f"an object of type {type(driver).__name__}", allowed)
    return driver


class OneOf:
    """One named queue of a driver, to be paused."""

    def __init__(self, driver: NamedQueues, queue: str) -> None:
        self._driver = driver
        self._queue = queue

    def pause(self) -> float:
        return self._driver.pause(self._queue)

    def resume(self) -> float:
        return self._driver.resume(self._queue)

    def paused_since(self) -> float | None:
        return self._driver.paused_since(self._queue)


def pausing(driver: Driver, queue: str) -> Pausing:
    """What pauses and resumes this queue. Raises InvalidSetting if it can't be paused."""
    if queue_name(queue) != DEFAULT:
        return OneOf(naming(driver), queue)
    if not isinstance(driver, Pausing):
        raise InvalidSetting("the driver", driver, "one with pause(), resume() and paused_since()")
    return driver


def check(driver: Driver, relays: bool) -> None:
    """Log the driver's warnings before workers start, with ``relays`` or without. Raises SettingsRefused."""
    if not isinstance(driver, Checking):
        return
    try:
        # A driver to which no outbox is relayed may know no such parameter.
        for warning in driver.check(relays=True) if relays else driver.check():
            log.warning("kashvi: %s", warning)
    except SettingsRefused:
        raise
    except DriverError:
        """Workers try again, and log it."""


def at_least(name: str, value: object, least: int) -> int:
    """The value, if it is a whole number of ``least`` or more. Raises InvalidSetting."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidSetting(name, value, f"a whole number, {least} or more")
    return value


def seconds(name: str, value: object, *, zero: bool = False) -> float:
    """The value, if it is a number above 0, or 0 with ``zero``, up to 100 years. Raises InvalidSetting."""
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not 0 <= value <= DELAY_MAX_S
        or (value == 0 and not zero)
    ):
        wanted = "a number of seconds, 0 or more" if zero else "a number of seconds above 0"
        raise InvalidSetting(name, value, f"{wanted}, up to 100 years")
    return float(value)
