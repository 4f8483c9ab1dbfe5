"""The predicate over cron entries."""

from __future__ import annotations

from kashvi.events import JobDispatched, JobDuplicate

from ..judging import ROUNDING_S, Predicate, Watches


class EachTickOnce(Predicate):
    """No tick of an entry is fired twice, and none before its time by the server's clock.

    The events of a process that died, or got no answer, may be missing: the next one to ask does not fire again.
    """

    name = "each tick once"

    def __init__(self) -> None:
        super().__init__()
        self._fired: set[tuple[str, float]] = set()

    def watches(self) -> Watches:
        return {JobDispatched: self._dispatched, JobDuplicate: self._dispatched}

    def _dispatched(self, event: JobDispatched | JobDuplicate) -> None:
        if not event.cron:
            return
        self.judged += 1
        tick = (event.cron, event.tick)
        if tick in self._fired:
            self.breaks(event.job_id, f"the tick of {event.cron} at {event.tick:.0f} was fired twice")
        self._fired.add(tick)
        if event.server_at is not None and event.server_at < event.tick - ROUNDING_S:
            self.breaks(event.job_id, f"fired {event.tick - event.server_at:.3f} s before its tick")
