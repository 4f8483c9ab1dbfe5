"""Fixtures of the tests with servers."""

from __future__ import annotations

import pytest

from .databases import database, database_servers

__all__ = ["database", "database_servers"]

LONG = ("test_worker_kit.py", "test_kills.py", "test_record_and_replay.py", "test_bad_workers.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What waits for a minute comes first: at the end, all other processes would wait for it."""
    items.sort(key=lambda item: item.path.name not in LONG)
