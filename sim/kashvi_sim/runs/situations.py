"""Situations that a sweep must reach, each recognised by one or several events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from kashvi import events
from kashvi.events import Event

SITUATIONS: dict[str, tuple[str, Callable[[Event], bool]]] = {
    "retried": ("a failed attempt was followed by another", lambda e: isinstance(e, events.RetryScheduled)),
    "exhausted": (
        "a job failed for good after all its attempts",
        lambda e: isinstance(e, events.JobFailed) and not e.undeliverable,
    ),
    "undeliverable": (
        "bytes that are not a job were recorded",
        lambda e: isinstance(e, events.JobFailed) and e.undeliverable,
    ),
    "recorded": ("a row was written", lambda e: isinstance(e, events.FailureRecorded)),
    "delayed": ("a job waited until it was due", lambda e: isinstance(e, events.JobDispatched) and e.due is not None),
    "suspected": (
        "a job of a dead process went back, as a suspect",
        lambda e: isinstance(e, events.JobReturned) and e.suspect,
    ),
    "suspect started": (
        "a suspect was announced and ran",
        lambda e: isinstance(e, events.AttemptStarted) and e.suspect,
    ),
    "attempt lost": ("a process died in an announced attempt", lambda e: isinstance(e, events.AttemptLost)),
    "handed back": (
        "a worker that stopped handed back jobs that had not started",
        lambda e: isinstance(e, events.JobReturned) and not e.suspect,
    ),
    "refused": ("a settlement came too late", lambda e: isinstance(e, events.SettleRefused)),
    "server lost": ("a worker could not reach the server", lambda e: isinstance(e, events.ServerLost)),
    "server back": ("and then it could", lambda e: isinstance(e, events.ServerBack)),
    "store lost": ("the table could not be written", lambda e: isinstance(e, events.StoreLost)),
    "store back": ("and then it could", lambda e: isinstance(e, events.StoreBack)),
    "claimed by waiting": (
        "a job went straight to an idle worker",
        lambda e: isinstance(e, events.AttemptStarted) and e.claim == "wait",
    ),
    "duplicate": ("an attempt was started once more", lambda e: False),  # counted by its figure
}


def seen(trace: list[Event], duplicates: int) -> Counter[str]:
    """How often each situation occurred in a trace."""
    found: Counter[str] = Counter({"duplicate": duplicates}) if duplicates else Counter()
    tests = [(name, test) for name, (_, test) in SITUATIONS.items()]
    for event in trace:
        for name, test in tests:
            if test(event):
                found[name] += 1
    return found
