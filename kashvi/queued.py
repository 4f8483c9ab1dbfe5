"""The jobs on the queues, read without being changed: ready, delayed, and held by workers; and each queue's state."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

from .dispatch import naming
from .errors import InvalidSetting, NotAnEnvelope
from .jobs.envelope import made_s, queue_in, read, text_of
from .named import QueueStats
from .names import DEFAULT, queue_name
from .ports import WHERE, Driver, Pausing, Showing, Shown, Where


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """A job on the queue, as it was a moment ago."""

    id: str
    """Empty for a job without an id, as the Go program sends it, and for bytes that are not an envelope."""
    type: str
    """The wire name; empty for bytes that are not an envelope."""
    payload: str
    """JSON as it was dispatched; ``base64:…`` for bytes that are not UTF-8 text."""
    attempts: int
    """The counted attempts."""
    where: Where
    due: datetime | None = None
    """Of a delayed job, in UTC."""
    worker: str = ""
    """Of a running job: the id of the worker that has it."""
    dispatched_at: datetime | None = None
    """The time in the id, in UTC, if kashvi made it."""
    lost: int = 0
    """How grave a suspect it is, after a death of its process; 0: it is none."""
    queue: str = DEFAULT


@dataclass(frozen=True, slots=True)
class QueueState:
    """A queue, as it was a moment ago."""

    name: str
    ready: int
    delayed: int
    paused: bool
    served: bool
    """True if a worker with a lease serves it."""
    oldest_age_s: float | None = None
    """Seconds, by the server's clock, since the job that is claimed next was dispatched: its id has that time. None
    if no job is ready, or if kashvi did not make the id."""


def states(driver: Driver) -> list[QueueState]:
    """Each queue of the driver, by name. A driver without named queues has one. Raises DriverError."""
    if getattr(driver, "names_queues", False):
        return [_state(name, found) for name, found in sorted(naming(driver).queue_stats().items())]
    counts = driver.stats()
    paused = isinstance(driver, Pausing) and driver.paused_since() is not None
    return [QueueState(DEFAULT, counts.ready, counts.delayed, paused, counts.workers > 0)]


def _state(name: str, found: QueueStats) -> QueueState:
    try:
        made = None if found.oldest is None else made_at(read(found.oldest).id)
    except NotAnEnvelope:
        made = None
    age_s = None if made is None else max(found.server_at - made.timestamp(), 0.0)
    return QueueState(name, found.ready, found.delayed, found.paused, found.served, age_s)


def jobs(driver: Driver, where: Where, limit: int, queue: str | None = None) -> Iterator[QueuedJob]:
    """Up to ``limit`` jobs of one place, of a queue; by default of the default queue, and running ones of all.

    Raises InvalidSetting, DriverError.
    """
    if where not in WHERE:
        raise InvalidSetting("where", where, f"one of {', '.join(WHERE)}")
    if not isinstance(driver, Showing):
        raise InvalidSetting("the driver", driver, "one with a method show(where, limit), to read the jobs it has")
    if queue is not None:
        queue_name(queue)
    if where == "running":
        running = (job_of(one, where) for one in driver.show(where, limit if queue is None else sys.maxsize))
        of_it = running if queue is None else (job for job in running if job.queue == queue)
        return islice(of_it, limit)
    queue = DEFAULT if queue is None else queue
    found = driver.show(where, limit) if queue == DEFAULT else naming(driver).show(where, limit, queue)
    return (job_of(one, where, queue) for one in found)


def job_of(shown: Shown, where: Where, queue: str | None = None) -> QueuedJob:
    """A job as a driver shows it. Of a running one the envelope names the queue."""
    queue = DEFAULT if queue is None else queue
    due = None if shown.due is None else _moment(shown.due)
    try:
        one = read(shown.envelope)
    except NotAnEnvelope:
        return QueuedJob("", "", text_of(shown.envelope), 0, where, due, shown.worker, queue=queue)
    payload = text_of(bytes(one.payload))
    queue = queue_in(one) if where == "running" else queue
    made = made_at(one.id)
    return QueuedJob(one.id, one.type, payload, one.attempts, where, due, shown.worker, made, one.lost, queue)


def made_at(job_id: str) -> datetime | None:
    """The time in the id, if kashvi made it."""
    at = made_s(job_id)
    return None if at is None else _moment(at)


def _moment(at: float) -> datetime | None:
    """None for a score of another program that is no time: infinite, or beyond the year 9999."""
    try:
        return datetime.fromtimestamp(at, UTC)
    except (ValueError, OverflowError, OSError):
        return None
