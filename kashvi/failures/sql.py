"""Writing, listing and removing rows of ``kashvi_failed_jobs``."""

from __future__ import annotations

import re
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from ..envelope import base64_of, text_of
from ..errors import InvalidSetting, StoreUnavailable
from ..ports import Failure
from .table import JOB_TYPE_MAX, FailedJobRecord, prepare

DRIVERS = {
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mariadb+pymysql",
}
_Row = FailedJobRecord


def engine_of(database: sa.Engine | str) -> sa.Engine:
    """An engine for a URL, ``postgresql://…`` with the drivers kashvi's extras install. Raises InvalidSetting."""
    if isinstance(database, sa.Engine):
        return database
    try:
        url = sa.make_url(database)
    except (ArgumentError, ValueError, AttributeError):
        raise InvalidSetting("the database URL", "what was given", "like sqlite:///kashvi.db") from None
    shown = url.render_as_string(hide_password=True)
    url = url.set(drivername=DRIVERS.get(url.drivername, url.drivername))
    try:
        if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
            # One connection for all threads, or each would see a database of its own.
            return sa.create_engine(
                url, poolclass=StaticPool, connect_args={"check_same_thread": False}, hide_parameters=True
            )
        return sa.create_engine(url, pool_pre_ping=True, hide_parameters=True)
    except (ArgumentError, NoSuchModuleError) as error:
        raise InvalidSetting("the database URL", shown, f"one SQLAlchemy knows ({error})") from None
    except ModuleNotFoundError as error:
        raise InvalidSetting(
            "the database URL", shown, f"one whose driver is installed; pip install {error.name}"
        ) from None


class SqlFailures:
    """A FailureStore over a database, and what the ``queue:failed`` family needs of it.

    Every method raises StoreUnavailable when the database can't be used. Nothing is done before the first call.
    """

    def __init__(self, database: sa.Engine | str) -> None:
        self.engine = engine_of(database)
        self._prepared = False

    def __repr__(self) -> str:
        return self.engine.url.render_as_string(hide_password=True)

    def prepare(self) -> None:
        """Make or adopt the table."""
        try:
            prepare(self.engine)
        except (SQLAlchemyError, OSError) as error:
            raise StoreUnavailable(_why(error)) from error
        self._prepared = True

    def record(self, failures: Sequence[Failure]) -> dict[str, str]:
        """Insert what is not there yet; see FailureStore."""
        if not self._prepared:
            self.prepare()
        try:
            self._insert([_columns(failure) for failure in failures])
            return {}
        except SQLAlchemyError:
            self._check_writable()
        refused: dict[str, str] = {}
        for failure in failures:
            if why := self._record_one(failure):
                refused[failure.job_id] = why
        return refused

    def _record_one(self, failure: Failure) -> str:
        """Insert one row by itself, in plain ASCII if need be; the reason if it is refused all the same."""
        why = ""
        for columns in (_columns(failure), _ascii(_columns(failure))):
            try:
                self._insert([columns])
                return ""
            except SQLAlchemyError as error:
                why = _why(error)
                self._check_writable()
        return why

    def _insert(self, rows: list[dict[str, object]]) -> None:
        with self.engine.begin() as connection:
            ids = [row["job_id"] for row in rows]
            known = set(connection.scalars(sa.select(_Row.job_id).where(_Row.job_id.in_(ids))))
            if new := [row for row in rows if row["job_id"] not in known]:
                connection.execute(sa.insert(_Row), new)

    def _check_writable(self) -> None:
        """After an error: is it the database, or the rows? Raises StoreUnavailable if the database."""
        self.prepare()
        probe = {"job_type": "", "payload": "", "error": "", "attempts": 0, "failed_at": None, "job_id": None}
        try:
            with self.engine.connect() as connection:
                connection.execute(sa.insert(_Row), [probe])
                connection.rollback()
        except (SQLAlchemyError, OSError) as error:
            raise StoreUnavailable(_why(error)) from error

    # -- for the command line ----------------------------------------------------------------

    def rows(
        self, ids: Sequence[int] | None = None, job_ids: Sequence[str] = (), *, limit: int | None = None
    ) -> list[FailedJobRecord]:
        """Rows, newest first; all of them, or those with one of these ids or job ids."""
        query = sa.select(_Row).order_by(_Row.id.desc()).limit(limit)
        if ids is not None:
            query = query.where(_Row.id.in_(ids) | _Row.job_id.in_(job_ids))
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

    def remove(self, row_id: int, job_id: str | None = None) -> bool:
        """Delete a row; with ``job_id``, only while it still is that job's. Databases reuse ids."""
        query = sa.delete(_Row).where(_Row.id == row_id)
        return self._delete(query.where(_Row.job_id == job_id) if job_id is not None else query) > 0

    def clear(self) -> int:
        """Delete all rows; returns how many."""
        return self._delete(sa.delete(_Row))

    def _delete(self, query: sa.Delete) -> int:
        with self._session() as session:
            result = session.execute(query)
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
            raise StoreUnavailable(_why(error)) from error


def _columns(failure: Failure) -> dict[str, object]:
    return {
        "job_type": text_of(failure.job_type.encode("utf-8", "backslashreplace"))[:JOB_TYPE_MAX],
        "payload": text_of(failure.payload),
        "error": failure.error.replace("\0", "\\x00"),
        "attempts": min(failure.attempts, 2**31 - 1),
        "failed_at": failure.failed_at,
        "job_id": failure.job_id[:64],
    }


def _ascii(columns: dict[str, object]) -> dict[str, object]:
    """For a table in an old character set: everything escaped, the payload in base64."""
    escaped = {key: str(columns[key]).encode("ascii", "backslashreplace").decode() for key in ("job_type", "error")}
    payload = str(columns["payload"])
    if not payload.isascii():
        payload = base64_of(payload.encode())
    return columns | escaped | {"payload": payload, "job_type": escaped["job_type"][:JOB_TYPE_MAX]}


def _why(error: BaseException) -> str:
    """The database's own words, without the statement and its values."""
    text = str(getattr(error, "orig", None) or error).strip()
    return re.sub(r"\s+", " ", text)[:500] or type(error).__name__
