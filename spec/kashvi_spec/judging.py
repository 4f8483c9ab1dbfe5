"""Predicates, and a judge that shows a trace to several of them.

All predicates judge every job of a simulation, so they are on its hot path: each kind of event goes straight to the
methods that watch it, and nothing is formatted until a clause is broken.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any, NamedTuple, Self

from kashvi.events import Event

Watches = dict[type[Event], Callable[[Any], None]]
"""By the exact type of an event, the method that gets it."""

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

    def __init__(self) -> None:
        self.judged = 0
        self.violations: list[Violation] = []

    def watches(self) -> Watches:
        """The events it watches. A judge asks once."""
        raise NotImplementedError

    def see(self, event: Event) -> None:
        """Show it one event, outside of a judge."""
        if see := self.watches().get(type(event)):
            see(event)

    def at_end(self) -> list[Violation]:
        """The violations if the trace is over and all work counts as done. Changes nothing."""
        return []

    def memory(self, over: Container[str] = ()) -> Mapping[str, object]:
        """What it remembers, by name: two predicates with equal memories judge alike.

        ``over``: jobs of which no event comes any more.
        """
        return {name: value for name, value in vars(self).items() if name not in ("judged", "violations", "clock")}

    def copy(self) -> Self:
        """A copy that shares nothing with this one that either may change."""
        other = object.__new__(type(self))
        known: dict[int, Any] = {}
        vars(other).update((name, _copied(value, known)) for name, value in vars(self).items())
        return other

    def breaks(self, job_id: str, why: str) -> None:
        """Note a violation. Called only for one: texts take longer than all else."""
        self.violations.append(self.broken(job_id, why))

    def broken(self, job_id: str, why: str) -> Violation:
        return Violation(self.name, job_id, why)


def _copied(value: Any, known: dict[int, Any]) -> Any:
    """A copy with the same objects in several places as the original has."""
    kind = type(value)
    if kind in _IMMUTABLE or isinstance(value, Event):
        return value
    if (copy := known.get(id(value))) is not None:
        return copy
    if isinstance(value, dict):
        copy = known[id(value)] = kind()
        for key, item in value.items():
            copy[key] = _copied(item, known)
    elif isinstance(value, list | set):
        copy = known[id(value)] = kind(_copied(item, known) for item in value)
    elif isinstance(value, tuple):
        items = [_copied(item, known) for item in value]
        copy = known[id(value)] = kind(*items) if hasattr(kind, "_fields") else kind(items)
    elif hasattr(value, "__dict__") and not callable(value):
        copy = known[id(value)] = object.__new__(kind)
        vars(copy).update((name, _copied(item, known)) for name, item in vars(value).items())
    else:
        return value
    return copy


_IMMUTABLE = frozenset({str, int, float, bool, type(None)})


class Judge:
    """Shows each event to the predicates that watch for it."""

    def __init__(self, predicates: Iterable[Predicate]) -> None:
        self.predicates = list(predicates)
        self._watching: dict[type[Event], list[Callable[[Event], None]]] = {}
        for predicate in self.predicates:
            for kind, see in predicate.watches().items():
                self._watching.setdefault(kind, []).append(see)

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
