"""Suspects, the jobs that a process held when it died: their settlings, and the time at which a worker starts them.

Any of the jobs may have killed the process, and no job is charged for another's crash. So a job that may have run
beside others becomes a suspect, and is not charged. Suspects run apart, the graver the more so, until a death has one
cause.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from ...ports import LostDelivery
from .. import settle
from ..settle import Delivery, Settling
from .state import State

WINDOW_LEASES = 10
"""The leases for which no other suspect starts beside a suspect; twice as many after each further death."""
GRAVE = 2
"""From this grade on, no fresh job starts beside a suspect. It waits a lease for running ones; doubled likewise."""
DOUBLINGS_MAX = 20


def after_death(
    theirs: Sequence[LostDelivery],
    whole: bool,
    ended_at: float,
    new_id: Callable[[], str],
    max_attempts: int,
    server_at: float,
    type_limit: Callable[[Delivery], int] = lambda d: 0,
) -> list[Settling]:
    """The settlings for the jobs of one dead worker, in this order and for one exchange.

    ``theirs``: as ``Driver.expired`` has them; ``whole``: it is all they had. An announced attempt is lost only if it
    is certain that no other job ran: it is the only announced one, and all that is held was a suspect before, and so
    was waiting. While more of ``held`` may say otherwise, the announced one stays where it is.
    ``type_limit``: the limit of attempts of a job's type, 0 if it has none of its own.
    """
    found = [
        settle.delivery(one.envelope, one.owner, new_id, server_at, place=one.place, lease_end=one.lease_end)
        for one in theirs
    ]
    held = [d for d in found if d.place == "held"]
    running = [d for d in found if d.place == "running"]
    certain = len(running) == 1 and not any(d.envelope and not d.lost for d in held)
    if certain and held and not whole:
        running = []
    # A job that is returned later is nearer the head: announced ones before held ones, the last announced first of all.
    out = [settle.lost(d, ended_at, max_attempts, False, 0 if d.suspect else 1) for d in held]
    for d in reversed(running):
        graver = 2 if d is running[0] and not certain else 1
        out.append(settle.lost(d, ended_at, max_attempts, certain, graver, type_limit(d) if certain else 0))
    return out


def place_of(d: Delivery, waiting: Collection[Delivery]) -> int:
    """The place of a suspect: the gravest first. A wait and an exchange may bring them in any order."""
    return next((i for i, other in enumerate(waiting) if other.lost < d.lost), len(waiting))


def may_start(state: State, now: int) -> bool:
    """Whether the first suspect may be announced. Its attempt counts from then on, so a thread must be free for it."""
    if not state.suspects or alone(state, now):
        return False
    running = len(state.running)
    if running + (0 if keep_fresh_out(state, now) else len(state.ready)) >= state.threads + state.opened:
        return False
    first = state.suspects[0]
    return first.lost < GRAVE or not running or now >= state.suspects_since + patience(state, first)


def keep_fresh_out(state: State, now: int) -> bool:
    """True if a grave suspect waits, or runs in its window: then no fresh job starts."""
    if state.suspects and state.suspects[0].lost >= GRAVE:
        return True
    return state.suspect is not None and state.suspect.lost >= GRAVE and alone(state, now)


def kept_out(state: State, now: int) -> list[Delivery]:
    """Fresh jobs that were claimed and may not start: they go back, for other workers."""
    if not state.ready or state.stopping_at is not None or not keep_fresh_out(state, now):
        return []
    return [d for d in state.ready if d.place == "held"]


def next_at(state: State, now: int) -> int | None:
    """When a suspect may start that may not start now, if no attempt ends until then."""
    at = None
    if state.suspect is not None and alone(state, now):
        at = state.suspect_at + window(state, state.suspect)
    elif state.suspects and state.suspects[0].lost >= GRAVE:
        at = state.suspects_since + patience(state, state.suspects[0])
    return at if at is not None and at > now else None


def alone(state: State, now: int) -> bool:
    """True while the last announced suspect keeps the others waiting."""
    return state.suspect is not None and now < state.suspect_at + window(state, state.suspect)


def window(state: State, d: Delivery) -> int:
    return WINDOW_LEASES * state.lease * _doubled(d.lost - 1)


def patience(state: State, d: Delivery) -> int:
    return state.lease * _doubled(d.lost - GRAVE)


def _doubled(times: int) -> int:
    return 1 << min(max(times, 0), DOUBLINGS_MAX)
