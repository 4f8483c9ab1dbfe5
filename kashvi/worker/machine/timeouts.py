"""Decides what is due about the time limits of running attempts. Changes nothing."""

from __future__ import annotations

from ..settle import TimeLimit
from . import stop
from .state import State


def matter(state: State) -> bool:
    return bool(state.time_limits) or state.leave_at is not None


def next_at(state: State) -> int | None:
    """When the next limit passes, or the time to obey one is over."""
    times = [one.deadline if one.obey_until is None else one.obey_until for one in waited_for(state)]
    if state.leave_at is not None and state.running:
        times.append(state.leave_at)
    return min(times, default=None)


def waited_for(state: State) -> list[TimeLimit]:
    """The limits of attempts that are not stuck."""
    return [one for one in state.time_limits.values() if not one.stuck]


def passed(state: State, now: int) -> list[TimeLimit]:
    """Limits that have passed, and that the keeper had not seen to have passed."""
    return [one for one in waited_for(state) if one.obey_until is None and one.deadline <= now]


def disobeyed(state: State, now: int) -> TimeLimit | None:
    """A limit that has not been obeyed in time: its attempt is stuck."""
    over = (one for one in waited_for(state) if one.obey_until is not None and one.obey_until <= now)
    return next(over, None)


def may_open(state: State) -> bool:
    """Whether another thread is opened in place of a stuck one: for each at most one, and ``spare`` in all."""
    return state.opened < state.spare and state.stopping_at is None


def leaves(state: State, now: int) -> bool:
    """Whether a worker with stuck attempts ends now: the others have ended, or have had their time."""
    if state.leave_at is None or not state.running or state.exchanging:
        return False
    if state.waiting and not stop.tired(state, now):  # it would claim a job into the death of the process
        return False
    return now >= state.leave_at or len(state.running) == sum(one.stuck for one in state.time_limits.values())


def surplus(state: State) -> bool:
    """True if a stuck attempt has ended in whose place a thread was opened."""
    return state.opened > sum(one.stuck for one in state.time_limits.values())
