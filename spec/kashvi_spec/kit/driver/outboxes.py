"""An outbox in a list and a server with faults, for clauses about relays: no database, no threads, no time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from typing import Any

import sqlalchemy as sa

from kashvi.drivers.lines import MemoryStore
from kashvi.drivers.memory import MemoryDriver
from kashvi.drivers.redis import RedisDriver
from kashvi.errors import CommandRefused, DriverUnavailable, OutboxUnavailable, ReplyLost
from kashvi.outbox.relay import Relay, Row
from kashvi.relaying import RELAY_S, Relayed, Stored
from kashvi.stream import EventStream


class Clock:
    """The time of a relay and of its server."""

    def __init__(self) -> None:
        self.time = 1000.0
        self._ids = 0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    def new_id(self) -> str:
        self._ids += 1
        return f"token-{self._ids}"

    def condition(self) -> Any:
        return threading.Condition()


class Table:
    """An outbox in a list."""

    place = "a list"

    def __init__(self, *job_ids: str) -> None:
        self.rows = [Row(job_id, b"envelope of " + job_id.encode()) for job_id in job_ids]
        self.fails: list[str] = []
        """The calls that fail from now on; "after delete" fails once the rows are gone."""

    def name(self) -> str:
        return "outbox"

    def waiting(self, but: Collection[str], limit: int, most_bytes: int) -> list[Row]:
        self._reach("waiting")
        return [row for row in self.rows if row.job_id not in but][:limit]

    def present(self, job_ids: Sequence[str]) -> set[str]:
        self._reach("present")
        return {row.job_id for row in self.rows} & set(job_ids)

    def delete(self, job_ids: Sequence[str]) -> None:
        self._reach("delete")
        self.rows = [row for row in self.rows if row.job_id not in job_ids]
        self._reach("after delete")

    def rest(self) -> None: ...

    def watch(self, hint: Callable[[], None]) -> Callable[[], None]:
        return lambda: None

    def _reach(self, call: str) -> None:
        if call in self.fails:
            raise OutboxUnavailable("away")


class Wire:
    """A driver with a network before it."""

    def __init__(self, clock: Clock, redis: Any = None) -> None:
        self.clock = clock
        self.driver: MemoryDriver | RedisDriver = (
            RedisDriver(redis, server_now=clock.now)
            if redis is not None
            else MemoryDriver(store=MemoryStore(clock.now, clock.condition()))
        )
        self.faults: list[str] = []
        """What befalls the next requests: "down", "lost" (its reply is), "late" (it is carried out at ``arrive``)."""
        self.full = False
        """The server refuses everything."""
        self.refuses: set[str] = set()
        """The jobs that it refuses."""
        self.pushes: list[tuple[int, list[str], list[str]]] = []
        """Of each push: its number, the jobs, the ids whose rows are gone."""
        self._late: list[Callable[[], object]] = []

    @property
    def relay_target(self) -> str:
        return "here"

    def take_relay(self, outbox: str, token: str, before: str) -> list[str] | float:
        answer: list[str] | float = self._do(lambda: self.driver.take_relay(outbox, token, before))
        return answer

    def relay(
        self, outbox: str, token: str, n: int, rows: Sequence[Stored], gone: Sequence[str], for_s: float = RELAY_S
    ) -> Relayed | None:
        if self.full or self.refuses & {row.job_id for row in rows}:
            raise CommandRefused("OOM" if self.full else "WRONGTYPE")
        self.pushes.append((n, [row.job_id for row in rows], list(gone)))
        answer: Relayed | None = self._do(lambda: self.driver.relay(outbox, token, n, rows, gone, for_s))
        return answer

    def arrive(self) -> None:
        """Late requests are carried out now."""
        for effect in self._late:
            effect()

    def _do(self, effect: Callable[[], Any]) -> Any:
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "down":
            raise DriverUnavailable("away")
        if fault == "late":
            self._late.append(effect)
            raise ReplyLost("late")
        answer = effect()
        if fault == "lost":
            raise ReplyLost("lost")
        return answer

    def jobs(self) -> list[str]:
        """The ids of the ready jobs, oldest first."""
        shown = self.driver.show("ready", 100_000)
        return [one.envelope.decode().removeprefix("envelope of ") for one in shown]

    def kept(self) -> set[str]:
        """The ids that the server keeps."""
        if isinstance(self.driver, MemoryDriver):
            return set(self.driver.store.relayed.get("outbox", {}))
        return {one.decode() for one in self.driver._server.call("HKEYS", "kashvi:queue:relayed:outbox")}

    def forget(self) -> None:
        """The server loses all jobs and ids."""
        if isinstance(self.driver, MemoryDriver):
            self.driver.store.jobs.clear()
            self.driver.store.relayed.clear()
        else:
            self.driver._server.call("DEL", "kashvi:queue:jobs", "kashvi:queue:relayed:outbox")


def relay_of(wire: Wire, table: Table, hold_s: float = 0.0, told: list[Any] | None = None) -> Relay:
    """A relay; ``told``: gets its events."""
    stream = EventStream("p", wire.clock.now, lambda: False)
    if told is not None:
        stream.observe(told.append)
    runtime: Any = wire.clock
    return Relay(wire, table, runtime, stream, hold_s)


def rounds(clock: Clock, *relays: Relay, many: int = 60) -> None:
    """Let them take turns while time passes."""
    for _ in range(many):
        for relay in relays:
            relay.step()
        clock.time += 0.7


def savepoints(engine: sa.Engine) -> sa.Engine:
    """An engine of SQLite as SQLAlchemy's recipe has it: BEGIN is sent where a transaction begins."""

    @sa.event.listens_for(engine, "connect")
    def _(connection: Any, record: object) -> None:
        connection.isolation_level = None

    @sa.event.listens_for(engine, "begin")
    def _(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine
