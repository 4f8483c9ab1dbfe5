"""What an answer of the server means for what a worker knows: decisions, which change nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from ...ports import Exchange
from ..settle import Delivery
from .state import State
from .steps import Request


def comparable(state: State, request: Request) -> bool:
    """Whether the server's count of what we hold means the same as ours: no wait was under way."""
    return request.waits == state.waits and not state.waiting


def doubtful(state: State, request: Request, answer: Exchange) -> bool:
    """Whether a reply was lost on the way, or something that we know of is gone, or the other way round."""
    if state.repeated or answer.listing is not None:
        return True
    return comparable(state, request) and answer.holding != state.holding.total()


def unknown(known: Counter[bytes], listed: Iterable[Delivery]) -> list[Delivery]:
    """What the server lists and we did not know of: it is ours now."""
    left = known.copy()
    found = []
    for d in listed:
        if left[d.raw] > 0:
            left[d.raw] -= 1
        else:
            found.append(d)
    return found
