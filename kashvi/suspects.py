"""Jobs that were in a process when it died: what becomes of them, and when a worker starts them again.

Nobody can know which job killed a process, and no job is charged for another's death. What may have run beside others
is suspected and not charged. Suspects run apart, the graver the more so, until a death has one name.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from . import settle
from .ports import LostDelivery
from .settle import Delivery, Settling

WINDOW_LEASES = 10
"""So long a suspect has its process's suspects to itself; twice as long for each further death."""
GRAVE = 2
"""From here on a suspect has fresh jobs kept out, too. It waits a lease for those that run; doubled likewise."""
DOUBLINGS_MAX = 20


def after_death(
    theirs: Sequence[LostDelivery],
    whole: bool,
    ended_at: float,
    new_id: Callable[[], str],
    max_attempts: int,
    server_at: float,
) -> list[Settling]:
    """What becomes of the jobs of one dead worker, to be settled in this order and in one exchange.

    ``theirs``: as ``Driver.expired`` has them; ``whole``: it is all they had. An announced attempt is lost only if it
    is certain that no other job ran: it is the only announced one, and all that is held was a suspect before, and so
    was waiting. While more of ``held`` may say otherwise, the announced one stays where it is.
    """
    found = [settle.delivery(one.envelope, one.owner, new_id, server_at, place=one.place) for one in theirs]
    held = [d for d in found if d.place == "held"]
    running = [d for d in found if d.place == "running"]
    certain = len(running) == 1 and not any(d.envelope and not d.lost for d in held)
    if certain and held and not whole:
        running = []
    # What is returned later is nearer the head: the announced before the held, the last announced first of all.
    out = [settle.lost(d, ended_at, max_attempts, False, 0 if d.suspect else 1) for d in held]
    for d in reversed(running):
        graver = 2 if d is running[0] and not certain else 1
        out.append(settle.lost(d, ended_at, max_attempts, certain, graver))
    return out


class Turns:
    """Which of a worker's suspects starts when. Times are this process's monotonic seconds."""

    def __init__(self, lease_s: float, monotonic: Callable[[], float]) -> None:
        self.waiting: deque[Delivery] = deque()
        """Held and not announced, the gravest first."""
        self.last: Delivery | None = None
        """The last that was announced, until it has ended."""
        self._lease_s = lease_s
        self._now = monotonic
        self._since = 0.0
        """When the first in ``waiting`` began to keep fresh jobs out, if it does."""
        self._at = 0.0

    def add(self, d: Delivery) -> None:
        """The gravest first, in whichever order they came: a wait and an exchange may overtake each other."""
        at = next((i for i, other in enumerate(self.waiting) if other.lost < d.lost), len(self.waiting))
        self.waiting.insert(at, d)
        if at == 0:
            self._since = self._now()

    def begin(self, d: Delivery) -> None:
        """It is announced, may start, or starts: its window counts from the last of these."""
        self.last = d
        self._at = self._since = self._now()

    def end(self, d: Delivery | None = None) -> None:
        """The last has ended, or is not to start; one before it, that outlived its window, may end later."""
        if d is None or d is self.last:
            self.last = None

    def may_start(self, running: int, free: int) -> bool:
        """Announced means counted, so not before a thread is ``free``. ``running``: attempts, of whatever jobs."""
        if not self.waiting or free <= 0 or self._alone():
            return False
        first = self.waiting[0]
        return first.lost < GRAVE or not running or self._now() >= self._since + self._patience_s(first)

    def keeps_fresh_out(self) -> bool:
        """A grave suspect waits, or runs in its window: nothing fresh starts."""
        if self.waiting and self.waiting[0].lost >= GRAVE:
            return True
        return self.last is not None and self.last.lost >= GRAVE and self._alone()

    def next_at(self) -> float | None:
        """When more may start than now, if nothing ends until then."""
        at = None
        if self.last is not None and self._alone():
            at = self._at + self._window_s(self.last)
        elif self.waiting and self.waiting[0].lost >= GRAVE:
            at = self._since + self._patience_s(self.waiting[0])
        return at if at is not None and at > self._now() else None

    def _alone(self) -> bool:
        return self.last is not None and self._now() < self._at + self._window_s(self.last)

    def _window_s(self, d: Delivery) -> float:
        return WINDOW_LEASES * self._lease_s * _doubled(d.lost - 1)

    def _patience_s(self, d: Delivery) -> float:
        return self._lease_s * _doubled(d.lost - GRAVE)


def _doubled(times: int) -> int:
    return 1 << min(max(times, 0), DOUBLINGS_MAX)
