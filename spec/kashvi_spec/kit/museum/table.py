"""Bugs of the failure table: other columns, other contents, doubled or blocked rows."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
import sqlalchemy as sa

from kashvi.errors import StoreUnavailable
from kashvi.failures import sql, table
from kashvi.failures.sql import SqlFailures
from kashvi.failures.table import TABLE, FailedJobRecord, UtcTime
from kashvi.jobs import envelope
from kashvi.ports import Failure, Refusal, Unrecorded
from kashvi.queues import Queue
from kashvi.worker import row

from . import Patch, exhibit, where


def made(patch: Patch, *statements: str) -> None:
    """Run these statements when the table is made."""
    real = SqlFailures.prepare

    def prepare(self: SqlFailures) -> None:
        there = sa.inspect(self.engine).has_table(TABLE)
        real(self)
        if not there:
            with self.engine.begin() as connection:
                for statement in statements:
                    connection.execute(sa.text(statement))

    patch.setattr(SqlFailures, "prepare", prepare)


INDEX = "uq_kashvi_failed_jobs_job_id"


@exhibit(
    "a table without its index",
    "two recorders may insert one job twice",
    "TABLE-1",
    source="Laravel, before uuids",
    also="TABLE-8",
)
def _(patch: Patch) -> None:
    real = table._missing

    def missing(connection: sa.Connection, *but: Any) -> Any:
        step = real(connection, *but)
        return None if step and step[0] == INDEX else step

    patch.setattr(table, "_missing", missing)


@exhibit(
    "columns of the queue's own",
    "connection, as in Laravel, instead of attempts",
    "TABLE-1",
    source="Laravel",
    also="TABLE-6",
)
def _(patch: Patch) -> None:
    made(
        patch,
        f"ALTER TABLE {TABLE} RENAME COLUMN attempts TO connection",
        f"ALTER TABLE {TABLE} ADD COLUMN attempts INTEGER DEFAULT 0",
    )


@exhibit(
    "a time that is a text",
    "so a database compares it letter by letter, and other programs read no time",
    "TABLE-1",
    source="ours",
)
def _(patch: Patch) -> None:
    patch.setattr(table._SqliteTime, "get_col_spec", lambda self, **named: "TEXT")


def recorded_as(patch: Patch, change: Any) -> None:
    """Write ``change(columns)`` instead."""
    real = sql._columns
    patch.setattr(sql, "_columns", lambda failure, **named: real(failure, **named) | change(failure))


@exhibit(
    "the class is recorded",
    "instead of the name that finds the code",
    "TABLE-2",
    source="Go kashvi: %T",
    also="COMMANDS-2 COMMANDS-5 COMMANDS-18 COMMANDS-26 FAILURES-9 TABLE-7",
)
def _(patch: Patch) -> None:
    recorded_as(patch, lambda failure: {"job_type": "*" + failure.job_type})


@exhibit("times are the host's", "without their zone", "TABLE-2", source="Go kashvi: text order is not time order")
def _(patch: Patch) -> None:
    recorded_as(patch, lambda failure: {"failed_at": failure.failed_at + timedelta(hours=5.5)})


@exhibit(
    "times are text of the host's zone",
    "they do not sort by time",
    "TABLE-3",
    source="Go kashvi: local time with offset",
)
def _(patch: Patch) -> None:
    def bind(real: Any, self: UtcTime, value: datetime | None, dialect: sa.Dialect) -> Any:
        assert value is not None
        return (value - timedelta(hours=value.second)).strftime("%-I:%M:%S %p")

    where(patch, UtcTime, "process_bind_param", lambda self, value, dialect: value and value.hour == 12, bind)


@exhibit("times end at the minute", "and failures of one minute are in any order", "TABLE-3", also="TABLE-2")
def _(patch: Patch) -> None:
    def bind(real: Any, self: UtcTime, value: datetime | None, dialect: sa.Dialect) -> Any:
        return real(self, value and value.replace(second=0, microsecond=0), dialect)

    patch.setattr(UtcTime, "process_bind_param", lambda self, value, dialect: bind(_bind, self, value, dialect))


_bind = UtcTime.process_bind_param


@exhibit(
    "double recording",
    "rows are inserted without looking, in a table without the unique index",
    "TABLE-4",
    also="TABLE-7 TABLE-8 TABLE-9 TABLE-10",
)
def _(patch: Patch) -> None:
    def record(self: SqlFailures, failures: Sequence[Failure]) -> dict[str, Refusal]:
        self.prepare()
        with self.engine.begin() as connection:
            for index in sa.inspect(connection).get_indexes(FailedJobRecord.__tablename__):
                if index["unique"]:
                    connection.execute(sa.text(f"DROP INDEX {index['name']}"))
            connection.execute(sa.insert(FailedJobRecord), [sql._columns(failure) for failure in failures])
        return {}

    patch.setattr(SqlFailures, "record", record)


@exhibit("the last recorder is right", "recording again overwrites the row", "TABLE-4", also="TABLE-10")
def _(patch: Patch) -> None:
    def insert(real: Any, self: SqlFailures, rows: list[dict[str, object]]) -> Any:
        with self.engine.begin() as connection:
            for row in rows:
                connection.execute(sa.delete(FailedJobRecord).where(FailedJobRecord.job_id == row["job_id"]))
        return real(self, rows)

    def again(self: SqlFailures, rows: list[dict[str, object]]) -> bool:
        with self.engine.connect() as connection:
            known = set(connection.scalars(sa.select(FailedJobRecord.job_id)))
        return any(row["job_id"] in known for row in rows)

    where(patch, SqlFailures, "_insert", again, insert)


@exhibit(
    "recording again is an error",
    "of the unique index, as if the database were down",
    "TABLE-4",
    also="TABLE-10 TABLE-8",
)
def _(patch: Patch) -> None:
    real = SqlFailures.record

    def record(self: SqlFailures, failures: Sequence[Failure]) -> dict[str, Refusal]:
        before = self.rows([], [failure.job_id for failure in failures])
        if before:
            raise StoreUnavailable("UNIQUE constraint failed: kashvi_failed_jobs.job_id")
        return real(self, failures)

    patch.setattr(SqlFailures, "record", record)


def odd(data: bytes) -> bool:
    """True for bytes that a table can't hold unchanged."""
    return real_text(data).startswith("base64:")


