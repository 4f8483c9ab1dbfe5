"""Predicates over one job's attempts: their counts, ends and records."""

from __future__ import annotations

from collections.abc import Container, Mapping
from itertools import pairwise
from typing import TypeVar

from kashvi.events import (
    AttemptFailed,
    AttemptLost,
    AttemptStarted,
    AttemptSucceeded,
    JobDispatched,
    JobFailed,
    JobPostponed,
    JobReturned,
    JobSnoozed,
    JobSucceeded,
    RetryScheduled,
)

from ..judging import ROUNDING_S, Predicate, Violation, Watches

K = TypeVar("K")
ERROR_MAX = 10_000
"""The most characters of an error's text that are kept."""


Attempt = str | tuple[str, int]
"""A job's first attempt is its id alone, since most have no other; else its id and a number."""


class IdsUnique(Predicate):
    """No two dispatched jobs share an id."""

    name = "ids unique"

    def __init__(self) -> None:
        super().__init__()
        self._seen: set[str] = set()

    def watches(self) -> Watches:
        return {JobDispatched: self._dispatched}

    def _dispatched(self, event: JobDispatched) -> None:
        self.judged += 1
        if event.job_id in self._seen:
            self.breaks(event.job_id, "dispatched twice under one id")
        self._seen.add(event.job_id)


class SettledAsItEnded(Predicate):
    """A job is settled by its attempt's outcome: done after a success, retried after a failure or a loss."""

    name = "settled as it ended"

    def __init__(self) -> None:
        super().__init__()
        self._good: set[Attempt] = set()
        self._bad: set[tuple[str, int]] = set()

    def watches(self) -> Watches:
        return {
            AttemptSucceeded: self._succeeded,
            AttemptFailed: self._failed,
            AttemptLost: self._failed,
            JobSucceeded: self._done,
            RetryScheduled: self._retried,
        }

    def _succeeded(self, event: AttemptSucceeded) -> None:
        self._good.add(event.job_id if event.attempt == 1 else (event.job_id, event.attempt))

    def _failed(self, event: AttemptFailed | AttemptLost) -> None:
        self._bad.add((event.job_id, event.attempt))

    def _done(self, event: JobSucceeded) -> None:
        self.judged += 1
        if (event.job_id if event.attempts == 1 else (event.job_id, event.attempts)) not in self._good:
            self.breaks(event.job_id, f"done, and attempt {event.attempts} had not succeeded")

    def _retried(self, event: RetryScheduled) -> None:
        self.judged += 1
        if (event.job_id, event.attempts) not in self._bad:
            self.breaks(event.job_id, f"retried, and attempt {event.attempts} had not failed")


class AttemptsCounted(Predicate):
    """Attempt n + 1 starts only when attempt n was settled as failed or lost: numbers have no gap."""

    name = "attempts counted"

    def __init__(self) -> None:
        super().__init__()
        self._settled: dict[tuple[str, int], float] = {}
        self._claimed: dict[Attempt, float] = {}

    def watches(self) -> Watches:
        return {AttemptStarted: self._started, RetryScheduled: self._retried}

    def _started(self, event: AttemptStarted) -> None:
        self.judged += 1
        key = event.job_id if event.attempt == 1 else (event.job_id, event.attempt)
        _first(self._claimed, key, event.server_at or 0.0)

    def _retried(self, event: RetryScheduled) -> None:
        _first(self._settled, (event.job_id, event.attempts), event.server_at or 0.0)

    def at_end(self) -> list[Violation]:
        told: dict[str, int] = {}
        for job_id, number in self._settled:
            told[job_id] = max(told.get(job_id, 0), number)
        broken: list[tuple[tuple[str, int], str]] = []
        for attempt, claimed in self._claimed.items():
            job_id, number = (attempt, 1) if isinstance(attempt, str) else attempt
            settled = self._settled.get((job_id, number - 1))
            if number - 1 > told.get(job_id, 0):
                why = f"attempt {number} started, and attempt {number - 1} was never settled as failed"
                broken.append(((job_id, number), why))
            elif settled is not None and claimed < settled - ROUNDING_S:
                why = f"attempt {number} was claimed {settled - claimed:.6f} s before attempt {number - 1} was settled"
                broken.append(((job_id, number), why))
        return [self.broken(job_id, why) for (job_id, _), why in sorted(broken)]


