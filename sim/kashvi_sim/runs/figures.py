"""The figures of a run or a trace: waits, utilisation, counts, cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec

from kashvi import events
from kashvi.events import Event

from ..world.kernel import EPOCH
from ..world.trace import ProcessKilled


class Waits(msgspec.Struct, frozen=True):
    """Seconds from a job's due time to the start of its first attempt."""

    mean: float
    p50: float
    p95: float
    p99: float
    max: float


class Figures(msgspec.Struct, frozen=True):
    """``duplicates``: repeated starts of an attempt, which at least once allows.
    ``drain_s``: from the arrival or due time of the last job until all had ended. ``worker_hours``: of all threads,
    busy or idle. ``utilisation``: the busy share of them.
    """

    jobs: int
    succeeded: int
    failed: int
    cancelled: int
    duplicates: int
    virtual_s: float
    wait_s: Waits | None
    utilisation: float | None
    drain_s: float
    worker_hours: float


def figures_of(times: Iterable[float], trace: Iterable[Event], until_s: float) -> Figures:
    """The figures of a trace. ``times``: each event's Unix seconds by the world's clock, from EPOCH to ``until_s``."""
    due: dict[str, float] = {}
    first: dict[str, float] = {}
    started: set[tuple[str, int]] = set()
    ended: dict[str, type[Event]] = {}
    duplicates = 0
    last_end = EPOCH
    shifts = _Shifts()
    for at, event in zip(times, trace, strict=True):
        match event:  # the frequent ones first
            case events.AttemptStarted():
                key = (event.job_id, event.attempt)
                if key in started:
                    duplicates += 1
                elif event.attempt == 1:
                    first[event.job_id] = at
                started.add(key)
            case events.AttemptSucceeded() | events.AttemptFailed() | events.AttemptSnoozed():
                shifts.busy_s += event.duration_s
            case events.JobDispatched():
                due.setdefault(event.job_id, at if event.due is None else event.due)
            case events.JobSucceeded() | events.JobFailed() | events.JobCancelled():
                ended[event.job_id] = type(event)
                last_end = at
            case events.WorkerStarted():
                shifts.begin(at, event.process, event.threads)
            case events.WorkerStopped():
                shifts.leave(at, event.process)
            case ProcessKilled():
                shifts.leave(at, event.victim_id)
            case _:
                pass
    shifts.end(EPOCH + until_s)
    ends = Counter(ended.values())
    return Figures(
        jobs=len(due),
        succeeded=ends[events.JobSucceeded],
        failed=ends[events.JobFailed],
        cancelled=ends[events.JobCancelled],
        duplicates=duplicates,
        virtual_s=round(until_s, 6),
        wait_s=_waits([max(at - due[job_id], 0.0) for job_id, at in first.items() if job_id in due]),
        utilisation=round(shifts.busy_s / shifts.there_s, 4) if shifts.there_s else None,
        drain_s=round(max(last_end - max(due.values(), default=EPOCH), 0.0), 6),
        worker_hours=round(shifts.there_s / 3600, 6),
    )


def _waits(waits: list[float]) -> Waits | None:
    if not waits:
        return None
    waits.sort()

    def quantile(share: float) -> float:
        return round(waits[min(int(share * len(waits)), len(waits) - 1)], 6)

    mean = round(sum(waits) / len(waits), 6)
    return Waits(mean, quantile(0.5), quantile(0.95), quantile(0.99), round(waits[-1], 6))


class _Shifts:
    """The total time of threads, and the time in which they ran handlers."""

    def __init__(self) -> None:
        self.there_s = 0.0
        self.busy_s = 0.0
        self._on: dict[str, tuple[float, int]] = {}

    def begin(self, at: float, process: str, threads: int) -> None:
        self._on[process] = (at, threads)

    def leave(self, at: float, process: str) -> None:
        if shift := self._on.pop(process, None):
            began, threads = shift
            self.there_s += (at - began) * threads

    def end(self, at: float) -> None:
        for process in list(self._on):
            self.leave(at, process)
