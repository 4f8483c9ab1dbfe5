"""The calls of a queue for those who operate it: look, pause, resume, cancel."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from . import events, settings
from .names import DEFAULT
from .ports import Driver, Stats, Where
from .stream import EventStream

if TYPE_CHECKING:  # a process that only dispatches does not load these
    from .cancelling import Cancel
    from .clearing import Cleared, Unlocked
    from .jobs.envelope import Envelope
    from .queued import QueuedJob, QueueState


class Operating:
    """The part of ``Queue`` that looks at its jobs, and holds them up."""

    _stream: EventStream

    @property
    def driver(self) -> Driver:
        """The driver."""
        raise NotImplementedError

    def stats(self) -> Stats:
        """The numbers of jobs that are ready, delayed, held by workers, and unrecorded. Raises DriverError."""
        return self.driver.stats()

    def queue_stats(self) -> list[QueueState]:
        """Each queue by name: its jobs, the age of the oldest, whether it is paused and whether a worker serves it.

        Queues are listed once they had a job or a worker. Raises DriverError (COMMANDS-25).
        """
        from .queued import states

        return states(self.driver)

    def pause(self, queue: str = DEFAULT) -> None:
        """Let no job of this queue start, in any worker, until ``resume``: the server keeps it. Running jobs end.

        No job is claimed later than a second after this returned (WORKERS-21). Raises InvalidSetting, DriverError.
        """
        at = settings.pausing(self.driver, queue).pause()
        self._stream.emit(events.QueuePaused, server_at=at, queue=queue)

    def resume(self, queue: str = DEFAULT) -> None:
        """End the pause: idle workers go on within a second. Raises InvalidSetting, DriverError."""
        at = settings.pausing(self.driver, queue).resume()
        self._stream.emit(events.QueueResumed, server_at=at, queue=queue)

    def paused_since(self, queue: str = DEFAULT) -> datetime | None:
        """When the queue was paused, by the server's clock, in UTC; None if it is not. Raises what ``pause`` raises."""
        since = settings.pausing(self.driver, queue).paused_since()
        return None if since is None else datetime.fromtimestamp(since, UTC)

    def cancel(self, job_id: str) -> Cancel:
        """Cancel a job by the id that its dispatch returned: it is no failure, and leaves no row (QUEUES-9).

        ``removed``: it was on its queue, ready or delayed, and is gone. ``asked``: a worker has it; that attempt may
        end, ``current().cancelled`` becomes true in it, and no other starts. ``unknown``: no job with this id is on a
        queue, as it has ended or never was. May be repeated, and after a DriverError it should be.
        Raises InvalidSetting, DriverError.
        """
        from . import cancelling

        found = cancelling.cancel(self.driver, job_id)
        about = {"job_id": str(job_id), "type": found.type, "server_at": found.server_at, "queue": found.queue}
        if found.outcome == "removed" and found.server_at:  # else a worker removed it, and has told so
            self._stream.emit(events.JobCancelled, **about)
        elif found.outcome == "asked":
            self._stream.emit(events.CancelAsked, **about)
        return found.outcome

    def clear(self, queue: str = DEFAULT) -> Cleared:
        """Remove all ready and delayed jobs of this queue, for good; jobs that workers have stay (QUEUES-11).

        Returns their numbers. The keys of unique ones are free again. A job that is dispatched meanwhile may stay.
        Each job that goes has the event ``JobCancelled``.
        Raises InvalidSetting, DriverError; after a DriverError some may be gone.
        """
        from . import clearing

        def gone(one: Envelope, at: float) -> None:
            self._stream.emit(events.JobCancelled, job_id=one.id, type=one.type, server_at=at, queue=queue)

        return clearing.clear(self.driver, queue, gone)

    def unlock(self, key: str) -> Unlocked:
        """Free the key of a unique job, ``jobs.X:text``, if the job is gone: it was deleted by hand.

        Searches all queues. If a job has the key, this changes nothing, and the answer names the job (QUEUES-12).
        Raises InvalidSetting, DriverError.
        """
        from . import clearing

        return clearing.unlock(self.driver, key)

    def jobs(self, where: Where = "ready", *, queue: str | None = None, limit: int = 100) -> list[QueuedJob]:
        """Up to ``limit`` jobs: ``ready`` in order, ``delayed`` by due time, or ``running`` (on a worker's list).

        ``queue``: of which; by default the default queue, and running ones of all. Jobs move meanwhile: one may be
        missing, or be there twice. Raises InvalidSetting, DriverError (COMMANDS-20).
        """
        from .queued import jobs

        return list(jobs(self.driver, where, min(settings.at_least("limit", limit, 1), sys.maxsize), queue))
