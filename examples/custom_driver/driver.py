"""A queue in SQLite, through SQLAlchemy: what a driver of one's own looks like.

One row per job, in the place where it is: ready, delayed, held, running, unrecorded. Every method is one transaction
that takes SQLite's write lock first, so it is atomic between threads and between processes.
"""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from kashvi.errors import CommandRefused, DriverUnavailable
from kashvi.ports import (
    FIRST_LEASE_S,
    GONE_AFTER_S,
    PAUSED,
    Exchange,
    Expired,
    LostDelivery,
    Paused,
    Settlement,
    Stats,
    Unrecorded,
    at_once,
    so_many_of,
    worker_name,
)

POLL_S = 0.05

metadata = sa.MetaData()
jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("place", sa.String(10), nullable=False),
    sa.Column("owner", sa.String(200), nullable=False, server_default=""),
    sa.Column("rank", sa.Float, nullable=False),
    sa.Column("envelope", sa.LargeBinary, nullable=False),
    sa.Index("jobs_in_order", "place", "owner", "rank"),
)
"""``rank`` orders a place: ready by position, delayed by due time, unrecorded by the time of failure."""
workers = sa.Table(
    "workers",
    metadata,
    sa.Column("name", sa.String(200), primary_key=True),
    sa.Column("lease_end", sa.Float, nullable=False),
    sa.Column("n", sa.Integer, nullable=False),
    sa.Column("settled_at", sa.Float, nullable=False),
    sa.Column("refused", sa.JSON, nullable=False),
)
pauses = sa.Table("pauses", metadata, sa.Column("since", sa.Float, nullable=False))
"""One row while the queue is paused."""
_COUNTED = sa.select(jobs.c.place, jobs.c.owner, sa.func.count(), sa.func.min(jobs.c.rank)).group_by(
    jobs.c.place, jobs.c.owner
)


