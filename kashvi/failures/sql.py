"""Writing, listing and removing rows of ``kashvi_failed_jobs``."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from ..envelope import base64_of, text_of
from ..errors import StoreUnavailable
from ..ports import Failure, Refusal
from .engine import engine_of, shown_of
from .table import JOB_ID_MAX, JOB_TYPE_MAX, FailedJobRecord, be_impatient, prepare
from .trouble import TROUBLE, refusal_of, why

__all__ = ["SqlFailures", "engine_of"]

_Row = FailedJobRecord


class SqlFailures:
    """A FailureStore over a database, and what the ``queue:failed`` family needs of it.

    Every method raises StoreUnavailable when the database can't be used. Nothing is done before the first call.
    """

    def __init__(self, database: sa.Engine | str) -> None:
        self.engine = engine_of(database)
        self._prepared = False

    def __repr__(self) -> str:
        return shown_of(self.engine.url)

    def prepare(self) -> None:
        """Make or adopt the table."""
        try:
            prepare(self.engine)
        except TROUBLE as error:
            raise StoreUnavailable(why(error)) from error
        self._prepared = True

    def record(self, failures: Sequence[Failure]) -> dict[str, Refusal]:
        """Insert what is not there yet; see FailureStore."""
        if not failures:
            return {}
        self.prepare()  # each time: the Go program changes the table whenever it starts
        return self._record(list({_key(failure): failure for failure in failures}.values()))

    def _record(self, failures: list[Failure]) -> dict[str, Refusal]:
        """All of them, or what a half of them makes trouble is found by halving."""
        if not self._insert([_columns(failure) for failure in failures]):
            return {}
        self._check_writable()
        if len(failures) > 1:
            middle = len(failures) // 2
            return self._record(failures[:middle]) | self._record(failures[middle:])
        # Once more as it is, in case another process was in the way; then as what every database can hold.
        [failure] = failures
        if refusal := self._insert([_columns(failure)]):
            self._check_writable()
            if not refusal.passing:
                refusal = self._insert([_columns(failure, ascii_only=True)])
        if not refusal:
            return {}
        self._check_writable()
        return {failure.job_id: refusal}

    def _insert(self, rows: list[dict[str, object]]) -> Refusal | None:
        """All or none of the rows that are not there yet; the reason if none."""
        ids = [row["job_id"] for row in rows]
        try:
            with self.engine.begin() as connection:
                be_impatient(connection)
                known = set(connection.scalars(sa.select(_Row.job_id).where(_Row.job_id.in_(ids))))
                if new := [row for row in rows if row["job_id"] not in known]:
                    connection.execute(sa.insert(_Row), new)
            return None
        except TROUBLE as error:
            return refusal_of(error, self.engine.dialect.name)

    def _check_writable(self) -> None:
        """After an error: is it the database, or the rows? Raises StoreUnavailable if the database."""
        self.prepare()
        probe = {"job_type": "", "payload": "", "error": "", "attempts": 0, "failed_at": None, "job_id": None}
        try:
            with self.engine.connect() as connection:
                be_impatient(connection)
                connection.execute(sa.insert(_Row), [probe])
                connection.rollback()
        except TROUBLE as error:
            raise StoreUnavailable(why(error)) from error

    # -- for the command line ----------------------------------------------------------------

    def rows(
        self, ids: Sequence[int] | None = None, job_ids: Sequence[str] = (), *, limit: int | None = None
    ) -> list[FailedJobRecord]:
        """Rows, newest first; all of them, or those with one of these ids or job ids."""
        query = sa.select(_Row).order_by(_Row.id.desc()).limit(limit)
        if ids is not None:
            query = query.where(_Row.id.in_(ids) | _Row.job_id.in_([one for one in job_ids if one.isascii()]))
        with self._session() as session:
            return list(session.scalars(query))

    def count(self) -> int:
        with self._session() as session:
            return session.scalar(sa.select(sa.func.count()).select_from(_Row)) or 0

    def identify(self, row_id: int, job_id: str) -> str:
        """Give a row of the Go program a job id; returns the one it has, whoever gave it."""
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
        if not self._prepared:
            self.prepare()
        return _Guarded(self.engine)


class _Guarded(Session):
    """A session whose errors are ours."""

    def __init__(self, engine: sa.Engine) -> None:
        super().__init__(engine, expire_on_commit=False)

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        super().__exit__(kind, error, trace)
        if isinstance(error, SQLAlchemyError):
            raise StoreUnavailable(why(error)) from error


def _key(failure: Failure) -> str:
    """The job id; a digest of one that not every database tells apart from others, or that isn't there."""
    job_id = failure.job_id
    if 0 < len(job_id) <= JOB_ID_MAX and job_id.isascii() and job_id.isprintable() and not job_id.endswith(" "):
        return job_id
    digest = hashlib.sha256((job_id or repr(failure)).encode("utf-8", "surrogatepass")).hexdigest()
    return f"sha256:{digest}"[:JOB_ID_MAX]


def _columns(failure: Failure, *, ascii_only: bool = False) -> dict[str, object]:
    """A row's values. ``ascii_only``: for a table in an old character set, the payload in base64."""
    name, error, payload = _clean(failure.job_type), _clean(failure.error), text_of(failure.payload)
    if ascii_only:
        name, error = (text.encode("ascii", "backslashreplace").decode() for text in (name, error))
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
    }


def _clean(text: str) -> str:
    """Lone surrogates and NUL, which no database takes, escaped."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
