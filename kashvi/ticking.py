"""The port of drivers that keep the ticks of cron entries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

from .names import DEFAULT
from .ports import NO_LOCK, Lock


class TickJob(NamedTuple):
    """A job that a tick adds."""

    tick: float
    """When it was to be, in Unix seconds of the server's clock."""
    envelope: bytes
    lock: Lock = NO_LOCK
    """It is not added if another job has the key; the tick counts as fired."""


class Ask(NamedTuple):
    """What a worker asks about an entry."""

    name: str
    schedule: str
    """Its key: the same for equal schedules."""
    last: float | None = None
    """The entry's last tick, as the worker knows it."""
    through: float | None = None
    """The newest tick that is to fire, or is left out; None: only look."""
    queue: str = DEFAULT
    jobs: Sequence[TickJob] = ()
    """To be added to the queue, in order."""


Outcome = Literal["first", "unchanged", "moved", "early", "reset", "fired"]
"""first: the server did not know this schedule. unchanged: nothing was to be done. moved: ``last`` is another than the
caller's. early: ``through`` is still to come. reset: times on the server were ahead of its clock, and are not now. Only
``fired`` has added jobs."""


class Ticked(NamedTuple):
    """The answer to a tick."""

    outcome: Outcome
    server_at: float
    last: float
    """The newest tick of this name that was fired or left out; before the first, when the server first saw the name."""
    since: float
    """When the server first saw this schedule under this name: it has no earlier ticks."""
    holders: tuple[str, ...] = ()
    """fired: of each job, empty if it was added; else the id of the job that has its key, or its own if it was too
    old."""


TICK_AHEAD_S = 3600.0
"""A time that is further ahead of the server's clock was written while that clock was wrong."""
TICK_OLD_S = 7 * 86400.0
"""A schedule that was not asked for so long, while another one of its name was, is forgotten."""


class Ticking(Protocol):
    """A driver that keeps the last tick of each cron entry."""

    @property
    def keeps_ticks(self) -> bool:
        """True if it does."""

    def tick(self, ask: Ask) -> Ticked:
        """Fire ticks of an entry: compare, store and push, in one step.

        If ``last`` is the server's, and ``through`` has come, the jobs with a tick after ``last`` and after ``since``
        are added, and ``through`` is ``last`` now. A repeated call changes nothing (CRON-1). Raises what ``Driver``
        raises.
        """

    def last_ticks(self) -> tuple[float, dict[str, float]]:
        """The server's time, and ``last`` of each name. Changes nothing."""

    def forget_ticks(self, name: str) -> bool:
        """Forget the name and its schedules; False if the server does not know it."""
