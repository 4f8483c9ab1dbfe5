"""Decides how many jobs of each queue to claim, and which queues a thread waits for. Changes nothing.

Strict: each queue may give all that is wanted, in the order of the list. Weighted: smooth weighted round robin, which
spreads each queue's turns evenly. What one queue can't give, the others do.
"""

from __future__ import annotations

from ...names import DEFAULT, ONLY_DEFAULT
from ...ports import Shares, Want
from .state import State


def divided(state: State, want: int) -> tuple[Want, tuple[int, ...]]:
    """The wanted jobs by queue, and the credits of the queues afterwards."""
    if state.queues == ONLY_DEFAULT:
        return want, ()
    weights = [one.weight for one in state.queues]
    total = sum(weights)
    if not total or want <= 0:
        return Shares(want, tuple((one.name, want) for one in state.queues)), state.credits
    ahead, rounds = list(state.credits or [0] * len(weights)), want // total
    counts = [rounds * weight for weight in weights]  # after as many turns as the weights, all credits are as before
    for _ in range(want - rounds * total):
        ahead = [credit + weight for credit, weight in zip(ahead, weights, strict=True)]
        turn = ahead.index(max(ahead))
        ahead[turn] -= total
        counts[turn] += 1
    names = (one.name for one in state.queues)
    return Shares(want, tuple(zip(names, counts, strict=True))), tuple(ahead)


def waited_for(state: State) -> tuple[str, ...]:
    """The queues a thread waits for: it claims of the first. Empty: of the default queue, as that is the only one.

    The first is the default queue, if it is served: a push to it wakes no one who waits for another queue.
    """
    if state.queues == ONLY_DEFAULT:
        return ()
    names = [one.name for one in state.queues if one.name not in state.paused_queues]
    return tuple(sorted(names, key=lambda name: name != DEFAULT)) or (state.queues[0].name,)


def several(state: State) -> bool:
    """True if it serves more than one queue: a wait then says nothing about the others."""
    return len(state.queues) > 1


def heard(state: State, paused: bool, queues: tuple[str, ...]) -> frozenset[str]:
    """The served queues that are paused, by what the server says."""
    if several(state):
        return frozenset(queues)
    return frozenset((state.queues[0].name,)) if paused else frozenset()
