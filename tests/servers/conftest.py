"""Fixtures of the tests with servers."""

from __future__ import annotations

from typing import Any

import pytest

from kashvi.drivers.memory import MemoryDriver
from kashvi.drivers.redis import RedisDriver

from .databases import database, database_servers
from .launch import RedisServer

__all__ = ["database", "database_servers"]

LONG = ("test_worker_kit.py", "test_kills.py", "test_record_and_replay.py", "test_bad_workers.py")


@pytest.fixture(params=["memory", "valkey"])
def driver(request: pytest.FixtureRequest) -> Any:
    """An empty queue, in memory and on a real server."""
    if request.param == "memory":
        return MemoryDriver()
    server: RedisServer = request.getfixturevalue("valkey")
    return RedisDriver(server.url)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What waits for a minute comes first: at the end, all other processes would wait for it."""
    items.sort(key=lambda item: item.path.name not in LONG)
