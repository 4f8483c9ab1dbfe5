"""Dispatching: jobs become envelopes, are checked, and are pushed in one round trip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import msgspec

from .delays import seconds_of
from .errors import DriverError, InvalidSetting, PayloadTooLarge
from .events import EventStream, JobDispatched
from .jobs.envelope import seal
from .names import DEFAULT, queue_name
from .ports import Driver, NamedQueues, Runtime
from .registry import Registry

__all__ = ["Sealed", "push", "seal_job", "seconds_of"]


class Sealed(msgspec.Struct, frozen=True, gc=False):
    """A job as an envelope, ready to be pushed."""

    job_id: str
    type: str
    envelope: bytes
    queue: str = DEFAULT


def seal_job(job: object, registry: Registry, runtime: Runtime, payload_limit: int, queue: str | None = None) -> Sealed:
    """Capture the payload. ``queue``: in place of the type's.

    Raises NotAJob, UnregisteredJob, UnencodableJob, PayloadTooLarge, InvalidSetting.
    """
    job_type = registry.of(job)
    payload = job_type.encode(job)
    if len(payload) > payload_limit:
        raise PayloadTooLarge(job_type.name, len(payload), payload_limit)
    job_id = runtime.new_id()
    sealed = seal(job_id, job_type.type_json, payload)
    if job_type.limit_json:
        sealed = sealed[:-1] + job_type.limit_json
    queue = job_type.queue if queue is None else queue_name(queue)
    if queue == DEFAULT:
        return Sealed(job_id, job_type.name, sealed)
    return Sealed(job_id, job_type.name, b'%b,"queue":"%b"}' % (sealed[:-1], queue.encode()), queue)


def push(driver: Driver, stream: EventStream, sealed: Sequence[Sealed], delay_s: float) -> None:
    """Push all jobs or none. Raises InvalidSetting, and DriverError with the first job's id."""
    queues = [one.queue for one in sealed]
    try:
        if any(queue != DEFAULT for queue in queues):
            due = naming(driver).push([one.envelope for one in sealed], delay_s, queues)
        else:
            due = driver.push([one.envelope for one in sealed], delay_s)
    except DriverError as error:
        error.job_id = sealed[0].job_id
        raise
    if stream.observed:
        for one in sealed:
            stream.emit(JobDispatched, job_id=one.job_id, type=one.type, due=due, queue=one.queue)


def naming(driver: Driver) -> NamedQueues:
    """The driver. Raises InvalidSetting if it has no named queues."""
    if not getattr(driver, "names_queues", False):
        raise InvalidSetting("the driver", driver, "one with named queues (names_queues = True); this has one queue")
    return cast(NamedQueues, driver)
