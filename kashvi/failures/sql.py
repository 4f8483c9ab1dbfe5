"""Writes, lists and removes rows of ``kashvi_failed_jobs``."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, undefer
from sqlalchemy.orm.attributes import set_committed_value

from ..errors import StoreUnavailable
from ..jobs.envelope import base64_of, bytes_of, text_of
from ..ports import READ_MAX_BYTES, Failure, Refusal
from .engine import engine_of, is_no_file, shown_of
from .table import JOB_ID_MAX, JOB_TYPE_MAX, OPTIONAL, TABLE, FailedJobRecord, be_impatient, prepare
from .trouble import TROUBLE, refusal_of, why

__all__ = ["SqlFailures", "engine_of"]

_Row = FailedJobRecord
PAGE = 200
MOMENT = timedelta(milliseconds=2)
log = logging.getLogger("kashvi")


class SqlFailures:
    """A FailureStore in a database, with the queries of ``queue:failed`` and its kin.

    Every method raises StoreUnavailable if the database can't be used. The first call connects.
    """

    def __init__(self, database: sa.Engine | str) -> None:
        self.engine = engine_of(database)
        self._has: frozenset[str] | None = None
        """The OPTIONAL columns that the table has; None before the first look."""

    def __repr__(self) -> str:
        return shown_of(self.engine.url)

    def exists(self) -> bool:
        """True if there is a table. Makes neither a table nor a file."""
        if is_no_file(self.engine.url):
            return False
        try:
            with self.engine.connect() as connection:
                be_impatient(connection)
                return sa.inspect(connection).has_table(TABLE)
        except TROUBLE as error:
            raise StoreUnavailable(why(error)) from error

    def prepare(self) -> None:
        """Make or adopt the table."""
        try:
            found = prepare(self.engine)
        except TROUBLE as error:
            raise StoreUnavailable(why(error)) from error
        if found != self._has and (lacking := [name for name in OPTIONAL if name not in found]):
            log.warning(
                "%s has no columns %s and they can't be added; rows are written without them", TABLE, ", ".join(lacking)
            )
        self._has = found

    def record(self, failures: Sequence[Failure]) -> dict[str, Refusal]:
        """Insert the rows that are not there yet; see FailureStore."""
        if not failures:
            return {}
        self.prepare()  # each time: the Go program changes the table whenever it starts
        return self._record(list(dict.fromkeys(failures)))

    def _record(self, failures: list[Failure]) -> dict[str, Refusal]:
        """Insert all; on an error, bisect to the rows that the database refuses."""
        if not self._insert([_columns(failure) for failure in failures]):
            return {}
        self._check_writable()
        if len(failures) > 1:
            middle = len(failures) // 2
            return self._record(failures[:middle]) | self._record(failures[middle:])
        # Once more unchanged, in case another process interfered; then in ASCII, which every database can hold.
        [failure] = failures
        if refusal := self._insert([_columns(failure)]):
            self._check_writable()
            if not refusal.passing:
                refusal = self._insert([_columns(failure, ascii_only=True)])
        if not refusal:
            return {}
        self._check_writable()
        return {failure.job_id: refusal}

    def _insert(self, rows: list[dict[str, Any]]) -> Refusal | None:
        """Insert all rows that are not there yet, or none; returns the reason if none."""
        columns = [name for name in rows[0] if name not in OPTIONAL or name in (self._has or ())]
        try:
            with self.engine.begin() as connection:
                be_impatient(connection)
                if new := self._new(connection, rows):
                    connection.execute(sa.insert(_Row), [{name: row[name] for name in columns} for row in new])
            return None
        except TROUBLE as error:
            return refusal_of(error, self.engine.dialect.name)

    def _new(self, connection: sa.Connection, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The rows that are not there yet. A second job with the same id gets its own row, under a made-up id."""
        known = _known(connection, [row["job_id"] for row in rows])
        again: list[dict[str, Any]] = []
        new: dict[str, dict[str, Any]] = {}
        for row in rows:
            there = known.get(row["job_id"]) or new.get(row["job_id"])
            if there is None:
                new[row["job_id"]] = row
            elif not _same(there, row):
                again.append(row | {"job_id": _own_key(row)})
        known = _known(connection, [row["job_id"] for row in again]) if again else {}
        for row in again:
            if row["job_id"] not in known and row["job_id"] not in new:
                log.warning("two failed jobs have the same id; the row of the second has the job_id %s", row["job_id"])
                new[row["job_id"]] = row
        return list(new.values())

    def _check_writable(self) -> None:
        """After an error, tell a broken database from a bad row: raises StoreUnavailable if no row can be inserted."""
        self.prepare()
        self.try_insert()

    def try_insert(self) -> None:
        """Insert a row and take it back. Raises StoreUnavailable if the table takes none."""
        probe = {"job_type": "", "payload": "", "error": "", "attempts": 0, "failed_at": None}
        try:
            with self.engine.connect() as connection:
                be_impatient(connection)
                key: Any = connection.execute(sa.insert(_Row).values(probe)).inserted_primary_key
                connection.execute(sa.delete(_Row).where(_Row.id == key[0]))  # some engines can't roll back
                connection.rollback()
        except TROUBLE as error:
            raise StoreUnavailable(why(error)) from error

    # -- for pages ---------------------------------------------------------------------------

    def has(self, column: str) -> bool:
        """True if the table has this column: those of OPTIONAL it may lack."""
        return column not in OPTIONAL or column in self._there()

    def read(self, query: sa.Select[Any]) -> Sequence[Any]:
        """The rows of a query."""
        with self._session() as session:
            return session.execute(query).all()

    def first(self, query: sa.Select[Any]) -> Any:
        """The first row of a query, if there is one."""
        return next(iter(self.read(query)), None)

    # -- for the command line ----------------------------------------------------------------

    def rows(
        self, ids: Sequence[int] | None = None, job_ids: Sequence[str] = (), *, limit: int | None = None
    ) -> list[FailedJobRecord]:
        """Rows, newest first: all, or those with one of these ids or job ids."""
        query = self._select().order_by(_Row.id.desc()).limit(limit)
        if ids is not None:
            query = query.where(_Row.id.in_(ids) | _Row.job_id.in_([one for one in job_ids if _kept(one)]))
        with self._session() as session:
            return [self._whole(row) for row in session.scalars(query)]

    def pages(
        self,
        names: tuple[Sequence[int], Sequence[str]] | None = None,
        *,
        newest_first: bool = False,
        wanted: Callable[[Any], bool] = lambda row: True,
    ) -> Iterator[list[FailedJobRecord]]:
        """Pages of all rows there are now, or of those with one of these numbers or job ids.

        ``wanted`` filters by ``job_type``, ``error``, ``failed_at`` and ``queue`` (of a table without that column by
        ``extra``) before the rest of a row is read. A page holds about READ_MAX_BYTES.
        """
        names_queue = [getattr(_Row, name) for name in ("queue", "extra") if name in self._there()][:1]
        brief = sa.select(
            *(_Row.id, _Row.job_type, _Row.error, _Row.failed_at, *names_queue),
            sa.func.length(_Row.payload).label("size"),
        )
        if names is not None:
            numbers, job_ids = names
            brief = brief.where(_Row.id.in_(numbers) | _Row.job_id.in_([one for one in job_ids if _kept(one)]))
        with self._session() as session:
            last = session.scalar(sa.select(sa.func.max(_Row.id))) or 0
        beyond = brief.where(_Row.id <= last)
        while True:
            ordered = beyond.order_by(_Row.id.desc() if newest_first else _Row.id).limit(PAGE)
            with self._session() as session:
                found = session.execute(ordered).all()
            if not found:
                return
            page: list[int] = []
            size = 0
            for row in filter(wanted, found):
                page.append(row.id)
                size += row.size or 0
                if size >= READ_MAX_BYTES:
                    yield self._page(page, newest_first)
                    page, size = [], 0
            if page:
                yield self._page(page, newest_first)
            last_seen = found[-1].id
            beyond = brief.where(_Row.id < last_seen if newest_first else (_Row.id > last_seen) & (_Row.id <= last))

    def _page(self, ids: list[int], newest_first: bool) -> list[FailedJobRecord]:
        rows = self.rows(ids)
        return rows if newest_first else rows[::-1]

    @property
    def keeps_extra(self) -> bool:
        """True if the table has the column that names a row's queue."""
        return "extra" in self._there()

    def _select(self) -> sa.Select[Any]:
        there = [getattr(_Row, name) for name in OPTIONAL if name in self._there()]
        return sa.select(_Row).options(*map(undefer, there))

    def _whole(self, row: FailedJobRecord) -> FailedJobRecord:
        for name in OPTIONAL:
            if name not in self._there():
                set_committed_value(row, name, None)
        return row

    def _there(self) -> frozenset[str]:
        if self._has is None:
            self.prepare()
        return self._has or frozenset()

    def count(self) -> int:
        with self._session() as session:
            return session.scalar(sa.select(sa.func.count()).select_from(_Row)) or 0

    def identify(self, row_id: int, job_id: str) -> str:
        """Give a row of the Go program this job id, unless it has one; returns its job id."""
        with self._session() as session:
            session.execute(sa.update(_Row).where(_Row.id == row_id, _Row.job_id.is_(None)).values(job_id=job_id))
            found = session.scalar(sa.select(_Row.job_id).where(_Row.id == row_id))
            session.commit()
        return found or job_id

    def remove(self, rows: Sequence[tuple[int, str | None]]) -> set[int]:
        """Delete rows by id and, unless it is None, job id: databases reuse ids. Returns the ids deleted."""
        gone: set[int] = set()
        with self._session() as session:
            for row_id, job_id in rows:
                query = sa.delete(_Row).where(_Row.id == row_id)
                result = session.execute(query.where(_Row.job_id == job_id) if job_id is not None else query)
                if result.rowcount:  # type: ignore[attr-defined]
                    gone.add(row_id)
            session.commit()
        return gone

    def clear(self) -> int:
        """Delete all rows; returns how many."""
        with self._session() as session:
            result = session.execute(sa.delete(_Row))
            session.commit()
            return int(result.rowcount)  # type: ignore[attr-defined]

    def _session(self) -> _Guarded:
        self._there()
        return _Guarded(self.engine)


