"""Fixtures of the tests with servers."""

from __future__ import annotations

from .databases import database, database_servers

__all__ = ["database", "database_servers"]
