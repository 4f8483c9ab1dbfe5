"""The predicates of a state, as values: copied when an event comes, and told as text."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import msgspec
from kashvi_spec.judging import Predicate, Violation
from kashvi_spec.predicates.every import every_predicate

from kashvi.events import Event
from kashvi.worker.machine.steps import SECOND

if TYPE_CHECKING:
    from .state import State

LEFT_OUT = frozenset({"in time"})
"""That no job is late is told by the states: from each, the end can be reached. So is that none starves."""
TIME_S = 512.0
"""Floats above it are points in time."""


class Lens:
    """How a predicate's memory is looked at: times relative to ``now``, those before ``floor`` are all alike; nothing
    of closed jobs, and nothing of processes that are gone and hold nothing."""

    __slots__ = ("floor", "met_a_time", "now", "out")

    def __init__(self, now: int, floor: int | None = None, out: frozenset[str] = frozenset()) -> None:
        self.now, self.floor, self.out = now, floor, out
        self.met_a_time = False

    def lines(self, predicate: Predicate) -> Iterator[str]:
        """A line for each thing that it remembers."""
        for name, value in predicate.memory(self.out).items():
            about = f"{predicate.name}: {name}"
            if isinstance(value, dict):
                for key, item in value.items():
                    if not self._leaves_out(key) and (told := self.plain(item)) not in EMPTY:
                        yield f"{about} {self.plain(key)!r} {told!r}"
            elif isinstance(value, set | frozenset):
                for key in value:
                    if not self._leaves_out(key):
                        yield f"{about} {self.plain(key)!r}"
            elif value is not None:
                yield f"{about} {self.plain(value)!r}"

    def _leaves_out(self, key: Any) -> bool:
        if isinstance(key, str):
            return key in self.out
        return isinstance(key, tuple) and bool(key) and any(one in self.out for one in key[:1])

    def plain(self, value: Any) -> Any:
        kind = type(value)
        if kind is float:
            if value < TIME_S:
                return value
            self.met_a_time = True
            at = round(value * SECOND)
            return "long ago" if self.floor is not None and at < self.floor else at - self.now
        if kind in ATOMS:
            return value
        if isinstance(value, Event):
            facts = msgspec.structs.astuple(value)
            return kind.__name__, tuple(map(self.plain, (facts[0], *facts[2:])))
        if isinstance(value, dict):
            items = [(self.plain(k), self.plain(v)) for k, v in value.items() if not self._leaves_out(k)]
            return tuple(sorted((item for item in items if item[1] not in EMPTY), key=repr))
        if isinstance(value, set | frozenset):
            return tuple(sorted((self.plain(one) for one in value if not self._leaves_out(one)), key=repr))
        if isinstance(value, list | tuple | deque):
            return tuple(map(self.plain, value))
        if hasattr(value, "__dict__"):
            return kind.__name__, self.plain(vars(value))
        raise TypeError(f"a search can't tell the state of {kind.__module__}.{kind.__qualname__}")


ATOMS = frozenset({str, int, bytes, bool, type(None)})
EMPTY = ((), None)
"""An empty list says no more than none."""


class Mind:
    """One predicate with its memory, which never changes: an event leads to another one. Equal ones are the same."""

    __slots__ = ("_next", "_texts", "_timeless", "predicate")

    def __init__(self, predicate: Predicate) -> None:
        self.predicate = predicate
        self._next: dict[Any, tuple[Mind, list[Violation]]] = {}
        self._texts: dict[Any, list[str]] = {}
        self._timeless = False

    def after(self, event: Event, facts: Any, known: dict[Any, Mind]) -> tuple[Mind, list[Violation]]:
        """The mind that has seen the event, and the violations."""
        after = self._next.get(facts)
        if after is None:
            predicate = self.predicate.copy()
            predicate.see(event)
            violations, predicate.violations = predicate.violations, []
            mind = Mind(predicate)
            content = (
                predicate.name,
                repr(
                    Lens(0).plain(
                        {name: value for name, value in vars(predicate).items() if name not in ("judged", "violations")}
                    )
                ),
            )
            after = self._next[facts] = known.setdefault(content, mind), violations
        return after

    def text(self, now: int, floor: int, out: frozenset[str]) -> list[str]:
        as_of: Any = out if self._timeless else (now, floor, out)
        text = self._texts.get(as_of)
        if text is None:
            lens = Lens(now, floor, out)
            text = [*lens.lines(self.predicate)]
            if not (lens.met_a_time or self._texts):
                self._timeless, as_of = True, out
            self._texts[as_of] = text
        return text


class Minds:
    """All predicates of a state."""

    def __init__(self, minds: list[Mind], watching: dict[type[Event], list[int]], known: dict[Any, Mind]) -> None:
        self._minds = minds
        self._watching = watching
        self._known = known

    @staticmethod
    def of(attempts: int) -> Minds:
        minds = [Mind(one) for one in every_predicate(attempts, with_store=False) if one.name not in LEFT_OUT]
        watching: dict[type[Event], list[int]] = {}
        for n, mind in enumerate(minds):
            for kind in mind.predicate.watches():
                watching.setdefault(kind, []).append(n)
        return Minds(minds, watching, {})

    def copy(self) -> Minds:
        return Minds(self._minds[:], self._watching, self._known)

    def see(self, events: Iterable[Event]) -> list[Violation]:
        """Show them events; returns the violations."""
        found: list[Violation] = []
        minds, known = self._minds, self._known
        for event in events:
            facts = type(event), msgspec.structs.astuple(event)[2:], event.process
            for n in self._watching.get(type(event), ()):
                minds[n], violations = minds[n].after(event, facts, known)
                found += violations
        return found

    def at_end(self) -> list[Violation]:
        return [violation for mind in self._minds for violation in mind.predicate.at_end()]

    def text(self, now: int, floor: int, out: frozenset[str]) -> list[str]:
        return [line for mind in self._minds for line in mind.text(now, floor, out)]


def excused(state: State, v: Violation) -> bool:
    """Whether it is only that a process died before it could tell."""

    def untold(*moves: str) -> bool:
        return any((move, v.job_id) in state.untold for move in moves)

    match v.predicate:
        case "none lost" | "drains":
            return untold("done", "fail")
        case "recorded iff exhausted":
            return untold("fail")
        case "attempts counted":
            return "never settled" in v.why and untold("retry")
        case "FIFO" | "due order" | "starts once":
            return untold("return")
        case "first death free":
            return "counted" in v.why and untold("return")
    return False
