"""What the keeper has to look after: decisions, which change nothing."""

from __future__ import annotations

from . import stop
from .state import FLUSH, HOSTAGE, Duty, State
from .steps import SECOND

TICK = SECOND
MORE = SECOND // 10
"""Until the next look at what the dead hold, where it was too much for one."""
CLOSE = 10 * SECOND
"""How long a worker that ends waits for the failure table."""
RECORDS_MAX = 2

THEN: dict[Duty, Duty] = {
    "rest": "gather",
    "gather": "reap",
    "reap": "exchange",
    "exchange": "record",
    "record": "rest",
}
"""One round of the keeper: each duty once, then a rest. So what fails is not tried again without one."""


def third(state: State) -> int:
    """Of a lease: how often it is renewed, and the dead are looked for. Three of them are no less than a lease."""
    return -(-state.lease // 3)


def pause(state: State) -> int:
    if state.more_dead and state.stopping_at is None:
        return MORE
    return min(TICK, third(state))


def reaps(state: State, now: int) -> bool:
    """Whether to look for the dead; not while settlings for them, or about suspects, have not gone out yet."""
    return state.stopping_at is None and now >= state.reap_at and not state.urgent


def exchanges(state: State, now: int) -> bool:
    """Whether to renew the lease, or to hand over what has waited, as no thread comes to it."""
    if state.exchanging:
        return False
    if now - state.renewed_at >= third(state):
        return True
    since = state.owed_since if state.outbox else state.waited_at
    return since is not None and (state.urgent or now - since >= FLUSH // 2)


def records(state: State) -> bool:
    return state.unrecorded > 0 and state.has_store and not state.recording


def stuck(state: State) -> bool:
    """All threads are busy: what they hold back may be for others."""
    return len(state.running) >= state.threads and bool(state.ready or state.suspects)


def hostages(state: State, now: int) -> bool:
    """It was so for long enough, and no attempt began meanwhile."""
    return state.stuck_at is not None and state.stuck_taken == state.taken and now - state.stuck_at >= HOSTAGE


def settles(state: State, now: int) -> bool:
    """Whether there is something left to settle when the last thread has ended, and a server to settle with."""
    left = state.to_reconcile or bool(state.outbox) or state.open is not None
    return left and not (state.server_lost and stop.gives_up(state, now))
