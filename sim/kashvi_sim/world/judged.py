"""A world's violations by its events, and the excuses by faults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, cast

from kashvi_spec.judging import Judge, Predicate, Violation
from kashvi_spec.predicates.punctual import InTime, Late
from kashvi_spec.predicates.safety import RecordedIffExhausted

from kashvi.events import Event, JobFailed, JobSucceeded

from .excuses import excuse, untold
from .kernel import Kernel
from .server import Server

if TYPE_CHECKING:
    from .world import World


class Excused(NamedTuple):
    """A violation that a fault excuses."""

    violation: Violation
    fault: str


class Judged:
    """The part of a world that judges its events."""

    judges: Judge
    events: list[Event]
    ended: dict[str, list[str]]

    @property
    def _world(self) -> World:
        return cast("World", self)

    def broken(self) -> list[Violation]:
        """The violations so far, excused or not, without those at the end."""
        return [v for predicate in self.judges.predicates for v in predicate.violations]

    def unexcused(self) -> list[Violation]:
        """The violations so far that no fault excuses."""
        return [violation for violation in self.broken() if not excuse(self._world, violation, self._world.stored)]

    @property
    def waits(self) -> Mapping[str, Late]:
        """The times at which jobs waited although a thread was free."""
        return next(one.late for one in self.judges.predicates if isinstance(one, InTime))

    @property
    def predicates(self) -> list[Predicate]:
        return self.judges.predicates

    def untold(self) -> list[str]:
        """Jobs that ended on the server without an event, since their process is dead."""
        told = {event.job_id for event in self.events if isinstance(event, JobSucceeded | JobFailed)}
        return sorted(job_id for job_id in self.ended.keys() - told if untold(self._world, job_id))

    def judge(self, *, with_store: bool | None = None) -> tuple[list[Violation], list[Excused]]:
        """The violations, with all work taken as done; and those that a fault excuses.

        A step of the server without an event, since the process was killed in between, is not a violation.
        ``with_store``: True if every exhausted job needs an event that it was recorded; by default, if there is a
        database.
        """
        stored = self._world.stored if with_store is None else with_store
        for predicate in self.judges.predicates:
            if isinstance(predicate, RecordedIffExhausted):
                predicate.with_store = stored
        violations: list[Violation] = []
        excused: list[Excused] = []
        for violation in self.judges.violations():
            if fault := excuse(self._world, violation, stored):
                excused.append(Excused(violation, fault))
            else:
                violations.append(violation)
        return violations, excused

    def violations(self, *, with_store: bool | None = None) -> list[Violation]:
        """The violations of ``judge`` without an excuse."""
        return self.judge(with_store=with_store)[0]

    def judged(self) -> dict[str, int]:
        """How often each predicate was checked."""
        return {predicate.name: predicate.judged for predicate in self.judges.predicates}


def bench(kernel: Kernel, server: Server, predicates: list[Predicate]) -> Judge:
    """A judge with the server's clock."""
    for predicate in predicates:
        predicate.clock = lambda: kernel.time + server.skew_s
    return Judge(predicates)