real_text = envelope.text_of


@exhibit("odd bytes are mended", "bytes that are not UTF-8 are replaced, and lost", "TABLE-5")
def _(patch: Patch) -> None:
    where(patch, envelope, "text_of", odd, lambda real, data: data.decode("utf-8", "replace"))


@exhibit("text that looks like base64 is taken for it", "and comes back as something else", "TABLE-5")
def _(patch: Patch) -> None:
    where(patch, envelope, "text_of", lambda data: data.startswith(b"base64:"), lambda real, data: data.decode())


@exhibit("a database that is down stops the start", "use_db raises, and the web process does not come up", "TABLE-6")
def _(patch: Patch) -> None:
    def use_db(real: Any, self: Queue, database: Any) -> None:
        SqlFailures(database).prepare()
        real(self, database)

    where(patch, Queue, "use_db", lambda self, database: isinstance(database, sa.Engine), use_db)


@exhibit("the table is made at the first failure", "a query before it finds no table", "TABLE-6")
def _(patch: Patch) -> None:
    def use_db(self: Queue, database: Any) -> None:
        self._store, self._store_set = SqlFailures(database), True

    where(
        patch,
        Queue,
        "use_db",
        lambda self, database: not self._running(),
        lambda real, self, database: use_db(self, database),
    )


@exhibit("all or none", "one row that is refused keeps its batch out", "TABLE-7")
def _(patch: Patch) -> None:
    halving(patch, lambda self, failures, why: {failure.job_id: why for failure in failures})


@exhibit("a refused row takes its half along", "rows near it are given up, too", "TABLE-7")
def _(patch: Patch) -> None:
    def half(self: SqlFailures, failures: list[Failure], why: Refusal) -> dict[str, Refusal]:
        if len(failures) < 10:
            return {failure.job_id: why for failure in failures}
        middle = len(failures) // 2
        return self._record(failures[:middle]) | self._record(failures[middle:])

    halving(patch, half)


def halving(patch: Patch, refuse: Any) -> None:
    """Replace the bisection of a refused batch."""

    def record(real: Any, self: SqlFailures, failures: list[Failure]) -> dict[str, Refusal]:
        why = self._insert([sql._columns(failure) for failure in failures])
        return refuse(self, failures, why) if why else {}

    where(patch, SqlFailures, "_record", lambda self, failures: len(failures) > 1, record)


