"""Bugs planted in the production code: each a small override, most of them real in some other queue."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import sqlalchemy as sa

from kashvi import retry, settle
from kashvi.books import Books
from kashvi.drivers.memory import MemoryDriver
from kashvi.errors import DriverError, StoreUnavailable
from kashvi.failures.sql import SqlFailures, _columns
from kashvi.failures.table import FailedJobRecord
from kashvi.keeper import Keeper
from kashvi.lease import Answered, Lease, Request
from kashvi.ports import Exchange, Failure, LostDelivery, Settlement
from kashvi.recorder import Recorder, failure_of
from kashvi.worker import Worker

Patch = pytest.MonkeyPatch
PLANTED: dict[str, tuple[str, Callable[[Patch], None]]] = {}


def planted(name: str, about: str) -> Callable[[Callable[[Patch], None]], Callable[[Patch], None]]:
    def note(plant: Callable[[Patch], None]) -> Callable[[Patch], None]:
        PLANTED[name] = (about, plant)
        return plant

    return note


def always_accept(patch: Patch) -> None:
    """Settle whatever is asked, held or not."""
    real = MemoryDriver._settle

    def _settle(self: MemoryDriver, worker: str, s: Settlement, now: float) -> bool:
        if s.move != "leave":
            place = (self.store.held if s.place == "held" else self.store.running).setdefault(s.owner, [])
            if s.old not in place:
                place.append(s.old)
        return real(self, worker, s, now)

    patch.setattr(MemoryDriver, "_settle", _settle)


@planted("claim without reserving", "BRPOP, as the original does: a job is nowhere while it runs")
def _(patch: Patch) -> None:
    real, real_wait = MemoryDriver.exchange, MemoryDriver.wait

    def exchange(self: MemoryDriver, worker: str, *args: Any) -> Exchange:
        answer = real(self, worker, *args)
        for envelope in answer.claimed:
            self.store.held[worker].remove(envelope)
        return answer._replace(holding=answer.holding - len(answer.claimed))

    def wait(self: MemoryDriver, worker: str, seconds: float) -> bytes | None:
        envelope = real_wait(self, worker, seconds)
        if envelope is not None:
            self.store.held[worker].remove(envelope)
        return envelope

    always_accept(patch)
    patch.setattr(MemoryDriver, "exchange", exchange)
    patch.setattr(MemoryDriver, "wait", wait)


@planted("ack before handling", "settled as done when it is claimed")
def _(patch: Patch) -> None:
    real = Worker._admit

    def _admit(self: Worker, raw: bytes, *args: Any) -> None:
        d = settle.Delivery(raw, self.id, self._runtime.new_id, 0.0)
        self._books.outbox.append(settle.succeeded(d, self._runtime.monotonic()))
        real(self, raw, *args)

    patch.setattr(Worker, "_admit", _admit)


@planted("promotion that does not check the removal", "two processes move the same due job")
def _(patch: Patch) -> None:
    real = MemoryDriver.exchange
    moved: dict[int, tuple[float, list[bytes]]] = {}

    def exchange(self: MemoryDriver, worker: str, *args: Any) -> Exchange:
        store, now = self.store, self.store.now()
        due = [envelope for at, envelope in sorted(store.delayed) if at <= now]
        at, earlier = moved.get(id(store), (0.0, []))
        if not due and now - at < 0.001:
            store.jobs.extendleft(earlier)  # read before the other one had removed them
            moved.pop(id(store))
        elif due:
            moved[id(store)] = (now, due)
        return real(self, worker, *args)

    patch.setattr(MemoryDriver, "exchange", exchange)


@planted("retry off by one", "one attempt more than allowed")
def _(patch: Patch) -> None:
    patch.setattr(retry, "decide", lambda n, most: retry.RetryAfter(float(n)) if n <= most else retry.GiveUp())


@planted("gives up too early", "one attempt less than allowed")
def _(patch: Patch) -> None:
    patch.setattr(retry, "decide", lambda n, most: retry.RetryAfter(float(n)) if n < most - 1 else retry.GiveUp())


@planted("constant backoff", "one second after every attempt")
def _(patch: Patch) -> None:
    patch.setattr(retry, "decide", lambda n, most: retry.RetryAfter(1.0) if n < most else retry.GiveUp())


@planted("early promotion", "due times are rounded down to the half second")
def _(patch: Patch) -> None:
    real = MemoryDriver.exchange

    def exchange(self: MemoryDriver, *args: Any) -> Exchange:
        store = self.store
        store.delayed = sorted((at // 0.5 * 0.5, envelope) for at, envelope in store.delayed)
        return real(self, *args)

    patch.setattr(MemoryDriver, "exchange", exchange)


@planted("double recording", "rows are inserted without looking, in a table without the unique index")
def _(patch: Patch) -> None:
    def record(self: SqlFailures, failures: Sequence[Failure]) -> dict[str, str]:
        with self.engine.begin() as connection:
            for index in sa.inspect(connection).get_indexes(FailedJobRecord.__tablename__):
                if index["unique"]:
                    connection.execute(sa.text(f"DROP INDEX {index['name']}"))
            connection.execute(sa.insert(FailedJobRecord), [_columns(failure) for failure in failures])
        return {}

    patch.setattr(SqlFailures, "record", record)


@planted("removed before it is recorded", "a crash or a database that is down loses the row")
def _(patch: Patch) -> None:
    def batch(self: Recorder, store: Any) -> bool:
        waiting = self._driver.unrecorded(500)
        self._driver.recorded([entry.envelope for entry in waiting])
        try:
            store.record([failure_of(entry) for entry in waiting])
        except StoreUnavailable:
            raise
        return False

    patch.setattr(Recorder, "_batch", batch)


@planted("heartbeat forgotten", "a lease is renewed only when a job ends")
def _(patch: Patch) -> None:
    patch.setattr(Worker, "exchange_if_due", lambda self: None)


@planted("settle not fenced", "a worker that was taken for dead settles all the same")
def _(patch: Patch) -> None:
    always_accept(patch)


@planted("claim reply lost", "what a lost reply handed over is not looked for")
def _(patch: Patch) -> None:
    patch.setattr(Books, "audit", property(lambda self: False, lambda self, value: None), raising=False)


@planted("settle sent again under a new number", "a lost reply is answered by doing it twice")
def _(patch: Patch) -> None:
    real = Lease._send

    def send(self: Lease, request: Request, give_up: Any) -> Answered | None:
        driver = self._driver

        class Renumbering:
            def exchange(own, worker: str, n: int, *args: Any) -> Exchange:  # noqa: N805
                try:
                    return driver.exchange(worker, self._n, *args)
                except DriverError as error:
                    if error.maybe_sent:
                        self._n += 1
                    raise

        self._driver = Renumbering()  # type: ignore[assignment]
        try:
            return real(self, request, give_up)
        finally:
            self._driver = driver

    patch.setattr(Lease, "_send", send)


@planted("wake-up lost", "threads that wait are not told of work or of the end")
def _(patch: Patch) -> None:
    from kashvi_sim.kernel import Condition

    patch.setattr(Condition, "notify_all", lambda self: None)


@planted("nobody reclaims", "jobs of a dead process stay in its list")
def _(patch: Patch) -> None:
    patch.setattr(Keeper, "_reclaim", lambda self, now: None)


@planted("a lost attempt is never counted", "a poison job runs for ever")
def _(patch: Patch) -> None:
    patch.setattr(retry, "decide_lost", lambda announced, attempts, most: retry.SendBack())


@planted("every lost job is counted", "a poison job takes its neighbours along")
def _(patch: Patch) -> None:
    patch.setattr(retry, "decide_lost", lambda announced, attempts, most: retry.decide(attempts + 1, most))


@planted("reclaim moves instead of settling in place", "a reclaimer that dies takes the jobs along")
def _(patch: Patch) -> None:
    real = MemoryDriver.expired

    def expired(self: MemoryDriver, limit: int) -> Any:
        found = real(self, limit)
        for lost in found.lost:
            (self.store.held if lost.place == "held" else self.store.running)[lost.owner].remove(lost.envelope)
        self.store.taken = getattr(self.store, "taken", []) + list(found.lost)  # type: ignore[attr-defined]
        return found

    real_settle = MemoryDriver._settle

    def _settle(self: MemoryDriver, worker: str, s: Settlement, now: float) -> bool:
        taken: list[LostDelivery] = getattr(self.store, "taken", [])
        mine = [one for one in taken if one.envelope == s.old and one.owner == s.owner]
        if mine and worker != s.owner:
            taken.remove(mine[0])
            (self.store.held if s.place == "held" else self.store.running).setdefault(s.owner, []).append(s.old)
        return real_settle(self, worker, s, now)

    patch.setattr(MemoryDriver, "expired", expired)
    patch.setattr(MemoryDriver, "_settle", _settle)


@planted("retry by the worker's own clock", "due is what the process thinks the time is")
def _(patch: Patch) -> None:
    real = settle.Settling.sent

    def sent(self: settle.Settling, monotonic: float) -> Settlement:
        s = real(self, monotonic)
        return s._replace(in_s=s.in_s - 0.5) if s.move == "retry" else s

    patch.setattr(settle.Settling, "sent", sent)


@planted("last in, first out", "the newest job is claimed first")
def _(patch: Patch) -> None:
    def push(self: MemoryDriver, envelopes: Sequence[bytes], delay_s: float = 0.0) -> float | None:
        if delay_s > 0:
            return real(self, envelopes, delay_s)
        self.store.jobs.extend(envelopes)
        return None

    real = MemoryDriver.push
    patch.setattr(MemoryDriver, "push", push)


@planted("what was not started is forgotten at the stop", "a worker that stops drops what it had claimed ahead")
def _(patch: Patch) -> None:
    def release(self: Books) -> None:
        self._ready = deque()
        self._suspects = deque()

    patch.setattr(Books, "release", release)
