"""Predicates over workers: running jobs, takeovers, and stops."""

from __future__ import annotations

from collections.abc import Container, Mapping

from kashvi.events import (
    AttemptFailed,
    AttemptLost,
    AttemptSnoozed,
    AttemptStarted,
    AttemptStuck,
    AttemptSucceeded,
    JobReturned,
    WorkerStarted,
    WorkerStopped,
    WorkerStopping,
)

from ..judging import ROUNDING_S, Predicate, Watches


class ThreadsBounded(Predicate):
    """A worker runs no more attempts at a time than it has threads: one more for each in place of a stuck one."""

    name = "threads bounded"

    def __init__(self) -> None:
        super().__init__()
        self._threads: dict[str, int] = {}
        self._running: dict[str, set[tuple[str, str]]] = {}
        self._replaced: dict[str, set[tuple[str, str]]] = {}
        """The stuck attempts in whose place a thread was opened."""

    def watches(self) -> Watches:
        return {
            WorkerStarted: self._worker,
            AttemptStarted: self._started,
            AttemptStuck: self._stuck,
            AttemptSucceeded: self._over,
            AttemptFailed: self._over,
            AttemptSnoozed: self._over,
            JobReturned: self._over,
        }

    def _worker(self, event: WorkerStarted) -> None:
        self._threads[event.worker] = event.threads

    def _started(self, event: AttemptStarted) -> None:
        running = self._running.get(event.worker)
        if running is None:
            running = self._running[event.worker] = set()
        running.add((event.process, event.job_id))
        threads = self._threads.get(event.worker)
        if threads is not None:
            self.judged += 1
            if len(running) > threads + len(self._replaced.get(event.worker, ())):
                self.breaks(event.job_id, f"runs beside {len(running) - 1} on {threads} threads")

    def _over(self, event: AttemptSucceeded | AttemptFailed | AttemptSnoozed | JobReturned) -> None:
        run = event.process, event.job_id
        for running in (*self._running.values(), *self._replaced.values()):
            running.discard(run)

    def _stuck(self, event: AttemptStuck) -> None:
        if event.replaced:
            self._replaced.setdefault(event.worker, set()).add((event.process, event.job_id))


class SilentAfterStop(Predicate):
    """A worker that is told to stop starts no more jobs.

    A thread that had its job when the stop came may emit its start afterwards: at most one start for each idle thread.
    """

    name = "silent after stop"

    def __init__(self) -> None:
        super().__init__()
        self._idle: dict[str, int] = {}
        self._left: dict[str, int] = {}
        """The number of starts that may still come, by stopping worker."""
        self._runs: dict[tuple[str, str], str] = {}

    def watches(self) -> Watches:
        return {
            WorkerStarted: self._worker,
            AttemptStarted: self._started,
            AttemptStuck: self._stuck,
            AttemptSucceeded: self._over,
            AttemptFailed: self._over,
            AttemptSnoozed: self._over,
            JobReturned: self._over,
            WorkerStopping: self._stopping,
            WorkerStopped: self._stopped,
        }

    def _worker(self, event: WorkerStarted) -> None:
        self._idle[event.worker] = event.threads

    def _stopping(self, event: WorkerStopping) -> None:
        self._left[event.worker] = max(self._idle.get(event.worker, 0), 0)
        self.judged += 1

    def _stopped(self, event: WorkerStopped) -> None:
        self._left[event.worker] = 0
        self.judged += 1

    def _started(self, event: AttemptStarted) -> None:
        worker = event.worker
        self._runs[event.process, event.job_id] = worker
        self._idle[worker] = self._idle.get(worker, 1) - 1
        if worker in self._left:
            self._left[worker] -= 1
            if self._left[worker] < 0:
                self.judged += 1
                self.breaks(event.job_id, "started by a worker that had been told to stop")

    def _over(self, event: AttemptSucceeded | AttemptFailed | AttemptSnoozed | AttemptStuck | JobReturned) -> None:
        worker = self._runs.pop((event.process, event.job_id), None)
        if worker is not None:
            self._idle[worker] += 1

    def _stuck(self, event: AttemptStuck) -> None:
        """The thread in its place is idle now; when the attempt ends, one of the two does."""
        if event.replaced:
            self._over(event)


class LeaseKept(Predicate):
    """No worker takes over another's job before a lease has passed since the server last heard of that worker."""

    name = "lease kept"

    def __init__(self) -> None:
        super().__init__()
        self._leases: dict[str, tuple[str, float]] = {}
        self._heard: dict[str, list[float]] = {}

    def watches(self) -> Watches:
        return {
            WorkerStarted: self._worker,
            AttemptStarted: self._started,
            JobReturned: self._taken,
            AttemptLost: self._taken,
        }

    def memory(self, over: Container[str] = ()) -> Mapping[str, object]:
        heard = {worker: sorted({*times})[-2:] for worker, times in self._heard.items()}
        return {"leases": self._leases, "heard": heard}  # the last may be of the moment of a takeover

    def _worker(self, event: WorkerStarted) -> None:
        self._leases[event.worker] = event.process, event.lease_s

    def _started(self, event: AttemptStarted) -> None:
        if event.claim == "exchange" and event.server_at is not None:
            heard = self._heard.get(event.worker)
            if heard is None:
                self._heard[event.worker] = [event.server_at]
            else:
                heard.append(event.server_at)

    def _taken(self, event: JobReturned | AttemptLost) -> None:
        if event.owner not in self._leases or event.server_at is None:
            return
        process, lease_s = self._leases[event.owner]
        if event.process == process:
            return
        at = event.server_at
        # Later events of a worker that came back do not count: it may have done so at this very moment.
        heard = max((h for h in self._heard.get(event.owner, ()) if h < at), default=None)
        if heard is None:
            return
        self.judged += 1
        if not at - heard >= lease_s - ROUNDING_S:
            why = f"taken {at - heard:.6f} s after its worker was heard of, under a lease of {lease_s:g} s"
            self.breaks(event.job_id, why)
