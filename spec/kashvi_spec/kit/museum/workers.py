"""Bugs of workers: too many or too few threads, errors that end them, settings and observers that are not heeded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kashvi import settings
from kashvi.events import WorkerStarted, WorkerStopped
from kashvi.queues import Queue
from kashvi.runtime import SystemRuntime
from kashvi.stream import EventStream
from kashvi.worker import attempt, settle
from kashvi.worker.attempt import Attempts
from kashvi.worker.machine import Machine, choose
from kashvi.worker.machine.steps import SECOND
from kashvi.worker.settle import Delivery, Settling
from kashvi.worker.shell import Worker

from . import Patch, exhibit, where


@exhibit(
    "ack before handling",
    "settled as done when it is claimed",
    "JOBS-2 DISPATCH-1",
    source="Sidekiq, Celery: early acknowledgement",
    also="COMMANDS-2 COMMANDS-5 COMMANDS-6 COMMANDS-7 COMMANDS-8 COMMANDS-13 COMMANDS-14 "
    "COMMANDS-18 COMMANDS-19 COMMANDS-26 COMMANDS-30 DELAY-10 DELIVERY-2 DELIVERY-3 "
    "DELIVERY-5 DELIVERY-6 DELIVERY-8 DELIVERY-10 DELIVERY-14 DELIVERY-15 DELIVERY-16 "
    "DELIVERY-17 ENVELOPE-4 ENVELOPE-5 ENVELOPE-6 ENVELOPE-7 FAILURES-1 FAILURES-2 "
    "FAILURES-4 FAILURES-5 FAILURES-7 FAILURES-8 FAILURES-9 FAILURES-10 FAILURES-12 "
    "FAILURES-13 JOBS-7 JOBS-9 JOBS-11 JOBS-13 JOBS-14 JOBS-18 JOBS-19 JOBS-21 JOBS-22 "
    "JOBS-23 JOBS-24 OUTBOX-10 QUEUES-1 QUEUES-4 QUEUES-6 QUEUES-8 QUEUES-9 QUEUES-10 "
    "QUEUES-11 REDIS-4 REDIS-5 REDIS-11 RETRY-1 RETRY-2 RETRY-3 RETRY-4 RETRY-5 RETRY-6 "
    "RETRY-7 RETRY-8 RETRY-9 RETRY-10 RETRY-11 RETRY-12 RETRY-13 RETRY-14 TABLE-2 TABLE-6 "
    "WORKERS-2 WORKERS-3 WORKERS-6 WORKERS-10 WORKERS-13 WORKERS-14 WORKERS-15 WORKERS-17 "
    "WORKERS-18 WORKERS-20 WORKERS-21",
)
def _(patch: Patch) -> None:
    real = Machine._admit

    def admit(self: Machine, now: int, claimed: Sequence[Delivery]) -> None:
        self._owe(now, [settle.succeeded(d, now / SECOND) for d in claimed])
        real(self, now, claimed)

    patch.setattr(Machine, "_admit", admit)


@exhibit("one thread too many", "a worker with five threads reports four", "WORKERS-1", also="COMMANDS-1")
def _(patch: Patch) -> None:
    where(
        patch,
        EventStream,
        "emit",
        lambda self, kind, *error, **facts: kind is WorkerStarted and facts["threads"] == 5,
        lambda real, self, kind, *error, **facts: real(self, kind, *error, **facts | {"threads": 4}),
    )


@exhibit("one thread too few", "one of five runs no jobs", "WORKERS-1", also="COMMANDS-1 DELIVERY-2 WORKERS-14")
def _(patch: Patch) -> None:
    where(patch, choose, "want", lambda state, now: state.threads == 5, lambda real, *asked: real(*asked) - 1)


@exhibit(
    "wake-up lost",
    "waiting threads are not woken for work or for the end",
    "WORKERS-1",
    also="CRON-1 CRON-3 CRON-4 "
    "QUEUES-3 QUEUES-4 QUEUES-6 QUEUES-9 DELIVERY-1 DELIVERY-2 DELIVERY-7 DELIVERY-8 DELIVERY-10 DELIVERY-12 "
    "DELIVERY-14 DELIVERY-15 DELIVERY-16 DELIVERY-17 DISPATCH-1 REDIS-8 RETRY-13 WORKERS-11 WORKERS-14 "
    "WORKERS-17 WORKERS-19 WORKERS-20 WORKERS-21",
)
def _(patch: Patch) -> None:
    from kashvi_sim.world.kernel import Condition

    patch.setattr(Condition, "notify_all", lambda self: None)
    patch.setattr(Condition, "notify", lambda self, n=1: None)


@exhibit(
    "SystemExit ends the thread",
    "and the worker has one less",
    "WORKERS-2",
    source="Go kashvi: Goexit in Handle ends that worker for good",
    also="DELIVERY-1 DISPATCH-1 FAILURES-4 RETRY-11",
)
def _(patch: Patch) -> None:
    def describe(real: Any, error: BaseException) -> str:
        raise error

    where(patch, attempt, "describe", lambda error: isinstance(error, SystemExit), describe)


def counting(patch: Patch, when: Any, mend: Any) -> None:
    """Convert a number that should be refused."""
    where(
        patch,
        settings,
        "at_least",
        lambda name, value, least: when(value),
        lambda real, name, value, least: mend(value),
    )


@exhibit("True is one", "a misplaced flag is a number", "WORKERS-8")
def _(patch: Patch) -> None:
    counting(patch, lambda value: isinstance(value, bool), int)


@exhibit(
    "zero attempts are allowed",
    "every job fails unseen",
    "WORKERS-8",
    source="Go kashvi: SetMaxRetry(0) never runs a job",
)
def _(patch: Patch) -> None:
    def at_least(real: Any, name: str, value: int, least: int) -> int:
        return value

    where(patch, settings, "at_least", lambda name, value, least: value == 0 and "attempts" in name, at_least)


@exhibit("no number is the default", "None means three, or five", "WORKERS-8")
def _(patch: Patch) -> None:
    counting(patch, lambda value: value is None, lambda value: 3)


def changing(patch: Patch, instead: Any) -> None:
    """Let a setting change under running workers."""
    where(patch, Queue, "_check_stopped", lambda self, what: bool(self._running()), instead)


@exhibit(
    "a driver is exchanged under its workers",
    "they wait on the old one for ever",
    "WORKERS-9",
    source="Go kashvi: workers started before SetDriver",
    also="CRON-6",
)
def _(patch: Patch) -> None:
    changing(patch, lambda real, self, what: None)


@exhibit("only the driver may not change", "a table is exchanged under its workers", "WORKERS-9", also="CRON-6")
def _(patch: Patch) -> None:
    changing(patch, lambda real, self, what: real(self, what) if what == "the driver" else None)


def observing(patch: Patch, after: Any) -> None:
    """Call ``after(stream, observer, error)`` when an observer has raised."""
    real = EventStream.observe

    def observe(self: EventStream, observer: Any) -> Any:
        def watched(event: Any) -> None:
            try:
                observer(event)
            except BaseException as error:
                after(self, watched, error)

        return real(self, watched)

    patch.setattr(EventStream, "observe", observe)


@exhibit("an observer that raises stops the worker", "with its own error", "WORKERS-10")
def _(patch: Patch) -> None:
    def after(stream: EventStream, observer: Any, error: BaseException) -> None:
        raise KeyboardInterrupt from error

    observing(patch, after)


@exhibit(
    "KeyboardInterrupt ends a thread",
    "also one of an observer: of two threads none is left, and the ended job runs again",
    "WORKERS-10",
    source="ours, until now",
)
def _(patch: Patch) -> None:
    def stumbled(self: Worker, error: BaseException) -> None:
        raise error

    patch.setattr(SystemRuntime, "interruptible", lambda self: True)
    patch.setattr(Worker, "stumbled", stumbled)
    patch.setattr(Attempts, "over", lambda self, d: None)


@exhibit("an observer that raises is dropped", "it gets no more events", "WORKERS-10")
def _(patch: Patch) -> None:
    def after(stream: EventStream, observer: Any, error: BaseException) -> None:
        stream._observers = tuple(other for other in stream._observers if other is not observer)

    observing(patch, after)


@exhibit("says that all is settled", "even if the server has not confirmed it", "WORKERS-13")
def _(patch: Patch) -> None:
    where(
        patch, EventStream, "emit",
        lambda self, kind, *error, **facts: kind is WorkerStopped and facts["unsettled"] > 0,
        lambda real, self, kind, *error, **facts: real(self, kind, *error, **facts | {"unsettled": 0}),
    )  # fmt: skip


@exhibit(
    "settled at every turn",
    "a job's second attempt is settled once more, and refused",
    "WORKERS-13",
    also="DELIVERY-6",
)
def _(patch: Patch) -> None:
    def ended(real: Any, self: Machine, now: int, settling: Settling) -> None:
        real(self, now, settling)
        self.outbox.append(settling)

    where(
        patch, Machine, "_ended",
        lambda self, now, s: s.move == "done" and s.attempts == 2 and self.threads == 1,
        ended,
    )  # fmt: skip


@exhibit(
    "keeps what it claimed ahead",
    "until its own threads are free",
    "WORKERS-14",
    source="Celery: prefetch",
    also="DELIVERY-1 DISPATCH-1",
)
def _(patch: Patch) -> None:
    where(patch, Machine, "_release_hostages", lambda self, now: bool(self.ready), lambda real, self, now: None)


@exhibit(
    "rests when there was nothing to do",
    "for ten seconds, after some minutes",
    "WORKERS-14",
    source="pollers that back off from an empty queue",
)
def _(patch: Patch) -> None:
    def wait(real: Any, self: Worker, step: Any) -> None:
        self._runtime.sleep(10.0)
        real(self, step)

    where(
        patch, Worker, "_wait",
        lambda self, step: self.threads == 3 and 200 < (self.now() - self.machine.born_at) / SECOND < 210,
        wait,
    )  # fmt: skip
