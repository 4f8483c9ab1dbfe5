"""The predicate over the keys of unique jobs."""

from __future__ import annotations

from itertools import pairwise

from kashvi.events import JobCancelled, JobDispatched, JobFailed, JobSucceeded

from ..judging import ROUNDING_S, Predicate, Violation, Watches


class OneJobAKey(Predicate):
    """No unique job is dispatched before the last one with its key has ended, by the server's clock.

    A job without the event of an end is not judged: the process that settled it may have died before it could tell.
    """

    name = "one job a key"

    def __init__(self) -> None:
        super().__init__()
        self._dispatched: dict[str, list[tuple[float, str]]] = {}
        """By key: when each job with it was dispatched."""
        self._ended: dict[str, float] = {}

    def watches(self) -> Watches:
        return {JobDispatched: self._comes, JobSucceeded: self._ends, JobFailed: self._ends, JobCancelled: self._ends}

    def _comes(self, event: JobDispatched) -> None:
        if event.unique and event.server_at is not None:
            self._dispatched.setdefault(event.unique, []).append((event.server_at, event.job_id))

    def _ends(self, event: JobSucceeded | JobFailed | JobCancelled) -> None:
        if event.server_at is not None:
            self._ended[event.job_id] = min(self._ended.get(event.job_id, event.server_at), event.server_at)

    def at_end(self) -> list[Violation]:
        found: list[Violation] = []
        for key, jobs in sorted(self._dispatched.items()):
            self.judged += len(jobs)
            for (_, job_id), (at, other) in pairwise(sorted(jobs)):
                early_s = self._ended.get(job_id, at) - at
                if job_id != other and early_s > ROUNDING_S:
                    found.append(
                        self.broken(job_id, f"{other} was added with its key, {key!r}, {early_s:.6f} s before its end")
                    )
        return found
