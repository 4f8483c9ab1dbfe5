"""When a worker stops by itself, and when it gives up on its server: decisions, which change nothing."""

from __future__ import annotations

from ..settle import Delivery
from .state import State
from .steps import SECOND


def time_is_over(state: State, now: int) -> bool:
    """After ``max_time``."""
    limit = state.limits.max_time_s
    return limit is not None and state.stopping_at is None and now - state.born_at >= limit * SECOND


def unheard(state: State, now: int) -> bool:
    """It can't know whether the queue is empty, which it was to work on until it is."""
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
    """A stopping worker tries for one lease; then its jobs are anyone's."""
    return state.stopping_at is not None and now - state.stopping_at > state.lease


def going_back(state: State) -> list[Delivery]:
    """Claimed jobs that have not started, the newest first, so that their order is kept."""
    return sorted((*state.ready, *state.suspects), key=lambda d: d.server_at)[::-1]


def may_leave(state: State) -> bool:
    """Whether it may go off the list of workers: nothing of ours may still arrive."""
    return not (state.ghost or state.holding or state.server_lost)
