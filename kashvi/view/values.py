"""The answers of a ``View``: values, which stay as they are. Times are aware datetimes in UTC, durations seconds.

All of them encode with ``msgspec.to_builtins`` and ``msgspec.json``. Texts are as the job's author or another program
wrote them: a page escapes them, a terminal gets them through ``kashvi.text.visible``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final, Literal

from .. import reporting
from ..names import DEFAULT
from ..ports import Where

LIMIT_MAX = 100
"""The most jobs or rows of a page."""
SEARCHED_MAX = 10_000
"""A search for a text in errors reads the newest 10,000 rows; and a page counts no further."""
MINUTES_MAX = 24 * 60
"""Counts are kept for a day."""

BUCKETS_S: Final = reporting.BUCKETS_S
"""The upper bounds of the first eleven buckets of a histogram, in seconds, each included. The twelfth has the rest."""


class Missing(Enum):
    """Why a view has no value. False as a condition, and its text as ``str``."""

    NOT_RECORDED = "not recorded"
    """It is not in what was read: a waiting job has no error, and a list of failures no payloads."""
    NOT_OFFERED = "not offered"
    """It is kept nowhere: the driver lacks the optional port, no worker reports, or there is no failure table."""

    def __bool__(self) -> bool:
        return False

    def __str__(self) -> str:
        return self.value


NOT_RECORDED: Final = Missing.NOT_RECORDED
NOT_OFFERED: Final = Missing.NOT_OFFERED

Outcome = Literal["done", "retried", "failed", "snoozed", "postponed", "cancelled"]
"""How an attempt was settled. done: it succeeded. retried: it failed, and another one follows. failed: it was the last,
so the job is recorded. snoozed: the handler wants to be called again, and nothing was counted. postponed: this worker
does not know the type. cancelled: the job was cancelled, and ended instead of being retried or recorded.
A job that is handed back unstarted, and a settlement that the server refused, are none of these."""

Place = Literal["ready", "delayed", "running", "failed", "unknown"]
"""Where a job is. failed: exhausted; its row is in the failure table. unknown: it is on no queue and in no row: it
ended well, was cancelled, is about to be recorded as failed, or never was."""


@dataclass(frozen=True, slots=True)
class Job:
    """A job on a queue, as it was a moment ago."""

    id: str
    """Empty for a job without an id, as the Go program sends it, and for bytes that are not an envelope."""
    type: str
    """The wire name; empty for bytes that are not an envelope."""
    queue: str
    where: Where
    """``running``: a worker has it, started or about to be."""
    payload: str
    """JSON as it was dispatched; ``base64:…`` for bytes that are not UTF-8 text."""
    attempts: int
    """The counted attempts."""
    due: datetime | None = None
    """Of a delayed job, by the server's clock."""
    worker: str = ""
    """Of a running job: the id of the worker that has it."""
    dispatched_at: datetime | None = None
    """The time in the id, if kashvi made it: that of the dispatching host's clock."""
    lost: int = 0
    """How grave a suspect it is, after a death of its process; 0: it is none."""


@dataclass(frozen=True, slots=True)
class JobPage:
    """A part of a list of jobs."""

    jobs: tuple[Job, ...]
    """In their order: ready ones as they are claimed, delayed ones by due time, running ones by worker."""
    next: str = ""
    """The cursor of the next page, for ``after``: ASCII without spaces, at most 300 characters. Empty: this is the end.
    A page may be short, even empty, and have a next one: large jobs, and a filter, shorten it."""


@dataclass(frozen=True, slots=True)
class FailureFilter:
    """Which failed jobs: those that match all that is given."""

    type: str = ""
    """The wire name, exactly."""
    error: str = ""
    """A text that the error contains, in letters of either case. It is searched in the newest 10,000 rows only."""
    queue: str = ""
    """The name, exactly; ``default`` is the default queue."""
    since: datetime | None = None
    """Failed at this time or later."""
    until: datetime | None = None
    """Failed before this time."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A failed job: a row of the failure table."""

    row_id: int
    """The row's number."""
    job_id: str
    """Empty in rows of the Go program."""
    type: str
    queue: str
    error: str
    attempts: int
    failed_at: datetime | None
    """None if another program wrote what is no time."""
    payload: str | Missing = NOT_RECORDED
    """Only of ``View.failure``."""
    traceback: str | Missing = NOT_RECORDED
    """Of the last attempt; only of ``View.failure``. Empty if its process died."""
    extra: str | Missing = NOT_RECORDED
    """JSON: the envelope's fields without a column; only of ``View.failure``."""


