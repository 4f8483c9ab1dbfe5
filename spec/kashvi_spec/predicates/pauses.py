"""The predicate over pauses of queues."""

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
        self._since: dict[str, float] = {}
        """When each queue was paused that is paused."""
        self._claims: dict[str, list[_Claim]] = {}
        """Claims during the pause. The event of its end may come after the first claims that follow."""

    def watches(self) -> Watches:
        return {QueuePaused: self._paused, QueueResumed: self._resumed, AttemptStarted: self._started}

    def _paused(self, event: QueuePaused) -> None:
        if not event.worker and event.queue not in self._since:
            self.judged += 1
            self._since[event.queue] = event.server_at

    def _started(self, event: AttemptStarted) -> None:
        since = self._since.get(event.queue)
        if since is not None and event.server_at is not None and event.server_at > since + HEARD_S:
            self._claims.setdefault(event.queue, []).append(_Claim(event.job_id, event.server_at))

    def _resumed(self, event: QueueResumed) -> None:
        if not event.worker and event.queue in self._since:
            self.violations += self._early(event.queue, event.server_at)
            del self._since[event.queue]
            self._claims.pop(event.queue, None)

    def _early(self, queue: str, ended: float) -> list[Violation]:
        since = self._since[queue]
        return [
            self.broken(one.job_id, f"claimed {one.server_at - since:.3f} s after its queue was paused")
            for one in self._claims.get(queue, ())
            if one.server_at < ended
        ]

    def at_end(self) -> list[Violation]:
        return [violation for queue in self._since for violation in self._early(queue, float("inf"))]
