"""A process's connection to the database: at every call tasks may switch and faults strike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import sqlalchemy as sa

from kashvi.errors import StoreUnavailable
from kashvi.failures.table import TABLE
from kashvi.ports import Failure, FailureStore, Refusal

from .ledger import Try

if TYPE_CHECKING:
    from .runtime import SimRuntime
    from .world import World

REFUSED = "CREATE TABLE IF NOT EXISTS refused (job_id TEXT PRIMARY KEY)"
REFUSES = f"""CREATE TRIGGER IF NOT EXISTS refuses BEFORE INSERT ON {TABLE}
WHEN NEW.job_id IN (SELECT job_id FROM refused)
BEGIN SELECT RAISE(ABORT, 'the simulated database refuses it'); END"""
"""The simulated database is a SQLite that refuses rows by their job ids."""


class Database:
    """One process's failure store: the real one, with a network between."""

    def __init__(self, world: World, process: SimRuntime, store: FailureStore) -> None:
        self._world = world
        self._process = process
        self.inner = store

    def record(self, failures: Sequence[Failure]) -> dict[str, Refusal]:
        world, process = self._world, self._process
        world.kernel.check_open()
        assert not process.dead, "a dead process made a call"
        if world.dealings is None:
            return self._noted(failures)
        return world.dealings.records(process, lambda: self._noted(failures))

    def _noted(self, failures: Sequence[Failure]) -> dict[str, Refusal]:
        tries, kernel, began = self._world.ledger.tries, self._world.kernel, self._world.kernel.time
        try:
            refused = self._record(failures)
        except StoreUnavailable:
            tries.append(Try(self._process, began, kernel.time, failures, {}, down=True))
            raise
        tries.append(Try(self._process, began, kernel.time, failures, refused, down=False))
        return refused

    def _refuses(self) -> bool:
        """Make the database itself refuse the rows that it refuses for good. False if there is no table yet."""
        world, ledger = self._world, self._world.ledger
        forever = {job_id for job_id, until in world.refused_rows.items() if until == math.inf}
        if forever == ledger.refused_by_database:
            return bool(forever)
        if world.database is None:
            return False
        with world.database.begin() as connection:
            if not sa.inspect(connection).has_table(TABLE):
                return False
            for statement in (REFUSED, REFUSES, "DELETE FROM refused"):
                connection.execute(sa.text(statement))
            for job_id in forever:
                connection.execute(sa.text("INSERT INTO refused VALUES (:job_id)"), {"job_id": job_id})
        ledger.refused_by_database = forever
        return True

    def _record(self, failures: Sequence[Failure]) -> dict[str, Refusal]:
        world, process = self._world, self._process
        world.kernel.pause()
        world.strike("before", "record", process, lambda: [failure.job_id for failure in failures])
        if world.kernel.time < world.database_down_until:
            raise StoreUnavailable("the simulated database is down")
        by_itself = self._refuses()
        refused = {
            failure.job_id: Refusal("the simulated database refuses it", passing=until < math.inf)
            for failure in failures
            if (until := world.refused_rows.get(failure.job_id, 0.0)) > world.kernel.time
            and not (by_itself and until == math.inf)
        }
        refused |= self.inner.record([failure for failure in failures if failure.job_id not in refused])
        world.strike("after", "record", process, None)
        return refused
