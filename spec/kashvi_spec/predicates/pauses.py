"""The predicate over pauses of the queue."""

from __future__ import annotations

from typing import NamedTuple

from kashvi.events import AttemptStarted, QueuePaused, QueueResumed

from ..judging import Predicate, Violation, Watches

HEARD_S = 1.0
"""By then, no wait that was under way at the pause can claim a job."""


class _Claim(NamedTuple):
    job_id: str
    server_at: float


class PausesKept(Predicate):
    """No job is claimed later than a second after its queue was paused, and before it was resumed.

    By the server's clock, and by the events of the process that pauses: workers hear of it a moment later.
    """

    name = "pauses kept"

    def __init__(self) -> None:
        super().__init__()
        self._since: float | None = None
        self._claims: list[_Claim] = []
        """Claims during the pause. The event of its end may come after the first claims that follow."""

    def watches(self) -> Watches:
        return {QueuePaused: self._paused, QueueResumed: self._resumed, AttemptStarted: self._started}

    def _paused(self, event: QueuePaused) -> None:
        if not event.worker and self._since is None:
            self.judged += 1
            self._since = event.server_at

    def _started(self, event: AttemptStarted) -> None:
        if self._since is None or event.server_at is None:
            return
        if event.server_at > self._since + HEARD_S:
            self._claims.append(_Claim(event.job_id, event.server_at))

    def _resumed(self, event: QueueResumed) -> None:
        if not event.worker and self._since is not None:
            self.violations += self._early(event.server_at)
            self._since, self._claims = None, []

    def _early(self, ended: float) -> list[Violation]:
        assert self._since is not None
        return [
            self.broken(one.job_id, f"claimed {one.server_at - self._since:.3f} s after its queue was paused")
            for one in self._claims
            if one.server_at < ended
        ]

    def at_end(self) -> list[Violation]:
        return self._early(float("inf")) if self._since is not None else []
