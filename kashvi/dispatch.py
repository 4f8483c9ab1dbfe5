"""Dispatching: jobs become envelopes, are checked, and are pushed in one round trip."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import msgspec

from .errors import DriverError, InvalidDelay, PayloadTooLarge
from .events import EventStream, JobDispatched
from .jobs.envelope import seal
from .ports import Driver, Runtime
from .registry import Registry

DELAY_MAX_S = 100 * 366 * 86_400.0
"""A hundred years: a longer delay is a mistake, and its due time may be no valid date."""


class Sealed(msgspec.Struct, frozen=True, gc=False):
    """A job as an envelope, ready to be pushed."""

    job_id: str
    type: str
    envelope: bytes


def seal_job(job: object, registry: Registry, runtime: Runtime, payload_limit: int) -> Sealed:
    """Capture the payload. Raises NotAJob, UnregisteredJob, UnencodableJob, PayloadTooLarge."""
    job_type = registry.of(job)
    payload = job_type.encode(job)
    if len(payload) > payload_limit:
        raise PayloadTooLarge(job_type.name, len(payload), payload_limit)
    job_id = runtime.new_id()
    return Sealed(job_id, job_type.name, seal(job_id, job_type.type_json, payload))


def push(driver: Driver, stream: EventStream, sealed: Sequence[Sealed], delay_s: float) -> None:
    """Push all jobs or none. Raises DriverError, with the first job's id."""
    try:
        due = driver.push([one.envelope for one in sealed], delay_s)
    except DriverError as error:
        error.job_id = sealed[0].job_id
        raise
    if stream.observed:
        for one in sealed:
            stream.emit(JobDispatched, job_id=one.job_id, type=one.type, due=due)


def seconds_of(delay: object) -> float:
    """A delay as seconds. Raises InvalidDelay."""
    seconds = delay.total_seconds() if isinstance(delay, timedelta) else delay
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= DELAY_MAX_S:
        raise InvalidDelay(delay)
    return float(seconds)
