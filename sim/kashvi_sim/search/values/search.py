"""Searches a scope to the end, breadth first: so what is found first has the fewest steps."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from .moves import Broken, moves
from .state import Scope, State


class Searched(NamedTuple):
    """``exhausted``: True if the search reached its end. ``broken``: what promise, or empty; ``path``: how."""

    scope: Scope
    states: int
    steps: int
    exhausted: bool
    broken: str
    path: list[str]


class _Graph:
    """The states that are known, by number."""

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}
        self._ways: list[list[int]] = []
        """By state: the states from which a step without a death leads there."""
        self._came: list[tuple[int, str]] = []
        """By state: from where, and how it was first reached."""

    def __len__(self) -> int:
        return len(self._ways)

    def add(self, state: State, before: int, name: str) -> tuple[int, bool]:
        """Its number, and whether it is new."""
        key = hashlib.blake2b(state.key().encode(), digest_size=16).digest()
        number = self._numbers.setdefault(key, len(self._ways))
        if new := number == len(self._ways):
            self._ways.append([])
            self._came.append((before, name))
        return number, new

    def link(self, before: int, after: int) -> None:
        self._ways[after].append(before)

    def path(self, number: int) -> list[str]:
        names = []
        while number >= 0:
            number, name = self._came[number]
            names.append(name)
        return names[-2::-1]

    def hopeless(self, ends: list[int]) -> int | None:
        """The first state from which no end can be reached."""
        hopeful, todo = set(ends), ends[:]
        while todo:
            for before in self._ways[todo.pop()]:
                if before not in hopeful:
                    hopeful.add(before)
                    todo.append(before)
        return next((number for number in range(len(self._ways)) if number not in hopeful), None)


def search(scope: Scope, limit: int = 10**9, look: Callable[[int], None] = lambda states: None) -> Searched:
    """Until a promise is broken, the end, or ``limit`` states. ``look`` is told how many there are, now and then."""
    graph, ends, steps = _Graph(), list[int](), 0
    first = State.first(scope)
    todo = deque([(first, graph.add(first, -1, "")[0])])
    while todo:
        state, number = todo.popleft()
        if state.over(scope):
            ends.append(number)
            continue
        try:
            for move in moves(scope, state):
                steps += 1
                after, new = graph.add(move.state, number, move.name)
                if not move.died:
                    graph.link(number, after)
                if new:
                    todo.append((move.state, after))
        except Broken as broken:
            return Searched(scope, len(graph), steps, False, str(broken), graph.path(number))
        if len(graph) >= limit:
            return Searched(scope, len(graph), steps, False, "", [])
        if steps % 1000 == 0:
            look(len(graph))
    if (stuck := graph.hopeless(ends)) is not None:
        return Searched(scope, len(graph), steps, False, "from here, not all jobs can end", graph.path(stuck))
    return Searched(scope, len(graph), steps, True, "", [])
