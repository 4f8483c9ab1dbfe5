"""The eight safety predicates, each a reader of the event stream.

none lost · never early · attempts bounded · backoff kept · recorded iff exhausted · settle fenced ·
drains · FIFO. The same code judges a unit test, a simulated run and a production trace. Missing facts are
not judged: each predicate counts its checks.
"""

from __future__ import annotations

from collections.abc import Container, Mapping

from kashvi.events import (
    AttemptFailed,
    AttemptSnoozed,
    AttemptStarted,
    AttemptSucceeded,
    FailureRecorded,
    JobCancelled,
    JobDispatched,
    JobEvent,
    JobFailed,
    JobPostponed,
    JobReturned,
    JobSnoozed,
    JobSucceeded,
    RetryScheduled,
)

from ..judging import ROUNDING_S, Judge, Predicate, Violation, Watches, judge

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

NOTHING_YET = (float("-inf"), -1)


class NoneLost(Predicate):
    """Every dispatched job ends: it is done after a successful attempt, or recorded as failed, or cancelled."""

    name = "none lost"

    def __init__(self) -> None:
        super().__init__()
        self._open: set[str] = set()
        self._ended: set[str] = set()
        self._done: set[str] = set()

    def watches(self) -> Watches:
        return {
            JobDispatched: self._dispatched,
            AttemptSucceeded: self._succeeded,
            JobSucceeded: self._settled,
            JobFailed: self._over,
            JobCancelled: self._over,
        }

    def _dispatched(self, event: JobDispatched) -> None:
        if event.job_id not in self._ended:
            self._open.add(event.job_id)

    def _succeeded(self, event: AttemptSucceeded) -> None:
        self._done.add(event.job_id)

    def _settled(self, event: JobSucceeded) -> None:
        self._over(event)
        if event.job_id not in self._done:
            self.breaks(event.job_id, "settled as done, and no attempt had succeeded")

    def _over(self, event: JobSucceeded | JobFailed | JobCancelled) -> None:
        self.judged += 1
        self._open.discard(event.job_id)
        self._ended.add(event.job_id)  # the event of a dispatch may come after the job has run

    def at_end(self) -> list[Violation]:
        return [self.broken(job_id, "dispatched, and never heard of again") for job_id in sorted(self._open)]


class NeverEarly(Predicate):
    """No attempt starts before its job is due, by the server's clock."""

    name = "never early"

    def __init__(self) -> None:
        super().__init__()
        self._due: dict[tuple[str, int], float] = {}
        self._snoozes: dict[tuple[str, int], list[tuple[float, float]]] = {}
        """When an attempt's job was snoozed, and until when. The event of a start may come after a later snooze."""

    def watches(self) -> Watches:
        return {
            JobDispatched: self._dispatched,
            RetryScheduled: self._retried,
            JobSnoozed: self._snoozed,
            JobPostponed: self._postponed,
            AttemptStarted: self._started,
        }

    def _dispatched(self, event: JobDispatched) -> None:
        if event.due is not None:
            self._due[event.job_id, 1] = event.due

    def _retried(self, event: RetryScheduled) -> None:
        self._due[event.job_id, event.attempts + 1] = event.due

    def _snoozed(self, event: JobSnoozed) -> None:
        key = event.job_id, event.attempts + 1
        self._snoozes.setdefault(key, []).append((event.server_at or event.due - event.wait_s, event.due))

    def _postponed(self, event: JobPostponed) -> None:
        key = event.job_id, event.attempts + 1
        self._due[key] = max(self._due.get(key, event.due), event.due)

    def _started(self, event: AttemptStarted) -> None:
        key, at = (event.job_id, event.attempt), event.server_at
        if at is None:
            return
        due = self._due.get(key)
        if self._snoozes:
            for snoozed_at, again in self._snoozes.get(key, ()):
                due = again if snoozed_at <= at else due
        if due is not None:
            self.judged += 1
            if not due - at <= ROUNDING_S:
                self.breaks(event.job_id, f"started {due - at:.6f} s before it was due")


class AttemptsBounded(Predicate):
    """No job gets more attempts than allowed; a death without an announcement does not count."""

    name = "attempts bounded"

    def __init__(self, max_attempts: int = 3) -> None:
        super().__init__()
        self._max = max_attempts
        self._own: dict[str, int] = {}
        """The own limit of each type, 0 if it has none."""
        self._changed: set[str] = set()
        """Types whose limit is not the same everywhere: a deploy, or a worker that does not know the type."""

    def watches(self) -> Watches:
        return {AttemptStarted: self._started, JobFailed: self._failed}

    def _started(self, event: AttemptStarted) -> None:
        limit = self._limit(event.type, event.type_limit)
        if limit:
            self.judged += 1
            if event.attempt > limit:
                self.breaks(event.job_id, f"attempt {event.attempt} of {limit} started")

    def _failed(self, event: JobFailed) -> None:
        limit = 0 if event.undeliverable else self._limit(event.type, event.type_limit)
        if limit:
            self.judged += 1
            if event.attempts > limit or (event.attempts < limit and not event.gave_up):
                self.breaks(event.job_id, f"failed after {event.attempts} of {limit} attempts")

    def _limit(self, of: str, own: int) -> int:
        """The limit of a type; 0: it is not the same everywhere."""
        if self._own.setdefault(of, own) != own:
            self._changed.add(of)
        return 0 if of in self._changed else own or self._max


