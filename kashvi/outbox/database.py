"""An outbox in a database: its rows as its relay reads and deletes them, each in a short transaction of its own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.orm import Session, scoped_session
from sqlalchemy.pool import NullPool, QueuePool, StaticPool

from ..errors import NoOutbox, OutboxUnavailable, UnusableSetting
from ..failures.engine import engine_of, in_memory, is_no_file, shown_of
from ..failures.table import be_impatient
from ..failures.trouble import TROUBLE, why
from ..ports import Runtime
from .insert import in_transaction, insert, transaction_of
from .relay import Row
from .table import CLOCK_STEP_S, METADATA, NAME, NAME_TABLE, OUTBOX, TABLE, database_now

if TYPE_CHECKING:
    from ..dispatch import Sealed

CHUNK = 500
"""The most ids of one statement."""


class Waiting(NamedTuple):
    """The rows of one target."""

    target: str
    rows: int
    oldest_s: float
    """The age of the oldest."""


class Outbox:
    """The table ``kashvi_outbox`` of one database. All but ``insert`` raises OutboxUnavailable.

    ``target``: the name of the queue in its rows, asked when it is needed; a relay takes only rows of its own.
    """

    def __init__(
        self,
        database: sa.Engine | str,
        runtime: Runtime,
        *,
        target: Callable[[], str],
        hold_s: float = 0.0,
        own: bool = True,
    ) -> None:
        self.engine = engine_of(database)
        if self.engine is not database and in_memory(self.engine.url):
            raise UnusableSetting(
                f"the {self}", "it is in memory, and only its engine reaches it: queue.outbox(engine)"
            )
        self._pooled = False
        self.target = target
        self._own = own
        """True if the target is the driver's own."""
        self.hold_s = hold_s
        if self.engine is not database and isinstance(self.engine.pool, NullPool):
            # While a relay runs, which reads every 0.2 s, it keeps its connection.
            options: dict[str, Any] = {"pool_size": 1, "pool_pre_ping": True, "hide_parameters": True}
            self.engine = sa.create_engine(self.engine.url, poolclass=QueuePool, **options)
            self._pooled = True
        self._runtime = runtime
        self._prepared = False
        self._hints: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        return f"outbox in {self.place}"

    @property
    def place(self) -> str:
        return shown_of(self.engine.url)

    @property
    def is_alone(self) -> bool:
        """True if a relay may share a connection with the app, and so see what is not committed."""
        alone = in_memory(self.engine.url) and self.engine.url.query.get("cache") != "shared"
        return alone or isinstance(self.engine.pool, StaticPool)

    def forked(self) -> None:
        """In the child of a fork: leave the parent's connections alone."""
        self._hints = []
        if self._pooled:
            self.engine.dispose(close=False)

    def rest(self) -> None:
        """Close the connection; the next call opens one again."""
        if self._pooled:
            self.engine.dispose()

    # -- for dispatches --------------------------------------------------------------------------

    def takes(self, engine: sa.Engine) -> bool:
        """True if the engine is one of this database."""
        return self.engine.pool is engine.pool or self.is_at(engine.url)

    def is_at(self, url: sa.URL) -> bool:
        """True if the URL leads to this database."""
        place = _place(self.engine.url)
        return place is not None and place == _place(url)

    def insert(self, session: object, connection: sa.Connection, sealed: Sequence[Sealed], delay_s: float) -> None:
        """Insert the jobs into the caller's transaction. Raises NoOutbox, and errors of SQLAlchemy."""
        insert(connection, sealed, delay_s, self.target())
        if isinstance(session, scoped_session):
            session = session()
        if isinstance(session, Session) and not event.contains(session, "after_commit", self._committed):
            event.listen(session, "after_commit", self._committed)

    def _committed(self, session: object) -> None:
        self.hint()

    def hint(self) -> None:
        """Rows have been committed."""
        for hint in self._hints:
            hint()

    # -- for its relay ----------------------------------------------------------------------------

    def name(self) -> str:
        self.prepare()
        with self._connected() as connection:
            found: str | None = connection.scalar(sa.select(NAME.c.name))
        if found is None:
            try:
                with self._connected() as connection:
                    connection.execute(sa.insert(NAME).values(one=1, name=self._runtime.new_id()))
                    connection.commit()
            except OutboxUnavailable:
                """Another process has given it a name, or the next look says what is wrong."""
            with self._connected() as connection:
                found = connection.scalar(sa.select(NAME.c.name))
        if found is None:
            raise OutboxUnavailable(f"its name can't be written into {NAME_TABLE}")
        return found if self._own else f"{found}:{self.target()}"

    def watch(self, hint: Callable[[], None]) -> Callable[[], None]:
        self._hints.append(hint)
        return lambda: self._hints.remove(hint) if hint in self._hints else None

    def prepare(self) -> None:
        """Make the tables that are missing."""
        if self._prepared:
            return
        for last in (False, True):
            try:
                with self._connected() as connection:
                    METADATA.create_all(connection)
                    connection.commit()
                    kind = _engine_of(connection)
                break
            except OutboxUnavailable:  # another process may have made them meanwhile
                if last:
                    raise
        if kind not in ("", "innodb"):
            raise OutboxUnavailable(
                f"its engine is {kind}, which rolls nothing back: ALTER TABLE {TABLE} ENGINE=InnoDB"
            )
        self._prepared = True

    def exists(self) -> bool:
        """True if its table is there. Makes neither a table nor a file."""
        if is_no_file(self.engine.url):
            return False
        with self._connected() as connection:
            return sa.inspect(connection).has_table(TABLE)

    def waiting(self, but: Collection[str], limit: int, most_bytes: int) -> list[Row]:
        passed = frozenset(but)
        brief = sa.select(OUTBOX.c.id, OUTBOX.c.job_id, sa.func.length(OUTBOX.c.envelope).label("size"))
        brief = brief.where(OUTBOX.c.target == self.target()).order_by(OUTBOX.c.id).limit(limit + len(passed))
        rows = sa.select(OUTBOX.c.job_id, OUTBOX.c.envelope, OUTBOX.c.delay_s, OUTBOX.c.at, database_now().label("now"))
        with self._connected() as connection:
            ids: list[int] = []
            size = 0
            for row in connection.execute(brief):
                if row.job_id in passed or len(ids) == limit or size >= most_bytes:
                    continue
                ids.append(row.id)
                size += row.size
            if not ids:
                return []
            found = connection.execute(rows.where(OUTBOX.c.id.in_(ids)).order_by(OUTBOX.c.id)).all()
        return [Row(row.job_id, bytes(row.envelope), _left(row.delay_s, row.at, row.now)) for row in found]

    def present(self, job_ids: Sequence[str]) -> set[str]:
        found: set[str] = set()
        for at in range(0, len(job_ids), CHUNK):
            with self._connected() as connection:
                query = sa.select(OUTBOX.c.job_id).where(OUTBOX.c.job_id.in_(job_ids[at : at + CHUNK]))
                found.update(connection.scalars(query))
        return found

    def delete(self, job_ids: Sequence[str]) -> None:
        for at in range(0, len(job_ids), CHUNK):
            with self._connected() as connection:
                connection.execute(sa.delete(OUTBOX).where(OUTBOX.c.job_id.in_(job_ids[at : at + CHUNK])))
                connection.commit()

    # -- for people -------------------------------------------------------------------------------

    def counted(self) -> list[Waiting]:
        """The rows of each target."""
        oldest = (database_now() - sa.func.min(OUTBOX.c.at)).label("oldest")
        query = sa.select(OUTBOX.c.target, sa.func.count(), oldest).group_by(OUTBOX.c.target)
        with self._connected() as connection:
            found = connection.execute(query.order_by(OUTBOX.c.target)).all()
        return [Waiting(target, rows, max(float(age), 0.0)) for target, rows, age in found]

    @contextmanager
    def _connected(self) -> Iterator[sa.Connection]:
        try:
            with self.engine.connect() as connection:
                if self.is_alone and connection.dialect.name == "sqlite" and in_transaction(connection):
                    raise OutboxUnavailable(f"a transaction is open in {self.place}, which has one connection")
                be_impatient(connection)
                yield connection
        except TROUBLE as error:
            raise OutboxUnavailable(why(error)) from error


