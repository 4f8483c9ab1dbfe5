"""The vocabulary of what can be observed, and the stream it goes through.

Logs, the command line, trace files, the simulator and the specification's checks all read this one stream.
Every event carries the process it came from, its number in that process, that process's own wall clock (``at``)
and, where a server was asked, the server's clock (``server_at``), which alone may be compared across hosts.
Times are Unix seconds, durations seconds.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import msgspec

log = logging.getLogger("kashvi")


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag=True, omit_defaults=True):
    """What all events carry."""

    process: str = ""
    seq: int = 0
    at: float = 0.0
    server_at: float | None = None


class JobEvent(Event, frozen=True, kw_only=True):
    """An event about one job. ``type`` is empty for bytes that are no envelope."""

    job_id: str
    type: str


class JobDispatched(JobEvent, frozen=True, kw_only=True):
    """The server took the job. ``due``: server time before which it must not start; None: at once."""

    due: float | None = None


class AttemptStarted(JobEvent, frozen=True, kw_only=True):
    """``handle()`` is about to be called. ``server_at`` is when the job was claimed.

    ``claim`` says how: by an exchange (``server_at`` is exact) or a wait (it is an upper estimate).
    """

    attempt: int
    worker: str
    claim: Literal["exchange", "wait"]
    suspect: bool = False
    lost: int = 0
    """How grave a suspect: the envelope's ``lost``."""


class AttemptSucceeded(JobEvent, frozen=True, kw_only=True):
    """``handle()`` returned; the job is not settled yet."""

    attempt: int
    duration_s: float


class AttemptFailed(JobEvent, frozen=True, kw_only=True, dict=True):
    """``handle()`` raised, or could not be called (``attempt`` is 0 then); not settled yet."""

    attempt: int
    duration_s: float
    error: str

    @property
    def exception(self) -> BaseException | None:
        """What ``handle()`` raised, while an observer of this process is called; None after that, and in traces."""
        raised: BaseException | None = self.__dict__.get("raised")
        return raised


class AttemptLost(JobEvent, frozen=True, kw_only=True):
    """A process died during this job's announced attempt, and another one noticed."""

    attempt: int
    owner: str


class JobSucceeded(JobEvent, frozen=True, kw_only=True):
    """Settled: done, and off the queue."""

    attempts: int


class RetryScheduled(JobEvent, frozen=True, kw_only=True):
    """Settled: attempt number ``attempts`` failed; the next one starts at ``due`` (server time) or later."""

    attempts: int
    wait_s: float
    due: float


class JobPostponed(JobEvent, frozen=True, kw_only=True):
    """Settled: this worker does not know the type. ``attempts``, as before, were counted; others may start the job at
    ``due`` (server time) or later."""

    attempts: int
    wait_s: float
    due: float


class JobFailed(JobEvent, frozen=True, kw_only=True):
    """Settled: exhausted, or undeliverable."""

    attempts: int
    max_attempts: int
    error: str
    undeliverable: bool = False


class JobReturned(JobEvent, frozen=True, kw_only=True):
    """Settled: back at the head of the queue, no attempt counted. ``owner`` had it."""

    owner: str
    suspect: bool
    lost: int = 0
    """How grave a suspect it is now: the envelope's ``lost``."""
    lost_before: int = 0
    announced: bool = False
    """It had been announced as about to start."""


class SettleRefused(JobEvent, frozen=True, kw_only=True):
    """The job was no longer this worker's to settle; nothing changed."""

    move: str
    owner: str


class FailureRecorded(JobEvent, frozen=True, kw_only=True):
    """The job is in the failure table; told by every process that saw to it."""


class FailureRefused(JobEvent, frozen=True, kw_only=True):
    """The database refused this row for its content; the job stays in ``unrecorded``."""

    error: str


class WorkerStarted(Event, frozen=True, kw_only=True):
    worker: str
    threads: int
    lease_s: float
    driver: str


class WorkerStopping(Event, frozen=True, kw_only=True):
    """It takes no more jobs; those that run may end."""

    worker: str


class WorkerStopped(Event, frozen=True, kw_only=True):
    """``unsettled``: what the server has not confirmed, since it did not answer; the lease on it runs out."""

    worker: str
    unsettled: int = 0


class ServerLost(Event, frozen=True, kw_only=True):
    """The queue's server can't be reached; the worker keeps trying."""

    error: str


class ServerBack(Event, frozen=True, kw_only=True):
    """The server answers again."""


class StoreLost(Event, frozen=True, kw_only=True):
    """The failure table can't be written; rows wait in ``unrecorded``."""

    error: str


class StoreBack(Event, frozen=True, kw_only=True):
    """The failure table can be written again."""


Observer = Callable[[Event], None]
E_ = TypeVar("E_", bound=Event)


class EventStream:
    """Where one process's events go. Costs nothing while nobody observes."""

    def __init__(self, process: str, now: Callable[[], float], interruptible: Callable[[], bool]) -> None:
        self.process = process
        self._now = now
        self._interruptible = interruptible
        self._seq = itertools.count(1)
        """Of the next event."""
        self._observers: tuple[Observer, ...] = ()
        self.observed = False
        """Whether anybody listens: whoever tells of every job asks first."""

    def restart(self, process: str) -> None:
        """In the child of a fork: it is another process, and counts its own events."""
        self.process, self._seq = process, itertools.count(1)

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Call ``observer(event)`` for every event from now on, in the thread it happens in.

        Returns a function that ends it. An observer that raises, whatever it is, is logged and does no harm: only in
        the main thread is a KeyboardInterrupt taken for Ctrl-C and raised. One that is slow holds up the worker, and
        one that takes longer than a lease costs it its jobs.
        """
        self._observers = (*self._observers, observer)
        self.observed = True

        def stop() -> None:
            self._observers = tuple(other for other in self._observers if other is not observer)
            self.observed = bool(self._observers)

        return stop

    def emit(self, kind: type[E_], raised: BaseException | None = None, /, **facts: Any) -> None:
        """Tell the observers. ``raised``: they get it with the event."""
        if not self._observers:
            return
        event = kind(process=self.process, seq=next(self._seq), at=self._now(), **facts)
        if raised is None:
            self._tell(event)
            return
        event.__dict__["raised"] = raised
        try:
            self._tell(event)
        finally:
            del event.__dict__["raised"]  # it holds the handler's variables; an event may be kept

    def _tell(self, event: Event) -> None:
        for observer in self._observers:
            try:
                observer(event)
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt) and self._interruptible():
                    raise
                with contextlib.suppress(BaseException):  # the app wrote its logging handlers, which may raise too
                    log.exception("an observer of kashvi's events failed on %s", type(event).__name__)