class BackoffKept(Predicate):
    """After failed attempt n, n seconds pass before the next one starts; or what the type's own backoff says.

    The event of a retry may come after the next start, or never. Until then n seconds are right, unless the type has a
    backoff of its own.
    """

    name = "backoff kept"

    def __init__(self) -> None:
        super().__init__()
        self._started: dict[tuple[str, int], float] = {}
        self._own_waits: dict[tuple[str, int], float] = {}
        """The least wait after an attempt, by the type's own backoff."""
        self._own: set[str] = set()
        """Types with a backoff of their own."""
        self._open: dict[tuple[str, int], tuple[str, float]] = {}
        """Types and waits of attempts that started too soon, unless the event of the retry says otherwise."""

    def watches(self) -> Watches:
        return {RetryScheduled: self._scheduled, AttemptStarted: self._starts}

    def _starts(self, event: AttemptStarted) -> None:
        job_id, attempt, at = event.job_id, event.attempt, event.server_at
        if at is None:
            return
        if event.claim == "exchange":  # a wait's server time may be too late by a round trip
            # A stale worker may start the same attempt once more, later: the first start counts.
            self._started.setdefault((job_id, attempt), at)
        before = self._started.get((job_id, attempt - 1))
        if before is None:
            return
        waited, own = at - before, self._own_waits.get((job_id, attempt - 1))
        if own is not None:
            self._judge(job_id, attempt, waited, own)
        elif waited < attempt - 1 - ROUNDING_S:
            self._open.setdefault((job_id, attempt), (event.type, waited))
        else:
            self.judged += 1

    def _scheduled(self, event: RetryScheduled) -> None:
        job_id, n, wait_s = event.job_id, event.attempts, event.wait_s
        _, waited = self._open.pop((job_id, n + 1), ("", None))
        if not event.backoff:
            self.judged += 1
            if wait_s != n:
                self.breaks(job_id, f"waits {wait_s:g} s after attempt {n}, not {n} s")
            if waited is not None:
                self._judge(job_id, n + 1, waited, float(n))
            return
        self._own.add(event.type)
        self._own_waits[job_id, n] = wait_s = min(self._own_waits.get((job_id, n), wait_s), wait_s)
        began, next_began = self._started.get((job_id, n)), self._started.get((job_id, n + 1))
        if began is not None and next_began is not None:
            self._judge(job_id, n + 1, next_began - began, wait_s)

    def _judge(self, job_id: str, attempt: int, waited: float, wanted: float) -> None:
        self.judged += 1
        if not waited >= wanted - ROUNDING_S:
            self.breaks(job_id, _too_soon(attempt, waited, wanted))

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

    def __init__(self, with_store: bool = True) -> None:
        super().__init__()
        self.with_store = with_store
        self._failed: set[str] = set()
        self._recorded: set[str] = set()

    def watches(self) -> Watches:
        return {JobFailed: self._fails, FailureRecorded: self._records}

    def _fails(self, event: JobFailed) -> None:
        self._failed.add(event.job_id)

    def _records(self, event: FailureRecorded) -> None:
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

    def __init__(self) -> None:
        super().__init__()
        self._settled: dict[str, JobSucceeded | JobFailed | JobCancelled] = {}

    def watches(self) -> Watches:
        return {
            JobSucceeded: self._for_good,
            JobFailed: self._for_good,
            JobCancelled: self._for_good,
            RetryScheduled: self._unfinished,
            JobSnoozed: self._unfinished,
            JobReturned: self._unfinished,
        }

    def _for_good(self, event: JobSucceeded | JobFailed | JobCancelled) -> None:
        self.judged += 1
        if end := self._settled.get(event.job_id):
            self._twice(event, end)
        self._settled[event.job_id] = event

    def _unfinished(self, event: RetryScheduled | JobSnoozed | JobReturned) -> None:
        self.judged += 1
        end = self._settled.get(event.job_id)
        # Events may come late; the order of two steps at the same time of the server is unknown.
        if end is not None and (event.server_at or 0.0) > (end.server_at or 0.0):
            self._twice(event, end)

    def _twice(self, event: JobEvent, end: JobEvent) -> None:
        self.breaks(event.job_id, f"{type(event).__name__} after {type(end).__name__}")


