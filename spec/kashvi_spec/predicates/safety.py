"""The eight safety predicates, each a reader of the event stream.

none lost · never early · attempts bounded · backoff kept · recorded iff exhausted · settle fenced ·
drains · FIFO. The same code judges a unit test, a simulated run and a production trace. Missing facts are
not judged: each predicate counts its checks.
"""

from __future__ import annotations

from kashvi.events import (
    AttemptFailed,
    AttemptSnoozed,
    AttemptStarted,
    AttemptSucceeded,
    Event,
    FailureRecorded,
    JobDispatched,
    JobFailed,
    JobPostponed,
    JobReturned,
    JobSnoozed,
    JobSucceeded,
    RetryScheduled,
)

from ..judging import ROUNDING_S, Judge, Predicate, Violation, judge

__all__ = [
    "AttemptsBounded",
    "BackoffKept",
    "Drains",
    "Fifo",
    "Judge",
    "NeverEarly",
    "NoneLost",
    "Predicate",
    "RecordedIffExhausted",
    "SettleFenced",
    "Violation",
    "all_predicates",
    "judge",
]


class NoneLost(Predicate):
    """Every dispatched job ends: it is done after a successful attempt, or is recorded as failed."""

    name = "none lost"
    watches = (JobDispatched, AttemptSucceeded, JobSucceeded, JobFailed)

    def __init__(self) -> None:
        super().__init__()
        self._open: set[str] = set()
        self._ended: set[str] = set()
        self._done: set[str] = set()

    def see(self, event: Event) -> None:
        if isinstance(event, JobDispatched) and event.job_id not in self._ended:
            self._open.add(event.job_id)
        elif isinstance(event, AttemptSucceeded):
            self._done.add(event.job_id)
        elif isinstance(event, JobSucceeded | JobFailed):
            self._open.discard(event.job_id)
            self._ended.add(event.job_id)  # the event of a dispatch may come after the job has run
            earned = isinstance(event, JobFailed) or event.job_id in self._done
            self.expect(earned, event.job_id, "settled as done, and no attempt had succeeded")

    def at_end(self) -> list[Violation]:
        return [self.broken(job_id, "dispatched, and never heard of again") for job_id in sorted(self._open)]


class NeverEarly(Predicate):
    """No attempt starts before its job is due, by the server's clock."""

    name = "never early"
    watches = (JobDispatched, RetryScheduled, JobSnoozed, JobPostponed, AttemptStarted)

    def __init__(self) -> None:
        super().__init__()
        self._due: dict[tuple[str, int], float] = {}
        self._snoozes: dict[tuple[str, int], list[tuple[float, float]]] = {}
        """When an attempt's job was snoozed, and until when. The event of a start may come after a later snooze."""

    def see(self, event: Event) -> None:
        if isinstance(event, JobDispatched) and event.due is not None:
            self._due[event.job_id, 1] = event.due
        elif isinstance(event, RetryScheduled):
            self._due[event.job_id, event.attempts + 1] = event.due
        elif isinstance(event, JobSnoozed):
            key = event.job_id, event.attempts + 1
            self._snoozes.setdefault(key, []).append((event.server_at or event.due - event.wait_s, event.due))
        elif isinstance(event, JobPostponed):
            key = event.job_id, event.attempts + 1
            self._due[key] = max(self._due.get(key, event.due), event.due)
        elif isinstance(event, AttemptStarted) and event.server_at is not None:
            due = self._due.get((event.job_id, event.attempt))
            for at, again in self._snoozes.get((event.job_id, event.attempt), ()):
                due = again if at <= event.server_at else due
            if due is not None:
                early = due - event.server_at
                self.expect(early <= ROUNDING_S, event.job_id, f"started {early:.6f} s before it was due")


class AttemptsBounded(Predicate):
    """No job gets more attempts than allowed; a death without an announcement does not count."""

    name = "attempts bounded"
    watches = (AttemptStarted, JobFailed)

    def __init__(self, max_attempts: int = 3) -> None:
        super().__init__()
        self._max = max_attempts
        self._own: dict[str, int] = {}
        """The own limit of each type, 0 if it has none."""
        self._changed: set[str] = set()
        """Types whose limit is not the same everywhere: a deploy, or a worker that does not know the type."""

    def see(self, event: Event) -> None:
        assert isinstance(event, AttemptStarted | JobFailed)
        if isinstance(event, JobFailed) and event.undeliverable:
            return
        if self._own.setdefault(event.type, event.type_limit) != event.type_limit:
            self._changed.add(event.type)
        if event.type in self._changed:
            return
        limit = event.type_limit or self._max
        if isinstance(event, AttemptStarted):
            self.expect(event.attempt <= limit, event.job_id, f"attempt {event.attempt} of {limit} started")
        else:
            enough = event.attempts <= limit if event.gave_up else event.attempts == limit
            self.expect(enough, event.job_id, f"failed after {event.attempts} of {limit} attempts")


