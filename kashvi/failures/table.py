"""The table ``kashvi_failed_jobs``: the Go program's columns and kashvi's; how it is made or adopted."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.schema import CreateIndex, CreateTable

TABLE = "kashvi_failed_jobs"
JOB_TYPE_MAX = 255
JOB_ID_MAX = 64
LOCK_WAIT_MS = 5_000
_MYSQL = ("mysql", "mariadb")


class _SqliteTime(sa.types.UserDefinedType[str]):
    """Text in a DATETIME column, as Go's driver writes it."""

    cache_ok = True

    def get_col_spec(self, **kw: Any) -> str:
        return "DATETIME"


class UtcTime(sa.types.TypeDecorator[datetime]):
    """A timezone-aware UTC datetime, on every database."""

    impl = sa.DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        if dialect.name == "sqlite":
            return dialect.type_descriptor(_SqliteTime())
        if dialect.name in _MYSQL:
            return dialect.type_descriptor(mysql.DATETIME(fsp=3))
        return dialect.type_descriptor(sa.DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> Any:
        if value is None:
            return None
        utc = value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
        if dialect.name == "sqlite":
            return utc.isoformat(" ", "microseconds")
        return utc if dialect.name == "postgresql" else utc.replace(tzinfo=None)

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> datetime | None:
        if isinstance(value, str):
            value = read_time(value)
        if not isinstance(value, datetime):
            return None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


def read_time(text: str) -> datetime | None:
    """Parse Go's ``2026-11-24 08:52:12.636582284+05:30``: up to nine digits, any offset; None for other text."""
    try:
        return datetime.fromisoformat(text.strip())
    except ValueError:
        return None


class Base(DeclarativeBase):
    """The base of this table alone, so that a caller's metadata does not include it."""


# The character set is explicit, since a database's default may be an old one.
_LongText = sa.Text().with_variant(mysql.LONGTEXT(charset="utf8mb4"), *_MYSQL)
_Count = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_Id = _Count.with_variant(mysql.BIGINT(unsigned=True), *_MYSQL)
# Compared byte by byte: MySQL would ignore case.
_JobId = sa.String(JOB_ID_MAX).with_variant(
    mysql.VARCHAR(JOB_ID_MAX, charset="utf8mb4", collation="utf8mb4_bin"), *_MYSQL
)
_Queue = sa.String(64).with_variant(mysql.VARCHAR(64, charset="utf8mb4"), *_MYSQL)
_JOB_ID_INDEX = "uq_kashvi_failed_jobs_job_id"
_JOB_TYPE_INDEX = "idx_kashvi_failed_jobs_job_type"
"""Only for speed: skipped for a column that MySQL can't index at this length."""


class FailedJobRecord(Base):
    """A row of ``kashvi_failed_jobs``."""

    __tablename__ = TABLE
    __table_args__ = (
        # COMPACT rows index at most 767 bytes of a column, and a letter takes up to four in utf8mb4.
        sa.Index(_JOB_TYPE_INDEX, "job_type", mysql_length=191, mariadb_length=191),
        sa.Index(_JOB_ID_INDEX, "job_id", unique=True),
        # Without it, SQLite would reuse the number of a deleted row.
        {"mysql_charset": "utf8mb4", "mariadb_charset": "utf8mb4", "sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(_Id, primary_key=True, autoincrement=True)
    job_type: Mapped[str] = mapped_column(sa.String(JOB_TYPE_MAX).with_variant(sa.Text(), "sqlite"))
    payload: Mapped[str] = mapped_column(_LongText)
    error: Mapped[str | None] = mapped_column(_LongText)
    attempts: Mapped[int] = mapped_column(_Count, server_default=sa.text("0"))
    failed_at: Mapped[datetime | None] = mapped_column(UtcTime)
    job_id: Mapped[str | None] = mapped_column(_JobId)
    """The job's id; empty in rows of the Go program."""
    # Deferred: a table that kashvi may not alter lacks them.
    traceback: Mapped[str | None] = mapped_column(_LongText, deferred=True)
    """The traceback of the last attempt."""
    queue: Mapped[str | None] = mapped_column(_Queue, deferred=True)
    """Empty for the default queue."""
    extra: Mapped[str | None] = mapped_column(_LongText, deferred=True)
    """JSON: the envelope's fields without a column."""


OPTIONAL = ("traceback", "queue", "extra")
"""Columns that a table may lack."""
_TABLE = FailedJobRecord.metadata.tables[TABLE]

_WIDEN = sa.DDL(
    f"ALTER TABLE {TABLE} MODIFY payload LONGTEXT CHARACTER SET utf8mb4 NOT NULL, "
    "MODIFY error LONGTEXT CHARACTER SET utf8mb4"
)
_NARROW = sa.text(
    "SELECT count(*) FROM information_schema.columns WHERE table_schema = database() AND table_name = :name "
    "AND column_name IN ('payload', 'error') AND NOT (data_type = 'longtext' AND character_set_name = 'utf8mb4')"
).bindparams(name=TABLE)
# While the unique index was away, two processes may have recorded one job.
_ONCE = sa.text(
    f"DELETE FROM {TABLE} WHERE job_id IS NOT NULL AND id NOT IN "
    f"(SELECT first_id FROM (SELECT min(id) AS first_id FROM {TABLE} GROUP BY job_id) AS firsts)"
)


def prepare(engine: sa.Engine) -> frozenset[str]:
    """Make the table, or migrate the Go program's. (The Go program's rebuild drops our index again.)

    A failed step is tried once more if it is still needed: another process may have interfered.
    Returns the OPTIONAL columns that the table has: a table that kashvi may not alter lacks them.
    """
    lacking: set[str] = set()
    with engine.connect() as connection:
        tried: list[str] = []
        while True:
            be_impatient(connection)  # PostgreSQL locks a table even to describe it
            step = _missing(connection, lacking)
            connection.rollback()  # drop our lock before asking for a larger one: two processes would deadlock
            if step is None or tried.count(step[0]) == 2:
                return frozenset(OPTIONAL) - lacking
            name, statements = step
            tried.append(name)
            try:
                for statement in statements:
                    be_impatient(connection)
                    connection.execute(statement)
                    connection.commit()
            except DBAPIError:
                connection.rollback()
                if name in (*OPTIONAL, _JOB_TYPE_INDEX) and tried.count(name) == 2:
                    lacking.add(name)
                elif tried.count(name) == 2:
                    raise


def obstacle(inspector: sa.Inspector) -> str:
    """The reason why the table can take no row, else empty."""
    there = {str(column["name"]).lower(): column for column in inspector.get_columns(TABLE)}
    lacking = [c.name for c in _TABLE.columns if c.name not in there and c.name not in ("job_id", *OPTIONAL)]
    if lacking:
        return f"it lacks {', '.join(lacking)}"
    given = {column.name for column in _TABLE.columns}
    wanted = [
        name
        for name, column in there.items()
        if not (name in given or column["nullable"] or column["default"] is not None)
        and not (column.get("computed") or column.get("identity"))
    ]
    return f"kashvi has no value for {', '.join(wanted)}: let it be NULL, or give it a default" if wanted else ""


def be_impatient(connection: sa.Connection) -> None:
    """Limit the wait for a lock in this transaction, as SQLite and our MySQL connections do."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text(f"SET LOCAL lock_timeout = {LOCK_WAIT_MS}"))


def _missing(connection: sa.Connection, but: Collection[str] = ()) -> tuple[str, list[sa.Executable]] | None:
    """The next migration step and its name. Columns in ``but`` can't be added."""
    schema = _sqlite_schema(connection)
    if schema and schema in _WHOLE:
        return None
    inspector = sa.inspect(connection)
    if not inspector.has_table(TABLE):
        return "table", [CreateTable(_TABLE)]
    there = {column["name"] for column in inspector.get_columns(TABLE)}
    for name in ("job_id", *OPTIONAL):
        if name not in there and name not in but:
            kind = _TABLE.c[name].type.compile(connection.dialect)
            return name, [sa.DDL(f"ALTER TABLE {TABLE} ADD COLUMN {name} {kind}")]
    if connection.dialect.name in _MYSQL and connection.scalar(_NARROW):
        return "text", [_WIDEN]
    indexes = {index["name"] for index in inspector.get_indexes(TABLE)}
    for index in sorted(_TABLE.indexes, key=lambda one: str(one.name)):
        if index.name not in indexes and index.name not in but:
            return str(index.name), [_ONCE, CreateIndex(index)] if index.name == _JOB_ID_INDEX else [CreateIndex(index)]
    if schema and not but and schema == _sqlite_schema(connection):  # else another process added what was missing
        _WHOLE.add(schema)
    return None


_WHOLE: set[tuple[str, ...]] = set()
"""Complete schemas in SQLite: to compare with one takes a query, to inspect the table takes seven."""


def _sqlite_schema(connection: sa.Connection) -> tuple[str, ...]:
    """The table's schema in SQLite; empty in other databases."""
    if connection.dialect.name != "sqlite":
        return ()
    return tuple(connection.exec_driver_sql(f"SELECT sql FROM sqlite_master WHERE tbl_name = '{TABLE}'").scalars())
