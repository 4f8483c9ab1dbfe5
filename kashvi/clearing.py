"""Clearing a queue, and giving a key back by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Literal, NamedTuple, Protocol, runtime_checkable

from .cancelling import Cancelling, found, lock_of
from .errors import InvalidSetting, NotAnEnvelope
from .jobs.envelope import Envelope, lock_in, queue_in, read
from .names import DEFAULT, queue_name
from .ports import NO_LOCK, Driver, Lock, Shown, Where, at_once

Gone = Callable[[Envelope, float], object]
"""Told of a job that was removed, with the server's time."""

CHUNK = 500
"""The most jobs that one step removes, so that it does not block the server for long."""


@runtime_checkable
class Clearing(Cancelling, Protocol):
    """A driver whose queues can be cleared."""

    def show(self, where: Where, limit: int, queue: str = DEFAULT) -> Iterator[Shown]:
        """As ``NamedQueues.show``."""

    def counts(self, queue: str) -> tuple[int, int]:
        """How many jobs of the queue are ready, and delayed."""

    def take_out_many(
        self, where: Where, queue: str, envelopes: Sequence[bytes], locks: Sequence[Lock]
    ) -> tuple[float, list[int]]:
        """Remove those of the oldest ready jobs, or of the delayed ones, that are there still, and give their keys
        back, in one step; returns the server's time, and the indexes of those that were there."""

    def holder_of(self, key: str) -> str:
        """The id of the job that has the key; empty if none has."""

    def give_back(self, key: str, job_id: str) -> bool:
        """Give a key back, if this job has it still."""


class Cleared(NamedTuple):
    """The numbers of jobs that were removed."""

    ready: int
    delayed: int


class Unlocked(NamedTuple):
    """The answer to an unlock."""

    outcome: Literal["freed", "held", "unknown"]
    """freed: no job has the key, and it is given back. held: a job has it, and keeps it. unknown: it is free."""
    job_id: str = ""
    """The job that has the key, or had it."""
    type: str = ""
    """If it is held: the job's type."""
    queue: str = DEFAULT
    where: Where = "ready"


def clear(driver: Driver, queue: str, gone: Gone = lambda one, at: None) -> Cleared:
    """Remove the ready and delayed jobs that a queue has; calls ``gone`` for each that is an envelope.

    Raises InvalidSetting, DriverError.
    """
    able = _able(driver)
    delayed = _cleared(able, "delayed", queue_name(queue), able.counts(queue)[1], gone)
    return Cleared(_cleared(able, "ready", queue, able.counts(queue)[0], gone), delayed)


def _able(driver: Driver) -> Clearing:
    if not isinstance(driver, Clearing):
        raise InvalidSetting("the driver", driver, "one whose queues can be cleared, such as RedisDriver")
    return driver


def _cleared(driver: Clearing, where: Where, queue: str, there: int, gone: Gone) -> int:
    """No more than were there at first: producers may be faster than we."""
    removed = 0
    while there > 0:
        shown = islice(driver.show(where, min(CHUNK, there), queue), CHUNK)
        chunk = at_once(one.envelope for one in shown)
        if not chunk:
            break
        jobs = [_read(raw) for raw in chunk]
        at, taken = driver.take_out_many(where, queue, chunk, [lock_of(one) if one else NO_LOCK for one in jobs])
        for i in taken:
            if (one := jobs[i]) is not None:
                gone(one, at)
        removed += len(taken)
        there -= len(chunk)
    return removed


def _read(raw: bytes) -> Envelope | None:
    try:
        return read(raw)
    except NotAnEnvelope:
        return None


def unlock(driver: Driver, key: str) -> Unlocked:
    """Give a key back that no job has. Raises InvalidSetting, DriverError."""
    able = _able(driver)
    while job_id := able.holder_of(key):
        # Nothing holds a job up meanwhile: one may go back to a place that was searched, so all are searched twice.
        for _ in range(2):
            if held := _held(able, key, job_id):
                return held
        if able.give_back(key, job_id):
            return Unlocked("freed", job_id)
    return Unlocked("unknown")


def _held(driver: Clearing, key: str, job_id: str) -> Unlocked | None:
    places: tuple[Where, ...] = ("delayed", "ready")
    for where, queue in (*((where, queue) for where in places for queue in driver.queue_names()), ("running", DEFAULT)):
        for _, one in found(driver, job_id, where, queue):
            if lock_in(one) == key:
                return Unlocked("held", job_id, one.type, queue_in(one) if where == "running" else queue, where)
    return None
