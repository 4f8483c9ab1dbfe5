"""Predicates over one job's attempts: their counts, ends and records."""

from __future__ import annotations

from itertools import pairwise

from kashvi.events import (
    AttemptFailed,
    AttemptLost,
    AttemptStarted,
    AttemptSucceeded,
    Event,
    JobDispatched,
    JobFailed,
    JobPostponed,
    JobReturned,
    JobSnoozed,
    JobSucceeded,
    RetryScheduled,
)

from ..judging import ROUNDING_S, Predicate, Violation

ERROR_MAX = 10_000
"""The most characters of an error's text that are kept."""


class IdsUnique(Predicate):
    """No two dispatched jobs share an id."""

    name = "ids unique"
    watches = (JobDispatched,)

    def __init__(self) -> None:
        super().__init__()
        self._seen: set[str] = set()

    def see(self, event: Event) -> None:
        assert isinstance(event, JobDispatched)
        self.expect(event.job_id not in self._seen, event.job_id, "dispatched twice under one id")
        self._seen.add(event.job_id)


class SettledAsItEnded(Predicate):
    """A job is settled by its attempt's outcome: done after a success, retried after a failure or a loss."""

    name = "settled as it ended"
    watches = (AttemptSucceeded, AttemptFailed, AttemptLost, JobSucceeded, RetryScheduled)

    def __init__(self) -> None:
        super().__init__()
        self._good: set[tuple[str, int]] = set()
        self._bad: set[tuple[str, int]] = set()

    def see(self, event: Event) -> None:
        if isinstance(event, AttemptSucceeded):
            self._good.add((event.job_id, event.attempt))
        elif isinstance(event, AttemptFailed | AttemptLost):
            self._bad.add((event.job_id, event.attempt))
        elif isinstance(event, JobSucceeded):
            earned = (event.job_id, event.attempts) in self._good
            self.expect(earned, event.job_id, f"done, and attempt {event.attempts} had not succeeded")
        elif isinstance(event, RetryScheduled):
            earned = (event.job_id, event.attempts) in self._bad
            self.expect(earned, event.job_id, f"retried, and attempt {event.attempts} had not failed")


class AttemptsCounted(Predicate):
    """Attempt n + 1 starts only when attempt n was settled as failed or lost: numbers have no gap."""

    name = "attempts counted"
    watches = (AttemptStarted, RetryScheduled)

    def __init__(self) -> None:
        super().__init__()
        self._settled: dict[tuple[str, int], float] = {}
        self._claimed: dict[tuple[str, int], float] = {}

    def see(self, event: Event) -> None:
        assert isinstance(event, RetryScheduled | AttemptStarted)
        at = event.server_at or 0.0
        if isinstance(event, RetryScheduled):
            first, key = self._settled, (event.job_id, event.attempts)
        else:
            first, key = self._claimed, (event.job_id, event.attempt)
            self.judged += 1
        first[key] = min(first.get(key, at), at)

    def at_end(self) -> list[Violation]:
        broken: list[Violation] = []
        told: dict[str, int] = {}
        for job_id, number in self._settled:
            told[job_id] = max(told.get(job_id, 0), number)
        for (job_id, number), claimed in sorted(self._claimed.items()):
            settled = self._settled.get((job_id, number - 1))
            if number - 1 > told.get(job_id, 0):
                why = f"attempt {number} started, and attempt {number - 1} was never settled as failed"
                broken.append(self.broken(job_id, why))
            elif settled is not None and claimed < settled - ROUNDING_S:
                why = f"attempt {number} was claimed {settled - claimed:.6f} s before attempt {number - 1} was settled"
                broken.append(self.broken(job_id, why))
        return broken


class StartsOnce(Predicate):
    """An attempt starts again only when its job was snoozed or handed back, or taken from a worker without a lease."""

    name = "starts once"
    watches = (AttemptStarted, JobReturned, JobSnoozed)

    def __init__(self) -> None:
        super().__init__()
        self._starts: dict[tuple[str, int], int] = {}
        self._returns: dict[str, int] = {}

    def see(self, event: Event) -> None:
        if isinstance(event, JobReturned | JobSnoozed):
            self._returns[event.job_id] = self._returns.get(event.job_id, 0) + 1
        elif isinstance(event, AttemptStarted):
            self.judged += 1
            key = event.job_id, event.attempt
            self._starts[key] = self._starts.get(key, 0) + 1

    def at_end(self) -> list[Violation]:
        return [
            self.broken(job_id, f"attempt {attempt} started {starts} times, handed back or snoozed {returns} times")
            for (job_id, attempt), starts in sorted(self._starts.items())
            if starts - 1 > (returns := self._returns.get(job_id, 0))
        ]


