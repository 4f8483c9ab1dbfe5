"""Shrinks a failing run to the few choices that make it fail: removes choices in ever smaller parts while it fails."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from ..world.tape import STREAMS, Choices

Key = tuple[str, int]
PAIRS_MAX = 16
"""With at most this many choices left, pairs are tried as well."""


def shrink(
    choices: Choices, fails: Callable[[dict[Key, int]], bool], tries: int = 900, enough: int = 0
) -> dict[Key, int]:
    """The choices left when none can be removed or lowered without losing the failure, or after ``tries``.

    ``enough``: so few are not shrunk further.
    """
    best = dict(choices)
    left = tries

    def better(candidate: dict[Key, int]) -> bool:
        nonlocal best, left
        if left <= 0 or len(best) <= enough or candidate == best:
            return False
        left -= 1
        if fails(candidate):
            best = candidate
            return True
        return False

    for name in ("schedule", "chance", "attempts", "workload", "faults"):
        better({key: value for key, value in best.items() if key[0] != name})
    while left > 0 and len(best) > enough:
        before = dict(best)
        _cut(lambda: best, better)
        _lower(lambda: best, better)
        _move(lambda: best, better)
        if best == before and len(best) <= PAIRS_MAX:
            for pair in itertools.combinations(sorted(best), 2):
                better({key: value for key, value in best.items() if key not in pair})
        if best == before:
            break
    return best


def _cut(best: Callable[[], dict[Key, int]], better: Callable[[dict[Key, int]], bool]) -> None:
    """Remove the end of a stream, then ever smaller parts of everything."""
    for name in STREAMS:
        positions = sorted(position for stream, position in best() if stream == name)
        low, high = 0, len(positions)
        while low < high:  # bisect to the shortest beginning of the stream that still fails
            middle = (low + high) // 2
            if better({k: v for k, v in best().items() if k[0] != name or k[1] in positions[:middle]}):
                high = middle
            else:
                low = middle + 1
    size = max(len(best()) // 2, 1)
    while size:
        keys = sorted(best())
        for start in range(0, len(keys), size):
            gone = set(keys[start : start + size])
            better({key: value for key, value in best().items() if key not in gone})
        size //= 2


def _move(best: Callable[[], dict[Key, int]], better: Callable[[dict[Key, int]], bool]) -> None:
    """Move faults to earlier calls, if possible without the choices that led to the later call."""
    faults = {key: value for key, value in best().items() if key[0] == "faults"}
    others = sorted({key[0] for key in best()} - {"faults"})
    for name in others:
        rest = {key: value for key, value in best().items() if key[0] != name}
        for by in (1, 2, 3, 5, 8, 13, 21, 34):
            moved = {("faults", position - by): value for (_, position), value in faults.items() if position >= by}
            if len(moved) == len(faults) and better({k: v for k, v in rest.items() if k[0] != "faults"} | moved):
                break
    for key in sorted(key for key in best() if key[0] == "faults"):
        for by in (1, 2, 3, 5):
            earlier = ("faults", key[1] - by)
            if earlier[1] >= 0 and earlier not in best() and key in best():
                better({k: v for k, v in best().items() if k != key} | {earlier: best()[key]})


def _lower(best: Callable[[], dict[Key, int]], better: Callable[[dict[Key, int]], bool]) -> None:
    """Lower each remaining choice as far as possible; a fault keeps its kind."""
    for key, value in sorted(best().items()):
        for smaller in (1, value // 16, value // 2):
            if 0 < smaller < value and better(best() | {key: smaller}):
                break
