"""Exhaustive search: every order, outcome and death in a small scope, through the real code."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, NamedTuple

from ..runs.undisturbed import undisturbed
from .hands import Hands
from .scope import Scope
from .search import Broken, Search

ROUND = 32
"""Trials of one round over all processes. States found in a round are shared after it."""
COLLECT = 500
"""Trials between two calls of ``look``, and between two garbage collections."""


class Explored(NamedTuple):
    """The result of a search. ``exhausted``: True if it reached its end."""

    scope: Scope
    executions: int
    states: int
    exhausted: bool
    broken: list[Broken]
    wall_s: float


def explore(
    scope: Scope,
    place: dict[str, Any],
    limit: int,
    look: Callable[[Search], None] = lambda search: None,
    processes: int | None = None,
) -> Explored:
    """Search until a violation, the end, or ``limit`` trials. ``look`` is called now and then with the progress.

    ``place``: the result of ``connect``. ``processes``: by default one for each core, in memory; the result and the
    number of trials are the same for any number.
    """
    began = time.perf_counter()
    search = Search(scope, place)
    if processes is None:
        processes = 1 if place else os.cpu_count() or 1
    with _frozen():
        if processes > 1:
            _in_rounds(search, processes, limit, look)
        else:
            while _goes_on(search, limit):
                search.step()
                _now_and_then(search, look)
    broken = [search.shortest(one) for one in search.broken[:1]]
    if search.exhausted and not broken and (state := search.hopeless()):
        broken = [search.shortest(search.stuck(state[0]))]
    return Explored(
        scope, search.executions, search.states, search.exhausted and not broken, broken, time.perf_counter() - began
    )


def _in_rounds(search: Search, processes: int, limit: int, look: Callable[[Search], None]) -> None:
    with Hands(search.scope, processes) as hands:
        while _goes_on(search, limit):
            learned, search.fresh = search.fresh, []
            branches = list(islice(search.pending, ROUND))
            for branch, tried in zip(branches, hands.make(branches, learned), strict=True):
                if _goes_on(search, limit):
                    search.pending.popleft()
                    search.absorb(branch, tried)
                    _now_and_then(search, look)


def _goes_on(search: Search, limit: int) -> bool:
    return not search.exhausted and not search.broken and search.executions < limit


def _now_and_then(search: Search, look: Callable[[Search], None]) -> None:
    if search.executions % COLLECT == 0:
        look(search)
        gc.collect(0)


@contextmanager
def _frozen() -> Iterator[None]:
    """Exclude existing objects from garbage collection inside the context."""
    gc.freeze()
    try:
        with undisturbed():
            yield
    finally:
        gc.unfreeze()