class _Guarded(Session):
    """A session that raises StoreUnavailable for database errors."""

    def __init__(self, engine: sa.Engine) -> None:
        super().__init__(engine, expire_on_commit=False)

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        super().__exit__(kind, error, trace)
        if isinstance(error, SQLAlchemyError):
            raise StoreUnavailable(why(error)) from error


def _key(failure: Failure) -> str:
    """The job id, or a digest if it is empty or some databases would confuse it with another."""
    job_id = failure.job_id
    if 0 < len(job_id) <= JOB_ID_MAX and job_id.isascii() and job_id.isprintable() and not job_id.endswith(" "):
        return job_id
    digest = hashlib.sha256((job_id or repr(failure)).encode("utf-8", "surrogatepass")).hexdigest()
    return f"sha256:{digest}"[:JOB_ID_MAX]


def _columns(failure: Failure, *, ascii_only: bool = False) -> dict[str, Any]:
    """A row's values. ``ascii_only``: with the payload in base64, for a table in an old character set."""
    fit = _ascii if ascii_only else _clean
    name, error, payload = fit(failure.job_type), fit(failure.error), text_of(failure.payload)
    if ascii_only:
        payload = payload if payload.isascii() else base64_of(failure.payload)
    if len(name) > JOB_TYPE_MAX:
        error = f"{error}\nThe whole job type: {name}"
    return {
        "job_type": name[:JOB_TYPE_MAX],
        "payload": payload,
        "error": error,
        "attempts": min(failure.attempts, 2**31 - 1),
        "failed_at": failure.failed_at,
        "job_id": _key(failure),
        "traceback": fit(failure.traceback) or None,
        "queue": failure.queue or None,
        "extra": fit(failure.extra) or None,
    }


