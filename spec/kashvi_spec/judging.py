"""Predicates, and a judge that shows a trace to several of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from kashvi.events import Event

ROUNDING_S = 2e-6
"""Unix seconds in a double are exact to a quarter of a microsecond, and scripts add and subtract several times."""


class Violation(NamedTuple):
    """The broken predicate, the job, and the reason."""

    predicate: str
    job_id: str
    why: str


class Predicate:
    """A clause as a function: gets the events it watches, then the end."""

    name = ""
    clock: Callable[[], float] | None = None
    """The time of the current event, on a better clock than its process's."""
    watches: tuple[type[Event], ...] = ()
    """The exact types of events that ``see`` gets."""

    def __init__(self) -> None:
        self.judged = 0
        self.violations: list[Violation] = []

    def see(self, event: Event) -> None:
        raise NotImplementedError

    def at_end(self) -> list[Violation]:
        """The violations if the trace is over and all work counts as done. Changes nothing."""
        return []

    def expect(self, holds: bool, job_id: str, why: str) -> None:
        self.judged += 1
        if not holds:
            self.violations.append(self.broken(job_id, why))

    def broken(self, job_id: str, why: str) -> Violation:
        return Violation(self.name, job_id, why)


class Judge:
    """Shows each event to the predicates that watch for it."""

    def __init__(self, predicates: Iterable[Predicate]) -> None:
        self.predicates = list(predicates)
        self._watching: dict[type[Event], list[Callable[[Event], None]]] = {}
        for predicate in self.predicates:
            for kind in predicate.watches:
                self._watching.setdefault(kind, []).append(predicate.see)

    def see(self, event: Event) -> None:
        for see in self._watching.get(type(event), ()):
            see(event)

    def violations(self) -> list[Violation]:
        """The violations if this is the end."""
        return [v for predicate in self.predicates for v in (*predicate.violations, *predicate.at_end())]


def judge(
    events: Iterable[Event], predicates: Iterable[Predicate], times: Iterable[float] | None = None
) -> list[Violation]:
    """The violations of a finished trace. ``times``: of each event, on one clock."""
    bench, now = Judge(predicates), [0.0]
    if times is None:
        for event in events:
            bench.see(event)
        return bench.violations()
    for predicate in bench.predicates:
        predicate.clock = lambda: now[0]
    for now[0], event in zip(times, events, strict=True):
        bench.see(event)
    return bench.violations()
