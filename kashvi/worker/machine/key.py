"""How a field of the machine's state stands in its key: a time is an age or a wait, never a point in time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from typing import TYPE_CHECKING, Any

from ..settle import Delivery, Settling, TimeLimit
from .steps import Request

if TYPE_CHECKING:
    from .state import State

Told = Callable[["State", Any, int], Hashable]
"""Makes a field's part of the key, from the state, the field's value and the time."""


def as_it_is(state: State, value: Hashable, now: int) -> Hashable:
    return value


def setting(state: State, value: object, now: int) -> Hashable:
    """It never changes."""
    return None


def age(horizon: Callable[[State], int]) -> Told:
    """The time since then, no longer than it can make a difference."""

    def told(state: State, at: int | None, now: int) -> Hashable:
        return None if at is None else min(now - at, horizon(state) + 1)

    return told


def wait(state: State, at: int | None, now: int) -> Hashable:
    """The time until then."""
    return None if at is None else max(at - now, 0)


def jobs(state: State, some: Iterable[Delivery], now: int) -> Hashable:
    """The jobs in their places, and the order of their claims: a worker that stops hands them back in that order."""
    order = sorted({d.server_at for d in (*state.ready, *state.suspects)})
    return tuple((d.raw, d.place, order.index(d.server_at)) for d in some)


def attempts(state: State, some: dict[int, Delivery], now: int) -> Hashable:
    return tuple((d.raw, d.place) for d in some.values())


def owed(state: State, some: Iterable[Settling], now: int) -> Hashable:
    """How long a retry has waited already counts; of all else, only the first one's age does (``owed_since``)."""
    return tuple(
        (s.move, s.delivery.owner, s.delivery.raw, s.delivery.place, s.new, s.wait_s, s.follow_ups,
         round(now - s.ended_at * 1e6) if s.move in ("retry", "fail") or s.follow_ups else 0,
         s.delivery.lease_end and round(now - s.delivery.lease_end * 1e6))
        for s in some
    )  # fmt: skip


def request(state: State, one: Request | None, now: int) -> Hashable:
    return one and (owed(state, one.settlings, now), one.want, one.by_thread, one.waits == state.waits)


def counts(state: State, counted: Counter[bytes], now: int) -> Hashable:
    return frozenset(counted.items())


def time_limits(state: State, some: dict[int, TimeLimit], now: int) -> Hashable:
    """In the order in which the attempts began."""
    return tuple(
        (one.delivery.raw, one.stuck or wait(state, one.deadline, now), wait(state, one.obey_until, now))
        for one in some.values()
    )


def lines(state: State, some: list[str], now: int) -> Hashable:
    return tuple(some)


def last_suspect(state: State, one: Delivery | None, now: int) -> Hashable:
    return one and (one.raw, id(one) in state.running)


def where(matters: Callable[[State], bool]) -> Told:
    """The value, where a decision depends on it; elsewhere None."""
    return lambda state, value, now: value if matters(state) else None


def number(state: State, value: int, now: int) -> Hashable:
    """Only compared with another one: with the server's, or with one in ``open``, whose key tells the difference."""
    return None


def suspects_age(state: State, at: int, now: int) -> Hashable:
    return min(now - at, state.lease * _doublings(state.suspects[0]) + 1) if state.suspects else None


def suspect_age(state: State, at: int, now: int) -> Hashable:
    return min(now - at, 10 * state.lease * _doublings(state.suspect) + 1) if state.suspect else None


def _doublings(d: Delivery) -> int:
    return 1 << min(d.lost, 20)  # no less than any patience or window
