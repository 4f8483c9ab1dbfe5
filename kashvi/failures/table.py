"""The table ``kashvi_failed_jobs``: the Go program's columns and ``job_id``, and how it is made or adopted."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

TABLE = "kashvi_failed_jobs"
JOB_TYPE_MAX = 255


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
        if dialect.name in ("mysql", "mariadb"):
            return dialect.type_descriptor(mysql.DATETIME(fsp=6))
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
        if value is None:
            return None
        found: datetime = value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
        return found


def read_time(text: str) -> datetime | None:
    """Go's ``2026-11-24 08:52:12.636582284+05:30``: up to nine digits, trailing zeros dropped, any offset."""
    digits = re.sub(r"\.(\d+)", lambda found: "." + found[1][:6].ljust(6, "0"), text.strip())
    try:
        return datetime.fromisoformat(digits)
    except ValueError:
        return None


class Base(DeclarativeBase):
    """Of this table alone: ``use_db`` makes it, not a caller's metadata."""


_LongText = sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")
_Big = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


class FailedJobRecord(Base):
    """A row of ``kashvi_failed_jobs``."""

    __tablename__ = TABLE
    __table_args__ = (
        sa.Index("idx_kashvi_failed_jobs_job_type", "job_type"),
        sa.Index("uq_kashvi_failed_jobs_job_id", "job_id", unique=True),
    )

    id: Mapped[int] = mapped_column(_Big, primary_key=True, autoincrement=True)
    job_type: Mapped[str] = mapped_column(sa.String(JOB_TYPE_MAX).with_variant(sa.Text(), "sqlite"))
    payload: Mapped[str] = mapped_column(_LongText)
    error: Mapped[str | None] = mapped_column(_LongText)
    attempts: Mapped[int] = mapped_column(_Big, server_default="0")
    failed_at: Mapped[datetime | None] = mapped_column(UtcTime)
    job_id: Mapped[str | None] = mapped_column(sa.String(64))
    """Which job it was; empty in rows of the Go program."""


def prepare(engine: sa.Engine) -> None:
    """Make the table, or bring one of the Go program's up to ours. Its own rebuild may drop our index again."""
    table = sa.inspect(FailedJobRecord).local_table
    assert isinstance(table, sa.Table)
    if not sa.inspect(engine).has_table(TABLE):
        try:
            with engine.begin() as connection:
                table.create(connection)
            return
        except sa.exc.SQLAlchemyError:
            if not sa.inspect(engine).has_table(TABLE):
                raise  # else another process was faster
    inspector = sa.inspect(engine)
    columns = {column["name"]: column for column in inspector.get_columns(TABLE)}
    indexes = {index["name"] for index in inspector.get_indexes(TABLE)}
    with engine.begin() as connection:
        if "job_id" not in columns:
            connection.execute(sa.DDL(f"ALTER TABLE {TABLE} ADD COLUMN job_id VARCHAR(64)"))
        if engine.dialect.name in ("mysql", "mariadb"):
            for name, rest in (("payload", "LONGTEXT NOT NULL"), ("error", "LONGTEXT")):
                if not isinstance(columns[name]["type"], mysql.LONGTEXT):
                    connection.execute(sa.DDL(f"ALTER TABLE {TABLE} MODIFY {name} {rest}"))
        for index in table.indexes:
            if index.name not in indexes:
                index.create(connection)
