"""The predicate over the queues of jobs."""

from __future__ import annotations

from kashvi.events import AttemptStarted, JobDispatched, WorkerStarted
from kashvi.names import DEFAULT

from ..judging import Predicate, Watches


def names_of(event: WorkerStarted) -> frozenset[str]:
    """The names of the queues that a worker serves, without weights."""
    return frozenset(queue.partition(":")[0] for queue in event.queues)


class OwnQueue(Predicate):
    """Each attempt starts on the queue that its job was dispatched to, in a worker that serves it.

    Jobs without an event of their dispatch belong to the queue on which another program put them.
    """

    name = "own queue"

    def __init__(self) -> None:
        super().__init__()
        self._queue: dict[str, str] = {}
        """Of each job that is not of the default queue."""
        self._dispatched: set[str] = set()
        self._serves: dict[str, frozenset[str]] = {}

    def watches(self) -> Watches:
        return {JobDispatched: self._goes_to, WorkerStarted: self._begins, AttemptStarted: self._started}

    def _goes_to(self, event: JobDispatched) -> None:
        self._dispatched.add(event.job_id)
        if event.queue != DEFAULT:
            self._queue[event.job_id] = event.queue

    def _begins(self, event: WorkerStarted) -> None:
        self._serves[event.worker] = names_of(event)

    def _started(self, event: AttemptStarted) -> None:
        self.judged += 1
        job_id, queue = event.job_id, event.queue
        if job_id in self._dispatched and queue != (right := self._queue.get(job_id, DEFAULT)):
            self.breaks(job_id, f"started on the queue {queue!r}, and was dispatched to {right!r}")
        serves = self._serves.get(event.worker)
        if serves is not None and queue not in serves:
            self.breaks(job_id, f"of the queue {queue!r}, started in a worker that does not serve it")
