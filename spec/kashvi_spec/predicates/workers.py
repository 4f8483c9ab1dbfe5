"""Predicates over workers: running jobs, takeovers, and stops."""

from __future__ import annotations

from kashvi.events import (
    AttemptFailed,
    AttemptLost,
    AttemptSnoozed,
    AttemptStarted,
    AttemptSucceeded,
    Event,
    JobReturned,
    WorkerStarted,
    WorkerStopped,
    WorkerStopping,
)

from ..judging import ROUNDING_S, Predicate


class ThreadsBounded(Predicate):
    """A worker runs no more attempts at a time than it has threads."""

    name = "threads bounded"
    watches = (WorkerStarted, AttemptStarted, AttemptSucceeded, AttemptFailed, AttemptSnoozed, JobReturned)

    def __init__(self) -> None:
        super().__init__()
        self._threads: dict[str, int] = {}
        self._running: dict[str, dict[tuple[str, str], None]] = {}

    def see(self, event: Event) -> None:
        if isinstance(event, WorkerStarted):
            self._threads[event.worker] = event.threads
        elif isinstance(event, AttemptStarted):
            running = self._running.setdefault(event.worker, {})
            running[event.process, event.job_id] = None
            threads = self._threads.get(event.worker)
            if threads is not None:
                self.expect(
                    len(running) <= threads, event.job_id, f"runs beside {len(running) - 1} on {threads} threads"
                )
        elif isinstance(event, AttemptSucceeded | AttemptFailed | AttemptSnoozed | JobReturned):
            for running in self._running.values():
                running.pop((event.process, event.job_id), None)


class SilentAfterStop(Predicate):
    """A worker that is told to stop starts no more jobs.

    A thread that had its job when the stop came may emit its start afterwards: at most one start for each idle thread.
    """

    name = "silent after stop"
    watches = (
        WorkerStarted,
        AttemptStarted,
        AttemptSucceeded,
        AttemptFailed,
        AttemptSnoozed,
        JobReturned,
        WorkerStopping,
        WorkerStopped,
    )

    def __init__(self) -> None:
        super().__init__()
        self._idle: dict[str, int] = {}
        self._left: dict[str, int] = {}
        """The number of starts that may still come, by stopping worker."""
        self._runs: dict[tuple[str, str], str] = {}

    def see(self, event: Event) -> None:
        if isinstance(event, WorkerStarted):
            self._idle[event.worker] = event.threads
        elif isinstance(event, WorkerStopping):
            self._left[event.worker] = max(self._idle.get(event.worker, 0), 0)
            self.judged += 1
        elif isinstance(event, WorkerStopped):
            self._left[event.worker] = 0
            self.judged += 1
        elif isinstance(event, AttemptStarted):
            self._start(event)
        elif isinstance(event, AttemptSucceeded | AttemptFailed | AttemptSnoozed | JobReturned):
            worker = self._runs.pop((event.process, event.job_id), None)
            if worker is not None:
                self._idle[worker] += 1

    def _start(self, event: AttemptStarted) -> None:
        self._runs[event.process, event.job_id] = event.worker
        self._idle[event.worker] = self._idle.get(event.worker, 1) - 1
        if event.worker in self._left:
            self._left[event.worker] -= 1
            if self._left[event.worker] < 0:
                self.expect(False, event.job_id, "started by a worker that had been told to stop")


class LeaseKept(Predicate):
    """No worker takes over another's job before a lease has passed since the server last heard of that worker."""

    name = "lease kept"
    watches = (WorkerStarted, AttemptStarted, JobReturned, AttemptLost)

    def __init__(self) -> None:
        super().__init__()
        self._leases: dict[str, tuple[str, float]] = {}
        self._heard: dict[str, list[float]] = {}

    def see(self, event: Event) -> None:
        if isinstance(event, WorkerStarted):
            self._leases[event.worker] = event.process, event.lease_s
        elif isinstance(event, AttemptStarted):
            if event.claim == "exchange" and event.server_at is not None:
                self._heard.setdefault(event.worker, []).append(event.server_at)
        elif isinstance(event, JobReturned | AttemptLost) and event.owner in self._leases:
            process, lease_s = self._leases[event.owner]
            if event.process != process and event.server_at is not None:
                at = event.server_at
                # Later events of a worker that came back do not count.
                heard = max((h for h in self._heard.get(event.owner, ()) if h <= at), default=None)
                if heard is None:
                    return
                self.expect(
                    at - heard >= lease_s - ROUNDING_S,
                    event.job_id,
                    f"taken {at - heard:.6f} s after its worker was heard of, under a lease of {lease_s:g} s",
                )
