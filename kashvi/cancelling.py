"""Cancelling a job by its id: a mark, then a search.

A job moves only forwards while it is marked: from delayed to ready to a worker, and there it ends, since a settlement
that would make it ready again removes it. So a search of the places in this order does not miss it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, Protocol, runtime_checkable

from .errors import InvalidSetting, NotAnEnvelope
from .jobs.envelope import Envelope, lock_in, queue_in, read
from .names import DEFAULT
from .ports import NO_LOCK, Driver, Lock, Where

Cancel = Literal["removed", "asked", "unknown"]
"""removed: the job was on its queue, and is gone. asked: a worker has it; it may end this attempt, and no other starts.
unknown: no job with this id is on a queue: it has ended, or never was."""
ID_MAX_BYTES = 256
PLAIN = re.compile(r"[A-Za-z0-9_.:-]+")
"""What JSON encoders leave as it is: the rest of another program's id may be escaped in its envelope."""


@runtime_checkable
class Cancelling(Protocol):
    """A driver whose jobs can be cancelled. Its exchange ends marked jobs, see ``Settlement.job_id``."""

    def mark(self, job_id: str) -> float:
        """From now on no settlement makes this job ready again. Again: a newer mark.

        Returns the mark's time: the server's, or a moment after the newest mark, so that no two have the same.
        """

    def unmark(self, job_id: str, at: float) -> bool:
        """Take this mark off, and none that came later; False if there is none: the job was removed."""

    def marked(self, job_ids: Sequence[str]) -> list[str]:
        """Those of these jobs that are marked."""

    def search(self, text: bytes, where: Where, queue: str = DEFAULT) -> Iterator[bytes]:
        """The envelopes that contain this text; running ones are of all queues. Changes nothing.

        Misses no job that stays in its place, and shows one twice rather than not at all. May take several reads.
        """

    def take_out(self, job_id: str, where: Where, queue: str, envelope: bytes, lock: Lock) -> float | None:
        """Remove a ready or delayed job, its key and its mark; returns the server's time, None if it is not there."""

    def queue_names(self) -> list[str]:
        """All queues that ever had jobs, the default one first."""


class Cancelled(NamedTuple):
    """The answer to a cancel."""

    outcome: Cancel
    server_at: float = 0.0
    """When it was removed, or found at a worker: no claim of it comes later."""
    type: str = ""
    """The job's type, if it was found."""
    queue: str = DEFAULT


def cancel(driver: Driver, job_id: str) -> Cancelled:
    """Cancel a job. Raises InvalidSetting, DriverError; after a DriverError the job may be marked: cancel it again."""
    if not isinstance(driver, Cancelling):
        raise InvalidSetting("the driver", driver, "one that can cancel jobs, such as RedisDriver")
    text = job_id.encode("utf-8", "ignore") if isinstance(job_id, str) else b""
    if not 0 < len(text) <= ID_MAX_BYTES or text.decode() != job_id:
        raise InvalidSetting("the job's id", job_id, f"the text that dispatch() returned, up to {ID_MAX_BYTES} bytes")
    job_id = str(job_id)
    mark = driver.mark(job_id)
    queues = driver.queue_names()
    places: tuple[Where, ...] = ("delayed", "ready")
    for where in places:
        for queue in queues:
            for raw, one in found(driver, job_id, where, queue):
                if (at := driver.take_out(job_id, where, queue, raw, lock_of(one))) is not None:
                    return Cancelled("removed", at, one.type, queue)
    for _, one in found(driver, job_id, "running", DEFAULT):
        at = driver.mark(job_id)  # its worker may have asked before it claimed the job
        return Cancelled("asked", at, one.type, queue_in(one))
    return Cancelled("unknown" if driver.unmark(job_id, mark) else "removed")


def found(driver: Cancelling, job_id: str, where: Where, queue: str) -> Iterator[tuple[bytes, Envelope]]:
    """The jobs with this id in a place."""
    for raw in driver.search(max(PLAIN.findall(job_id), key=len, default="").encode(), where, queue):
        try:
            one = read(raw)
        except NotAnEnvelope:
            continue
        if one.id == job_id:
            yield raw, one


def lock_of(one: Envelope) -> Lock:
    """The job's key and its id."""
    return (lock_in(one), one.id) if one.unique else NO_LOCK