def _known(connection: sa.Connection, ids: list[str]) -> dict[str, dict[str, Any]]:
    """The rows with these job ids: the columns that distinguish two jobs, by job id."""
    about = sa.select(_Row.job_id, _Row.payload, _Row.attempts, _Row.failed_at)
    return {row.job_id: dict(row._mapping) for row in connection.execute(about.where(_Row.job_id.in_(ids)))}


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """True if both rows are the same failure. Their times may differ a little: a database may round them."""
    if one["attempts"] != other["attempts"] or bytes_of(one["payload"]) != bytes_of(other["payload"]):
        return False
    return None not in (one["failed_at"], other["failed_at"]) and abs(one["failed_at"] - other["failed_at"]) < MOMENT


def _own_key(row: dict[str, Any]) -> str:
    """A job id for a row whose own one another job's row has."""
    about = (row["job_id"], bytes_of(row["payload"]), row["attempts"], row["failed_at"].timestamp())
    return f"sha256:{hashlib.sha256(repr(about).encode()).hexdigest()}"[:JOB_ID_MAX]


def _kept(job_id: str) -> bool:
    """Whether a row can have it as it is: no other text is looked for, since PostgreSQL refuses NUL."""
    return job_id.isascii() and "\0" not in job_id


def _ascii(text: str) -> str:
    return _clean(text).encode("ascii", "backslashreplace").decode()


def _clean(text: str) -> str:
    """The text with lone surrogates and NUL escaped: no database takes them."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