class BackoffKept(Predicate):
    """After failed attempt n, n seconds pass before the next one starts; or what the type's own backoff says.

    The event of a retry may come after the next start, or never. Until then n seconds are right, unless the type has a
    backoff of its own.
    """

    name = "backoff kept"
    watches = (RetryScheduled, AttemptStarted)

    def __init__(self) -> None:
        super().__init__()
        self._started: dict[tuple[str, int], float] = {}
        self._own_waits: dict[tuple[str, int], float] = {}
        """The least wait after an attempt, by the type's own backoff."""
        self._own: set[str] = set()
        """Types with a backoff of their own."""
        self._open: dict[tuple[str, int], tuple[str, float]] = {}
        """Types and waits of attempts that started too soon, unless the event of the retry says otherwise."""

    def see(self, event: Event) -> None:
        if isinstance(event, RetryScheduled):
            self._scheduled(event)
        elif isinstance(event, AttemptStarted) and event.server_at is not None:
            if event.claim == "exchange":  # a wait's server time may be too late by a round trip
                # A stale worker may start the same attempt once more, later: the first start counts.
                self._started.setdefault((event.job_id, event.attempt), event.server_at)
            before = self._started.get((event.job_id, event.attempt - 1))
            if before is None:
                return
            waited, own = event.server_at - before, self._own_waits.get((event.job_id, event.attempt - 1))
            if own is not None:
                self._judge(event.job_id, event.attempt, waited, own)
            elif waited < event.attempt - 1 - ROUNDING_S:
                self._open.setdefault((event.job_id, event.attempt), (event.type, waited))
            else:
                self.judged += 1

    def _scheduled(self, event: RetryScheduled) -> None:
        job_id, n, wait_s = event.job_id, event.attempts, event.wait_s
        _, waited = self._open.pop((job_id, n + 1), ("", None))
        if not event.backoff:
            self.expect(wait_s == n, job_id, f"waits {wait_s:g} s after attempt {n}, not {n} s")
            if waited is not None:
                self._judge(job_id, n + 1, waited, float(n))
            return
        self._own.add(event.type)
        self._own_waits[job_id, n] = wait_s = min(self._own_waits.get((job_id, n), wait_s), wait_s)
        began, next_began = self._started.get((job_id, n)), self._started.get((job_id, n + 1))
        if began is not None and next_began is not None:
            self._judge(job_id, n + 1, next_began - began, wait_s)

    def _judge(self, job_id: str, attempt: int, waited: float, wanted: float) -> None:
        self.expect(waited >= wanted - ROUNDING_S, job_id, _too_soon(attempt, waited, wanted))

    def at_end(self) -> list[Violation]:
        return [
            self.broken(job_id, _too_soon(attempt, waited, attempt - 1))
            for (job_id, attempt), (of, waited) in sorted(self._open.items())
            if of not in self._own
        ]


def _too_soon(attempt: int, waited: float, wanted: float) -> str:
    return f"attempt {attempt} started {waited:.6f} s after the one before, not {wanted:g} s or more"


class RecordedIffExhausted(Predicate):
    """Every job that failed is recorded, and no other. (TABLE-4 covers the number of rows.)"""

    name = "recorded iff exhausted"
    watches = (JobFailed, FailureRecorded)

    def __init__(self, with_store: bool = True) -> None:
        super().__init__()
        self.with_store = with_store
        self._failed: set[str] = set()
        self._recorded: set[str] = set()

    def see(self, event: Event) -> None:
        if isinstance(event, JobFailed):
            self._failed.add(event.job_id)
        elif isinstance(event, FailureRecorded):
            self._recorded.add(event.job_id)
            self.judged += 1

    def at_end(self) -> list[Violation]:
        missing = sorted(self._failed - self._recorded) if self.with_store else []
        return [
            *(self.broken(job_id, "exhausted, but never recorded") for job_id in missing),
            *(self.broken(j, "recorded, but never exhausted") for j in sorted(self._recorded - self._failed)),
        ]


