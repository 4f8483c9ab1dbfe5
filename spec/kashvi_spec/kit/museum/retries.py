"""Bugs of attempts and waits: one too many or too few, too long or too early, in the wrong place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kashvi.drivers.memory import MemoryDriver
from kashvi.events import AttemptFailed, Event
from kashvi.jobs import envelope
from kashvi.ports import Settlement
from kashvi.queues import Queue
from kashvi.stream import EventStream
from kashvi.worker import retry, settle
from kashvi.worker.attempt import Attempts
from kashvi.worker.settle import Delivery, Settling

from . import Patch, exhibit, where

Decision = retry.RetryAfter | retry.GiveUp


def deciding(
    patch: Patch, decide: Callable[[int, int], Decision], when: Callable[[int, int], bool] = lambda n, most: True
) -> None:
    """Decide by ``decide(attempt, limit)``, if ``when(attempt, limit)`` holds."""
    where(patch, retry, "decide", when, lambda real, n, most: decide(n, most))


def waiting(patch: Patch, seconds: Callable[[int], float], when: Callable[[int], bool] = lambda n: True) -> None:
    """Wait ``seconds(n)`` after attempt n, unless it is the last."""
    deciding(patch, lambda n, most: retry.RetryAfter(seconds(n)), lambda n, most: n < most and when(n))


@exhibit(
    "retry off by one",
    "one attempt more than allowed",
    "RETRY-1",
    source="pg-boss #854 and others: attempts or retries",
    also="COMMANDS-2 COMMANDS-5 COMMANDS-6 COMMANDS-7 COMMANDS-8 COMMANDS-18 COMMANDS-19 "
    "COMMANDS-26 COMMANDS-30 DELIVERY-1 DELIVERY-8 DELIVERY-10 DELIVERY-16 DELIVERY-17 "
    "DISPATCH-1 ENVELOPE-4 FAILURES-1 FAILURES-2 FAILURES-4 FAILURES-5 FAILURES-7 "
    "FAILURES-8 FAILURES-12 FAILURES-13 JOBS-7 JOBS-9 JOBS-11 JOBS-13 JOBS-14 JOBS-20 "
    "JOBS-23 REDIS-4 REDIS-5 REDIS-11 RETRY-2 RETRY-3 RETRY-4 RETRY-5 RETRY-7 RETRY-8 "
    "RETRY-9 RETRY-10 RETRY-11 RETRY-12 RETRY-13 RETRY-14 TABLE-2 TABLE-6 WORKERS-10 "
    "WORKERS-18 WORKERS-20",
)
def _(patch: Patch) -> None:
    deciding(patch, lambda n, most: retry.RetryAfter(float(n)) if n <= most else retry.GiveUp())


@exhibit(
    "gives up too early",
    "one attempt less than allowed",
    "RETRY-1",
    also="DELIVERY-8 DELIVERY-10 DELIVERY-16 DELIVERY-17 ENVELOPE-4 FAILURES-1 FAILURES-4 "
    "FAILURES-5 FAILURES-13 JOBS-7 JOBS-11 RETRY-2 RETRY-3 RETRY-4 RETRY-5 RETRY-6 "
    "RETRY-7 RETRY-8 RETRY-10 RETRY-11 RETRY-13 TABLE-2 WORKERS-18",
)
def _(patch: Patch) -> None:
    deciding(patch, lambda n, most: retry.GiveUp(), lambda n, most: n == most - 1)


@exhibit(
    "a limit of five is one of six",
    "a limit set by the user counts retries",
    "RETRY-1",
    also="RETRY-2 RETRY-3 RETRY-5 RETRY-8 RETRY-9 RETRY-12",
)
def _(patch: Patch) -> None:
    deciding(patch, lambda n, most: retry.RetryAfter(float(n)), lambda n, most: n == most >= 5)


@exhibit(
    "a limit of five is one of four",
    "a limit set by the user is off by one",
    "RETRY-1",
    also="RETRY-2 RETRY-5 RETRY-8",
)
def _(patch: Patch) -> None:
    deciding(patch, lambda n, most: retry.GiveUp(), lambda n, most: n == most - 1 >= 4)


@exhibit(
    "constant backoff",
    "one second after every attempt",
    "RETRY-2",
    source="Laravel: --backoff",
    also="ENVELOPE-4 RETRY-3 RETRY-4 RETRY-5 RETRY-7 RETRY-8 RETRY-10 RETRY-11 RETRY-13 TABLE-2",
)
def _(patch: Patch) -> None:
    waiting(patch, lambda n: 1.0, lambda n: n > 1)


@exhibit(
    "exponential backoff",
    "1, 2, 4 s",
    "RETRY-2",
    source="Dramatiq, Oban",
    also="RETRY-5 RETRY-8 RETRY-10 RETRY-11",
)
def _(patch: Patch) -> None:
    waiting(patch, lambda n: 2.0 ** (n - 1), lambda n: n > 2)


@exhibit("backoff is capped", "at two seconds", "RETRY-2", also="RETRY-5 RETRY-8 RETRY-10 RETRY-11")
def _(patch: Patch) -> None:
    waiting(patch, lambda n: 2.0, lambda n: n > 2)


@exhibit(
    "backoff in milliseconds",
    "a unit is lost on the way",
    "RETRY-2",
    source="getsentry #81671: not as its doc",
    also="RETRY-5 RETRY-8 RETRY-10 RETRY-11",
)
def _(patch: Patch) -> None:
    waiting(patch, lambda n: n / 1000, lambda n: n > 2)


def retried(patch: Patch, change: Callable[[Settlement, float], Settlement]) -> None:
    """Carry out ``change(settlement, now)`` instead of a retry."""
    where(
        patch, MemoryDriver, "_settle",
        lambda self, worker, s, now: s.move == "retry",
        lambda real, self, worker, s, now: real(self, worker, change(s, now), now),
    )  # fmt: skip


@exhibit(
    "retries are due at whole seconds",
    "the score is rounded down",
    "RETRY-2",
    source="Laravel: whole Unix seconds",
    also="DELAY-1 DELIVERY-1 DISPATCH-1 MEMORY-3 QUEUES-9 RETRY-9",
)
def _(patch: Patch) -> None:
    retried(patch, lambda s, now: s._replace(in_s=(now + s.in_s) // 1 - now))


@exhibit(
    "retry by the worker's own clock",
    "the due time is by the process's clock",
    "RETRY-2",
    source="asynq, BullMQ: the client's time",
    also="DELAY-1 ENVELOPE-4 JOBS-2 QUEUES-1 QUEUES-4 QUEUES-9 RETRY-3 RETRY-4 RETRY-5 RETRY-7 "
    "RETRY-8 RETRY-9 RETRY-10 RETRY-11 RETRY-12 RETRY-13 TABLE-2 WORKERS-2 WORKERS-14",
)
def _(patch: Patch) -> None:
    def sent(real: Any, self: Settling, monotonic: float) -> Settlement:
        s: Settlement = real(self, monotonic)
        return s._replace(in_s=s.in_s - 0.5)

    where(patch, Settling, "sent", lambda self, monotonic: self.move == "retry", sent)


def resting(patch: Patch, limit: Callable[[int], bool]) -> None:
    """Let a job wait after the last attempt, before it is recorded, if ``limit`` holds of the limit."""

    def counted(real: Any, d: Delivery, ended_at: float, error: str, most: int, *rest: Any, **named: Any) -> Settling:
        new = envelope.rewrite(d.raw, d.job_id, attempts=most)
        return Settling("retry", d, ended_at, new, most, float(most), error, most)

    def last(d: Delivery, ended_at: float, error: str, most: int, decision: Any, lost: int | None) -> bool:
        return isinstance(decision, retry.GiveUp) and d.attempts + 1 == most and limit(most)

    def make(real: Any, self: Attempts, d: Delivery) -> Settling:
        new = envelope.rewrite(d.raw, d.job_id, error="x")
        return Settling("fail", d, self._runtime.monotonic(), new, d.attempts, 0.0, "x", self._max_attempts())

    where(patch, settle, "_counted", last, counted)
    where(patch, Attempts, "make", lambda self, d: d.attempts >= self._max_attempts() and limit(d.attempts), make)


@exhibit(
    "a wait after the last attempt",
    "for as many seconds as the limit, before the failure is recorded",
    "RETRY-3",
    source="Go kashvi: it sleeps before it looks at the limit",
    also="DELIVERY-10 FAILURES-4 FAILURES-5 JOBS-2 RETRY-8 RETRY-9 RETRY-10 RETRY-11 "
    "RETRY-12 TABLE-2 WORKERS-13 WORKERS-18",
)
def _(patch: Patch) -> None:
    resting(patch, lambda most: most == 3)


@exhibit(
    "a wait after two of two",
    "where the limit is two",
    "RETRY-3",
    also="FAILURES-4 FAILURES-13 JOBS-23 RETRY-8 RETRY-9 RETRY-11 WORKERS-13",
)
def _(patch: Patch) -> None:
    resting(patch, lambda most: most == 2)


@exhibit(
    "waits in the worker",
    "a failed attempt keeps its thread for half of the wait",
    "RETRY-4",
    source="Go kashvi: the worker sleeps through the backoff",
    also="ENVELOPE-4 RETRY-8 RETRY-9 RETRY-10 WORKERS-2 WORKERS-20",
)
def _(patch: Patch) -> None:
    keeping(patch, lambda n: n / 2)


@exhibit(
    "a failed attempt keeps its thread for a while",
    "a tenth of a second, for the log to be read",
    "RETRY-4",
    also="ENVELOPE-4 RETRY-8 RETRY-9 RETRY-10 WORKERS-2 WORKERS-20",
)
def _(patch: Patch) -> None:
    keeping(patch, lambda n: 0.1)


def keeping(patch: Patch, seconds: Callable[[int], float]) -> None:
    """Let the thread sleep ``seconds(n)`` after failed attempt n."""

    def emit(real: Any, self: EventStream, kind: type[Event], *error: Any, **facts: Any) -> None:
        real(self, kind, *error, **facts)
        self._now.__self__.sleep(seconds(facts["attempt"]))  # type: ignore[attr-defined]

    def failed(self: EventStream, kind: type[Event], *error: Any, **facts: Any) -> bool:
        return kind is AttemptFailed and 0 < facts["attempt"] < 3

    where(patch, EventStream, "emit", failed, emit)


def limiting(patch: Patch, when: Callable[[Queue, int], bool]) -> None:
    """Hide a new limit from running workers."""
    where(
        patch, Queue, "set_max_retry",
        lambda self, attempts: bool(vars(self).get("_workers")) and when(self, attempts),
        lambda real, self, attempts: None,
    )  # fmt: skip


@exhibit(
    "a higher limit is read at the start",
    "running workers give up too early",
    "RETRY-5",
    source="most: a setting of the process",
)
def _(patch: Patch) -> None:
    limiting(patch, lambda self, attempts: attempts > self.max_attempts)


@exhibit("a lower limit is read at the start", "running workers go on trying", "RETRY-5", also="FAILURES-5")
def _(patch: Patch) -> None:
    limiting(patch, lambda self, attempts: attempts < self.max_attempts)


def numbering(patch: Patch, when: Callable[[Settling], bool]) -> None:
    """Send a retry with one attempt too many."""
    real = settle._counted

    def counted(d: Delivery, *args: Any, **named: Any) -> Settling:
        settling = real(d, *args, **named)
        if settling.move != "retry" or not when(settling):
            return settling
        settling.new = envelope.rewrite(d.raw, d.job_id, attempts=settling.attempts + 1)
        settling.attempts += 1
        return settling

    patch.setattr(settle, "_counted", counted)


@exhibit(
    "the second attempt counts twice",
    "of jobs that have four",
    "RETRY-6",
    also="JOBS-2 RETRY-2 RETRY-9 RETRY-10 RETRY-11",
)
def _(patch: Patch) -> None:
    numbering(patch, lambda settling: settling.attempts == 2 and settling.max_attempts == 4)


@exhibit(
    "a hand-back counts",
    "a deployment costs an attempt",
    "RETRY-6",
    source="Laravel: attempts go up at the pop",
    also="RETRY-1",
)
def _(patch: Patch) -> None:
    def returned(real: Any, d: Delivery, ended_at: float) -> Settling:
        settling: Settling = real(d, ended_at)
        settling.new = envelope.rewrite(d.raw, d.job_id, attempts=d.attempts + 1)
        return settling

    where(patch, settle, "returned", lambda d, ended_at: d.envelope is not None and not d.suspect, returned)


@exhibit(
    "what has failed is not removed",
    "with two workers, it is found again after a lease",
    "RETRY-7",
    also="DELIVERY-5 FAILURES-10 MEMORY-3",
)
def _(patch: Patch) -> None:
    staying(patch, "fail")


@exhibit(
    "what is retried is not removed",
    "with two workers, the old entry is found after a lease",
    "RETRY-7",
    also="DELAY-1 DELIVERY-5 FAILURES-10 RETRY-13 WORKERS-13",
)
def _(patch: Patch) -> None:
    staying(patch, "retry")


def staying(patch: Patch, move: str) -> None:
    """Leave a copy behind, in the list of a worker whose lease ends soon."""

    def _settle(real: Any, self: MemoryDriver, worker: str, s: Settlement, now: float) -> bool:
        settled: bool = real(self, worker, s, now)
        if settled:
            self.store.held.setdefault("a worker of old", []).append(s.old)
            self.store.workers.setdefault("a worker of old", now + 10)
        return settled

    def among_others(self: MemoryDriver, worker: str, s: Settlement, now: float) -> bool:
        return s.move == move and len(self.store.workers) == 2

    where(patch, MemoryDriver, "_settle", among_others, _settle)
