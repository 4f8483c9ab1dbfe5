"""What is known of one process's dealings with its server, and time without its standstills."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from kashvi_spec.judging import Violation

from kashvi.ports import Refusal

from .order import Claims

if TYPE_CHECKING:
    from .runtime import SimRuntime
    from .world import World

ROUNDING_S = 1e-6
FLUSH_S, TICK_S, MORE_S, WAIT_MAX_S, BACKOFF_FIRST_S, BACKOFF_MAX_S = 0.02, 1.0, 0.1, 0.6, 0.1, 5.0
"""The required bounds of a worker. Not its own constants, since one of them may be wrong."""
SETTLED_S = 2 * FLUSH_S
"""Finished work is batched for a moment, then sent."""
MOMENT_S = 0.001
STOPPED_S = WAIT_MAX_S + SETTLED_S
"""A wait that is under way ends by itself."""


class Since(NamedTuple):
    """A moment, and the process's total standstill by then."""

    at: float
    stuck_s: float


@dataclass
class Dealing:
    """The dealings of one process."""

    process: SimRuntime
    worker: str = ""
    calls: int = 0
    """The number of calls under way, without waits."""
    stuck_s: float = 0.0
    stuck_since: float | None = None
    aside_s: float = 0.0
    """Further standstill: waits that a fault held up, and calls of the database."""
    aside_since: float | None = None
    held_up_at: float = 0.0
    """When the last wait ended that a fault held up."""
    lost: bool = False
    """True if its last exchange failed."""
    told_lost: bool = False
    failures: int = 0
    """Exchanges that failed in a row."""
    failed: Since | None = None
    """The time of the last failed one."""
    open: bool = False
    """True if the last exchange has no answer."""
    exchanging: bool = False
    waiting_since: float | None = None
    asked: bool = False
    """True while it asks for the next due time before a wait: much may happen meanwhile."""
    n: int = 0
    sent: list[tuple[str, bytes]] = field(default_factory=list)
    renewed: Since | None = None
    looked: Since | None = None
    more: bool = False
    ready: int = 0
    hidden: bool = False
    """True if a queue was paused when it last asked for jobs."""
    rested: int = 0
    """The number of its sleeps by its last exchange."""
    ended: dict[str, Since] = field(default_factory=dict)
    """The end of each unsettled attempt, by job."""
    exhausted: set[str] = field(default_factory=set)
    """The jobs with an event of it that they failed for good."""
    faltered_at: float = 0.0
    """The time of the last failed call."""
    suspects: set[str] = field(default_factory=set)
    running: Counter[str] = field(default_factory=Counter)
    """By job: a silent worker may have claimed again what it still runs."""
    grave: dict[str, Since] = field(default_factory=dict)
    """The entries of ``ended`` that are about suspects."""
    doubts: str = ""
    """The reason for which its own count of its jobs may be wrong; empty: none."""
    reconciled_at: float = 0.0
    late: bool = False
    """True if a request of it was still on its way after its reply was lost: it may claim after the worker has left."""
    stopping: Since | None = None
    still_s_at_stop: float = 0.0
    told: bool = False
    """True once a signal told it to stop, or it is about to exit."""
    disobeyed: bool = False
    """True once an attempt was stuck, for which its process is to be replaced: so it stops by itself."""
    away: bool = False
    """True if it ended without its server."""
    began: Since | None = None
    begun: int = 0
    """How many jobs it has taken, as far as its events tell."""
    threads: int = 0
    two_free: Since | None = None
    """Since when two threads have been free: one may wait on the server, another one starts what comes."""
    claimed: dict[str, Since] = field(default_factory=dict)
    """The jobs of its last claims that have not started."""
    to_return: set[str] = field(default_factory=set)
    """The jobs that it held when it was told to stop, and had not started."""
    suspected: bool = False
    """True once it had to do with a suspect: then fresh jobs may have to wait."""
    due_at: float | None = None
    """When the next job is due, by its last exchange."""
    hurries: bool = False
    """True if it was told to stop in a pause: it tries once more at once."""
    leaves: bool = False
    """True once it has gone off the list: what it learns since is no news to it."""
    tries: int = 0
    """Its exchanges since its patience, after it was told to stop, was over."""
    last_end: Since | None = None
    aside_before_s: float = 0.0
    claims: Claims = field(default_factory=Claims)
    stopped: bool = False
    broken_off: bool = False
    """True if its end was interrupted."""
    reasons: int = 0
    """The number of reasons to reconcile: replies, waits and starts that were lost or refused."""

    @property
    def may_end(self) -> bool:
        """True if it stops, or may by its limits: that has no event."""
        limits = self.process.limits
        if self.stopping or limits is None:
            return self.stopping is not None
        return limits.until != "stopped" or (limits.max_jobs is not None and self.begun >= limits.max_jobs)