class SettleFenced(Predicate):
    """A job is settled for good once: the server accepts nothing for it afterwards."""

    name = "settle fenced"
    watches = (JobSucceeded, JobFailed, RetryScheduled, JobSnoozed, JobReturned)

    def __init__(self) -> None:
        super().__init__()
        self._settled: dict[str, JobSucceeded | JobFailed] = {}

    def see(self, event: Event) -> None:
        assert isinstance(event, JobSucceeded | JobFailed | RetryScheduled | JobSnoozed | JobReturned)
        end = self._settled.get(event.job_id)
        # Events may come late; the order of two steps at the same time of the server is unknown.
        after = end is not None and (event.server_at or 0.0) > (end.server_at or 0.0)
        also_final = end is not None and isinstance(event, JobSucceeded | JobFailed)
        self.expect(not (after or also_final), event.job_id, f"{type(event).__name__} after {type(end).__name__}")
        if isinstance(event, JobSucceeded | JobFailed):
            self._settled[event.job_id] = event


class Drains(Predicate):
    """When faults have ended and workers had time, no job is left."""

    name = "drains"
    watches = (JobDispatched, RetryScheduled, JobSnoozed, JobPostponed, JobReturned, JobSucceeded, JobFailed)

    def __init__(self) -> None:
        super().__init__()
        self._waiting: dict[str, str] = {}
        self._ended: set[str] = set()

    def see(self, event: Event) -> None:
        if isinstance(event, JobDispatched) and event.job_id not in self._ended:
            self._waiting.setdefault(event.job_id, "dispatched, never settled")
        elif isinstance(event, RetryScheduled) and event.job_id not in self._ended:
            self._waiting[event.job_id] = f"waits for attempt {event.attempts + 1}"
        elif isinstance(event, JobSnoozed) and event.job_id not in self._ended:
            self._waiting[event.job_id] = "snoozed, never taken"
        elif isinstance(event, JobPostponed) and event.job_id not in self._ended:
            self._waiting[event.job_id] = "waits for a worker that knows its type"
        elif isinstance(event, JobReturned) and event.type and event.job_id not in self._ended:
            # Bytes that are not an envelope get a lasting id only when they are recorded.
            self._waiting[event.job_id] = "handed back, never taken"
        elif isinstance(event, JobSucceeded | JobFailed):
            self._waiting.pop(event.job_id, None)
            self._ended.add(event.job_id)
            self.judged += 1

    def at_end(self) -> list[Violation]:
        return [self.broken(job_id, f"left over: {why}") for job_id, why in sorted(self._waiting.items())]


class Fifo(Predicate):
    """A process's immediate jobs are claimed in the order of dispatch, as far as the server's clock shows it."""

    name = "FIFO"
    watches = (
        JobDispatched, JobReturned, RetryScheduled, JobPostponed, AttemptFailed, AttemptSnoozed, AttemptStarted,
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self._position: dict[str, tuple[str, int]] = {}
        self._latest: dict[str, tuple[float, int]] = {}
        self._excused: set[str] = set()

    def see(self, event: Event) -> None:
        if isinstance(event, JobDispatched) and event.due is None:
            self._position.setdefault(event.job_id, (event.process, len(self._position)))
        elif isinstance(event, JobReturned | RetryScheduled | JobPostponed | AttemptFailed | AttemptSnoozed):
            self._excused.add(event.job_id)
        elif (
            isinstance(event, AttemptStarted)
            and event.claim == "exchange"
            and event.server_at is not None
            and event.job_id in self._position
            and event.job_id not in self._excused
            and not event.suspect
        ):
            self._judge(event.server_at, *self._position[event.job_id], event.job_id)

    def _judge(self, at: float, producer: str, position: int, job_id: str) -> None:
        """Judge one claim: a job was overtaken if one that was dispatched after it was claimed earlier."""
        latest_at, latest_position = self._latest.get(producer, (float("-inf"), -1))
        overtaken = position < latest_position and at > latest_at + ROUNDING_S
        self.expect(not overtaken, job_id, "claimed after a job that was dispatched later")
        if position > latest_position:
            self._latest[producer] = (at, position)


def all_predicates(max_attempts: int = 3, with_store: bool = True) -> list[Predicate]:
    return [
        NoneLost(),
        NeverEarly(),
        AttemptsBounded(max_attempts),
        BackoffKept(),
        RecordedIffExhausted(with_store),
        SettleFenced(),
        Drains(),
        Fifo(),
    ]
