"""What a run or a trace comes to: waits, utilisation, counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from kashvi import events
from kashvi.events import Event

from .kernel import EPOCH
from .trace import ProcessKilled

if TYPE_CHECKING:
    from .world import World


class Waits(msgspec.Struct, frozen=True):
    """Seconds from when a job was due to the start of its first attempt."""

    p50: float
    p95: float
    p99: float
    max: float


class Figures(msgspec.Struct, frozen=True):
    """``duplicates``: attempts that were started once more, as at least once allows."""

    jobs: int
    succeeded: int
    failed: int
    duplicates: int
    virtual_s: float
    wait_s: Waits | None
    utilisation: float | None


def figures_of(world: World) -> Figures:
    """Of a run that is over."""
    jobs: dict[str, float] = {}
    started: set[tuple[str, int]] = set()
    waits: list[float] = []
    ended: dict[str, bool] = {}
    duplicates = 0
    shifts = _Shifts()
    for at, event in zip(world.times, world.events, strict=True):
        shifts.see(at, event)
        if isinstance(event, events.JobDispatched):
            jobs.setdefault(event.job_id, at if event.due is None else event.due)
        elif isinstance(event, events.AttemptStarted):
            key = (event.job_id, event.attempt)
            duplicates += key in started
            if key not in started and event.attempt == 1 and event.job_id in jobs:
                waits.append(max(at - jobs[event.job_id], 0.0))
            started.add(key)
        elif isinstance(event, events.JobSucceeded):
            ended[event.job_id] = True
        elif isinstance(event, events.JobFailed):
            ended[event.job_id] = False
    end = world.times[-1] if world.times else EPOCH
    return Figures(
        jobs=len(jobs),
        succeeded=sum(ended.values()),
        failed=len(ended) - sum(ended.values()),
        duplicates=duplicates,
        virtual_s=round(world.elapsed_s, 6),
        wait_s=_waits(waits),
        utilisation=shifts.utilisation(end),
    )


def _waits(waits: list[float]) -> Waits | None:
    if not waits:
        return None
    waits.sort()

    def quantile(share: float) -> float:
        return round(waits[min(int(share * len(waits)), len(waits) - 1)], 6)

    return Waits(quantile(0.5), quantile(0.95), quantile(0.99), round(waits[-1], 6))


class _Shifts:
    """How long threads were there, and how long they ran handlers."""

    def __init__(self) -> None:
        self._on: dict[str, tuple[float, int]] = {}
        self._there_s = 0.0
        self._busy_s = 0.0

    def see(self, at: float, event: Event) -> None:
        kind = type(event)
        if kind in (events.AttemptSucceeded, events.AttemptFailed):
            self._busy_s += event.duration_s  # type: ignore[attr-defined]
        elif isinstance(event, events.JobEvent):
            return
        elif isinstance(event, events.WorkerStarted):
            self._on[event.process] = (at, event.threads)
        elif isinstance(event, events.WorkerStopped):
            self._off(at, event.process)
        elif isinstance(event, ProcessKilled):
            self._off(at, event.victim_id)

    def _off(self, at: float, process: str) -> None:
        if shift := self._on.pop(process, None):
            began, threads = shift
            self._there_s += (at - began) * threads

    def utilisation(self, end: float) -> float | None:
        for process in list(self._on):
            self._off(end, process)
        return round(self._busy_s / self._there_s, 4) if self._there_s else None
