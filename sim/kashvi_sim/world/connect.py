"""The storage of a simulated world: memory, fakeredis, or a real server under its own prefix."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis

from kashvi.drivers.address import client_of
from kashvi.errors import DriverUnavailable, InvalidSetting, UnusableSetting

from .. import DRIVERS


@contextmanager
def connect(driver: str, redis_url: str | None = None) -> Iterator[dict[str, Any]]:
    """The arguments of ``play`` for this driver. Raises InvalidSetting, DriverUnavailable.

    On a real server, uses only keys that begin with ``kashvi-sim:`` and this process's number, and deletes them at the
    end.
    """
    if driver == "memory":
        yield {}
    elif driver == "fakeredis":
        import fakeredis

        yield {"client": fakeredis.FakeRedis()}
    elif driver == "redis":
        if not redis_url:
            raise UnusableSetting("--driver redis", "it needs --redis-url, such as redis://localhost:6379/0")
        prefix = f"kashvi-sim:{os.getpid()}"
        with client_of(redis_url) as client:
            try:
                client.ping()
                yield {"client": client, "prefix": prefix}
            except redis.ConnectionError as error:
                raise DriverUnavailable(str(error), redis_url.rpartition("@")[2]) from None
            finally:
                try:
                    if keys := list(client.scan_iter(match=f"{prefix}:*")):
                        client.delete(*keys)
                except redis.ConnectionError:
                    pass
    else:
        raise InvalidSetting("the driver", driver, f"one of {', '.join(DRIVERS)}")
