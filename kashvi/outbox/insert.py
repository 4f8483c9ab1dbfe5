"""Puts jobs into the caller's transaction, after checking that its rollback would take them back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.orm import Session, scoped_session

from ..errors import InvalidSetting, NoOutbox
from .table import OUTBOX, TABLE

if TYPE_CHECKING:
    from ..dispatch import Sealed

KNOWN = ("sqlite", "postgresql", "mysql", "mariadb")
LEGACY_RECIPE = (
    "SQLAlchemy's recipe: https://docs.sqlalchemy.org/en/20/dialects/sqlite.html#pysqlite-serializable (set "
    "isolation_level to None at connect, and send BEGIN at begin)"
)


def transaction_of(session: object) -> sa.Connection:
    """The connection in whose transaction a job is to be stored.

    Raises InvalidSetting for what is no Session or Connection, and for an async one.
    """
    if isinstance(session, scoped_session):
        session = session()
    if isinstance(session, sa.Connection):
        return session
    if isinstance(session, Session):
        try:
            return session.connection()
        except exc.UnboundExecutionError:
            raise NoOutbox(
                "this session has several engines, or none", "Pass a connection: session.connection(bind_arguments=…)"
            ) from None
    if hasattr(session, "run_sync"):
        raise InvalidSetting(
            "the session",
            session,
            "a Session or a Connection; with an async one, await queue.adispatch(job, session=…)",
        )
    allowed = "a Session or a Connection of SQLAlchemy, or a connection of Django (django.db.connection)"
    raise InvalidSetting("the session", session, allowed)


def check(connection: sa.Connection) -> None:
    """Raises NoOutbox if a rollback would not take a row back that is inserted now."""
    dialect = connection.dialect
    if dialect.name not in KNOWN:
        raise NoOutbox(f"the database is {dialect.name}", "SQLite, PostgreSQL, MySQL and MariaDB can.")
    if dialect.name != "sqlite":
        dbapi: Any = connection.connection.dbapi_connection
        if dialect.detect_autocommit_setting(dbapi):
            raise NoOutbox("its connection is in autocommit mode", "Use an engine or connection without AUTOCOMMIT.")
        return
    sqlite: Any = connection.connection.driver_connection
    legacy = sqlite.isolation_level is not None and getattr(sqlite, "autocommit", -1) == -1
    if legacy and connection.in_nested_transaction():
        why = "sqlite3 sends no BEGIN before a SAVEPOINT in its legacy mode, so a rollback could leave the row"
        raise NoOutbox(why, f"Dispatch outside of begin_nested(), or use {LEGACY_RECIPE}.")
    if in_transaction(connection):
        return
    # In the legacy mode a transaction begins with the first row that is written, or would be.
    nothing = sa.select(*(sa.literal(0) for _ in range(3)), sa.literal(b""), sa.literal(0.0)).where(sa.false())
    columns = ["id", "job_id", "target", "envelope", "delay_s"]
    _execute(connection, sa.insert(OUTBOX).from_select(columns, nothing, include_defaults=False))
    if not in_transaction(connection):
        raise NoOutbox("its connection is in autocommit mode", f"Use an engine without AUTOCOMMIT, or {LEGACY_RECIPE}.")


def in_transaction(connection: sa.Connection) -> bool:
    """True if SQLite has begun a transaction on this connection."""
    sqlite: Any = connection.connection.driver_connection  # of an async engine: SQLAlchemy has no in_transaction there
    return bool(sqlite.in_transaction)


def insert(connection: sa.Connection, sealed: Sequence[Sealed], delay_s: float, target: str) -> None:
    """Insert a row for each job. Raises NoOutbox, and errors of SQLAlchemy."""
    check(connection)
    rows = [{"job_id": one.job_id, "target": target, "envelope": one.envelope, "delay_s": delay_s} for one in sealed]
    _execute(connection, sa.insert(OUTBOX), rows)


def _execute(connection: sa.Connection, statement: Any, rows: list[dict[str, Any]] | None = None) -> None:
    try:
        connection.execute(statement, rows)
    except exc.DBAPIError as error:
        if (missing := no_table(error.orig)) is not None:
            raise missing from error
        raise


def no_table(error: object) -> NoOutbox | None:
    """What to say if it is a database's error about the table that is not there."""
    text = str(error).lower()
    if TABLE in text and any(words in text for words in ("no such table", "does not exist", "doesn't exist")):
        remedy = "queue.outbox(engine) makes it, or a migration of yours with kashvi.outbox_table(metadata)."
        return NoOutbox(f"its database has no table {TABLE}", remedy)
    return None