class Timed:
    """The dealings of all processes of a world, and their times."""

    def __init__(self, world: World) -> None:
        self.violations: list[Violation] = []
        self.longest: dict[str, float] = {}
        """The longest time by promise, for choosing the bounds."""
        self._world = world
        self._of: dict[SimRuntime, Dealing] = {}

    def of(self, process: SimRuntime) -> Dealing:
        if process not in self._of:
            self._of[process] = Dealing(process)
        return self._of[process]

    def begins(self, one: Dealing) -> None:
        """A call begins, which takes no time without a fault."""
        one.calls += 1
        if one.stuck_since is None:
            one.stuck_since = self._world.kernel.time

    def ends(self, one: Dealing, failed: bool) -> None:
        one.calls -= 1
        if failed:
            one.reasons += 1
            one.faltered_at = self._world.kernel.time
        self._goes_on(one)

    def _goes_on(self, one: Dealing) -> None:
        if one.stuck_since is not None and not one.calls and not one.lost:
            one.stuck_s += self._world.kernel.time - one.stuck_since
            one.stuck_since = None

    def _now(self, one: Dealing) -> Since:
        now = self._world.kernel.time
        stuck_s = one.stuck_s + (0.0 if one.stuck_since is None else now - one.stuck_since)
        return Since(now, stuck_s + one.process.stood_still_s)

    def records(self, process: SimRuntime, call: Callable[[], dict[str, Refusal]]) -> dict[str, Refusal]:
        one = self.of(process)
        one.aside_since = self._world.kernel.time
        try:
            return call()
        finally:
            one.aside_s, one.aside_since = self._aside_s(one), None

    def _aside_s(self, one: Dealing) -> float:
        return one.aside_s + (0.0 if one.aside_since is None else self._world.kernel.time - one.aside_since)

    def _moved_s(self, one: Dealing, since: Since) -> float:
        """The time since then without standstills."""
        now = self._now(one)
        return now.at - since.at - (now.stuck_s - since.stuck_s)

    def _awake_s(self, one: Dealing, since: Since) -> float:
        """The time since then in which the process did not stand still; ``since``: with its standstill alone."""
        return self._world.kernel.time - since.at - (one.process.stood_still_s - since.stuck_s)

    def _within(self, promise: str, seconds: float, most_s: float, what: str, job_id: str = "") -> None:
        self.longest[promise] = max(seconds, self.longest.get(promise, 0.0))
        if seconds > most_s + ROUNDING_S:
            self._broken(promise, f"{what}: {seconds:.6f} s, where {most_s:g} s are enough", job_id)

    keyed = False
    """True once a unique job was on the server."""

    def unkept(self, promise: str, why: str) -> None:
        """A promise that is broken on the server, told once."""
        if not any(one.predicate == promise for one in self.violations):
            self._broken(promise, why)

    def _broken(self, promise: str, why: str, job_id: str = "") -> None:
        self.violations.append(Violation(promise, job_id, why))
