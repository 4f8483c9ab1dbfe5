"""Decides the duties of the keeper. Changes nothing."""

from __future__ import annotations

from . import stop, timeouts
from .state import FLUSH, HOSTAGE, Duty, State
from .steps import SECOND

TICK = SECOND
MORE = SECOND // 10
"""The pause until the next look at the jobs of the dead, if they were too many for one."""
CLOSE = 10 * SECOND
"""How long a worker that ends waits for the failure table."""
RECORDS_MAX = 2

THEN: dict[Duty, Duty] = {
    "rest": "gather",
    "gather": "marks",
    "marks": "limits",
    "limits": "reap",
    "reap": "exchange",
    "exchange": "record",
    "record": "rest",
}
"""One round of the keeper: each duty once, then a rest. So a duty that fails is tried again after a rest."""


def third(state: State) -> int:
    """A third of a lease, rounded up: the keeper renews the lease and looks for the dead as often."""
    return -(-state.lease // 3)


def pause(state: State) -> int:
    if state.more_dead and state.stopping_at is None:
        return MORE
    return min(TICK, third(state))


def rests_until(state: State, now: int) -> int:
    until = now + pause(state)
    at = timeouts.next_at(state) if timeouts.matter(state) else None
    return until if at is None else min(until, max(at, now + FLUSH))  # a call may be in the way of what is due


def reaps(state: State, now: int) -> bool:
    """Whether to look for the dead: not before settlings for them, or of suspects, have gone out."""
    return state.stopping_at is None and now >= state.reap_at and not state.urgent


def exchanges(state: State, now: int) -> bool:
    """Whether the keeper makes an exchange, to renew the lease or to hand over work that no thread came to."""
    if state.exchanging:
        return False
    if now - state.renewed_at >= third(state):
        return True
    since = state.owed_since if state.outbox else state.waited_at
    return since is not None and (state.urgent or now - since >= FLUSH // 2)


def records(state: State) -> bool:
    return state.unrecorded > 0 and state.has_store and not state.recording


def stuck(state: State) -> bool:
    """True if all threads are busy and claimed jobs wait, which other workers could run."""
    return len(state.running) >= state.threads + state.opened and bool(state.ready or state.suspects)


def hostages(state: State, now: int) -> bool:
    """True if it was so for long enough, and no attempt began meanwhile."""
    return state.stuck_at is not None and state.stuck_taken == state.taken and now - state.stuck_at >= HOSTAGE


def settles(state: State, now: int) -> bool:
    """Whether the keeper settles after the last thread has ended: something is left, and the server is not given up."""
    left = state.to_reconcile or bool(state.outbox) or state.open is not None
    return left and not (state.server_lost and stop.gives_up(state, now))
