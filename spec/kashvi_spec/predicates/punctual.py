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
    QueuePaused,
    QueueResumed,
    RetryScheduled,
    ServerBack,
    ServerLost,
    WorkerStarted,
    WorkerStopped,
    WorkerStopping,
)
from kashvi.names import DEFAULT

from ..judging import Predicate, Violation, Watches
from .queues import names_of
from .suspects import GRAVE, gravity

LATE_S = 3.0
"""A worker hands back after 1 s a job that it claimed ahead and can't start, checks once a second, and waits 0.6 s."""


class Late(NamedTuple):
    """A job was ready and a worker free from ``since`` to ``until``, the job's start."""

    job_id: str
    process: str
    since: float
    until: float
    queue: str = DEFAULT


class InTime(Predicate):
    """A ready job starts within 3 s while a worker that serves its queue has a free thread.

    A worker is judged at its next event, since a dead worker, or one that waits for a silent server, looks free.
    Suspects have their own rules: nothing is judged while there are some, and a worker that runs a grave one has no
    free thread, though another worker may have ended the job meanwhile. Nor is a job of a paused queue judged.
    ``clock``: the current event's time on a better clock than its process's; without it, a process is judged by its own
    events alone, since clocks of other processes may be wrong.
    """

    name = "in time"

    def __init__(self) -> None:
        super().__init__()
        self.late: dict[str, Late] = {}
        """The violations, by job."""
        self._suspected: dict[str, list[Late]] = {}
        """Suspicions by process, until its next event."""
        self._ready: dict[str, tuple[float, str]] = {}
        """The time since when, and the process of the event."""
        self._resumed: dict[str, float] = {}
        """When a pause of each queue last began or ended."""
        self._attempts: dict[str, int] = {}
        """The last start of each job."""
        self._suspects: set[str] = set()
        self._calm_since = float("-inf")
        self._paused: set[tuple[str, str]] = set()
        """Queues with an event of a pause and none of its end, each with the worker; empty: the process that pauses."""
        self._workers: dict[str, _Crew] = {}
        self._runs: dict[tuple[str, str], tuple[_Crew, int]] = {}
        """Of each process and job: who runs it, and how many threads that takes."""

    def watches(self) -> Watches:
        return {
            WorkerStarted: self._worker,
            WorkerStopping: self._stopping,
            WorkerStopped: self._stopping,
            JobDispatched: self._dispatched,
            AttemptStarted: self._started,
            AttemptSucceeded: self._ended,
            AttemptFailed: self._ended,
            AttemptSnoozed: self._ended,
            AttemptLost: self._taken,
            JobSucceeded: self._settled,
            JobFailed: self._settled,
            JobPostponed: self._settled,
            RetryScheduled: self._retried,
            JobSnoozed: self._snoozed,
            JobReturned: self._returned,
            ServerLost: self._hears,
            ServerBack: self._hears,
            QueuePaused: self._pauses,
            QueueResumed: self._pauses,
        }

    def _now(self, event: Event) -> float:
        """The time of the event, which shows that its process is alive."""
        if self._suspected and (waits := self._suspected.pop(event.process, None)):
            self._break(waits)
        return self.clock() if self.clock else event.at

    def _dispatched(self, event: JobDispatched) -> None:
        now = self._now(event)
        if self.clock and event.job_id not in self._attempts:
            due = event.due
            self._ready[event.job_id] = now if due is None or due < now else due, event.process

    def _retried(self, event: RetryScheduled) -> None:
        now = self._now(event)
        if event.server_at is not None and self._attempts.get(event.job_id, 0) <= event.attempts:
            self._ready[event.job_id] = now + max(event.due - event.server_at, 0.0), event.process

    def _snoozed(self, event: JobSnoozed) -> None:
        self._now(event)
        self._ready.pop(event.job_id, None)  # its next start may have been told before; nothing is judged

    def _returned(self, event: JobReturned) -> None:
        now = self._now(event)
        self._over(event.process, event.job_id, now)
        self._ready[event.job_id] = now, event.process
        if event.suspect:
            self._suspects.add(event.job_id)

    def _taken(self, event: AttemptLost) -> None:
        self._now(event)
        self._suspects.add(event.job_id)

    def _ended(self, event: AttemptSucceeded | AttemptFailed | AttemptSnoozed) -> None:
        self._over(event.process, event.job_id, self._now(event))

    def _worker(self, event: WorkerStarted) -> None:
        crew = self._crew(event.worker)
        crew.serves = names_of(event)
        crew.begins(event.process, event.threads, self._now(event))

    def _stopping(self, event: WorkerStopping | WorkerStopped) -> None:
        self._crew(event.worker).begins(event.process, 0, self._now(event))

    def _hears(self, event: ServerLost | ServerBack) -> None:
        if isinstance(event, ServerLost):
            self._suspected.pop(event.process, None)
        now = self._now(event)
        for crew in self._workers.values():
            if crew.process == event.process:
                crew.hears(isinstance(event, ServerBack), now)

    def _pauses(self, event: QueuePaused | QueueResumed) -> None:
        for process, lates in self._suspected.items():
            self._suspected[process] = [late for late in lates if late.queue != event.queue]
        self._resumed[event.queue] = self._now(event)
        if isinstance(event, QueuePaused):
            self._paused.add((event.queue, event.worker))
        elif event.worker:
            self._paused.discard((event.queue, event.worker))
        else:
            self._paused = {(queue, worker) for queue, worker in self._paused if queue != event.queue}

    def at_end(self) -> list[Violation]:
        return [
            self.broken(late.job_id, f"waited from {late.since:.3f} to {late.until:.3f} beside a thread that was free")
            for _, late in sorted(self.late.items())
        ]

    def _started(self, event: AttemptStarted) -> None:
        now, job_id = self._now(event), event.job_id
        ready = self._ready.pop(job_id, None)
        self._attempts[job_id] = event.attempt
        self.judged += 1
        if event.suspect:
            self._suspects.add(job_id)
        elif ready is not None and now - ready[0] > LATE_S and not self._suspects:
            self._late(event, now, *ready)
        crew = self._workers.get(event.worker) or self._crew(event.worker)
        takes = crew.threads if gravity(event) >= GRAVE else 1
        self._runs[event.process, job_id] = crew, takes
        crew.runs(takes, now)

    def _late(self, event: AttemptStarted, now: float, ready: float, told_by: str) -> None:
        if any(queue == event.queue for queue, _ in self._paused):
            return
        resumed = self._resumed.get(event.queue, float("-inf"))
        for crew in self._workers.values():
            if event.queue not in crew.serves:
                continue
            since = max(ready, crew.free_since, self._calm_since, resumed)
            one_clock = self.clock is not None or crew.process == event.process == told_by
            if one_clock and now - since > LATE_S:
                late = Late(event.job_id, crew.process, since, now, event.queue)
                if crew.process == event.process:
                    self._break([late])
                else:
                    self._suspected.setdefault(crew.process, []).append(late)

    def _break(self, found: list[Late]) -> None:
        for late in found:
            self.late.setdefault(late.job_id, late)

    def _over(self, process: str, job_id: str, now: float) -> None:
        crew, takes = self._runs.pop((process, job_id), (None, 0))
        if crew:
            crew.runs(-takes, now)

    def _settled(self, event: JobSucceeded | JobFailed | JobPostponed) -> None:
        now, job_id = self._now(event), event.job_id
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
        self.serves = frozenset((DEFAULT,))
        self.free_since = float("inf")
        """The time since when a thread has been free."""
        self.threads = self._running = 0
        self._hears = True

    def begins(self, process: str, threads: int, now: float) -> None:
        self.process, self.threads = process, threads
        self._look(now)

    def runs(self, more: int, now: float) -> None:
        self._running += more
        if self._running < self.threads and self.free_since <= now:
            return  # as before
        self._look(now)

    def hears(self, hears: bool, now: float) -> None:
        self._hears = hears
        self._look(now)

    def _look(self, now: float) -> None:
        if not self._hears or self._running >= self.threads:
            self.free_since = float("inf")
        elif self.free_since > now:
            self.free_since = now
