"""The predicate over a worker's own events: its attempts' settlements, and its unsettled jobs."""

from __future__ import annotations

from collections import Counter

from kashvi.events import (
    AttemptFailed,
    AttemptLost,
    AttemptSnoozed,
    AttemptStarted,
    AttemptSucceeded,
    Event,
    JobFailed,
    JobSnoozed,
    JobSucceeded,
    RetryScheduled,
    ServerBack,
    ServerLost,
    SettleRefused,
    WorkerStarted,
    WorkerStopped,
)

from ..judging import Predicate

OF_AN_ATTEMPT = frozenset({"done", "retry", "fail"})
"""Moves that settle an attempt which ended."""


class EachEndSettled(Predicate):
    """A worker settles each attempt that ended there once, and emits at its end how many it could not settle.

    Only workers with an event of their start are judged. Bytes that are not an envelope have no lasting id.
    """

    name = "each end settled"
    watches = (
        WorkerStarted, AttemptStarted, AttemptSucceeded, AttemptFailed, AttemptSnoozed, AttemptLost,
        JobSucceeded, RetryScheduled, JobSnoozed, JobFailed, SettleRefused, ServerLost, ServerBack,
        WorkerStopped,
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self._process_of: dict[str, str] = {}
        """The process of each worker."""
        self._told: set[str] = set()
        """The processes with a worker whose start has an event."""
        self._worker_of: dict[tuple[str, str], str] = {}
        """The last to start an attempt, by process and job."""
        self._open: Counter[tuple[str, str]] = Counter()
        """The number of attempts that ended and are not settled, by process and job."""
        self._of_another: set[tuple[str, str]] = set()
        """Processes and jobs whose attempt was lost elsewhere, and is settled next."""
        self._lost: set[str] = set()
        """The processes that can't reach their server."""

    def see(self, event: Event) -> None:
        process = event.process
        if isinstance(event, AttemptStarted):
            self._worker_of[process, event.job_id] = event.worker
        elif isinstance(event, AttemptSucceeded | AttemptFailed | AttemptSnoozed):
            if event.type:
                self._open[process, event.job_id] += 1
        elif isinstance(event, JobSucceeded | RetryScheduled | JobSnoozed | JobFailed):
            of_another = not isinstance(event, JobSucceeded) and (process, event.job_id) in self._of_another
            self._of_another.discard((process, event.job_id))
            if event.type and not of_another:
                self._settled(process, event.job_id)
        elif isinstance(event, SettleRefused):
            # Without an attempt that began or ended, it is of a postponed job. The worker's start may be emitted later.
            key = process, event.job_id
            ended = self._open[key] > 0 and self._process_of.get(event.owner) == process
            mine = ended or self._worker_of.get(key) == event.owner
            if event.type and event.move in OF_AN_ATTEMPT and mine:
                self._settled(process, event.job_id)
        elif isinstance(event, AttemptLost):
            self._of_another.add((process, event.job_id))
        elif isinstance(event, WorkerStarted):
            self._process_of[event.worker] = process
            self._told.add(process)
        elif isinstance(event, ServerLost):
            self._lost.add(process)
        elif isinstance(event, ServerBack):
            self._lost.discard(process)
        elif isinstance(event, WorkerStopped) and event.worker in self._process_of:
            self._stopped(event)

    def _settled(self, process: str, job_id: str) -> None:
        left = self._open[process, job_id] - 1
        if process in self._told:
            self.expect(left >= 0, job_id, "settled by a worker at which no attempt had ended, or once more")
        if left > 0:
            self._open[process, job_id] = left
        else:
            del self._open[process, job_id]

    def _stopped(self, event: WorkerStopped) -> None:
        worker, unsettled = event.worker, event.unsettled
        mine = [key for key in self._open if key[0] == event.process and self._worker_of.get(key) == worker]
        job_id = mine[0][1] if mine else worker
        count = sum(self._open[key] for key in mine)
        self.expect(count <= unsettled, job_id, f"one of {count} that are not settled; its worker says {unsettled}")
        known = not unsettled or event.process in self._lost
        self.expect(known, job_id, f"its worker says that {unsettled} are unsettled, and had its server")
