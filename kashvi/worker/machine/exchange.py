"""Compares an answer of the server with what the worker knows. Changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from ...ports import Exchange
from ..settle import Delivery
from .state import State
from .steps import Request


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
