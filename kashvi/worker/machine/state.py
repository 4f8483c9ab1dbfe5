"""All that a worker knows, as a value: it can be copied, and two workers with the same key go on in the same way.

Each field says how it stands in the key. A time is an age (no older than makes a difference) or a wait, never a point
in time: so what happens an hour later is the same.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Hashable
from copy import copy
from functools import cache
from operator import attrgetter
from typing import Annotated, Literal, Self, get_type_hints

import msgspec
from msgspec import field

from ...names import ONLY_DEFAULT, Served
from ..settle import Delivery, Settling, TimeLimit
from .key import (
    Told,
    age,
    as_it_is,
    attempts,
    counts,
    jobs,
    last_suspect,
    lines,
    number,
    owed,
    request,
    setting,
    suspect_age,
    suspects_age,
    time_limits,
    wait,
    where,
)
from .steps import SECOND, Limits, Request

FLUSH = SECOND // 50
"""Finished work is handed over after this time even while more work is at hand."""
PAUSED_LOOK = SECOND // 2
"""A worker of a paused queue asks this often whether it still is."""
HOSTAGE = SECOND
"""Claimed jobs that could not start for so long go back to the queue, for others."""
BACKOFF_FIRST, BACKOFF_MAX = SECOND // 10, 5 * SECOND
ALL = -1
"""In ``wake``: the caller wakes all idle threads."""

Duty = Literal["rest", "gather", "marks", "limits", "reap", "exchange", "record"]
Phase = Literal["settle", "record", "leave", "over"]


class State(msgspec.Struct, eq=False):
    """Only the machine assigns to a field. Its caller, which holds the lock, clears the signals."""

    # What it is.
    id: Annotated[str, setting]
    threads: Annotated[int, setting]
    lease: Annotated[int, setting]
    limits: Annotated[Limits, setting]
    has_store: Annotated[bool, setting]
    born_at: Annotated[int, lambda state, at, now: now - at if state.limits.max_time_s is not None else None]
    queues: Annotated[tuple[Served, ...], setting] = ONLY_DEFAULT
    credits: Annotated[tuple[int, ...], as_it_is] = ()
    """With weights: how far each queue is behind its share of the claims."""
    paused_queues: Annotated[frozenset[str], as_it_is] = frozenset()
    """Of the queues that it serves."""

    # Jobs.
    ready: Annotated[deque[Delivery], jobs] = field(default_factory=deque)
    """Claimed, and may start."""
    running: Annotated[dict[int, Delivery], attempts] = field(default_factory=dict)
    """Attempts under way."""
    outbox: Annotated[list[Settling], owed] = field(default_factory=list)
    """Finished work, not handed over yet."""
    owed_since: Annotated[int, age(lambda state: FLUSH)] = 0
    """When the first in ``outbox`` came there."""
    urgent: Annotated[bool, as_it_is] = False
    """The next exchange should not wait."""
    owed_bytes: Annotated[int, as_it_is] = 0
    """The bytes of follow-ups in ``outbox`` and ``open``."""
    holding: Annotated[Counter[bytes], counts] = field(default_factory=Counter)
    """The envelopes that this worker believes to be on its two lists on the server."""
    taken: Annotated[int, where(lambda state: state.limits.max_jobs is not None)] = 0
    """How many attempts began."""
    pace: Annotated[int | None, as_it_is] = None
    """The moving average of a job's duration."""
    job_bytes: Annotated[int, as_it_is] = 1
    """The average size of the jobs that were claimed last."""
    stuck_at: Annotated[int | None, age(lambda state: HOSTAGE)] = None
    """Since when no attempt began, although jobs are claimed."""
    stuck_taken: Annotated[int, lambda state, value, now: value == state.taken] = 0

    # Cancelled jobs.
    marked_at: Annotated[float | None, as_it_is] = None
    """The time of the newest mark, by the last answer of the server."""
    to_ask: Annotated[bool, as_it_is] = False
    """It is a new one: which of the worker's jobs are marked?"""
    cancelled: Annotated[dict[int, Delivery], attempts] = field(default_factory=dict)
    """Attempts whose job was marked, among them ones that have ended since."""

    # Suspects.
    suspects: Annotated[deque[Delivery], jobs] = field(default_factory=deque)
    """Held and not announced, the gravest first."""
    suspects_since: Annotated[int, suspects_age] = 0
    """When the first of them began to keep fresh jobs out, if it does."""
    suspect: Annotated[Delivery | None, last_suspect] = None
    """The last that was announced, until it has ended."""
    suspect_at: Annotated[int, suspect_age] = 0
    overtaking: Annotated[bool, as_it_is] = False
    """Suspects were claimed by an exchange while a wait was under way that is not over yet."""

    # Time limits.
    time_limits: Annotated[dict[int, TimeLimit], time_limits] = field(default_factory=dict)
    """Of the attempts under way that have one."""
    obey: Annotated[int, setting] = 5 * SECOND
    """How long a handler may take to obey its time limit."""
    spare: Annotated[int, setting] = 0
    """The most threads that are opened in place of stuck ones."""
    opened: Annotated[int, as_it_is] = 0
    """The threads that are open in place of stuck ones."""
    leave_at: Annotated[int | None, wait] = None
    """Until when other attempts may go on beside a stuck one."""
    to_replace: Annotated[bool, as_it_is] = False
    """It stopped for a stuck attempt alone: another process is to take its place."""
    left_behind: Annotated[bool, as_it_is] = False
    """What still runs is no longer this worker's: its process is about to go."""

    # Threads.
    alive: Annotated[int, as_it_is] = 0
    idle: Annotated[int, as_it_is] = 0
    watched: Annotated[int | None, wait] = None
    """When one of the idle threads looks up."""
    called: Annotated[bool, as_it_is] = False
    """An idle thread has been called and has not answered yet."""
    waiting: Annotated[bool, as_it_is] = False
    """One thread waits on the server."""
    waits: Annotated[int, number] = 0
    """How many waits began."""
    waited_at: Annotated[int | None, age(lambda state: FLUSH)] = None
    """When a wait claimed a job that no exchange has followed: the server may not know this worker any more."""

    # The exchange.
    n: Annotated[int, number] = 0
    """The number of the last exchange."""
    open: Annotated[Request | None, request] = None
    """The request that was sent, or is about to be, and has no answer."""
    exchanging: Annotated[bool, as_it_is] = False
    repeated: Annotated[bool, as_it_is] = False
    """It may have been carried out already."""
    last_try: Annotated[bool, as_it_is] = False
    backoff: Annotated[int, as_it_is] = BACKOFF_FIRST
    renewed_at: Annotated[int, age(lambda state: max(state.lease, SECOND))] = 0
    """When the last answered request went out."""
    server_ahead: Annotated[int, as_it_is] = 0
    """The server's clock minus ours: by this sum the server's time is right, or ahead by a round trip at the most."""
    server_lost: Annotated[bool, as_it_is] = False

    # What is known of the server.
    look: Annotated[bool, as_it_is] = True
    """Something may be there to claim."""
    paused: Annotated[bool, as_it_is] = False
    """The queue is paused, or all that it serves: no job may be claimed or start."""
    asked_at: Annotated[int, age(lambda state: PAUSED_LOOK)] = 0
    """When the server last said that it is."""
    backlog: Annotated[int, as_it_is] = 0
    next_due_at: Annotated[int | None, wait] = None
    to_reconcile: Annotated[bool, as_it_is] = False
    """The worker must compare the server's listing with what it holds."""
    counted_at: Annotated[int, age(lambda state: state.lease // 4)] = 0
    """When the worker last compared the server's count of its jobs with its own; it can't while a thread waits."""
    ghost: Annotated[bool, as_it_is] = False
    """A wait whose answer never came may still claim a job."""
    unrecorded: Annotated[int, as_it_is] = 0
    """Exhausted jobs that wait for a table."""
    server_at: Annotated[int, where(lambda state: state.limits.until == "drained")] = 0
    server_moved_at: Annotated[
        int, lambda state, at, now: now - at if state.limits.until == "drained" else None
    ] = 0  # fmt: skip
    """The server's time by its last answer, and when, by our own clock, it was last another one."""

    # The end.
    stopping_at: Annotated[int | None, age(lambda state: state.lease)] = None
    gave_up: Annotated[bool, as_it_is] = False
    """The worker ends because it can't reach the server."""
    away: Annotated[bool, as_it_is] = False
    """The worker has ended without its server."""

    # The keeper.
    duty: Annotated[Duty, as_it_is] = "rest"
    """The keeper's next duty."""
    flush_asked: Annotated[bool, as_it_is] = False
    reap_at: Annotated[int, wait] = 0
    more_dead: Annotated[bool, as_it_is] = False
    """The dead hold more jobs than one look read."""
    recording: Annotated[bool, as_it_is] = False
    phase: Annotated[Phase, as_it_is] = "settle"
    """The keeper's progress after the last thread has ended."""
    records: Annotated[int, as_it_is] = 0
    """How often the keeper has started the recorder since then."""
    record_until: Annotated[int | None, wait] = None

    # Signals to the machine's caller.
    wake: Annotated[int, as_it_is] = 0
    """The number of idle threads that the caller wakes, or ALL."""
    bell: Annotated[bool, as_it_is] = False
    """The caller calls the keeper."""
    hurry: Annotated[bool, as_it_is] = False
    """The caller ends the pause before the next try: the machine may give up."""
    news: Annotated[list[str], lines] = field(default_factory=list)

    def clone(self) -> Self:
        """A copy that shares no container with this one."""
        other = copy(self)
        for name in _containers():
            setattr(other, name, getattr(self, name).copy())
        return other

    def key(self, now: int) -> tuple[Hashable, ...]:
        """Everything that its further steps depend on."""
        plain, others = _told_in_two()
        return (*plain(self), *[told(self, getattr(self, name), now) for name, told in others])


@cache
def _told_in_two() -> tuple[Callable[[State], tuple[Hashable, ...]], list[tuple[str, Told]]]:
    """Reads the fields that stand in the key as they are; and the others that can make a difference."""
    told = told_of()
    plain = attrgetter(*(name for name, one in told.items() if one is as_it_is))
    return plain, [(name, one) for name, one in told.items() if one not in (as_it_is, setting, number)]


@cache
def told_of() -> dict[str, Told]:
    """The part of each field in the key. Made at first use: it takes longer than to start a worker."""
    hints = get_type_hints(State, globals(), {}, include_extras=True)
    return {name: hints[name].__metadata__[0] for name in State.__struct_fields__}


@cache
def _containers() -> list[str]:
    return [one.name for one in msgspec.structs.fields(State) if isinstance(one.default_factory, type)]
