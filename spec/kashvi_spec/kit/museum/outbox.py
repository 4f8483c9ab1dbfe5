"""Bugs of transactional dispatch: jobs of transactions that were rolled back, lost jobs, and doubled ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

import msgspec
import sqlalchemy as sa
from msgspec.structs import replace
from sqlalchemy import event
from sqlalchemy.orm import Session

from kashvi import dispatch
from kashvi.cli import doctor, relaying
from kashvi.dispatch import Sealed
from kashvi.drivers.memory import MemoryDriver
from kashvi.errors import CommandRefused, DriverError, NoOutbox
from kashvi.jobs.chain import links
from kashvi.jobs.envelope import read
from kashvi.outbox import database, insert
from kashvi.outbox.database import Outbox
from kashvi.outbox.relay import Relay
from kashvi.outbox.table import OUTBOX
from kashvi.queues import Queue
from kashvi.relaying import Relayed, Stored
from kashvi.runtime import SystemRuntime

from . import Patch, exhibit, where

_always = lambda *args, **named: True  # noqa: E731


def _in_a_session(self: Queue, session: object, *rest: object) -> bool:
    return isinstance(session, Session)


@exhibit(
    "pushed after the commit",
    "by a hook of the session: if the server is away then, or the process dies, the job is lost",
    "OUTBOX-1",
    source="Laravel afterCommit, Celery delay_on_commit, Sidekiq transactional_push!",
    also="OUTBOX-3",
)
def _(patch: Patch) -> None:
    def store_in(real: Any, self: Queue, session: Any, sealed: Any, delay_s: float) -> list[str]:
        def push(_: object) -> None:
            try:
                dispatch.push(self.driver, self._stream, sealed, delay_s)
            except DriverError:
                """It is too late to say so."""

        event.listen(session, "after_commit", push, once=True)
        event.listen(session, "after_rollback", lambda _: sealed.clear(), once=True)
        sealed = list(sealed)
        return [one.job_id for one in sealed]

    where(patch, Queue, "_store_in", _in_a_session, store_in)


@exhibit(
    "pushed before the commit",
    "so a worker may be faster than the commit, and a rollback does not take the job back",
    "OUTBOX-1",
    source="netbox #18880, tracim #3062, froide #650, adhocracy #358",
    also="OUTBOX-3",
)
def _(patch: Patch) -> None:
    def store_in(real: Any, self: Queue, session: Any, sealed: Any, delay_s: float) -> list[str]:
        return list(dispatch.push(self.driver, self._stream, sealed, delay_s))

    where(patch, Queue, "_store_in", _in_a_session, store_in)


@exhibit(
    "paging by number",
    "a relay reads on after the highest number that it has seen, and a transaction that took longer is left out",
    "OUTBOX-1",
    source="the usual first try of an outbox",
    also="OUTBOX-9",
)
def _(patch: Patch) -> None:
    seen: dict[int, int] = {}

    def waiting(real: Any, self: Outbox, *args: Any) -> Any:
        last = seen.get(id(self), 0)
        with self.engine.connect() as connection:
            highest = connection.scalar(sa.select(sa.func.max(OUTBOX.c.id))) or 0
            passed = connection.scalars(sa.select(OUTBOX.c.job_id).where(OUTBOX.c.id <= last)).all()
        found = [row for row in real(self, *args) if row.job_id not in passed]
        seen[id(self)] = max(last, highest)
        return found

    where(patch, Outbox, "waiting", _always, waiting)


def _memory(patch: Patch, when: Any, instead: Any) -> None:
    where(patch, MemoryDriver, "relay", when, instead)


@exhibit(
    "two relays at a time",
    "the server asks for no token, so one that stood still pushes what another has pushed and deleted",
    "OUTBOX-2",
    source="ours: Kleppmann's fencing tokens",
)
def _(patch: Patch) -> None:
    def relay(real: Any, self: MemoryDriver, outbox: str, token: str, *args: Any) -> Any:
        return real(self, outbox, self.store.relays[outbox].token, *args)

    _memory(
        patch,
        lambda self, outbox, token, *args: outbox in self.store.relays and self.store.relays[outbox].token != token,
        relay,
    )


@exhibit(
    "pushes without numbers",
    "a request that arrives late is carried out again",
    "OUTBOX-2",
)
def _(patch: Patch) -> None:
    def relay(real: Any, self: MemoryDriver, outbox: str, token: str, n: int, *args: Any) -> Any:
        return real(self, outbox, token, self.store.relays[outbox].n + 1, *args)

    def repeated(self: MemoryDriver, outbox: str, token: str, n: int, *args: Any) -> bool:
        last = self.store.relays.get(outbox)
        return last is not None and last.token == token and n <= last.n

    _memory(patch, repeated, relay)


@exhibit(
    "a relay that is let in trusts what it hears",
    "it takes all kept ids for deleted, and pushes rows again whose deletion failed",
    "OUTBOX-2",
    also="OUTBOX-9",
)
def _(patch: Patch) -> None:
    def take_over(real: Any, self: Relay) -> Any:
        present, self._rows.present = self._rows.present, lambda job_ids: set()  # type: ignore[method-assign]
        try:
            return real(self)
        finally:
            self._rows.present = present  # type: ignore[method-assign]

    where(patch, Relay, "_take_over", lambda self: bool(self._before) or self._outbox == "", take_over)


@exhibit(
    "ids are kept for ever",
    "a relay that is let in does not look which rows are gone",
    "OUTBOX-2",
    source="outboxes that prune by age",
)
def _(patch: Patch) -> None:
    def take_relay(real: Any, self: MemoryDriver, *args: Any) -> Any:
        answer = real(self, *args)
        return answer if isinstance(answer, float) else []

    where(
        patch, MemoryDriver, "take_relay", lambda self, outbox, *rest: bool(self.store.relayed.get(outbox)), take_relay
    )


@exhibit(
    "autocommit is no transaction", "and nothing says so", "OUTBOX-3", source="Django: on_commit outside of atomic"
)
def _(patch: Patch) -> None:
    def check(real: Any, connection: sa.Connection) -> None:
        try:
            real(connection)
        except NoOutbox as error:
            if "autocommit" not in str(error):
                raise

    where(patch, insert, "check", _always, check)


@exhibit(
    "any database is an outbox",
    "a row where no relay looks",
    "OUTBOX-3",
    source="Django #18627: ENQUEUE_ON_COMMIT and several databases",
)
def _(patch: Patch) -> None:
    def outbox_of(real: Any, outboxes: Sequence[Outbox], session: object) -> Any:
        try:
            return real(outboxes, session)
        except NoOutbox:
            database.METADATA.create_all(session.get_bind())  # type: ignore[attr-defined]
            return outboxes[0], insert.transaction_of(session)

    where(patch, database, "outbox_of", _always, outbox_of)


@exhibit(
    "a delay counts from the relay",
    "so an outage of an hour makes jobs an hour late",
    "OUTBOX-4",
)
def _(patch: Patch) -> None:
    where(patch, database, "_left", lambda delay_s, *rest: delay_s > 0, lambda real, delay_s, *rest: delay_s)


@exhibit(
    "a delay counts by another clock",
    "one that is fifteen seconds ahead",
    "OUTBOX-4",
    source="Celery: countdown by the caller's clock",
)
def _(patch: Patch) -> None:
    where(
        patch, database, "_left", lambda delay_s, *rest: delay_s > 0,
        lambda real, delay_s, at, now: real(delay_s, at, now + 15),
    )  # fmt: skip


@exhibit("the newest row first", "jobs of one transaction come in the wrong order", "OUTBOX-5", also="OUTBOX-9")
def _(patch: Patch) -> None:
    where(patch, Outbox, "waiting", _always, lambda real, self, *args: real(self, *args)[::-1])


@exhibit(
    "a refused row holds up all",
    "the relay tries the same batch for ever",
    "OUTBOX-5",
    source="queues with a head that can't be sent",
)
def _(patch: Patch) -> None:
    def halve(real: Any, self: Relay, rows: Any, error: CommandRefused) -> float:
        raise error

    where(patch, Relay, "_halve", _always, halve)


def _holding(self: Relay, rows: Sequence[Stored], answer: Relayed) -> bool:
    return self._hold_s > 0


@exhibit("no row is held", "it is deleted once the server has acknowledged its job", "OUTBOX-6")
def _(patch: Patch) -> None:
    def delete(real: Any, self: Relay, rows: Any, answer: Any) -> None:
        self._hold_s = 0.0
        real(self, rows, answer)

    where(patch, Relay, "_delete", _holding, delete)


@exhibit("a row is held, and the server is not asked again", "so the time has no use", "OUTBOX-6")
def _(patch: Patch) -> None:
    def round_(real: Any, self: Relay) -> float:
        now = self._runtime.monotonic()
        over = [job_id for job_id, held in self._on_hold.items() if held.until <= now]
        self._rows.delete(over)
        self._on_hold = {job_id: held for job_id, held in self._on_hold.items() if job_id not in over}
        return float(real(self))

    where(patch, Relay, "_round", lambda self: self._hold_s > 0, round_)


@exhibit("a relay takes all rows", "those of other queues too, and their jobs end with its process", "OUTBOX-7")
def _(patch: Patch) -> None:
    def waiting(real: Any, self: Outbox, *args: Any) -> Any:
        own, found = self.target, []
        for target in [one.target for one in self.counted()]:
            self.target = lambda target=target: target  # type: ignore[misc]
            found += real(self, *args)
        self.target = own
        return found

    where(
        patch,
        Outbox,
        "waiting",
        lambda self, *args: any(one.target != self.target() for one in self.counted()),
        waiting,
    )


@exhibit("all queues in memory are one", "a shell takes the jobs of another process", "OUTBOX-7")
def _(patch: Patch) -> None:
    patch.setattr(MemoryDriver, "relay_target", property(lambda self: "memory"))


@exhibit(
    "rows are locked while they are pushed",
    "so a slow server stops every writer of the app",
    "OUTBOX-8",
    also="COMMANDS-28",
    source="SELECT … FOR UPDATE SKIP LOCKED around the push",
)
def _(patch: Patch) -> None:
    def push(real: Any, self: Relay, push: Any) -> Any:
        with self._rows.engine.connect() as connection:  # type: ignore[attr-defined]
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            return real(self, push._replace(rows=push.rows))

    where(patch, Relay, "_push", lambda self, push: _in_a_file(self._rows), push)


@exhibit("a lock in the database lets the relay in", "and is held while it asks the server", "OUTBOX-8")
def _(patch: Patch) -> None:
    def take_over(real: Any, self: Relay) -> Any:
        self._outbox = self._rows.name()
        with self._rows.engine.connect() as connection:  # type: ignore[attr-defined]
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            return real(self)

    where(patch, Relay, "_take_over", lambda self: _in_a_file(self._rows), take_over)


def _in_a_file(rows: Any) -> bool:
    return isinstance(rows, Outbox) and bool(rows.engine.url.database)


@exhibit(
    "the key is taken before the commit",
    "so the relay meets it, and drops the job as a duplicate of itself; a rollback leaves it for ever",
    "OUTBOX-9",
    source="Laravel #55420",
)
def _(patch: Patch) -> None:
    def store_in(real: Any, self: Queue, session: Any, sealed: Any, delay_s: float) -> Any:
        for one in sealed:
            self.driver.store.unique.setdefault(one.lock, one.job_id)  # type: ignore[attr-defined]
        return real(self, session, sealed, delay_s)

    where(patch, Queue, "_store_in", lambda self, session, sealed, *rest: bool(sealed[0].lock), store_in)


@exhibit(
    "a duplicate comes back",
    "its row stays, and its job is added once the key is free",
    "OUTBOX-9",
)
def _(patch: Patch) -> None:
    def delete(real: Any, self: Relay, rows: Sequence[Stored], answer: Relayed) -> None:
        kept = [(row, by) for row, by, holder in zip(rows, answer.by, answer.holders, strict=True) if not holder]
        for row, holder in zip(rows, answer.holders, strict=True):
            if holder:
                self._driver.store.relayed[self._outbox].pop(row.job_id)  # type: ignore[attr-defined]
        real(self, [row for row, _ in kept], answer._replace(by=[by for _, by in kept]))

    where(patch, Relay, "_delete", lambda self, rows, answer: any(answer.holders), delete)


def _links(sealed: Sealed) -> list[Sealed]:
    """The links of a chain, each as a job of its own."""
    first = read(sealed.envelope)
    later = [(one.id, msgspec.json.encode(one)) for one in links(first.next)]
    own = sealed.envelope.replace(b',"next":' + bytes(first.next), b"")
    return [replace(sealed, job_id=job_id, envelope=raw) for job_id, raw in ((sealed.job_id, own), *later)]


def _of_a_chain(self: Queue, session: object, sealed: Sequence[Sealed], *rest: object) -> bool:
    return bool(sealed[0].chain)


@exhibit(
    "each link of a chain is a row",
    "so all of them run at once",
    "OUTBOX-10",
    source="a loop of dispatches in one transaction",
)
def _(patch: Patch) -> None:
    def store_in(real: Any, self: Queue, session: Any, sealed: Any, delay_s: float) -> Any:
        real(self, session, _links(sealed[0]), delay_s)
        return [sealed[0].job_id]

    where(patch, Queue, "_store_in", _of_a_chain, store_in)


@exhibit("the first link alone is stored", "and the others are lost with the process", "OUTBOX-10")
def _(patch: Patch) -> None:
    def store_in(real: Any, self: Queue, session: Any, sealed: Any, delay_s: float) -> Any:
        return real(self, session, _links(sealed[0])[:1], delay_s)

    where(patch, Queue, "_store_in", _of_a_chain, store_in)


@exhibit(
    "a relay that is stopped keeps its place", "so no job is pushed for five seconds at each deploy", "COMMANDS-28"
)
def _(patch: Patch) -> None:
    def run(real: Any, self: Relay) -> None:
        with mock.patch.object(self, "leave"):
            real(self)

    where(patch, Relay, "run", _always, run)


@exhibit(
    "a list makes the table that it looks for",
    "at a URL with a slip in it, too",
    "COMMANDS-28",
    source="ours, until now",
)
def _(patch: Patch) -> None:
    def outbox_of(real: Any, database_url: str) -> Outbox:
        outbox = Outbox(database_url, SystemRuntime(), target=lambda: "")
        outbox.prepare()
        return outbox

    where(patch, relaying, "_outbox_of", _always, outbox_of)


@exhibit("one outbox that is away hides all figures", "the server's, too", "COMMANDS-28", source="ours, until now")
def _(patch: Patch) -> None:
    def look(real: Any, queue: Queue) -> Iterator[Any]:
        for outbox in queue.outboxes():
            outbox.counted()
        yield from real(queue)

    where(patch, doctor, "look", _always, look)
