"""Bugs of the failure record: lost, of the wrong attempt, lost with the database, never emptied."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from unittest import mock

from kashvi.drivers.memory import MemoryDriver
from kashvi.errors import StoreUnavailable
from kashvi.events import AttemptFailed
from kashvi.failures.recent import FailedJob, FailedJobs
from kashvi.failures.sql import SqlFailures
from kashvi.jobs import envelope
from kashvi.ports import Failure, Refusal, Settlement, Unrecorded
from kashvi.raised import KEPT
from kashvi.worker import attempt, retry, settle
from kashvi.worker.attempt import Attempts
from kashvi.worker.machine import Machine
from kashvi.worker.recorder import BATCH, Recorder
from kashvi.worker.settle import Delivery, Settling

from . import Patch, exhibit, where


def failing(
    patch: Patch, change: Callable[[Settlement], Settlement], when: Callable[[Settlement], bool] = lambda s: True
) -> None:
    """Carry out ``change(settlement)`` instead of a failure."""
    where(
        patch, MemoryDriver, "_settle",
        lambda self, worker, s, now: s.move == "fail" and when(s),
        lambda real, self, worker, s, now: real(self, worker, change(s), now),
    )  # fmt: skip


@exhibit("it failed when the server heard of it", "the time until the request is lost", "FAILURES-1")
def _(patch: Patch) -> None:
    failing(patch, lambda s: s._replace(in_s=0.0), lambda s: s.in_s < -1)


@exhibit("success is recorded, too", "of a job that had failed before", "FAILURES-1")
def _(patch: Patch) -> None:
    def _settle(real: Any, self: MemoryDriver, worker: str, s: Settlement, now: float) -> bool:
        settled: bool = real(self, worker, s, now)
        if settled:
            self.store.unrecorded[s.old] = now
        return settled

    def at_last(self: MemoryDriver, worker: str, s: Settlement, now: float) -> bool:
        return s.move == "done" and b'"attempts":2' in s.old

    where(patch, MemoryDriver, "_settle", at_last, _settle)


@exhibit(
    "removed before it is recorded",
    "a crash or a database that is down loses the row",
    "FAILURES-1 FAILURES-7",
    source="Laravel #24549: deleted, then inserted",
    also="FAILURES-12 FAILURES-8",
)
def _(patch: Patch) -> None:
    real = Recorder._batch

    def batch(self: Recorder, store: Any, entries: Sequence[Unrecorded]) -> set[bytes]:
        driver = self._driver
        driver.recorded([entry.envelope for entry in entries])
        self._driver = SimpleNamespace(recorded=lambda envelopes: None)
        try:
            return real(self, store, entries)
        finally:
            self._driver = driver

    patch.setattr(Recorder, "_batch", batch)


@exhibit(
    "a database that is down is a failure like any other",
    "the row is given up",
    "FAILURES-1 FAILURES-7",
    source="Go kashvi: one line on standard output",
)
def _(patch: Patch) -> None:
    real = Recorder._batch

    def batch(self: Recorder, store: Any, entries: Sequence[Unrecorded]) -> set[bytes]:
        try:
            return real(self, store, entries)
        except StoreUnavailable:
            given_up = [entry.envelope for entry in entries]
            self._driver.recorded(given_up)
            return set(given_up)

    patch.setattr(Recorder, "_batch", batch)


def remembering(patch: Patch, change: Callable[[FailedJob], FailedJob]) -> None:
    """Change the failures that are kept in memory."""
    real = FailedJobs.add
    patch.setattr(FailedJobs, "add", lambda self, failed: real(self, change(failed)))


@exhibit("failures have no time", "the list has the start of the process instead", "FAILURES-2")
def _(patch: Patch) -> None:
    remembering(patch, lambda failed: replace(failed, failed_at=datetime(2020, 1, 1, tzinfo=UTC)))


@exhibit(
    "the job is not kept",
    "only its type is kept",
    "FAILURES-2",
    source="Go kashvi: %T prints the factory's type",
    also="RETRY-14",
)
def _(patch: Patch) -> None:
    remembering(patch, lambda failed: replace(failed, job=failed.type))


@exhibit(
    "the list grows without end",
    "it fills the memory of a process that runs for months",
    "FAILURES-11",
    source="Go kashvi: the failed slice is never cut",
)
def _(patch: Patch) -> None:
    def add(real: Any, self: FailedJobs, failed: FailedJob) -> None:
        self._jobs = type(self._jobs)([*self._jobs, failed])

    where(patch, FailedJobs, "add", lambda self, failed: len(self._jobs) == self._jobs.maxlen, add)


@exhibit("the oldest failures are kept", "and the newest forgotten", "FAILURES-11")
def _(patch: Patch) -> None:
    where(
        patch,
        FailedJobs,
        "add",
        lambda self, failed: len(self._jobs) == self._jobs.maxlen,
        lambda real, self, failed: None,
    )


@exhibit("the first error is kept", "the first attempt's error is recorded", "FAILURES-4", also="RETRY-10")
def _(patch: Patch) -> None:
    first: dict[str, str] = {}

    def failed(real: Any, d: Delivery, ended_at: float, error: str, *rest: Any) -> Settling:
        settling: Settling = real(d, ended_at, first[d.job_id], *rest)
        return settling

    def another(d: Delivery, ended_at: float, error: str, *rest: Any) -> bool:
        if d.attempts == 0:
            first[d.job_id] = error
        return first.get(d.job_id, error) != error

    where(patch, settle, "failed", another, failed)


@exhibit("an error may be of any length", "the exception's whole text is kept", "FAILURES-4")
def _(patch: Patch) -> None:
    def failed(real: Any, *args: Any) -> Any:
        with mock.patch.object(settle, "ERROR_MAX", 2**40):
            return real(*args)

    where(patch, settle, "failed", lambda *args: len(args[2]) > 10_000, failed)


@exhibit("the error is lost", "a failure is recorded without a reason", "FAILURES-4", source="Go kashvi: a nil error")
def _(patch: Patch) -> None:
    where(
        patch, settle, "failed",
        lambda d, ended_at, error, *rest: error.startswith("SystemExit"),
        lambda real, d, ended_at, error, *rest: real(d, ended_at, "", *rest),
    )  # fmt: skip


@exhibit(
    "the limit is recorded",
    "instead of the attempts that were made",
    "FAILURES-5",
    source="Go kashvi: the limit in force",
    also="RETRY-5 RETRY-12",
)
def _(patch: Patch) -> None:
    def counted(real: Any, d: Delivery, ended_at: float, error: str, most: int, *rest: Any, **named: Any) -> Settling:
        settling: Settling = real(d, ended_at, error, most, *rest, **named)
        settling.attempts = most
        settling.new = envelope.rewrite(d.raw, d.job_id, attempts=most, error=error, lost=None)
        return settling

    def other(d: Delivery, ended_at: float, error: str, most: int, *rest: Any, **named: Any) -> bool:
        return d.attempts + 1 > most

    where(patch, settle, "_counted", other, counted)


@exhibit("attempts are not in the row", "every row says 1", "FAILURES-5")
def _(patch: Patch) -> None:
    def record(real: Any, self: SqlFailures, failures: Sequence[Failure]) -> dict[str, str]:
        return dict(real(self, [failure._replace(attempts=1) for failure in failures]))

    def several(self: SqlFailures, failures: Sequence[Failure]) -> bool:
        return any(failure.attempts == 2 for failure in failures)

    where(patch, SqlFailures, "record", several, record)


@exhibit(
    "unknown types are dropped",
    "with a line in the log",
    "FAILURES-9",
    source="Go kashvi; Celery #6893; Taskiq",
    also="COMMANDS-18 COMMANDS-26 DISPATCH-1 ENVELOPE-6 ENVELOPE-7 FAILURES-10 JOBS-2 JOBS-13 JOBS-22 WORKERS-13",
)
def _(patch: Patch) -> None:
    patch.setattr(settle, "undeliverable", lambda d, ended_at, error: settle.succeeded(d, ended_at))


@exhibit(
    "what can't be attempted is tried again",
    "as if a handler had raised",
    "FAILURES-9",
    source="Laravel #22513: retried for ever",
    also="ENVELOPE-6 ENVELOPE-7",
)
def _(patch: Patch) -> None:
    real = Attempts._undeliverable

    def undeliverable(self: Attempts, d: Delivery, why: str) -> Settling:
        if d.envelope is None:
            return real(self, d, why)
        settling = settle.failed(d, self._runtime.monotonic(), why, self._max_attempts())
        return self._told(settling, AttemptFailed, d.attempts + 1, why)

    patch.setattr(Attempts, "_undeliverable", undeliverable)


@exhibit(
    "a type that one worker does not know is recorded at once",
    "though others know it",
    "FAILURES-10",
    source="ours, until 500 of 500 jobs went to the table within 3 s; Celery discards them",
)
def _(patch: Patch) -> None:
    patch.setattr(retry, "decide_unknown", lambda waited_s, unknown_for_s: retry.GiveUp())


@exhibit(
    "every look at an unknown type is the first",
    "the job waits for ever",
    "FAILURES-10",
    also="DELIVERY-1",
)
def _(patch: Patch) -> None:
    real = retry.decide_unknown
    patch.setattr(retry, "decide_unknown", lambda waited_s, unknown_for_s: real(0.0, unknown_for_s))


@exhibit(
    "an unknown type goes back at once",
    "workers claim it again and again",
    "FAILURES-10",
)
def _(patch: Patch) -> None:
    def decide(waited_s: float, unknown_for_s: float) -> retry.RetryAfter | retry.GiveUp:
        return retry.GiveUp() if waited_s >= unknown_for_s else retry.RetryAfter(0.05)

    patch.setattr(retry, "decide_unknown", decide)


@exhibit(
    "failures are read newest first",
    "when a table comes back, the oldest wait longest",
    "FAILURES-8",
    also="DELIVERY-13",
)
def _(patch: Patch) -> None:
    def unrecorded(real: Any, self: MemoryDriver, limit: int, skip: int = 0) -> list[Unrecorded]:
        newest = sorted(self.store.unrecorded.items(), key=lambda item: (-item[1], item[0]))[skip : skip + limit]
        return [Unrecorded(envelope, at) for envelope, at in newest]

    where(patch, MemoryDriver, "unrecorded", lambda self, limit, skip=0: len(self.store.unrecorded) > 1, unrecorded)


@exhibit("recorded empties the list", "a row that came meanwhile is lost", "FAILURES-8", also="FAILURES-12")
def _(patch: Patch) -> None:
    def recorded(real: Any, self: MemoryDriver, envelopes: Sequence[bytes]) -> None:
        self.store.unrecorded.clear()

    where(
        patch, MemoryDriver, "recorded", lambda self, envelopes: len(self.store.unrecorded) > len(envelopes), recorded
    )


@exhibit(
    "who has no table throws away",
    "what it can't record",
    "FAILURES-8",
    source="Sidekiq, RQ: a result that expires",
    also="ENVELOPE-4 REDIS-4 REDIS-5",
)
def _(patch: Patch) -> None:
    def run(real: Any, self: Recorder) -> bool:
        self._driver.recorded([entry.envelope for entry in self._driver.unrecorded(500)])
        return True

    real_remember = Recorder.remember

    def remember(self: Recorder, settling: Settling, failed_at: float) -> None:
        real_remember(self, settling, failed_at)
        if self._store is None:
            run(None, self)

    patch.setattr(Recorder, "remember", remember)


@exhibit(
    "a row put off is given up", "after a full disk it is never tried again", "FAILURES-12", source="kashvi, before"
)
def _(patch: Patch) -> None:
    def postpone(real: Any, self: Recorder, raw: bytes, failure: Failure, refusal: Refusal) -> None:
        real(self, raw, failure, refusal._replace(passing=False))

    where(patch, Recorder, "_postpone", lambda self, raw, failure, refusal: refusal.passing, postpone)


@exhibit(
    "all wait for the row that was refused",
    "for half a minute, new ones too",
    "FAILURES-12",
    source="kashvi, before",
)
def _(patch: Patch) -> None:
    def postpone(real: Any, self: Recorder, raw: bytes, failure: Failure, refusal: Refusal) -> None:
        real(self, raw, failure, refusal)
        self._not_before = self._runtime.monotonic() + 30

    where(patch, Recorder, "_postpone", lambda self, raw, failure, refusal: refusal.passing, postpone)


@exhibit(
    "failures are kept by number alone", "a thousand large ones fill the memory", "FAILURES-11", source="kashvi, before"
)
def _(patch: Patch) -> None:
    def add(real: Any, self: FailedJobs, failed: FailedJob) -> None:
        self._jobs.append(failed)

    where(patch, FailedJobs, "add", lambda self, failed: len(failed.payload) > 1_000_000, add)


@exhibit(
    "no traceback is kept",
    "only the error's one line is kept",
    "FAILURES-13",
    source="Go kashvi; kashvi, before",
    also="COMMANDS-18",
)
def _(patch: Patch) -> None:
    where(patch, settle, "traced", lambda s, text: bool(text), lambda real, s, text: s)


@exhibit("a traceback without end", "of an error that says a lot", "FAILURES-13", source="ours")
def _(patch: Patch) -> None:
    def whole(error: BaseException) -> str:
        return "".join(traceback.format_exception(error))

    where(patch, attempt, "traceback_of", lambda error: len(whole(error)) > KEPT, lambda real, error: whole(error))


@exhibit(
    "a worker ends and records nothing more",
    "what failed last waits for another one",
    "FAILURES-1",
)
def _(patch: Patch) -> None:
    def told_to_stop(self: Machine, now: int) -> bool:  # one that ends by itself may have recorded all by then, or not
        return self.unrecorded > 0 and self.limits.until == "stopped"

    where(patch, Machine, "_record_the_rest", told_to_stop, lambda real, self, now: None)


@exhibit("a batch of rows is left out", "after each that went in", "FAILURES-8")
def _(patch: Patch) -> None:
    def unrecorded(real: Any, self: MemoryDriver, limit: int, skip: int) -> list[Unrecorded]:
        found: list[Unrecorded] = real(self, limit, skip + limit)
        return found

    where(patch, MemoryDriver, "unrecorded", lambda self, limit, skip=0: skip > 0 and limit == BATCH, unrecorded)
