"""Bugs of cleared queues, and of keys given back by hand."""

from __future__ import annotations

from typing import Any

from kashvi import clearing
from kashvi.ports import NO_LOCK

from . import Patch, exhibit, where


@exhibit(
    "a cleared queue leaves its unique keys behind",
    "no job with them can be dispatched again",
    "QUEUES-11",
)
def _(patch: Patch) -> None:
    patch.setattr(clearing, "lock_of", lambda one: NO_LOCK)


@exhibit("a cleared queue keeps its delayed jobs", "they come back one by one", "QUEUES-11")
def _(patch: Patch) -> None:
    where(patch, clearing, "_cleared", lambda driver, place, *rest: place == "delayed", lambda real, *args: 0)


@exhibit("queue:unlock frees the key of a job on a queue", "a second job with it runs beside the first", "QUEUES-12")
def _(patch: Patch) -> None:
    patch.setattr(clearing, "_held", lambda *args: None)


@exhibit("queue:unlock looks on queues alone", "and frees the key of a job that a worker has", "QUEUES-12")
def _(patch: Patch) -> None:
    def found(real: Any, *args: Any) -> Any:
        return iter(())

    where(patch, clearing, "found", lambda driver, job_id, place, *rest: place == "running", found)