class SqliteDriver:
    """A handle on the queue in a file. ``now``: the clock that leases and delays are counted by."""

    follows_up = True

    def __init__(self, path: str, *, now: Callable[[], float] = time.time, sleep: Callable[[float], None] = time.sleep):
        self.path = path
        self.now = now
        self._sleep = sleep
        self._engine = sa.create_engine(f"sqlite:///{path}", isolation_level="AUTOCOMMIT")
        sa.event.listen(self._engine, "connect", _without_a_flush_per_commit)
        with self._transaction() as c:
            metadata.create_all(c)

    def __repr__(self) -> str:
        return f"sqlite at {self.path}"

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        try:
            with self._engine.connect() as connection:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                try:
                    yield connection
                except BaseException:
                    connection.exec_driver_sql("ROLLBACK")
                    raise
                connection.exec_driver_sql("COMMIT")
        except sa.exc.OperationalError as error:
            raise DriverUnavailable(str(error.orig), self.path) from error

    def push(self, envelopes: Sequence[bytes], delay_s: float = 0.0) -> float | None:
        with self._transaction() as c:
            due = self.now() + delay_s if delay_s > 0 else None
            _add(c, envelopes, due)
            return due

    def exchange(self, worker: str, n: int, lease_s: float, settlements: Sequence[Settlement], want: int) -> Exchange:
        with self._transaction() as c:
            now = self.now()
            known = c.execute(sa.select(workers).where(workers.c.name == worker_name(worker))).one_or_none()
            if known is not None and n < known.n:
                raise CommandRefused(f"exchange {n} of worker {worker} comes after {known.n}", self.path)
            if known is not None and n == known.n:
                listing = (_in(c, "held", worker), _in(c, "running", worker))
                return self._answer(c, worker, now, known.settled_at, tuple(known.refused), [], listing)
            refused = tuple(i for i, s in enumerate(settlements) if not self._settle(c, worker, s, now))
            values = {"name": worker, "lease_end": now + lease_s, "n": n, "settled_at": now, "refused": refused}
            c.execute(sa.insert(workers).prefix_with("OR REPLACE"), values)
            self._promote(c, now)
            claimed = [] if _paused_since(c) else self._claim(c, worker, want)
            answer = self._answer(c, worker, now, now, refused, claimed, None)
            if any(s.move == "leave" and s.owner == worker for s in settlements):
                _leave(c, worker)
            return answer

    def _answer(
        self,
        c: sa.Connection,
        worker: str,
        now: float,
        settled_at: float,
        refused: tuple[int, ...],
        claimed: list[bytes],
        listing: tuple[list[bytes], list[bytes]] | None,
    ) -> Exchange:
        there = {(place, owner): (n, first) for place, owner, n, first in c.execute(_COUNTED)}
        next_due = there.get(("delayed", ""), (0, None))[1]
        return Exchange(
            server_at=now,
            settled_at=settled_at,
            refused=refused,
            claimed=claimed,
            holding=sum(there.get((place, worker), (0, 0))[0] for place in ("held", "running")),
            ready=there.get(("ready", ""), (0, 0))[0],
            unrecorded=there.get(("unrecorded", ""), (0, 0))[0],
            next_due_s=None if next_due is None else next_due - now,
            listing=listing,
            paused=_paused_since(c) is not None,
        )

    def _promote(self, c: sa.Connection, now: float) -> None:
        due = sa.select(jobs.c.id).where(jobs.c.place == "delayed", jobs.c.rank <= now)
        if found := c.scalars(due.order_by(jobs.c.rank, jobs.c.envelope).limit(500)).all():
            _append(c, found, "ready", "")

    def _claim(self, c: sa.Connection, worker: str, want: int) -> list[bytes]:
        oldest = sa.select(jobs.c.id, jobs.c.envelope).where(jobs.c.place == "ready").order_by(jobs.c.rank).limit(want)
        found = c.execute(oldest).all()
        claimed = at_once(envelope for _, envelope in found)
        if claimed:
            _append(c, [job for job, _ in found[: len(claimed)]], "held", worker)
        return claimed

    def _settle(self, c: sa.Connection, worker: str, s: Settlement, now: float) -> bool:
        if s.owner != worker:
            lease_end = c.scalar(sa.select(workers.c.lease_end).where(workers.c.name == s.owner))
            if lease_end is None or lease_end > now or s.lease_end not in (None, lease_end):
                return False
            if s.move == "leave":
                return lease_end <= now - GONE_AFTER_S and _leave(c, s.owner)
        elif s.move == "leave":
            return True
        mine = (jobs.c.place == s.place, jobs.c.owner == s.owner, jobs.c.envelope == s.old)
        job = c.scalar(sa.select(jobs.c.id).where(*mine).order_by(jobs.c.rank).limit(1))
        if job is None:
            return False
        if s.move == "done":
            c.execute(sa.delete(jobs).where(jobs.c.id == job))
            for envelope, in_s, *_ in s.follow_ups:
                _add(c, [envelope], now + in_s if in_s > 0 else None)
        elif s.move == "retry":
            _move(c, job, "delayed", "", now + s.in_s, s.new)
        elif s.move == "fail":
            _move(c, job, "unrecorded", "", now + s.in_s, s.new)
        elif s.move == "return":
            _move(c, job, "ready", "", _edge(c, sa.func.min) - 1, s.new)
        elif s.move == "start":
            _append(c, [job], "running", s.owner)
        return True

    def wait(self, worker: str, seconds: float) -> bytes | None:
        with self._transaction() as c:  # one that no list names would take what it claims into its death
            first = {"name": worker_name(worker), "lease_end": self.now() + FIRST_LEASE_S}
            c.execute(sa.insert(workers).prefix_with("OR IGNORE"), first | {"n": 0, "settled_at": 0.0, "refused": ()})
        polls = int(seconds / POLL_S)
        for poll in range(polls + 1):
            with self._transaction() as c:
                if found := self._claim(c, worker, 1):
                    return found[0]
            if poll < polls:
                self._sleep(POLL_S)
        return None

    def pause(self) -> float:
        with self._transaction() as c:
            since = _paused_since(c) or self.now()
            c.execute(sa.delete(pauses))
            c.execute(sa.insert(pauses).values(since=since))
            return since

    def resume(self) -> float:
        with self._transaction() as c:
            c.execute(sa.delete(pauses))
            return self.now()

    def paused_since(self) -> float | None:
        with self._transaction() as c:
            return _paused_since(c)

    def next_due(self) -> float | Paused | None:
        with self._transaction() as c:
            if _paused_since(c):
                return PAUSED
            due: float | None = c.scalar(sa.select(sa.func.min(jobs.c.rank)).where(jobs.c.place == "delayed"))
            return due

    def wake(self, worker: str) -> None:
        """A wait polls, and ends by itself."""

    def expired(self, limit: int) -> Expired:
        with self._transaction() as c:
            now = self.now()
            over = sa.select(workers.c.name, workers.c.lease_end).where(workers.c.lease_end <= now)
            lost: list[LostDelivery] = []
            gone: list[str] = []
            more = False
            for owner, lease_end in c.execute(over.order_by(workers.c.lease_end, workers.c.name)):
                found = [LostDelivery(owner, "running", e, lease_end) for e in reversed(_in(c, "running", owner))]
                found += [LostDelivery(owner, "held", e, lease_end) for e in reversed(_in(c, "held", owner))]
                read = so_many_of(lost, found, limit)
                lost += found[:read]
                more = more or read < len(found)
                if not found and lease_end <= now - GONE_AFTER_S:
                    gone.append(owner)
            return Expired(lost, gone[:limit], more)

    def unrecorded(self, limit: int, skip: int = 0) -> list[Unrecorded]:
        with self._transaction() as c:
            waiting = sa.select(jobs.c.envelope, jobs.c.rank).where(jobs.c.place == "unrecorded")
            oldest = c.execute(waiting.order_by(jobs.c.rank, jobs.c.envelope).limit(limit).offset(skip)).all()
            return [Unrecorded(*row) for row in oldest[: len(at_once(row.envelope for row in oldest))]]

    def recorded(self, envelopes: Sequence[bytes]) -> None:
        with self._transaction() as c:
            c.execute(sa.delete(jobs).where(jobs.c.place == "unrecorded", jobs.c.envelope.in_(envelopes)))

    def stats(self) -> Stats:
        with self._transaction() as c:
            there: Counter[str] = Counter()
            for place, _, n, _ in c.execute(_COUNTED):
                there[place] += n
            known = c.scalar(sa.select(sa.func.count()).select_from(workers)) or 0
            held = there["held"] + there["running"]
            return Stats(there["ready"], there["delayed"], held, there["unrecorded"], known)