class NoWaitAfterTheLast(Predicate):
    """No wait follows the last attempt: an exhausted job is not retried."""

    name = "no wait after the last"
    watches = (RetryScheduled,)

    def __init__(self, max_attempts: int = 3) -> None:
        super().__init__()
        self._max = max_attempts

    def see(self, event: Event) -> None:
        assert isinstance(event, RetryScheduled)
        limit = event.type_limit or self._max
        self.expect(event.attempts < limit, event.job_id, f"waits after attempt {event.attempts} of {limit}")


class DoneIsDone(Predicate):
    """No worker claims and starts a job that is done or has failed."""

    name = "done is done"
    watches = (AttemptStarted, JobSucceeded, JobFailed)

    def __init__(self) -> None:
        super().__init__()
        self._ended: dict[str, float] = {}
        self._claimed: dict[str, float] = {}

    def see(self, event: Event) -> None:
        assert isinstance(event, AttemptStarted | JobSucceeded | JobFailed)
        if event.server_at is None:
            return
        if not isinstance(event, AttemptStarted):
            self._ended[event.job_id] = event.server_at
        elif event.claim == "exchange":  # a wait's server time may be too late
            self.judged += 1
            self._claimed[event.job_id] = max(self._claimed.get(event.job_id, 0.0), event.server_at)

    def at_end(self) -> list[Violation]:
        return [
            self.broken(job_id, f"claimed and started {claimed - ended:.6f} s after it had ended")
            for job_id, ended in sorted(self._ended.items())
            if (claimed := self._claimed.get(job_id, 0.0)) > ended + ROUNDING_S
        ]


class AttemptsMade(Predicate):
    """A failed job's recorded number of attempts is that of an attempt that failed or was lost."""

    name = "attempts made"
    watches = (AttemptFailed, AttemptLost, JobFailed)

    def __init__(self) -> None:
        super().__init__()
        self._ended: set[tuple[str, int]] = set()

    def see(self, event: Event) -> None:
        if isinstance(event, AttemptFailed | AttemptLost):
            self._ended.add((event.job_id, event.attempt))
        elif isinstance(event, JobFailed) and not event.undeliverable:
            made = (event.job_id, event.attempts) in self._ended
            self.expect(made, event.job_id, f"failed with {event.attempts} attempts, and no such attempt had ended")


class LastErrorKept(Predicate):
    """A failed job's error is that of its last attempt, or states that the process died."""

    name = "last error kept"
    watches = (AttemptFailed, AttemptLost, JobFailed)

    def __init__(self) -> None:
        super().__init__()
        self._errors: dict[tuple[str, int], list[str]] = {}
        self._lost: set[tuple[str, int]] = set()

    def see(self, event: Event) -> None:
        if isinstance(event, AttemptFailed):
            self._errors.setdefault((event.job_id, event.attempt), []).append(event.error)
        elif isinstance(event, AttemptLost):
            self._lost.add((event.job_id, event.attempt))
        elif isinstance(event, JobFailed) and not event.undeliverable:
            last = event.job_id, event.attempts
            if last in self._lost:
                self.expect(
                    "died" in event.error, event.job_id, f"its process died, and the record says {event.error!r}"
                )
            elif errors := self._errors.get(last):
                kept = any(error[:ERROR_MAX] == event.error for error in errors)
                self.expect(kept, event.job_id, f"recorded with {event.error!r}, not {errors[0]!r}")


class UndeliverableAtOnce(Predicate):
    """An undeliverable job fails at once: it is neither retried nor counted as an attempt."""

    name = "undeliverable at once"
    watches = (AttemptFailed, RetryScheduled, JobFailed)

    def __init__(self) -> None:
        super().__init__()
        self._unattempted: set[str] = set()

    def see(self, event: Event) -> None:
        if isinstance(event, AttemptFailed):
            if event.attempt == 0:
                self._unattempted.add(event.job_id)
        elif isinstance(event, RetryScheduled):
            if event.job_id in self._unattempted:
                self.expect(False, event.job_id, "could not be attempted, and is retried")
        elif isinstance(event, JobFailed) and event.job_id in self._unattempted:
            self.expect(event.undeliverable, event.job_id, "could not be attempted, and counts as exhausted")


class UnknownTypesWait(Predicate):
    """A job of an unknown type waits a second or more, and not less than before."""

    name = "unknown types wait"
    watches = (JobPostponed,)

    def __init__(self) -> None:
        super().__init__()
        self._waits: dict[str, list[tuple[float, float]]] = {}

    def see(self, event: Event) -> None:
        assert isinstance(event, JobPostponed)
        self.expect(1 <= event.wait_s <= 10, event.job_id, f"waits {event.wait_s:g} s for a worker that knows its type")
        self._waits.setdefault(event.job_id, []).append((event.server_at or 0.0, event.wait_s))

    def at_end(self) -> list[Violation]:
        return [
            self.broken(job_id, f"waits {wait_s:g} s for a worker that knows its type, after {longer:g} s before")
            for job_id, waits in sorted(self._waits.items())
            for (_, longer), (_, wait_s) in pairwise(sorted(waits))
            if wait_s < longer - ROUNDING_S
        ]
