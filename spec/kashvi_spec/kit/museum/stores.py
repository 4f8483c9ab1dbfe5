"""Recorders and tables that double, lose or reorder rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from kashvi.failures.sql import SqlFailures, _columns
from kashvi.failures.table import FailedJobRecord
from kashvi.ports import Failure
from kashvi.recorder import Recorder, failure_of

from . import Patch, exhibit


@exhibit("double recording", "rows are inserted without looking, in a table without the unique index", "TABLE-4")
def _(patch: Patch) -> None:
    def record(self: SqlFailures, failures: Sequence[Failure]) -> dict[str, str]:
        with self.engine.begin() as connection:
            for index in sa.inspect(connection).get_indexes(FailedJobRecord.__tablename__):
                if index["unique"]:
                    connection.execute(sa.text(f"DROP INDEX {index['name']}"))
            connection.execute(sa.insert(FailedJobRecord), [_columns(failure) for failure in failures])
        return {}

    patch.setattr(SqlFailures, "record", record)


@exhibit("removed before it is recorded", "a crash or a database that is down loses the row", "FAILURES-1 FAILURES-7")
def _(patch: Patch) -> None:
    def batch(self: Recorder, store: Any) -> bool:
        waiting = self._driver.unrecorded(500)
        self._driver.recorded([entry.envelope for entry in waiting])
        store.record([failure_of(entry) for entry in waiting])
        return False

    patch.setattr(Recorder, "_batch", batch)


@exhibit("attempts are not in the row", "every row says 1", "FAILURES-5")
def _(patch: Patch) -> None:
    real = SqlFailures.record

    def record(self: SqlFailures, failures: Sequence[Failure]) -> dict[str, str]:
        return real(self, [failure._replace(attempts=1) for failure in failures])

    patch.setattr(SqlFailures, "record", record)


@exhibit("a database that is down is a failure like any other", "the row is given up", "FAILURES-1 FAILURES-7")
def _(patch: Patch) -> None:
    real = Recorder._batch

    def batch(self: Recorder, store: Any) -> bool:
        try:
            return real(self, store)
        except Exception:
            self._driver.recorded([entry.envelope for entry in self._driver.unrecorded(500)])
            return False

    patch.setattr(Recorder, "_batch", batch)