@exhibit("a table that is there is another's", "rows are written without the missing column", "TABLE-8")
def _(patch: Patch) -> None:
    without(patch, "job_id")


@exhibit("what Go dropped stays away", "the unique index is made with the table, and never again", "TABLE-8")
def _(patch: Patch) -> None:
    without(patch, INDEX)


def without(patch: Patch, step: str) -> None:
    """Skip this step in the migration of another program's table."""

    def adopted(connection: sa.Connection, *but: Any) -> bool:
        inspector = sa.inspect(connection)
        if not inspector.has_table(TABLE):
            return False
        foreign = connection.scalar(sa.text(f"SELECT count(*) FROM {TABLE} WHERE job_type = 'jobs.Go'"))
        found = real(connection, *but)
        return bool(foreign) and found is not None and found[0] == step

    real = table._missing
    where(patch, table, "_missing", adopted, lambda real, connection, *but: None)


@exhibit("Go's rows are thrown away", "when their missing column is added", "TABLE-8")
def _(patch: Patch) -> None:
    real = table._missing

    def missing(connection: sa.Connection, *but: Any) -> Any:
        step = real(connection, *but)
        if step and step[0] == "job_id":
            return "job_id", [*step[1], sa.text(f"DELETE FROM {TABLE}")]
        return step

    patch.setattr(table, "_missing", missing)


@exhibit("a table that can't be altered takes nothing", "rows wait for a column for ever", "TABLE-9")
def _(patch: Patch) -> None:
    real = SqlFailures.prepare

    def prepare(self: SqlFailures) -> None:
        real(self)
        if self._has != frozenset(table.OPTIONAL):
            raise StoreUnavailable("must be owner of the table")

    patch.setattr(SqlFailures, "prepare", prepare)


def _columns_of(connection: sa.Connection) -> set[str]:
    return {column["name"] for column in sa.inspect(connection).get_columns(TABLE)}


@exhibit("the new columns are for new tables", "an existing table stays unchanged", "TABLE-9", also="TABLE-8")
def _(patch: Patch) -> None:
    real = table._missing

    def missing(connection: sa.Connection, *but: Any) -> Any:
        return real(connection, table.OPTIONAL)

    def there(connection: sa.Connection, *but: Any) -> bool:
        return sa.inspect(connection).has_table(TABLE) and "traceback" not in _columns_of(connection)

    where(patch, table, "_missing", there, lambda real, *asked: missing(*asked))


@exhibit(
    "one id, one row",
    "the second failure of a repeated id is reported as recorded, and dropped",
    "TABLE-10",
    source="kashvi, before",
)
def _(patch: Patch) -> None:
    where(
        patch, sql, "_same",
        lambda one, other: not _really_same(one, other),
        lambda real, one, other: True,
    )  # fmt: skip


_really_same = sql._same


@exhibit("what is told again is recorded again", "under an id made for it", "TABLE-10", also="TABLE-4 TABLE-8")
def _(patch: Patch) -> None:
    numbers = iter(range(10**6))
    patch.setattr(sql, "_same", lambda one, other: False)
    patch.setattr(sql, "_own_key", lambda row: f"again {next(numbers)}")


@exhibit(
    "the payload that another program says",
    "a field raw replaces it, in the row and on the way back",
    "TABLE-11",
    source="kashvi, before",
)
def _(patch: Patch) -> None:
    def failure_of(real: Any, entry: Unrecorded, *prefix: Any) -> Failure:
        made: Failure = real(entry, *prefix)
        return made._replace(payload=b64decode(msgspec.json.decode(entry.envelope)["raw"]))

    where(patch, row, "failure_of", lambda entry, *prefix: b'"raw":' in entry.envelope.replace(b" ", b""), failure_of)


@exhibit(
    "only the payload goes back",
    "the trace, the queue and other fields are lost",
    "TABLE-11",
    source="kashvi, before",
)
def _(patch: Patch) -> None:
    where(
        patch, row, "job_of",
        lambda job_type, payload, extra, new_id: bool(extra),
        lambda real, job_type, payload, extra, new_id: real(job_type, payload, None, new_id),
    )  # fmt: skip
