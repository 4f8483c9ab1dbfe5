"""The predicate over cancelled jobs."""

from __future__ import annotations

from kashvi.events import (
    AttemptStarted,
    CancelAsked,
    JobCancelled,
    JobEvent,
    JobFailed,
    JobPostponed,
    JobReturned,
    JobSnoozed,
    RetryScheduled,
)

from ..judging import ROUNDING_S, Predicate, Violation, Watches

BACK = (RetryScheduled, JobSnoozed, JobPostponed, JobReturned, JobFailed)
"""What would make the job ready again, or a failure of it."""


class CancelledStays(Predicate):
    """Once a cancel has found the job, no worker claims it, and no settlement makes it ready again or a failure.

    The events of other processes may come in any order: the server's times decide.
    """

    name = "cancelled stays"

    def __init__(self) -> None:
        super().__init__()
        self._at: dict[str, float] = {}
        """When a cancel had found the job, or a settlement met its mark: the earliest."""
        self._later: dict[str, list[tuple[float, str]]] = {}
        """Claims and settlements that a cancelled job may not have after that."""

    def watches(self) -> Watches:
        seen: Watches = {CancelAsked: self._found, JobCancelled: self._found, AttemptStarted: self._started}
        return {**seen, **dict.fromkeys(BACK, self._back)}

    def _found(self, event: CancelAsked | JobCancelled) -> None:
        self.judged += 1
        self._at[event.job_id] = min(self._at.get(event.job_id, event.server_at), event.server_at)

    def _started(self, event: AttemptStarted) -> None:
        if event.claim == "exchange" and event.server_at is not None:  # a wait's time may be too late by a round trip
            self._note(event, event.server_at, f"attempt {event.attempt} was claimed")

    def _back(self, event: JobEvent) -> None:
        if event.server_at is not None:
            self._note(event, event.server_at, f"{type(event).__name__} was accepted")

    def _note(self, event: JobEvent, at: float, what: str) -> None:
        last = self._later.setdefault(event.job_id, [])
        last[:] = [*last[-1:], (at, what)]

    def at_end(self) -> list[Violation]:
        return [
            self.broken(job_id, f"{what} {at - self._at[job_id]:.6f} s after it was cancelled")
            for job_id, later in sorted(self._later.items())
            for at, what in later
            if job_id in self._at and at > self._at[job_id] + ROUNDING_S
        ]
