"""The predicate over the order of delayed jobs."""

from __future__ import annotations

from kashvi.events import (
    AttemptFailed,
    AttemptSnoozed,
    AttemptStarted,
    JobDispatched,
    JobEvent,
    JobReturned,
    RetryScheduled,
)

from ..judging import ROUNDING_S, Predicate, Violation, Watches


class DueOrder(Predicate):
    """Delayed jobs of a queue are claimed in the order of their due times, as far as the server's clock shows it.

    Retries and follow-ups are not judged: after a lost reply, their event has an earlier time than the server.
    """

    name = "due order"

    def __init__(self) -> None:
        super().__init__()
        self._due: dict[str, float] = {}
        self._claims: dict[str, dict[str, float]] = {}
        """By queue and job."""
        self._excused: set[str] = set()

    def watches(self) -> Watches:
        return {
            JobDispatched: self._dispatched,
            JobReturned: self._excuse,
            RetryScheduled: self._excuse,
            AttemptFailed: self._excuse,
            AttemptSnoozed: self._excuse,
            AttemptStarted: self._started,
        }

    def _dispatched(self, event: JobDispatched) -> None:
        if event.due is not None and not event.parent:
            self._due[event.job_id] = event.due

    def _excuse(self, event: JobEvent) -> None:
        self._excused.add(event.job_id)

    def _started(self, event: AttemptStarted) -> None:
        job_id, at = event.job_id, event.server_at
        if job_id not in self._due or at is None or event.claim != "exchange":
            return
        if job_id not in self._excused and not event.suspect:
            self.judged += 1
            self._claims.setdefault(event.queue, {})[job_id] = at

    def at_end(self) -> list[Violation]:
        """The violations. An event of a start may come long after the claim, so the claims are sorted first."""
        return [violation for claims in self._claims.values() for violation in self._overtaken(claims)]

    def _overtaken(self, claims: dict[str, float]) -> list[Violation]:
        found: list[Violation] = []
        latest_due, group_at, group_due = float("-inf"), float("-inf"), float("-inf")
        for job_id, at in sorted(claims.items(), key=lambda claim: claim[1]):
            if at > group_at + ROUNDING_S:
                latest_due, group_at = max(latest_due, group_due), at
            due = self._due[job_id]
            group_due = max(group_due, due)
            if due < latest_due - ROUNDING_S:
                found.append(self.broken(job_id, f"claimed after a job that was due {latest_due - due:.6f} s later"))
        return found
