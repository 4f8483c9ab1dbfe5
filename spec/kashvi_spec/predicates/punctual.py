"""The predicate over lateness: no ready job waits for long while a thread is free."""

from __future__ import annotations

from typing import NamedTuple

from kashvi.events import (
    AttemptFailed,
    AttemptLost,
    AttemptSnoozed,
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
    ServerBack,
    ServerLost,
    WorkerStarted,
    WorkerStopped,
    WorkerStopping,
)

from ..judging import Predicate, Violation

LATE_S = 3.0
"""A worker hands back after 1 s a job that it claimed ahead and can't start, checks once a second, and waits 0.6 s."""


class Late(NamedTuple):
    """A job was ready and a worker free from ``since`` to ``until``, the job's start."""

    job_id: str
    process: str
    since: float
    until: float


class InTime(Predicate):
    """A ready job starts within 3 s while a worker has a free thread.

    A worker is judged at its next event, since a dead worker, or one that waits for a silent server, looks free.
    Suspects have their own rules, so nothing is judged while there are any. ``clock``: the current event's time on a
    better clock than its process's; without it, a process is judged by its own events alone, since clocks of other
    processes may be wrong.
    """

    name = "in time"
    watches = (
        WorkerStarted, WorkerStopping, WorkerStopped, JobDispatched, AttemptStarted, AttemptSucceeded,
        AttemptFailed, AttemptSnoozed, AttemptLost, JobSucceeded, JobFailed, RetryScheduled, JobSnoozed,
        JobPostponed, JobReturned, ServerLost, ServerBack,
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.late: dict[str, Late] = {}
        """The violations, by job."""
        self._suspected: dict[str, list[Late]] = {}
        """Suspicions by process, until its next event."""
        self._ready: dict[str, tuple[float, str]] = {}
        """The time since when, and the process of the event."""
        self._attempts: dict[str, int] = {}
        """The last start of each job."""
        self._suspects: set[str] = set()
        self._calm_since = float("-inf")
        self._workers: dict[str, _Crew] = {}
        self._runs: dict[tuple[str, str], _Crew] = {}

    def see(self, event: Event) -> None:
        now = self.clock() if self.clock else event.at
        if (waits := self._suspected.pop(event.process, None)) and not isinstance(event, ServerLost):
            self._break(waits)
        if isinstance(event, AttemptStarted):
            self._started(event, now)
        elif isinstance(event, AttemptSucceeded | AttemptFailed | AttemptSnoozed):
            self._over(event.process, event.job_id, now)
        elif isinstance(event, JobDispatched):
            if event.job_id not in self._attempts and self.clock:
                self._ready[event.job_id] = now if event.due is None else max(event.due, now), event.process
        elif isinstance(event, JobSnoozed):
            self._ready.pop(event.job_id, None)  # its next start may have been told before; nothing is judged
        elif isinstance(event, RetryScheduled):
            if event.server_at is not None and self._attempts.get(event.job_id, 0) <= event.attempts:
                self._ready[event.job_id] = now + max(event.due - event.server_at, 0.0), event.process
        elif isinstance(event, JobReturned):
            self._over(event.process, event.job_id, now)
            self._ready[event.job_id] = now, event.process
            if event.suspect:
                self._suspects.add(event.job_id)
        elif isinstance(event, AttemptLost):
            self._suspects.add(event.job_id)
        elif isinstance(event, JobSucceeded | JobFailed | JobPostponed):
            self._settled(event.job_id, now)
        elif isinstance(event, WorkerStarted):
            self._crew(event.worker).begins(event.process, event.threads, now)
        elif isinstance(event, WorkerStopping | WorkerStopped):
            self._crew(event.worker).begins(event.process, 0, now)
        elif isinstance(event, ServerLost | ServerBack):
            for crew in self._workers.values():
                if crew.process == event.process:
                    crew.hears(isinstance(event, ServerBack), now)

    def at_end(self) -> list[Violation]:
        return [
            self.broken(late.job_id, f"waited from {late.since:.3f} to {late.until:.3f} beside a thread that was free")
            for _, late in sorted(self.late.items())
        ]

    def _started(self, event: AttemptStarted, now: float) -> None:
        ready, told_by = self._ready.pop(event.job_id, (now, ""))
        self._attempts[event.job_id] = event.attempt
        self.judged += 1
        if event.suspect:
            self._suspects.add(event.job_id)
        elif now - ready > LATE_S and not self._suspects:
            for crew in self._workers.values():
                since = max(ready, crew.free_since, self._calm_since)
                one_clock = self.clock is not None or crew.process == event.process == told_by
                if one_clock and now - since > LATE_S:
                    late = Late(event.job_id, crew.process, since, now)
                    if crew.process == event.process:
                        self._break([late])
                    else:
                        self._suspected.setdefault(crew.process, []).append(late)
        crew = self._runs[event.process, event.job_id] = self._crew(event.worker)
        crew.runs(+1, now)

    def _break(self, found: list[Late]) -> None:
        for late in found:
            self.late.setdefault(late.job_id, late)

    def _over(self, process: str, job_id: str, now: float) -> None:
        if crew := self._runs.pop((process, job_id), None):
            crew.runs(-1, now)

    def _settled(self, job_id: str, now: float) -> None:
        self._attempts.setdefault(job_id, 0)
        self._ready.pop(job_id, None)
        if job_id in self._suspects:
            self._suspects.discard(job_id)
            self._calm_since = now

    def _crew(self, worker: str) -> _Crew:
        return self._workers.setdefault(worker, _Crew())


class _Crew:
    """The threads of one worker."""

    def __init__(self) -> None:
        self.process = ""
        self.free_since = float("inf")
        """The time since when a thread has been free."""
        self._threads = self._running = 0
        self._hears = True

    def begins(self, process: str, threads: int, now: float) -> None:
        self.process, self._threads = process, threads
        self._look(now)

    def runs(self, more: int, now: float) -> None:
        self._running += more
        self._look(now)

    def hears(self, hears: bool, now: float) -> None:
        self._hears = hears
        self._look(now)

    def _look(self, now: float) -> None:
        if not self._hears or self._running >= self._threads:
            self.free_since = float("inf")
        elif self.free_since > now:
            self.free_since = now
