"""What surrounds ``handle()``: hooks, and the running attempt for ``current()``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, NamedTuple

from ..delays import seconds_of
from ..errors import InvalidSetting, NoAttempt
from ..jobs.envelope import tick_in, trace_in
from ..names import DEFAULT
from .running import Running
from .settle import TimeLimit


class _Facts(NamedTuple):
    job_id: str
    """The same at every attempt and after a takeover, so an idempotency key."""
    type: str
    attempt: int
    """Counted from 1."""
    queue: str = DEFAULT


class Attempt(_Facts):
    """The running attempt, as handlers and hooks see it (JOBS-11, JOBS-17, JOBS-18)."""

    _running: Running
    _limit: TimeLimit | None

    @property
    def timeout_s(self) -> float | None:
        """The time limit of the type, in seconds; None if it has none."""
        return self._limit.timeout_s if self._limit else None

    @property
    def remaining_s(self) -> float | None:
        """The seconds until the time limit passes, 0 afterwards; None if the type has none."""
        return max(self._running.timekeeper.remaining_s(self._limit), 0.0) if self._limit else None

    @property
    def deadline(self) -> datetime | None:
        """When the time limit passes, by this host's clock, in UTC; None if the type has none."""
        return self._running.timekeeper.deadline(self._limit) if self._limit else None

    @property
    def tick(self) -> datetime | None:
        """The time, in UTC, of the tick that dispatched the job; None if no cron entry did (CRON-5)."""
        raw = self._running.delivery.raw
        return tick_in(raw) if b'"tick"' in raw else None

    @property
    def trace(self) -> dict[str, str]:
        """What the hooks of ``queue.tracing`` gave the job when it was dispatched; empty if nothing (JOBS-24)."""
        raw = self._running.delivery.raw
        return trace_in(raw) if b'"trace"' in raw else {}

    @property
    def cancelled(self) -> bool:
        """True once the worker has heard that the job is cancelled, within a third of the lease: however this attempt
        ends, no other starts (QUEUES-9)."""
        return self._running.timekeeper.cancelled(self._running.delivery)

    def check(self) -> None:
        """Raises TimedOut once the time limit has passed, AttemptCancelled once the worker has heard that the job is
        cancelled, and AttemptOver once the attempt is no longer this worker's.

        A long handler calls it from time to time, in its thread or in another one; all are AttemptErrors.
        """
        self._running.timekeeper.check(self._running.delivery, self._limit)

    def dispatch(self, job: object, *, queue: str | None = None) -> str:
        """Dispatch a follow-up: it is sent in the step that settles this attempt as done, and never if the attempt
        ends otherwise (JOBS-18). Returns the id that it will have.

        The payload is captured here. Raises NotAJob, UnregisteredJob, UnencodableJob, PayloadTooLarge,
        TooManyFollowUps, AttemptOver, and NoFollowUps if the queue's driver has none.
        """
        return self._keep((job,), 0.0, queue)[0]

    def dispatch_after(self, job: object, delay: float | timedelta, *, queue: str | None = None) -> str:
        """As ``dispatch``; the job is due ``delay`` (seconds or a timedelta) after the end of this attempt.

        Raises InvalidDelay, and what ``dispatch`` raises.
        """
        return self._keep((job,), seconds_of(delay), queue)[0]

    def dispatch_many(self, jobs: Iterable[object], *, queue: str | None = None) -> list[str]:
        """As ``dispatch``, for several jobs, in order; returns their ids. If one can't be dispatched, none is kept."""
        return self._keep(jobs, 0.0, queue)

    def _keep(self, jobs: Iterable[object], delay_s: float, queue: str | None) -> list[str]:
        return self._running.follow_ups.keep(self._running, jobs, delay_s, queue)


Hook = Callable[[Attempt], AbstractContextManager[Any]]
RUNNING: ContextVar[Running | None] = ContextVar("the running attempt", default=None)


def current() -> Attempt:
    """The attempt that this code belongs to: its handler, a hook around it, or a task that copied its context.

    Raises NoAttempt elsewhere (JOBS-11).
    """
    running = RUNNING.get()
    if running is None:
        raise NoAttempt
    d = running.delivery
    attempt = Attempt(d.job_id, d.type, d.attempts + 1, d.queue)
    attempt._running, attempt._limit = running, running.timekeeper.limit(d)
    return attempt


def enclosed(
    hooks: Sequence[Hook],
    handle: Callable[[], object],
    ended: Callable[[BaseException | None], None],
    passed_over: Callable[[Hook, BaseException], None],
) -> BaseException | None:
    """Call ``handle`` inside the hooks, the first outermost; returns what the attempt raised (JOBS-13).

    ``ended`` is called when ``handle`` is over, before any hook is left. ``passed_over`` is called, when all are left,
    with the error of a hook after one of ``handle`` or of an inner hook, which decides.
    """
    inside: list[tuple[Hook, AbstractContextManager[Any]]] = []
    error: BaseException | None = None
    try:
        attempt = current()
        for hook in hooks:
            manager = hook(attempt)
            if not isinstance(manager, AbstractContextManager):
                raise InvalidSetting("what a hook returns", manager, "a context manager")
            manager.__enter__()
            inside.append((hook, manager))
        handle()
    except BaseException as raised:
        error = raised
    ended(error)
    late: list[tuple[Hook, BaseException]] = []
    for hook, manager in reversed(inside):
        try:
            _leave(manager, error)
        except BaseException as own:
            if error is None:
                error = own
            elif own is not error:
                late.append((hook, own))
    for hook, passed in late:
        passed_over(hook, passed)
    return None if error is None else error.with_traceback(_from_outside(error.__traceback__))


def _leave(manager: AbstractContextManager[Any], error: BaseException | None) -> None:
    """What it returns is ignored: no hook makes a success of a failure."""
    if error is None:
        manager.__exit__(None, None, None)
    else:
        manager.__exit__(type(error), error, error.__traceback__)


def _from_outside(trace: TracebackType | None) -> TracebackType | None:
    """Without the frames of kashvi at its beginning."""
    at = trace
    while at is not None and at.tb_frame.f_globals.get("__name__", "").startswith("kashvi.worker."):
        at = at.tb_next
    return at or trace
