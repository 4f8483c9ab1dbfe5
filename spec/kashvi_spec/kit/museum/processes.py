"""Bugs of a process: while its interpreter shuts down, and after a fork."""

from __future__ import annotations

from kashvi.queues import Queue
from kashvi.runtime import SystemRuntime
from kashvi.stream import EventStream

from . import Patch, exhibit


@exhibit(
    "jobs are taken while the interpreter goes down",
    "when no executor takes work any more",
    "WORKERS-15",
    source="ours, until now: 7 of 8 jobs failed; RQ, Celery's threads: cannot schedule new futures after shutdown",
)
def _(patch: Patch) -> None:
    patch.setattr(SystemRuntime, "at_closing", lambda self, run: lambda: None)


@exhibit("a shutdown is counted as an attempt", "of all running jobs", "WORKERS-15", source="River, until #1290")
def _(patch: Patch) -> None:
    patch.setattr(SystemRuntime, "closing", lambda self: False)


@exhibit("a fork's child works on", "as its parent does", "WORKERS-16", source="ours, until now")
def _(patch: Patch) -> None:
    patch.setattr(Queue, "_forked", lambda self: None)


@exhibit("a fork's child tells under its parent's name", "events of two processes look like one's", "WORKERS-16")
def _(patch: Patch) -> None:
    patch.setattr(EventStream, "restart", lambda self, process: None)
