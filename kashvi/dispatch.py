"""Dispatching: jobs become envelopes, are checked, and are pushed in one round trip."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from .delays import seconds_of
from .errors import DriverError, PayloadTooLarge
from .events import EventStream, JobDispatched
from .jobs.envelope import seal
from .ports import Driver, Runtime
from .registry import Registry

__all__ = ["Sealed", "push", "seal_job", "seconds_of"]


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
    sealed = seal(job_id, job_type.type_json, payload)
    if job_type.limit_json:
        sealed = sealed[:-1] + job_type.limit_json
    return Sealed(job_id, job_type.name, sealed)


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
