"""Legal variants. A clause that rejects one demands too much.

A variant of a driver changes both of kashvi's drivers, since they must be the same (MEMORY-3).
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from kashvi.cli.output import JsonLines
from kashvi.drivers.memory import MemoryDriver
from kashvi.drivers.redis import RedisDriver
from kashvi.failures.sql import SqlFailures
from kashvi.failures.table import TABLE
from kashvi.ports import Exchange, Expired, Settlement, Want
from kashvi.runtime import SystemRuntime
from kashvi.worker.machine import Machine, choose
from kashvi.worker.machine.state import ALL

from . import Patch, variant, where

DRIVERS = (MemoryDriver, RedisDriver)


def exchanging(patch: Patch, change: Any) -> None:
    """Replace the arguments of exchanges by ``change(lease_s, settlements, want)``."""

    def otherwise(real: Any) -> Any:
        def exchange(self: Any, worker: str, n: int, *asked: Any) -> Exchange:
            answer: Exchange = real(self, worker, n, *change(*asked))
            return answer

        return exchange

    for driver in DRIVERS:
        patch.setattr(driver, "exchange", otherwise(driver.exchange))


def at_most(want: Want, most: int) -> Want:
    return min(want, most) if isinstance(want, int) else want._replace(total=min(want.total, most))


@variant("a driver that claims ten at a time", "even if the worker wants more", "DISPATCH-10")
def _(patch: Patch) -> None:
    exchanging(patch, lambda lease_s, settlements, want: (lease_s, settlements, at_most(want, 10)))


@variant("leases with a grace", "a worker may be silent for a third of a second longer", "DELIVERY-2 DELIVERY-3")
def _(patch: Patch) -> None:
    exchanging(patch, lambda lease_s, settlements, want: (lease_s + 0.3, settlements, want))


@variant("a coarse timer", "delayed jobs and retries are due four milliseconds late", "DELAY-1 RETRY-2")
def _(patch: Patch) -> None:
    def later(s: Settlement) -> Settlement:
        return s._replace(in_s=s.in_s + 0.004) if s.move == "retry" else s

    def otherwise(real: Any) -> Any:
        def push(self: Any, envelopes: Sequence[bytes], delay_s: float = 0.0, *queues: Any) -> Any:
            return real(self, envelopes, delay_s + 0.004 if delay_s > 0 else delay_s, *queues)

        return push

    exchanging(patch, lambda lease_s, settlements, want: (lease_s, [later(s) for s in settlements], want))
    for driver in DRIVERS:
        patch.setattr(driver, "push", otherwise(driver.push))


@variant("the dead in another order", "the worker whose lease ran out first is listed last", "DELIVERY-2")
def _(patch: Patch) -> None:
    def otherwise(real: Any) -> Any:
        def expired(self: Any, limit: int) -> Expired:
            found: Expired = real(self, limit)
            if found.more:
                return found
            owners = sorted({one.owner for one in found.lost}, reverse=True)
            return Expired(sorted(found.lost, key=lambda one: owners.index(one.owner)), found.gone[::-1])

        return expired

    for driver in DRIVERS:
        patch.setattr(driver, "expired", otherwise(driver.expired))


@variant("equal delayed entries are one", "with the same bytes, as in a sorted set", "DELAY-6 DISPATCH-5")
def _(patch: Patch) -> None:
    def push(
        real: Any, self: MemoryDriver, envelopes: Sequence[bytes], delay_s: float = 0.0, *queues: Any
    ) -> float | None:
        self.store.delayed = sorted(entry for entry in self.store.delayed if entry[1] not in envelopes)
        due: float | None = real(self, list(dict.fromkeys(envelopes)), delay_s, *queues)
        return due

    where(patch, MemoryDriver, "push", lambda self, envelopes, delay_s=0.0, *queues: delay_s > 0, push)


@variant("a wait that never waits", "it returns at once without a job", "DISPATCH-2")
def _(patch: Patch) -> None:
    where(
        patch,
        MemoryDriver,
        "wait",
        lambda self, worker, seconds, *queues: seconds > 0,
        lambda real, self, worker, seconds: real(self, worker, 0.0),
    )


@variant("all idle threads are woken", "although one would do", "WORKERS-1")
def _(patch: Patch) -> None:
    def call(self: Machine) -> None:
        self.wake = ALL

    patch.setattr(Machine, "_call", call)


@variant("nothing is claimed ahead", "a job for each idle thread, and no more", "WORKERS-3 DISPATCH-10")
def _(patch: Patch) -> None:
    patch.setattr(choose, "ahead", lambda state: 0)


@variant("failures are recorded one by one", "each in a transaction of its own", "FAILURES-8")
def _(patch: Patch) -> None:
    patch.setattr(
        SqlFailures,
        "_record",
        lambda self, failures: {k: v for one in failures for k, v in _record(self, [one]).items()},
    )


_record = SqlFailures._record


@variant("a table with more columns", "a user has added one", "TABLE-1")
def _(patch: Patch) -> None:
    real = SqlFailures.prepare

    def prepare(self: SqlFailures) -> None:
        real(self)
        with self.engine.begin() as connection:
            if "note" not in {column["name"] for column in sa.inspect(connection).get_columns(TABLE)}:
                connection.execute(sa.text(f"ALTER TABLE {TABLE} ADD COLUMN note TEXT"))

    patch.setattr(SqlFailures, "prepare", prepare)


@variant("ids of another form", "nanoseconds and a number", "ENVELOPE-3 DISPATCH-5")
def _(patch: Patch) -> None:
    numbers = itertools.count()
    patch.setattr(SystemRuntime, "new_id", lambda self: f"{time.time_ns():020}-{next(numbers):08}")


@variant("more in the JSON of a worker", "also the host", "COMMANDS-5")
def _(patch: Patch) -> None:
    def call(self: JsonLines, event: Any) -> None:
        from kashvi.text import json_line

        self._write(json_line(msgspec.to_builtins(event) | {"host": "here"}))

    patch.setattr(JsonLines, "__call__", call)
