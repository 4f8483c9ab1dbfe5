"""Decides how much a request carries, and compares its answer with what the worker knows. Changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from ...ports import Exchange
from ..settle import Delivery, Settling
from .state import State
from .steps import Request

FOLLOW_UPS_MAX = 10_000
OWED_MAX_BYTES = 32 * 1024 * 1024
"""The most follow-ups, and the most bytes of them, that one request carries. A server runs nothing else meanwhile, for
about 10 ms, and would refuse a much larger request each time."""


def sendable(outbox: Sequence[Settling]) -> int:
    """How many of these settlings go into one request: the first at least."""
    number = size = 0
    for i, settling in enumerate(outbox):
        number += len(settling.follow_ups)
        size += settling.follow_up_bytes
        if i and settling.follow_ups and (number > FOLLOW_UPS_MAX or size > OWED_MAX_BYTES):
            return i
    return len(outbox)


def too_much_owed(state: State) -> bool:
    """Whether follow-ups fill the memory, so that no more jobs start before the server has taken them."""
    return state.owed_bytes > OWED_MAX_BYTES


def comparable(state: State, request: Request) -> bool:
    """Whether the server's count of our jobs is comparable with ours: no wait was under way."""
    return request.waits == state.waits and not state.waiting


def doubtful(state: State, request: Request, answer: Exchange) -> bool:
    """Whether a reply was lost, or the server holds more or fewer jobs for us than we know of."""
    if state.repeated or answer.listing is not None:
        return True
    return comparable(state, request) and answer.holding != state.holding.total()


def unknown(known: Counter[bytes], listed: Iterable[Delivery]) -> list[Delivery]:
    """The listed jobs that we did not know of: we take them on."""
    left = known.copy()
    found = []
    for d in listed:
        if left[d.raw] > 0:
            left[d.raw] -= 1
        else:
            found.append(d)
    return found