class Drains(Predicate):
    """When faults have ended and workers had time, no job is left."""

    name = "drains"

    def __init__(self) -> None:
        super().__init__()
        self._waiting: dict[str, str] = {}
        self._ended: set[str] = set()

    def watches(self) -> Watches:
        return {
            JobDispatched: self._dispatched,
            RetryScheduled: self._retried,
            JobSnoozed: self._snoozed,
            JobPostponed: self._postponed,
            JobReturned: self._returned,
            JobSucceeded: self._over,
            JobFailed: self._over,
            JobCancelled: self._over,
        }

    def _dispatched(self, event: JobDispatched) -> None:
        if event.job_id not in self._ended:
            self._waiting.setdefault(event.job_id, "dispatched, never settled")

    def _retried(self, event: RetryScheduled) -> None:
        if event.job_id not in self._ended:
            self._waiting[event.job_id] = f"waits for attempt {event.attempts + 1}"

    def _snoozed(self, event: JobSnoozed) -> None:
        if event.job_id not in self._ended:
            self._waiting[event.job_id] = "snoozed, never taken"

    def _postponed(self, event: JobPostponed) -> None:
        if event.job_id not in self._ended:
            self._waiting[event.job_id] = "waits for a worker that knows its type"

    def _returned(self, event: JobReturned) -> None:
        # Bytes that are not an envelope get a lasting id only when they are recorded.
        if event.type and event.job_id not in self._ended:
            self._waiting[event.job_id] = "handed back, never taken"

    def _over(self, event: JobSucceeded | JobFailed | JobCancelled) -> None:
        self._waiting.pop(event.job_id, None)
        self._ended.add(event.job_id)
        self.judged += 1

    def memory(self, over: Container[str] = ()) -> Mapping[str, object]:
        return {"waiting": {*self._waiting}, "ended": self._ended}  # why they wait is for people

    def at_end(self) -> list[Violation]:
        return [self.broken(job_id, f"left over: {why}") for job_id, why in sorted(self._waiting.items())]


class Fifo(Predicate):
    """A process's immediate jobs of a queue are claimed in the order of dispatch, as far as the server's clock shows.

    Likewise the follow-ups of one job; those of several may have their events in another order than they were sent.
    """

    name = "FIFO"

    def __init__(self) -> None:
        super().__init__()
        self._position: dict[str, tuple[tuple[str, str], int]] = {}
        self._latest: dict[tuple[str, str], tuple[float, int]] = {}
        """By producer and queue."""
        self._excused: set[str] = set()

    def watches(self) -> Watches:
        return {
            JobDispatched: self._dispatched,
            JobReturned: self._excuse,
            RetryScheduled: self._excuse,
            JobPostponed: self._excuse,
            AttemptFailed: self._excuse,
            AttemptSnoozed: self._excuse,
            AttemptStarted: self._started,
        }

    def _dispatched(self, event: JobDispatched) -> None:
        if event.due is None:
            line = event.parent or event.process, event.queue
            self._position.setdefault(event.job_id, (line, len(self._position)))

    def _excuse(self, event: JobEvent) -> None:
        self._excused.add(event.job_id)

    def _started(self, event: AttemptStarted) -> None:
        """Judge one claim: a job was overtaken if one that was dispatched after it was claimed earlier."""
        job_id, at = event.job_id, event.server_at
        placed = self._position.get(job_id)
        if placed is None or at is None or event.claim != "exchange" or event.suspect or job_id in self._excused:
            return
        self.judged += 1
        line, position = placed
        latest_at, latest_position = self._latest.get(line, NOTHING_YET)
        if position > latest_position:
            self._latest[line] = (at, position)
        elif position < latest_position and at > latest_at + ROUNDING_S:
            self.breaks(job_id, "claimed after a job that was dispatched later")

    def memory(self, over: Container[str] = ()) -> Mapping[str, object]:
        open_ = {job: place for job, place in self._position.items() if job not in over and job not in self._excused}
        lines = {line for line, _ in open_.values()}
        latest = {
            line: at
            for line, (at, position) in self._latest.items()
            if any(place < (line, position) for place in open_.values() if place[0] == line)
        }
        order = sorted(open_, key=lambda job: open_[job][1])
        ahead = [job for job in order if open_[job][1] >= self._latest.get(open_[job][0], NOTHING_YET)[1]]
        return {"order": [(line, [job for job in order if open_[job][0] == line]) for line in sorted(lines)],
                "latest": latest, "ahead": ahead, "excused": self._excused}  # fmt: skip


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
