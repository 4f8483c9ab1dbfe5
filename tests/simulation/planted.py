"""Bugs of the museum that the simulator, too, must find by itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from kashvi_spec.kit.museum import MUSEUM

PLANTED: dict[str, tuple[str, Callable[[pytest.MonkeyPatch], None]]] = {
    name: (MUSEUM[name].about, MUSEUM[name].plant)
    for name in (
        "claim without reserving",
        "ack before handling",
        "promotion that does not check the removal",
        "retry off by one",
        "gives up too early",
        "constant backoff",
        "early promotion",
        "double recording",
        "removed before it is recorded",
        "heartbeat forgotten",
        "settle not fenced",
        "claim reply lost",
        "settle sent again under a new number",
        "wake-up lost",
        "no worker reclaims",
        "a lost attempt is never counted",
        "every lost job is counted",
        "reclaim moves instead of settling in place",
        "retry by the worker's own clock",
        "last in, first out",
        "jobs that have not started are dropped at the stop",
    )
}
