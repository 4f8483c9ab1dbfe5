"""Clearing a long queue on a real server."""

from __future__ import annotations

from kashvi.drivers.redis import RedisDriver
from kashvi.queue import Queue
from kashvi.registry import Registry

from .launch import RedisServer

JOBS, BATCH = 20_000, 5_000
HELD_MAX_US = 10_000
"""The longest that one call may hold the server."""


def test_clearing_many_jobs_holds_no_server_up(valkey: RedisServer) -> None:
    """Ready and delayed ones, each with a key."""
    driver = RedisDriver(valkey.url)
    queue = Queue(driver, registry=Registry())
    for first in range(0, JOBS, BATCH):
        numbers = range(first, first + BATCH)
        raws = [b'{"id":"%d","type":"t","payload":{"text":"%0100d"},"unique":"%d"}' % (n, n, n) for n in numbers]
        locks = [(str(n), str(n)) for n in numbers]
        driver.push_unique(raws, 60.0 if first else 0.0, ["bulk"] * BATCH, locks)
    client = valkey.client()
    client.config_set("slowlog-log-slower-than", HELD_MAX_US)
    client.slowlog_reset()
    assert queue.clear("bulk") == (BATCH, JOBS - BATCH)
    assert client.slowlog_len() == 0
    assert client.exists("kashvi:queue:unique", "kashvi:queue:bulk:jobs", "kashvi:queue:bulk:delayed") == 0
