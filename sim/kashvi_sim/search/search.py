"""Searches a scope to the end, breadth first: so what is found first has the fewest moves."""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
from kashvi_spec.judging import Violation

from kashvi.errors import UnusableSetting
from kashvi.events import Event
from kashvi.worker.machine.steps import SECOND

from ..runs.undisturbed import undisturbed
from ..world.kernel import EPOCH
from .key import key_of
from .memory import TIME_S
from .moves import Move, Mover
from .scope import Scope
from .shell import Shells
from .state import START, State

STUCK = "from here, not all jobs can end"


class Searched(NamedTuple):
    """``exhausted``: True if the search reached its end. ``broken``: what promise, and ``path``: by which moves."""

    scope: Scope
    states: int
    steps: int
    exhausted: bool
    broken: Violation | None
    path: list[int]


class Played(NamedTuple):
    """The moves of a path, one after another. ``broken``: what promise they break."""

    steps: list[tuple[int, str]]
    events: list[Event]
    broken: Violation | None


class _Graph:
    """The states that are known, by number."""

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}
        self._ways: list[list[int]] = []
        """By state: the states from which a step without a death leads there."""
        self._came: list[tuple[int, int]] = []
        """By state: from where it was first reached, and by which move."""

    def __len__(self) -> int:
        return len(self._ways)

    def add(self, key: str, before: int, move: int) -> tuple[int, bool]:
        """Its number, and whether it is new."""
        digest = hashlib.blake2b(key.encode(), digest_size=16).digest()
        number = self._numbers.setdefault(digest, len(self._ways))
        if new := number == len(self._ways):
            self._ways.append([])
            self._came.append((before, move))
        return number, new

    def link(self, before: int, after: int) -> None:
        self._ways[after].append(before)

    def path(self, number: int) -> list[int]:
        moves = []
        while number > 0:
            number, move = self._came[number]
            moves.append(move)
        return moves[::-1]

    def hopeless(self, ends: list[int]) -> int | None:
        """The first state from which no end can be reached."""
        hopeful, todo = set(ends), ends[:]
        while todo:
            for before in self._ways[todo.pop()]:
                if before not in hopeful:
                    hopeful.add(before)
                    todo.append(before)
        return next((number for number in range(len(self._ways)) if number not in hopeful), None)


def search(
    scope: Scope,
    limit: int = 10**9,
    look: Callable[[int], None] = lambda states: None,
    made: Callable[[Move], None] = lambda move: None,
    *,
    reduce: bool = True,
) -> Searched:
    """Until a promise is broken, the end, or ``limit`` states. ``look`` is told how many there are, now and then.

    ``made`` is told each move. ``reduce``: leave out orders that come to the same as others.
    """
    with undisturbed():
        return _search(scope, limit, look, made, Mover(Shells(scope), reduce=reduce))


def _search(
    scope: Scope, limit: int, look: Callable[[int], None], made: Callable[[Move], None], mover: Mover
) -> Searched:
    graph, ends, steps = _Graph(), list[int](), 0
    first = mover.first()
    made(first)
    todo: deque[tuple[State, int]] = deque([(first.state, graph.add(key_of(first.state, scope), -1, 0)[0])])
    while todo:
        state, number = todo.popleft()
        if state.over(scope):
            ends.append(number)
            continue
        for which, move in enumerate(mover.moves(state)):
            steps += 1
            made(move)
            if move.broken is not None:
                return Searched(scope, len(graph), steps, False, move.broken, [*graph.path(number), which])
            after, new = graph.add(key_of(move.state, scope), number, which)
            if not move.died:
                graph.link(number, after)
            if new:
                todo.append((move.state, after))
            if steps % 1000 == 0:
                look(len(graph))
        if len(graph) >= limit:
            return Searched(scope, len(graph), steps, False, None, [])
    if (stuck := graph.hopeless(ends)) is not None:
        return Searched(scope, len(graph), steps, False, Violation("drains", "", STUCK), graph.path(stuck))
    return Searched(scope, len(graph), steps, True, None, [])


def token_of(path: Sequence[int]) -> str:
    """A short text that ``path_of`` decodes."""
    packed = bytes(path)
    return f"e1-{base64.urlsafe_b64encode(zlib.crc32(packed).to_bytes(4, 'big') + packed).rstrip(b'=').decode()}"


def path_of(token: str) -> list[int]:
    """The path in a token. Raises InvalidSetting for any other text and for a truncated token."""
    head, _, text = token.partition("-")
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raw = b""
    check, packed = raw[:4], raw[4:]
    if head != "e1" or zlib.crc32(packed).to_bytes(4, "big") != check:
        raise UnusableSetting(f"the token {token!r}", "it is not a token of sim:explore (e1-…), or it is truncated")
    return [*packed]


def play(scope: Scope, path: Sequence[int]) -> Played:
    """Make these moves. Raises InvalidSetting if there is no such move in this scope."""
    with undisturbed():
        mover = Mover(Shells(scope))
        move = mover.first()
        steps, events = [*move.steps], [*move.events]
        for which in path:
            found = [*mover.moves(move.state)]
            if which >= len(found):
                raise UnusableSetting(f"the token {token_of(path)!r}", "it is of another scope, or of other code")
            move = found[which]
            steps += move.steps
            events += move.events
        return Played(steps, events, move.broken)


def in_world_time(events: Sequence[Event]) -> list[Event]:
    """The events with times as a world of the simulator has them, which begins with the search."""

    def moved(at: float | None) -> float | None:
        return at if at is None or at < TIME_S else at - START / SECOND + EPOCH

    found: list[Event] = []
    for event in events:
        times = {name: moved(getattr(event, name)) for name in ("at", "server_at", "due") if hasattr(event, name)}
        found.append(msgspec.structs.replace(event, **times))
    return found