def _first(times: dict[K, float], key: K, at: float) -> None:
    """Keep the earliest time."""
    before = times.get(key)
    if before is None or at < before:
        times[key] = at


class StartsOnce(Predicate):
    """An attempt starts again only when its job was snoozed or handed back, or taken from a worker without a lease."""

    name = "starts once"

    def __init__(self) -> None:
        super().__init__()
        self._starts: dict[Attempt, int] = {}
        self._returns: dict[str, int] = {}

    def watches(self) -> Watches:
        return {AttemptStarted: self._started, JobReturned: self._returned, JobSnoozed: self._returned}

    def _started(self, event: AttemptStarted) -> None:
        self.judged += 1
        key = event.job_id if event.attempt == 1 else (event.job_id, event.attempt)
        self._starts[key] = self._starts.get(key, 0) + 1

    def _returned(self, event: JobReturned | JobSnoozed) -> None:
        self._returns[event.job_id] = self._returns.get(event.job_id, 0) + 1

    def memory(self, over: Container[str] = ()) -> Mapping[str, object]:
        jobs = self._starts.keys() | self._returns.keys()
        spare = {key: self._starts.get(key, 0) - self._returns.get(_job_of(key), 0) for key in jobs}
        return {"spare": spare}

    def at_end(self) -> list[Violation]:
        again = [
            ((key, 1) if isinstance(key, str) else key, starts) for key, starts in self._starts.items() if starts > 1
        ]
        return [
            self.broken(job_id, f"attempt {attempt} started {starts} times, handed back or snoozed {returns} times")
            for (job_id, attempt), starts in sorted(again)
            if starts - 1 > (returns := self._returns.get(job_id, 0))
        ]


def _job_of(attempt: Attempt) -> str:
    return attempt if isinstance(attempt, str) else attempt[0]


class NoWaitAfterTheLast(Predicate):
    """No wait follows the last attempt: an exhausted job is not retried."""

    name = "no wait after the last"

    def __init__(self, max_attempts: int = 3) -> None:
        super().__init__()
        self._max = max_attempts

    def watches(self) -> Watches:
        return {RetryScheduled: self._retried}

    def _retried(self, event: RetryScheduled) -> None:
        self.judged += 1
        limit = event.type_limit or self._max
        if event.attempts >= limit:
            self.breaks(event.job_id, f"waits after attempt {event.attempts} of {limit}")


class DoneIsDone(Predicate):
    """No worker claims and starts a job that is done or has failed."""

    name = "done is done"

    def __init__(self) -> None:
        super().__init__()
        self._ended: dict[str, float] = {}
        self._claimed: dict[str, float] = {}

    def watches(self) -> Watches:
        return {AttemptStarted: self._started, JobSucceeded: self._over, JobFailed: self._over}

    def _started(self, event: AttemptStarted) -> None:
        at = event.server_at
        if at is not None and event.claim == "exchange":  # a wait's server time may be too late
            self.judged += 1
            if at > self._claimed.get(event.job_id, 0.0):
                self._claimed[event.job_id] = at

    def _over(self, event: JobSucceeded | JobFailed) -> None:
        if event.server_at is not None:
            self._ended[event.job_id] = event.server_at

    def at_end(self) -> list[Violation]:
        late = (
            (job_id, claimed - ended)
            for job_id, ended in self._ended.items()
            if (claimed := self._claimed.get(job_id, 0.0)) > ended + ROUNDING_S
        )
        return [
            self.broken(job_id, f"claimed and started {by:.6f} s after it had ended") for job_id, by in sorted(late)
        ]


