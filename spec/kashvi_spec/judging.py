"""What a predicate is, and how a trace is run past several of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from kashvi.events import Event

ROUNDING_S = 2e-6
"""Unix seconds in a double are good to a quarter of a microsecond; scripts add and subtract a few times."""


class Violation(NamedTuple):
    """What was broken, for whom, and how."""

    predicate: str
    job_id: str
    why: str


class Predicate:
    """Sees the events it watches, then the end."""

    name = ""
    clock: Callable[[], float] | None = None
    """The time of the event that is seen, where a better one is known than that of the process it comes from."""
    watches: tuple[type[Event], ...] = ()
    """What ``see`` is shown; an event of another type, or of a subtype, passes by."""

    def __init__(self) -> None:
        self.judged = 0
        self.violations: list[Violation] = []

    def see(self, event: Event) -> None:
        raise NotImplementedError

    def at_end(self) -> list[Violation]:
        """What is broken if the trace is over and all work is said to be done. Changes nothing."""
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
        """What is broken if this is the end."""
        return [v for predicate in self.predicates for v in (*predicate.violations, *predicate.at_end())]


def judge(
    events: Iterable[Event], predicates: Iterable[Predicate], times: Iterable[float] | None = None
) -> list[Violation]:
    """Run a finished trace past the predicates; returns what it violates. ``times``: of each event, on one clock."""
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
