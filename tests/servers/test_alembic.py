"""Alembic beside the failure table: README's env.py leaves it alone, and can make it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from kashvi.failures.sql import SqlFailures
from kashvi.queue import FailedJobRecord

from .databases import Database

OURS = FailedJobRecord.metadata


def differences(database: Database, *metadata: sa.MetaData) -> list[str]:
    """What ``alembic revision --autogenerate`` would do."""
    with database.engine.connect() as connection:
        found = compare_metadata(MigrationContext.configure(connection), list(metadata))
    return [str(one[0]) if isinstance(one, tuple) else str([part[0] for part in one]) for one in found]


def test_autogenerate_leaves_a_table_of_kashvi_alone(database: Database) -> None:
    """Given its metadata; else it would drop it."""
    app = sa.MetaData()
    SqlFailures(database.url).prepare()
    assert "remove_table" in differences(database, app)
    assert differences(database, app, OURS) == []


def test_a_table_that_a_migration_made_is_taken_as_it_is(database: Database) -> None:
    """The same columns and indexes."""
    OURS.create_all(database.engine)
    store = SqlFailures(database.url)
    store.prepare()
    assert differences(database, OURS) == []
    assert store.record([]) == {}
