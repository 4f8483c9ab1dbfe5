"""The calls of a queue that put jobs on it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from . import dispatch, settings
from .dispatch import Sealed, TraceHook
from .errors import InvalidSetting, ReplyLost
from .names import DEFAULT
from .ports import Driver, Runtime
from .registry import Registry


class DjangoConnection(Protocol):
    """A connection of Django, as ``django.db.connection`` or ``connections[alias]``."""

    vendor: str
    settings_dict: dict[str, Any]
    in_atomic_block: bool
    commit_on_exit: bool

    def cursor(self) -> Any: ...
    def on_commit(self, func: Callable[[], object], robust: bool = False) -> None: ...


if TYPE_CHECKING:  # a process that dispatches in no transaction does not load SQLAlchemy
    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
    from sqlalchemy.orm import Session, scoped_session

    Transaction = Session | scoped_session[Any] | Connection | DjangoConnection
    AsyncTransaction = AsyncSession | AsyncConnection

T = TypeVar("T")


MANY_MAX = 500_000
"""The most arguments that one command to the server takes: Redis 6.2 refuses some more than a million. A job of a named
queue is two, and beside a unique job four.
"""


class Dispatching:
    """The part of ``Queue`` that dispatches."""

    registry: Registry
    payload_limit: int
    _runtime: Runtime
    _tracing: list[TraceHook]

    def dispatch(self, job: object, *, queue: str | None = None, session: Transaction | None = None) -> str:
        """Put a job on the queue now; returns its id. Of a unique type that is a ``Dispatched``: is it a duplicate?

        queue: the name of the queue, in place of the type's.
        session: a Session or Connection of SQLAlchemy, or a connection of Django, whose database is an ``outbox``: the
            job is queued once its transaction is committed, exactly once, and never if it is rolled back (OUTBOX-1).
            Raises NoOutbox, and errors of SQLAlchemy or Django. A unique job that turns out to be a duplicate is
            dropped later, with an event.
        The payload is captured here. Raises NotAJob, UnregisteredJob, UnencodableJob, PayloadTooLarge, InvalidSetting
        for a name that no queue can have, and DriverError, whose ``maybe_sent`` says whether dispatching again could
        run the job twice.
        """
        sealed = self._seal_one(job, queue)
        return (self._push((sealed,), 0.0) if session is None else self._store_in(session, (sealed,), 0.0))[0]

    def dispatch_after(
        self,
        job: object,
        delay: float | timedelta,
        *,
        queue: str | None = None,
        session: Transaction | None = None,
    ) -> str:
        """Put a job on the queue, due ``delay`` (seconds or a timedelta) from now; returns its id.

        The payload is captured here, not when it is due. A delay of 0 is ``dispatch``.
        Raises InvalidDelay, and what ``dispatch`` raises.
        """
        delay_s = dispatch.seconds_of(delay)
        sealed = self._seal_one(job, queue)
        return (self._push((sealed,), delay_s) if session is None else self._store_in(session, (sealed,), delay_s))[0]

    def dispatch_many(
        self, jobs: Iterable[object], *, queue: str | None = None, session: Transaction | None = None
    ) -> list[str]:
        """Put many jobs on their queues in one round trip, in order; returns their ids.

        All or none: if one can't be dispatched, none is sent. Raises what ``dispatch`` raises, and
        InvalidSetting for more than 500,000 jobs; with named queues 250,000, with unique jobs 125,000.
        """
        sealed = self._seal(jobs, queue)
        if session is not None and sealed:
            return self._store_in(session, sealed, 0.0)
        return list(self._push(sealed, 0.0)) if sealed else []

    def chain(self, *jobs: object, queue: str | None = None, session: Transaction | None = None) -> list[str]:
        """Dispatch the first job; each further one goes out when the one before it is done, and never before (JOBS-21).

        The payloads are captured here, and the ids of all jobs returned. A job that fails for good ends the chain; its
        row in the failure table keeps the rest, and ``queue:retry`` goes on with it. Each job needs a named queue:
        ``queue``, else its type's. The payload limit holds for the whole chain.
        session: as for ``dispatch``: the chain begins once the transaction is committed, and never if it is rolled
            back.
        Raises what ``dispatch`` raises, InvalidSetting for a job on the default queue or more than 1,000 jobs, and
        NoFollowUps if the queue's driver has none.
        """
        sealed = self._seal_chain(jobs, queue)
        self._push((sealed,), 0.0) if session is None else self._store_in(session, (sealed,), 0.0)
        return [sealed.job_id, *sealed.chain]

    def adispatch(
        self,
        job: object,
        *,
        queue: str | None = None,
        timeout: float | None = None,
        session: AsyncTransaction | None = None,
    ) -> Awaitable[str]:
        """``await queue.adispatch(job)``: as ``dispatch``, in a thread, while the event loop goes on.

        session: an AsyncSession or AsyncConnection, as for ``dispatch``; without a thread, and without a timeout.

        The payload is captured at the call, which raises the JobErrors. Awaiting raises DriverError, and ReplyLost
        after ``timeout`` seconds. A job that was cancelled or timed out may still be sent (``maybe_sent``): its thread
        can't be stopped. The thread is one of the loop's default executor; it calls the observers.
        """
        return self._apush(self._seal((job,), queue), 0.0, timeout, lambda ids: ids[0], session)

    def adispatch_after(
        self,
        job: object,
        delay: float | timedelta,
        *,
        queue: str | None = None,
        timeout: float | None = None,
        session: AsyncTransaction | None = None,
    ) -> Awaitable[str]:
        """As ``dispatch_after``, in a thread; see ``adispatch``."""
        seconds = dispatch.seconds_of(delay)
        return self._apush(self._seal((job,), queue), seconds, timeout, lambda ids: ids[0], session)

    def adispatch_many(
        self,
        jobs: Iterable[object],
        *,
        queue: str | None = None,
        timeout: float | None = None,
        session: AsyncTransaction | None = None,
    ) -> Awaitable[list[str]]:
        """As ``dispatch_many``, in a thread; see ``adispatch``."""
        return self._apush(self._seal(jobs, queue), 0.0, timeout, list, session)

    def achain(
        self,
        *jobs: object,
        queue: str | None = None,
        timeout: float | None = None,
        session: AsyncTransaction | None = None,
    ) -> Awaitable[list[str]]:
        """As ``chain``, in a thread; see ``adispatch``."""
        sealed = self._seal_chain(jobs, queue)
        return self._apush([sealed], 0.0, timeout, lambda ids: [*ids, *sealed.chain], session)

    def _seal_one(self, job: object, queue: str | None) -> Sealed:
        sealed = dispatch.seal_job(job, self.registry, self._runtime, self.payload_limit, queue)
        return dispatch.traced(sealed, self._tracing) if self._tracing else sealed

    def _seal_chain(self, jobs: tuple[object, ...], queue: str | None) -> Sealed:
        sealed = dispatch.seal_chain(jobs, self.registry, self._runtime, self.payload_limit, self.driver, queue)
        return dispatch.traced(sealed, self._tracing) if self._tracing else sealed

    def _seal(self, jobs: Iterable[object], queue: str | None) -> list[Sealed]:
        many = list(jobs)
        _check_number(len(many), MANY_MAX)
        sealed = [self._seal_one(job, queue) for job in many]
        if any(one.lock for one in sealed):
            _check_number(len(sealed), MANY_MAX // 4)
        elif any(one.queue != DEFAULT for one in sealed):
            _check_number(len(sealed), MANY_MAX // 2)
        return sealed

    def _apush(
        self,
        sealed: list[Sealed],
        delay_s: float,
        timeout: float | None,
        answer: Callable[[Sequence[str]], T],
        session: AsyncTransaction | None,
    ) -> Awaitable[T]:
        timeout_s = None if timeout is None else settings.seconds("timeout", timeout)
        if session is not None:
            return self._astore(sealed, delay_s, timeout_s, answer, session)

        ids: list[str] = []

        async def push() -> T:
            try:
                if sealed:
                    await self._runtime.aside(lambda: ids.extend(self._push(sealed, delay_s)), timeout_s)
            except TimeoutError:
                error = ReplyLost(f"no answer within {timeout_s:g} s", "the queue's server")
                error.job_id = sealed[0].job_id
                raise error from None
            return answer(ids)

        return push()

    def _astore(
        self,
        sealed: list[Sealed],
        delay_s: float,
        timeout_s: float | None,
        answer: Callable[[Sequence[str]], T],
        session: AsyncTransaction,
    ) -> Awaitable[T]:
        run_sync = getattr(session, "run_sync", None)
        if run_sync is None:
            asynchronous = "an AsyncSession or AsyncConnection; with another one, queue.dispatch(job, session=…)"
            raise InvalidSetting("the session", session, asynchronous)
        if timeout_s is not None:
            raise InvalidSetting("timeout", timeout_s, "None with a session: the database's own time limits apply")

        async def store() -> T:
            ids: list[str] = await run_sync(lambda inner: self._store_in(inner, sealed, delay_s)) if sealed else []
            return answer(ids)

        return store()

    def _store_in(self, session: object, sealed: Sequence[Sealed], delay_s: float) -> list[str]:
        """Insert the jobs into the session's transaction; returns their ids."""
        raise NotImplementedError

    @property
    def driver(self) -> Driver:
        raise NotImplementedError

    def _push(self, sealed: Sequence[Sealed], delay_s: float) -> Sequence[str]:
        """Returns the ids; for a duplicate, the id of the job that has its key."""
        raise NotImplementedError


def _check_number(jobs: int, most: int) -> None:
    if jobs > most:
        raise InvalidSetting("the number of jobs in one dispatch_many", jobs, f"{most:,} or less")