@dataclass(frozen=True, slots=True)
class FailedPage:
    """A part of the failed jobs, newest first."""

    rows: tuple[Failed, ...]
    next: int | None
    """The row number for ``before``, to read on; None: this is the end."""
    total: int
    """How many match in all, or more than that if ``more``."""
    more: bool = False
    """True if counting, or the search for a text, ended before the oldest row."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt that runs, or ran a few seconds ago."""

    job_id: str
    type: str
    queue: str
    attempt: int
    """Its number, from 1."""
    since: datetime
    """When it began, by the server's clock, or up to a second later: when its keeper first saw it."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """A job whose process died, and that may be the reason."""

    job_id: str
    type: str
    lost: int
    """How grave: 1 if it was held by a dead process, more if it was started, or after more deaths."""
    announced: bool
    """True if the server knows that it is about to run: if this process dies too, the job is charged."""


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker on the server's list."""

    id: str
    lease_left_s: float
    """Until its lease runs out, by the server's clock; negative: it is over, and others take its jobs over."""
    queues: tuple[str, ...]
    """Those it serves, in their order; by weight as ``payments:3``."""
    holds: int
    """The jobs on its lists, started or not."""
    host: str | Missing = NOT_OFFERED
    pid: int | Missing = NOT_OFFERED
    version: str | Missing = NOT_OFFERED
    """Of kashvi."""
    threads: int | Missing = NOT_OFFERED
    running: tuple[Attempt, ...] | Missing = NOT_OFFERED
    """What its threads run, the oldest first; up to 100 are reported."""
    suspects: tuple[Suspect, ...] | Missing = NOT_OFFERED
    """The suspects it has, the gravest first; up to 100 are reported."""
    reported_at: datetime | None = None
    """When it reported ``host`` to ``suspects``, by the server's clock; None: never. A worker reports every 5 s at the
    most, and only if something changed."""


Histogram = tuple[int, int, int, int, int, int, int, int, int, int, int, int]
"""Numbers of attempts by duration: the first eleven buckets end at ``BUCKETS_S``, the twelfth has the rest."""


@dataclass(frozen=True, slots=True)
class Count:
    """Attempts that ended in one way within a minute."""

    queue: str
    type: str
    """The wire name, its first 200 characters; ``other`` for types beyond 200 of a report, or 2,000 counts a minute."""
    outcome: Outcome
    n: int


@dataclass(frozen=True, slots=True)
class Minute:
    """What workers did in a minute. Minutes without anything are left out."""

    at: datetime
    """When it began, by the server's clock. What ended up to 5 s before it may be counted in it."""
    counts: tuple[Count, ...]
    """By queue, type and outcome."""
    waits: dict[str, Histogram]
    """By queue: how long jobs waited from the time in their id to their first claim, a delay included. Of jobs that
    were claimed together, 4 are looked at, and stand for all."""
    runs: dict[str, Histogram]
    """By queue: how long ``handle()`` took. Of attempts that were settled together, 4 are looked at."""


@dataclass(frozen=True, slots=True)
class OutboxState:
    """An outbox of this queue: a database in whose transactions jobs are dispatched."""

    database: str
    """Its address, without a password."""
    rows: int | Missing
    """Committed jobs of this queue that are not pushed yet."""
    oldest_s: float | None = None
    """The age of the oldest, by the database's clock; None: there is none."""
    error: str = ""
    """Why it can't be read, if it can't."""


@dataclass(frozen=True, slots=True)
class Story:
    """One job: where it is, and what is kept of its attempts. A server keeps no history of a job."""

    job_id: str
    where: Place
    type: str = ""
    """Empty if it is unknown."""
    queue: str = DEFAULT
    attempts: int = 0
    """The counted attempts."""
    error: str | Missing = ""
    """Of the last failed attempt, if there was one. It is recorded once the job has failed for good."""
    payload: str | Missing = NOT_RECORDED
    dispatched_at: datetime | None = None
    """The time in the id, if kashvi made it."""
    lost: int = 0
    """How grave a suspect it is; 0: it is none."""
    cancelled: bool = False
    """It is marked: the attempt that a worker has may end, and no other starts."""
    row_id: int | None = None
    """If it failed: its row in the failure table."""