def _without_a_flush_per_commit(connection: sqlite3.Connection, record: object) -> None:
    """A crash of the machine may cost the last moments; a crash of a process costs nothing."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


def _add(c: sa.Connection, envelopes: Sequence[bytes], due: float | None) -> None:
    """``due``: None for jobs that are ready."""
    last = _edge(c, sa.func.max) if due is None else 0.0
    place = "ready" if due is None else "delayed"
    rows = [{"place": place, "rank": due or last + n, "envelope": e} for n, e in enumerate(envelopes, 1)]
    if rows:
        c.execute(sa.insert(jobs), rows)


def _move(c: sa.Connection, job: int, place: str, owner: str, rank: float, envelope: bytes | None = None) -> None:
    values: dict[str, Any] = {"place": place, "owner": owner, "rank": rank}
    if envelope is not None:
        values["envelope"] = envelope
    c.execute(sa.update(jobs).where(jobs.c.id == job).values(values))


def _append(c: sa.Connection, ids: Sequence[int], place: str, owner: str) -> None:
    last = _edge(c, sa.func.max, place, owner)
    change = sa.update(jobs).where(jobs.c.id == sa.bindparam("job"))
    change = change.values(place=place, owner=owner, rank=sa.bindparam("at"))
    c.execute(change, [{"job": job, "at": last + n} for n, job in enumerate(ids, 1)])


def _edge(c: sa.Connection, side: Callable[[Any], Any], place: str = "ready", owner: str = "") -> float:
    """The rank of the first or last job of a place, or 0."""
    edge = c.scalar(sa.select(side(jobs.c.rank)).where(jobs.c.place == place, jobs.c.owner == owner))
    return float(edge or 0.0)


def _paused_since(c: sa.Connection) -> float | None:
    since: float | None = c.scalar(sa.select(pauses.c.since))
    return since


def _in(c: sa.Connection, place: str, owner: str) -> list[bytes]:
    found = sa.select(jobs.c.envelope).where(jobs.c.place == place, jobs.c.owner == owner)
    return list(c.scalars(found.order_by(jobs.c.rank)))


def _leave(c: sa.Connection, owner: str) -> bool:
    if _in(c, "held", owner) or _in(c, "running", owner):
        return False
    c.execute(sa.delete(workers).where(workers.c.name == owner))
    return True
