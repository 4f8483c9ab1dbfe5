"""The predicate over a worker's own events: its attempts' settlements, and its unsettled jobs."""

from __future__ import annotations

from kashvi.events import (
    AttemptFailed,
    AttemptLost,
    AttemptSnoozed,
    AttemptStarted,
    AttemptSucceeded,
    JobCancelled,
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

from ..judging import Predicate, Watches

OF_AN_ATTEMPT = frozenset({"done", "retry", "fail"})
"""Moves that settle an attempt which ended."""


class EachEndSettled(Predicate):
    """A worker settles each attempt that ended there once, and emits at its end how many it could not settle.

    Only workers with an event of their start are judged. Bytes that are not an envelope have no lasting id.
    """

    name = "each end settled"

    def __init__(self) -> None:
        super().__init__()
        self._process_of: dict[str, str] = {}
        """The process of each worker."""
        self._told: set[str] = set()
        """The processes with a worker whose start has an event."""
        self._worker_of: dict[tuple[str, str], str] = {}
        """The last to start an attempt, by process and job."""
        self._open: dict[tuple[str, str], int] = {}
        """The number of attempts that ended and are not settled, by process and job."""
        self._of_another: set[tuple[str, str]] = set()
        """Processes and jobs whose attempt was lost elsewhere, and is settled next."""
        self._lost: set[str] = set()
        """The processes that can't reach their server."""

    def watches(self) -> Watches:
        return {
            WorkerStarted: self._worker,
            AttemptStarted: self._started,
            AttemptSucceeded: self._ended,
            AttemptFailed: self._ended,
            AttemptSnoozed: self._ended,
            AttemptLost: self._taken,
            JobSucceeded: self._done,
            RetryScheduled: self._unfinished,
            JobSnoozed: self._unfinished,
            JobFailed: self._unfinished,
            JobCancelled: self._cancelled,
            SettleRefused: self._refused,
            ServerLost: self._loses,
            ServerBack: self._finds,
            WorkerStopped: self._stopped,
        }

    def _worker(self, event: WorkerStarted) -> None:
        self._process_of[event.worker] = event.process
        self._told.add(event.process)

    def _started(self, event: AttemptStarted) -> None:
        self._worker_of[event.process, event.job_id] = event.worker

    def _ended(self, event: AttemptSucceeded | AttemptFailed | AttemptSnoozed) -> None:
        sent_again = isinstance(event, AttemptFailed) and event.unsent  # the end that is settled once more, as failed
        if event.type and not sent_again:
            key = event.process, event.job_id
            self._open[key] = self._open.get(key, 0) + 1

    def _taken(self, event: AttemptLost) -> None:
        self._of_another.add((event.process, event.job_id))

    def _done(self, event: JobSucceeded) -> None:
        key = event.process, event.job_id
        if self._of_another:
            self._of_another.discard(key)
        if event.type:
            self._settled(key)

    def _unfinished(self, event: RetryScheduled | JobSnoozed | JobFailed | JobCancelled) -> None:
        key = event.process, event.job_id
        if key in self._of_another:
            self._of_another.discard(key)
        elif event.type:
            self._settled(key)

    def _cancelled(self, event: JobCancelled) -> None:
        if event.move in OF_AN_ATTEMPT:
            self._unfinished(event)

    def _refused(self, event: SettleRefused) -> None:
        # Without an attempt that began or ended, it is of a postponed job. The worker's start may be emitted later.
        key = event.process, event.job_id
        ended = self._open.get(key, 0) > 0 and self._process_of.get(event.owner) == event.process
        mine = ended or self._worker_of.get(key) == event.owner
        if event.type and event.move in OF_AN_ATTEMPT and mine:
            self._settled(key)

    def _loses(self, event: ServerLost) -> None:
        self._lost.add(event.process)

    def _finds(self, event: ServerBack) -> None:
        self._lost.discard(event.process)

    def _settled(self, key: tuple[str, str]) -> None:
        left = self._open.get(key, 0) - 1
        if key[0] in self._told:
            self.judged += 1
            if left < 0:
                self.breaks(key[1], "settled by a worker at which no attempt had ended, or once more")
        if left > 0:
            self._open[key] = left
        else:
            self._open.pop(key, None)

    def _stopped(self, event: WorkerStopped) -> None:
        worker, unsettled = event.worker, event.unsettled
        if worker not in self._process_of:
            return
        mine = [key for key in self._open if key[0] == event.process and self._worker_of.get(key) == worker]
        job_id = mine[0][1] if mine else worker
        count = sum(self._open[key] for key in mine)
        self.judged += 2
        if count > unsettled:
            self.breaks(job_id, f"one of {count} that are not settled; its worker says {unsettled}")
        if unsettled and event.process not in self._lost:
            self.breaks(job_id, f"its worker says that {unsettled} are unsettled, and had its server")
