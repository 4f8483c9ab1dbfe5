"""A trace: every event as one line of JSON, in order. The same seed gives the same bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import msgspec

from kashvi.events import AnyEvent, Event


class FaultStruck(Event, frozen=True, kw_only=True):
    """A fault struck. ``call``: its place, such as ``after exchange``; ``victim``: the process."""

    fault: str
    call: str
    victim: str


class ProcessKilled(Event, frozen=True, kw_only=True):
    """A simulated process was killed, between two instructions."""

    victim: str
    victim_id: str
    """The id in its own events."""


class ServerRolledBack(Event, frozen=True, kw_only=True):
    """The server came back without its last seconds. ``lost``: the number of lost dispatches."""

    why: str
    lost: int


SimEvent = AnyEvent | FaultStruck | ProcessKilled | ServerRolledBack
"""Every kind that a simulated trace can hold."""

_encode = msgspec.json.Encoder().encode


def sha256_of(events: Iterable[Event]) -> str:
    """The SHA-256 of the trace's bytes."""
    digest = hashlib.sha256()
    for event in events:
        digest.update(_encode(event))
        digest.update(b"\n")
    return digest.hexdigest()


def write(events: Iterable[Event], path: Path) -> None:
    with path.open("wb") as out:
        for event in events:
            out.write(_encode(event) + b"\n")