def outbox_of(outboxes: Sequence[Outbox], session: object) -> tuple[Outbox, sa.Connection]:
    """The outbox in the database of this session, and its connection. Raises NoOutbox, InvalidSetting."""
    connection = transaction_of(session)
    for outbox in outboxes:
        if outbox.takes(connection.engine):
            return outbox, connection
    raise no_outbox_at(connection.engine.url, outboxes)


def no_outbox_at(url: sa.URL, outboxes: Sequence[Outbox]) -> NoOutbox:
    """What to say if none of them is there."""
    known = ", ".join(map(repr, outboxes)) or "it has none"
    why = f"{shown_of(url)} is no outbox of this queue ({known}), so nothing would relay the job"
    return NoOutbox(why, "Call queue.outbox(engine) once, before, in each process that dispatches or works.")


def _left(delay_s: float, at: float, now: float) -> float:
    """The rest of a delay, never too short."""
    return max(0.0, delay_s - max(float(now) - at - CLOCK_STEP_S, 0.0)) if delay_s > 0 else 0.0


def _place(url: sa.URL) -> tuple[object, ...] | None:
    """What an URL leads to, whatever driver it names; None for a database in memory, which only its engine reaches."""
    if in_memory(url):
        return None
    backend = url.get_backend_name()
    where = tuple(url.query.get(name) for name in ("host", "port", "service", "unix_socket"))
    return ("mysql" if backend == "mariadb" else backend, url.host, url.port, url.database, where)


def _engine_of(connection: sa.Connection) -> str:
    """The storage engine of the table in MySQL and MariaDB, in small letters; else empty."""
    if connection.dialect.name not in ("mysql", "mariadb"):
        return ""
    query = sa.text(
        "SELECT engine FROM information_schema.tables WHERE table_schema = database() AND table_name = :name"
    )
    return str(connection.scalar(query, {"name": TABLE})).lower()
