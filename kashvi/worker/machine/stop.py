"""Decides when a worker stops by itself, and when it gives its server up. Changes nothing."""

from __future__ import annotations

from collections.abc import Callable

from ..settle import Delivery
from .state import State
from .steps import SECOND


def time_is_over(state: State, now: int) -> bool:
    """True after ``max_time``."""
    limit = state.limits.max_time_s
    return limit is not None and state.stopping_at is None and now - state.born_at >= limit * SECOND


def unheard(state: State, now: int) -> bool:
    """True if a worker that is to end when the queue is empty has heard nothing of the queue for a lease."""
    return state.limits.until != "stopped" and state.stopping_at is None and now - state.renewed_at > state.lease


def gives_up(state: State, now: int) -> bool:
    """Whether it stops, and has tried to reach the server for long enough: for a lease, if it has anything in hand.

    A wait whose answer was lost may have claimed a job all the same; its lease runs out whether we stay or not.
    """
    if state.stopping_at is None:
        return False
    empty_handed = not (state.running or state.outbox or state.holding or (state.open and state.open.settlings))
    return (empty_handed and state.server_lost) or tired(state, now)


def tired(state: State, now: int) -> bool:
    """True if a stopping worker has tried for one lease: then other workers may take its jobs over."""
    return state.stopping_at is not None and now - state.stopping_at > state.lease


def going_back(state: State, goes: Callable[[Delivery], bool]) -> list[Delivery]:
    """Claimed jobs that have not started and of which it is true, the newest first, so that their order is kept."""
    waiting = (d for d in (*state.ready, *state.suspects) if goes(d))
    return sorted(waiting, key=lambda d: d.server_at)[::-1]


def may_leave(state: State) -> bool:
    """Whether the worker may remove its name: no job may arrive for it any more."""
    return not (state.ghost or state.holding or state.server_lost)
