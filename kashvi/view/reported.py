"""What workers reported, as a ``View`` answers it."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import cast, get_args

import msgspec

from ..paging import WorkerState
from ..reporting import Counts, Report
from ..worker.reporter import About
from .values import BUCKETS_S, Attempt, Count, Histogram, Minute, Outcome, Suspect, Worker

_read = msgspec.json.Decoder(About).decode


def worker(state: WorkerState, report: Report | None) -> Worker:
    """A worker with its last report. One that can't be read counts as none: another version or program wrote it."""
    if report is not None:
        with suppress(msgspec.MsgspecError, ValueError, OverflowError, OSError, RecursionError):
            return _with(state, report)
    return Worker(state.id, state.lease_left_s, state.queues, state.holds)


def _with(state: WorkerState, report: Report) -> Worker:
    about = _read(report.about)
    running = sorted(about.running, key=lambda one: one.since)
    suspects = sorted(about.suspects, key=lambda one: -one.lost)
    return Worker(
        state.id, state.lease_left_s, tuple(about.queues), state.holds, about.host, about.pid, about.version,
        about.threads,
        tuple(Attempt(one.job_id, one.type, one.queue, one.attempt, _at(one.since)) for one in running),
        tuple(Suspect(one.job_id, one.type, one.lost, one.announced) for one in suspects),
        _at(report.at),
    )  # fmt: skip


def minute(number: int, counts: Counts) -> Minute:
    """A minute since 1970. Outcomes of another version are left out."""
    ended = tuple(
        Count(queue, name, cast("Outcome", outcome), n)
        for (queue, outcome, name), n in sorted(counts.ended.items(), key=lambda one: (one[0][0], one[0][2], one[0][1]))
        if outcome in get_args(Outcome)
    )
    return Minute(_at(number * 60), ended, _histograms(counts.waits), _histograms(counts.runs))


def _histograms(counted: dict[tuple[str, int], int]) -> dict[str, Histogram]:
    found: dict[str, list[int]] = {}
    for (queue, bucket), n in sorted(counted.items()):
        if 0 <= bucket <= len(BUCKETS_S):
            found.setdefault(queue, [0] * (len(BUCKETS_S) + 1))[bucket] += n
    return {queue: cast("Histogram", tuple(of_it)) for queue, of_it in found.items()}


def _at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