class AttemptsMade(Predicate):
    """A failed job's recorded number of attempts is that of an attempt that failed or was lost."""

    name = "attempts made"

    def __init__(self) -> None:
        super().__init__()
        self._ended: set[tuple[str, int]] = set()

    def watches(self) -> Watches:
        return {AttemptFailed: self._ends, AttemptLost: self._ends, JobFailed: self._failed}

    def _ends(self, event: AttemptFailed | AttemptLost) -> None:
        self._ended.add((event.job_id, event.attempt))

    def _failed(self, event: JobFailed) -> None:
        if not event.undeliverable:
            self.judged += 1
            if (event.job_id, event.attempts) not in self._ended:
                self.breaks(event.job_id, f"failed with {event.attempts} attempts, and no such attempt had ended")


class LastErrorKept(Predicate):
    """A failed job's error is that of its last attempt, or states that the process died."""

    name = "last error kept"

    def __init__(self) -> None:
        super().__init__()
        self._errors: dict[tuple[str, int], list[str]] = {}
        self._lost: set[tuple[str, int]] = set()

    def watches(self) -> Watches:
        return {AttemptFailed: self._ends, AttemptLost: self._loses, JobFailed: self._failed}

    def _ends(self, event: AttemptFailed) -> None:
        self._errors.setdefault((event.job_id, event.attempt), []).append(event.error)

    def _loses(self, event: AttemptLost) -> None:
        self._lost.add((event.job_id, event.attempt))

    def _failed(self, event: JobFailed) -> None:
        if event.undeliverable:
            return
        last = event.job_id, event.attempts
        if last in self._lost:
            self.judged += 1
            if "died" not in event.error:
                self.breaks(event.job_id, f"its process died, and the record says {event.error!r}")
        elif errors := self._errors.get(last):
            self.judged += 1
            if not any(error[:ERROR_MAX] == event.error for error in errors):
                self.breaks(event.job_id, f"recorded with {event.error!r}, not {errors[0]!r}")


class UndeliverableAtOnce(Predicate):
    """An undeliverable job fails at once: it is neither retried nor counted as an attempt."""

    name = "undeliverable at once"

    def __init__(self) -> None:
        super().__init__()
        self._unattempted: set[str] = set()

    def watches(self) -> Watches:
        return {AttemptFailed: self._ends, RetryScheduled: self._retried, JobFailed: self._failed}

    def _ends(self, event: AttemptFailed) -> None:
        if event.attempt == 0:
            self._unattempted.add(event.job_id)

    def _retried(self, event: RetryScheduled) -> None:
        if event.job_id in self._unattempted:
            self.judged += 1
            self.breaks(event.job_id, "could not be attempted, and is retried")

    def _failed(self, event: JobFailed) -> None:
        if event.job_id in self._unattempted:
            self.judged += 1
            if not event.undeliverable:
                self.breaks(event.job_id, "could not be attempted, and counts as exhausted")


class UnknownTypesWait(Predicate):
    """A job of an unknown type waits a second or more, and not less than before."""

    name = "unknown types wait"

    def __init__(self) -> None:
        super().__init__()
        self._waits: dict[str, list[tuple[float, float]]] = {}

    def watches(self) -> Watches:
        return {JobPostponed: self._postponed}

    def _postponed(self, event: JobPostponed) -> None:
        self.judged += 1
        if not 1 <= event.wait_s <= 10:
            self.breaks(event.job_id, f"waits {event.wait_s:g} s for a worker that knows its type")
        self._waits.setdefault(event.job_id, []).append((event.server_at or 0.0, event.wait_s))

    def at_end(self) -> list[Violation]:
        return [
            self.broken(job_id, f"waits {wait_s:g} s for a worker that knows its type, after {longer:g} s before")
            for job_id, waits in sorted(self._waits.items())
            for (_, longer), (_, wait_s) in pairwise(sorted(waits))
            if wait_s < longer - ROUNDING_S
        ]
