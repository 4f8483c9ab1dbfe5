"""Predicates over attempts with a time limit."""

from __future__ import annotations

from kashvi.events import AttemptFailed, AttemptSnoozed, AttemptStarted, AttemptStuck, AttemptSucceeded

from ..judging import ROUNDING_S, Predicate, Watches


class TimeLimitsKept(Predicate):
    """An attempt is told to be late, timed out or stuck if and only if its time limit had passed.

    Then it is a success or a failure, "timed out after 30 s".
    """

    name = "time limits kept"

    def __init__(self) -> None:
        super().__init__()
        self._limits: dict[tuple[str, str, int], float] = {}
        """In seconds, by process, job and attempt."""
        self._stuck: set[tuple[str, str, int]] = set()

    def watches(self) -> Watches:
        return {
            AttemptStarted: self._started,
            AttemptStuck: self._is_stuck,
            AttemptSucceeded: self._succeeded,
            AttemptFailed: self._failed,
            AttemptSnoozed: self._snoozed,
        }

    def _started(self, event: AttemptStarted) -> None:
        key = event.process, event.job_id, event.attempt
        if event.timeout_s:
            self._limits[key] = event.timeout_s
        else:
            self._limits.pop(key, None)
        self._stuck.discard(key)

    def _over(self, event: AttemptStuck | AttemptSucceeded | AttemptFailed | AttemptSnoozed) -> bool | None:
        """Whether the limit had passed; None if there is none, or if it can't be said."""
        limit = self._limits.get((event.process, event.job_id, event.attempt))
        if limit is None:
            return None
        self.judged += 1
        return None if abs(event.duration_s - limit) <= ROUNDING_S else event.duration_s > limit

    def _is_stuck(self, event: AttemptStuck) -> None:
        key = event.process, event.job_id, event.attempt
        if self._over(event) is False or key not in self._limits:
            self.breaks(event.job_id, f"told to be stuck after {event.duration_s:g} s, before its time limit")
        elif key in self._stuck:
            self.breaks(event.job_id, "told twice to be stuck")
        self._stuck.add(key)

    def _succeeded(self, event: AttemptSucceeded) -> None:
        over = self._over(event)
        if over is not None and event.late != over:
            told = "late" if event.late else "in time"
            self.breaks(event.job_id, f"told to have succeeded {told}, after {event.duration_s:g} s")

    def _failed(self, event: AttemptFailed) -> None:
        key = event.process, event.job_id, event.attempt
        over, limit = self._over(event), self._limits.get(key)
        told = event.timed_out or "in time"
        if (over is not None and bool(event.timed_out) != over) or (limit is None and event.timed_out):
            self.breaks(event.job_id, f"told to have failed {told}, after {event.duration_s:g} s")
        elif event.timed_out and not event.error.startswith(f"timed out after {limit:g} s"):
            self.breaks(event.job_id, f"failed with {event.error!r}, after its time limit of {limit:g} s")
        elif event.timed_out == "stuck" and key not in self._stuck:
            self.breaks(event.job_id, "failed as stuck, and was never told to be")

    def _snoozed(self, event: AttemptSnoozed) -> None:
        if self._over(event):
            self.breaks(event.job_id, f"snoozed after {event.duration_s:g} s, past its time limit")
