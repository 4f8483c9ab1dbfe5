"""Alembic beside kashvi's tables: the recipes' env.py leaves them alone, and can make them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from kashvi import outbox_table
from kashvi.failures.sql import SqlFailures
from kashvi.outbox.database import Outbox
from kashvi.queue import FailedJobRecord
from kashvi.runtime import SystemRuntime

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


def test_an_outbox_that_a_migration_made_is_taken_as_it_is_and_left_alone(
    database: Database,
) -> None:
    """In the metadata of the app."""
    app = sa.MetaData()
    outbox_table(app)
    assert differences(database, app) != []
    app.create_all(database.engine)
    outbox = Outbox(database.url, SystemRuntime(), target=lambda: "here")
    name = outbox.name()
    outbox.rest()
    assert outbox.waiting((), 1, 1) == []
    outbox.rest()
    assert name
    assert differences(database, app) == []
