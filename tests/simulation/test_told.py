"""The judges over what was told and written down see one slip each, whatever else is well."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from kashvi_sim.commands.options import workload_named
from kashvi_sim.runs.play import play

from kashvi import events
from kashvi.failures.sql import SqlFailures
from kashvi.jobs import envelope
from kashvi.ports import Settlement
from kashvi.stream import EventStream
from kashvi.worker import recorder, settle
from kashvi.worker.attempt import Attempts
from kashvi.worker.recorder import Recorder
from kashvi.worker.settle import Settling

STORM = workload_named("storm")
SEEDS = 200
Plant = Callable[[pytest.MonkeyPatch], None]


def silent(patch: pytest.MonkeyPatch, kind: type[events.Event]) -> None:
    """No observer hears of this."""
    real = EventStream.emit
    patch.setattr(EventStream, "emit", lambda self, k, *args, **facts: k is kind or real(self, k, *args, **facts))


def other_facts(patch: pytest.MonkeyPatch, kind: type[events.Event], **others: Callable[[Any], Any]) -> None:
    """It is told with something else."""
    real = EventStream.emit

    def emit(self: EventStream, k: type[events.Event], *args: Any, **facts: Any) -> None:
        if k is kind:
            facts |= {name: change(facts[name]) for name, change in others.items()}
        real(self, k, *args, **facts)

    patch.setattr(EventStream, "emit", emit)


def other_rows(patch: pytest.MonkeyPatch, **others: Callable[[Any], Any]) -> None:
    real = SqlFailures.record

    def record(self: SqlFailures, failures: Any) -> Any:
        changed = [
            one._replace(**{name: change(getattr(one, name)) for name, change in others.items()}) for one in failures
        ]
        return real(self, changed)

    patch.setattr(SqlFailures, "record", record)


def other_envelopes(patch: pytest.MonkeyPatch, change: Callable[[bytes], bytes]) -> None:
    real = envelope.rewrite
    patch.setattr(envelope, "rewrite", lambda raw, job_id, **changes: change(real(raw, job_id, **changes)))


def wait_from_now(patch: pytest.MonkeyPatch) -> None:
    def sent(self: Settling, monotonic: float) -> Settlement:
        d = self.delivery
        return Settlement(self.move, d.owner, d.place, d.raw, self.new, self.wait_s)

    patch.setattr(Settling, "sent", sent)


def interrupts_fail_jobs(patch: pytest.MonkeyPatch) -> None:
    real = Attempts._handle

    def handle(self: Attempts, d: Any, job: Any) -> Settling:
        interruptible, self.interruptible = self.interruptible, False
        try:
            return real(self, d, job)
        finally:
            self.interruptible = interruptible

    patch.setattr(Attempts, "_handle", handle)


def refused_rows_are_dropped(patch: pytest.MonkeyPatch) -> None:
    def batch(real: Any, self: Recorder, store: Any, entries: Any) -> Any:
        real(self, store, entries)
        self._driver.recorded([entry.envelope for entry in entries])
        return {entry.envelope for entry in entries}

    real = Recorder._batch
    patch.setattr(Recorder, "_batch", lambda self, store, entries: batch(real, self, store, entries))


BUGS: dict[str, tuple[str, Plant]] = {
    "a duration of nothing": (
        "settled as told",
        lambda patch: other_facts(patch, events.AttemptSucceeded, duration_s=lambda s: 0.0),
    ),
    "a due time that is a second late": (
        "settled as told",
        lambda patch: other_facts(patch, events.RetryScheduled, due=lambda at: at + 1.0),
    ),
    "a failure with another error": (
        "settled as told",
        lambda patch: other_facts(patch, events.JobFailed, error=lambda text: text + "?"),
    ),
    "the time of telling for the server's": (
        "settled as told",
        lambda patch: other_facts(patch, events.JobSucceeded, server_at=lambda at: at + 0.5),
    ),
    "a wait that counts from the exchange": ("settled as told", wait_from_now),
    "a payload that is written anew": (
        "settled as told",
        lambda patch: other_envelopes(patch, lambda raw: raw.replace(b'{"n":', b'{"n": ')),
    ),
    "an interrupt is the job's failure": ("Ctrl-C is for work()", interrupts_fail_jobs),
    "a table that is back, untold": ("table told", lambda patch: silent(patch, events.StoreBack)),
    "a table that is lost, untold": ("table told", lambda patch: silent(patch, events.StoreLost)),
    "a refusal, untold": ("table told", lambda patch: silent(patch, events.FailureRefused)),
    "a refused row is tried again and again": (
        "table spared",
        lambda patch: patch.setattr(recorder, "CONTENT_PAUSE_S", 5.0),
    ),
    "a table that is down is asked all the time": (
        "table spared",
        lambda patch: patch.setattr(recorder, "PAUSE_MAX_S", 0.1),
    ),
    "a refused row is dropped": ("row as told", refused_rows_are_dropped),
    "a row with the number of bytes": ("row as told", lambda patch: other_rows(patch, attempts=lambda n: n + 1)),
    "a row of an hour before": (
        "row as told",
        lambda patch: other_rows(patch, failed_at=lambda at: at - timedelta(hours=1)),
    ),
    "a list with a traceback that no row has": (
        "row as told",
        lambda patch: patch.setattr(settle, "traced", lambda s, text: setattr(s, "traceback", text) or s),
    ),
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_slip_is_seen_for_what_it_is(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a storm within 200 seeds."""
    predicate, plant = BUGS[bug]
    plant(monkeypatch)
    for seed in range(SEEDS):
        if any(one.predicate == predicate for one in play(STORM, seed=seed, faults="all").violations):
            return
    pytest.fail(f"{predicate} was kept")
