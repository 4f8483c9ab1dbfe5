"""A cron entry, and the jobs of its ticks."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from .. import dispatch
from ..dispatch import Sealed
from ..errors import InvalidSetting
from ..ports import Runtime
from ..registry import Registry

if TYPE_CHECKING:
    from .schedule import Schedule

Missed = Literal["skip", "once", "all"]
"""What becomes of ticks that came while no worker ran. skip: a tick that is older than a minute is left out. once: the
newest one fires. all: they fire, oldest first."""


class Entry(NamedTuple):
    """A line of the table."""

    name: str
    schedule: Schedule
    job: object
    """An instance; or a class, of which each tick gets a new instance."""
    type: str
    queue: str
    missed: Missed
    max_late_s: float
    payload: bytes

    def same(self, other: Entry) -> bool:
        """True if it says the same, as after a reload of its module."""
        return (
            self._replace(schedule=other.schedule, job=other.job) == other and self.schedule.key == other.schedule.key
        )


def instance(job: object) -> object:
    """The job of an entry, or a new one of its class. Raises InvalidSetting for a class with required fields."""
    if not isinstance(job, type):
        return job
    try:
        return job()
    except TypeError as error:
        allowed = "one without required fields; or give the job itself, queue.cron(expression, Job(...))"
        raise InvalidSetting("the class of a cron entry", job, f"{allowed} ({error})") from error


class Sealer(NamedTuple):
    """Makes the jobs of ticks."""

    prefix: str
    registry: Registry
    runtime: Runtime
    payload_limit: int

    def at(self, entry: Entry, tick: int) -> Sealed:
        """The job of a tick, with the same id in every process. Raises what a dispatch raises, and the app's errors."""
        job, job_id = instance(entry.job), id_of(self.prefix, entry.name, tick)
        sealed = dispatch.seal_job(job, self.registry, self.runtime, self.payload_limit, None, job_id)
        return msgspec.structs.replace(sealed, envelope=b'%b,"tick":%d}' % (sealed.envelope[:-1], tick))


def id_of(prefix: str, name: str, tick: int) -> str:
    """A UUIDv7 of the tick's time; its other bits are a hash of the queue's prefix, the name and the tick."""
    bits = int.from_bytes(hashlib.sha256(f"{prefix}\n{name}\n{tick}".encode()).digest()[:10])
    stamp = max(tick, 0) * 1000 % 2**48
    number = stamp << 80 | 7 << 76 | (bits >> 62 & 0xFFF) << 64 | 2 << 62 | bits & (2**62 - 1)
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
