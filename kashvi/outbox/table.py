"""The table ``kashvi_outbox``, which a user's migration or kashvi makes; and the name of the outbox beside it."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

TABLE = "kashvi_outbox"
NAME_TABLE = "kashvi_outbox_name"
TARGET_MAX = 200
_MYSQL = ("mysql", "mariadb")


class database_now(FunctionElement[float]):  # noqa: N801
    """The database's clock, also within a transaction, in Unix seconds: delays are measured by it alone."""

    type = sa.Double()
    inherit_cache = True


@compiles(database_now, "sqlite")
def _(element: object, compiler: object, **named: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(database_now, "postgresql")
def _(element: object, compiler: object, **named: Any) -> str:
    return "extract(epoch FROM clock_timestamp())::float8"


@compiles(database_now, "mysql")
@compiles(database_now, "mariadb")
def _(element: object, compiler: object, **named: Any) -> str:
    # In UTC: in another time zone an hour of the autumn is there twice.
    return "(timestampdiff(microsecond, '1970-01-01', utc_timestamp(6)) / 1e6)"


CLOCK_STEP_S = 0.002
"""More than the coarsest of these clocks is wrong by: SQLite counts milliseconds."""

_Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
# Compared byte by byte: MySQL would ignore case.
_Name = sa.String(TARGET_MAX).with_variant(
    mysql.VARCHAR(TARGET_MAX, charset="utf8mb4", collation="utf8mb4_bin"), *_MYSQL
)
_JobId = sa.String(64).with_variant(mysql.VARCHAR(64, charset="utf8mb4", collation="utf8mb4_bin"), *_MYSQL)
_OPTIONS: dict[str, Any] = {"mysql_engine": "InnoDB", "mariadb_engine": "InnoDB"}  # MyISAM rolls nothing back


def outbox_table(metadata: sa.MetaData) -> sa.Table:
    """Add the tables ``kashvi_outbox`` and ``kashvi_outbox_name`` to the metadata of an app, so that its migrations
    make them. Returns the first.
    """
    sa.Table(
        NAME_TABLE,
        metadata,
        sa.Column("one", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("name", sa.String(36), nullable=False),
        keep_existing=True,
        **_OPTIONS,
    )
    return sa.Table(
        TABLE,
        metadata,
        sa.Column("id", _Id, primary_key=True, autoincrement=True),
        sa.Column("job_id", _JobId, nullable=False),
        sa.Column("target", _Name, nullable=False),
        # A BLOB of MySQL ends at 64 KB.
        sa.Column("envelope", sa.LargeBinary().with_variant(mysql.LONGBLOB(), *_MYSQL), nullable=False),
        sa.Column("delay_s", sa.Double, nullable=False),
        sa.Column("at", sa.Double, nullable=False, default=database_now()),
        sa.Index("uq_kashvi_outbox_job_id", "job_id", unique=True),
        sa.Index("idx_kashvi_outbox_target", "target", "id"),
        keep_existing=True,
        sqlite_autoincrement=True,
        **_OPTIONS,
    )


METADATA = sa.MetaData()
OUTBOX = outbox_table(METADATA)
NAME = METADATA.tables[NAME_TABLE]
