"""Dispatching: jobs become envelopes, are checked, and are pushed in one round trip."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, cast

import msgspec

from .delays import seconds_of
from .errors import DriverError, InvalidSetting, NoFollowUps, PayloadTooLarge
from .events import JobDispatched, JobDuplicate, JobStored
from .jobs.chain import LINKS_MAX, joined
from .jobs.envelope import seal
from .named import NamedQueues
from .names import DEFAULT, queue_name
from .ports import Driver, Runtime
from .registry import Registry
from .stream import EventStream
from .unique import Dispatched

__all__ = ["Outgoing", "Sealed", "TraceHook", "push", "seal_chain", "seal_job", "seconds_of", "store", "traced"]


ONLY_NAMED = (
    "a named queue: a program that works on the default queue may know no unique jobs, and keep the key for ever"
)


class Outgoing(NamedTuple):
    """A job about to be dispatched, as the hooks of ``queue.tracing`` see it."""

    job_id: str
    type: str
    queue: str


TraceHook = Callable[[Outgoing], Mapping[str, str] | None]


class Sealed(msgspec.Struct, frozen=True, gc=False):
    """A job as an envelope, ready to be pushed."""

    job_id: str
    type: str
    envelope: bytes
    queue: str = DEFAULT
    lock: str = ""
    """The key of a unique job."""
    chain: tuple[str, ...] = ()
    """The ids of the links after it, in order."""


def seal_job(
    job: object,
    registry: Registry,
    runtime: Runtime,
    payload_limit: int,
    queue: str | None = None,
    job_id: str | None = None,
) -> Sealed:
    """Capture the payload. ``queue``: in place of the type's. ``job_id``: in place of a new one.

    Raises NotAJob, UnregisteredJob, UnencodableJob, PayloadTooLarge, InvalidSetting.
    """
    job_type = registry.of(job)
    payload = job_type.encode(job)
    if len(payload) > payload_limit:
        raise PayloadTooLarge(job_type.name, len(payload), payload_limit)
    job_id = runtime.new_id() if job_id is None else job_id
    sealed = seal(job_id, job_type.type_json, payload)
    if job_type.limit_json:
        sealed = sealed[:-1] + job_type.limit_json
    queue = job_type.queue if queue is None else queue_name(queue)
    if queue == DEFAULT:
        if job_type.unique:
            raise InvalidSetting(f"the queue of {job_type.name}, which is unique,", queue, ONLY_NAMED)
        return Sealed(job_id, job_type.name, sealed)
    sealed = b'%b,"queue":"%b"}' % (sealed[:-1], queue.encode())
    lock = job_type.lock(job)
    if lock:
        sealed = b'%b,"unique":%b}' % (sealed[:-1], msgspec.json.encode(lock))
    return Sealed(job_id, job_type.name, sealed, queue, lock)


def traced(one: Sealed, hooks: Sequence[TraceHook]) -> Sealed:
    """The job with what the hooks give in its field ``trace``, if they give something. Raises InvalidSetting, and what
    the hooks raise."""
    trace: dict[str, str] = {}
    for hook in hooks:
        given = hook(Outgoing(one.job_id, one.type, one.queue))
        if given is not None:
            try:
                trace |= msgspec.convert(given, dict[str, str])
                encoded = msgspec.json.encode(trace)
            except (msgspec.ValidationError, UnicodeError):
                raise InvalidSetting("what a hook for traces gives", given, "texts by name, or None") from None
    if not trace:
        return one
    return msgspec.structs.replace(one, envelope=b'%b,"trace":%b}' % (one.envelope[:-1], encoded))


def seal_chain(
    jobs: Sequence[object],
    registry: Registry,
    runtime: Runtime,
    payload_limit: int,
    driver: Driver,
    queue: str | None = None,
) -> Sealed:
    """Seal the links, and put all but the first into the envelope of the first.

    Raises NoFollowUps, and what ``seal_job`` raises.
    """
    if not getattr(driver, "follows_up", False):
        raise NoFollowUps(driver)
    naming(driver)
    if not 1 <= len(jobs) <= LINKS_MAX:
        raise InvalidSetting("the number of jobs in a chain", len(jobs), f"from 1 to {LINKS_MAX:,}")
    links = [seal_job(job, registry, runtime, payload_limit, queue) for job in jobs]
    for link in links:
        if link.queue == DEFAULT:
            raise InvalidSetting(
                f"the queue of {link.type} in a chain",
                link.queue,
                "a named one (register the type with queue=..., or call chain(..., queue=...)): a program that knows "
                "the default queue alone would drop the rest of the chain",
            )
        if link.lock:
            raise InvalidSetting(f"unique of {link.type} in a chain", True, "False: a duplicate would end the chain")
    first = joined([link.envelope for link in links])
    if len(first) > payload_limit:
        raise PayloadTooLarge(f"a chain of {len(links):,} jobs", len(first), payload_limit)
    rest = tuple(link.job_id for link in links[1:])
    return Sealed(links[0].job_id, links[0].type, first, links[0].queue, chain=rest)


def push(driver: Driver, stream: EventStream, sealed: Sequence[Sealed], delay_s: float) -> Sequence[str]:
    """Push all jobs or none, but for duplicates; returns their ids, and for a duplicate that of the job with its key.

    Raises InvalidSetting, and DriverError with the first job's id.
    """
    queues = [one.queue for one in sealed]
    holders: Sequence[str] = ()
    server_at = None
    try:
        if any(one.lock for one in sealed):
            locks = [(one.lock, one.job_id) for one in sealed]
            server_at, due, holders = naming(driver).push_unique(
                [one.envelope for one in sealed], delay_s, queues, locks
            )
        elif any(queue != DEFAULT for queue in queues):
            due = naming(driver).push([one.envelope for one in sealed], delay_s, queues)
        else:
            due = driver.push([one.envelope for one in sealed], delay_s)
    except DriverError as error:
        error.job_id = sealed[0].job_id
        raise
    if stream.observed:
        for one, holder in zip(sealed, holders or [""] * len(sealed), strict=True):
            about = {"type": one.type, "queue": one.queue, "server_at": server_at}
            if holder:
                stream.emit(JobDuplicate, job_id=one.job_id, holder=holder, **about)
            else:
                stream.emit(JobDispatched, job_id=one.job_id, due=due, unique=one.lock, chain=one.chain, **about)
    if not holders:
        return [one.job_id for one in sealed]
    return [
        Dispatched(holder or one.job_id, duplicate=bool(holder)) if one.lock else one.job_id
        for one, holder in zip(sealed, holders, strict=True)
    ]


def store(
    insert: Callable[[Sequence[Sealed], float], None], stream: EventStream, sealed: Sequence[Sealed], delay_s: float
) -> list[str]:
    """Insert all jobs into a transaction; returns their ids, also those of unique jobs."""
    insert(sealed, delay_s)
    if stream.observed:
        for one in sealed:
            about = {"queue": one.queue, "unique": one.lock, "delay_s": delay_s, "chain": one.chain}
            stream.emit(JobStored, job_id=one.job_id, type=one.type, **about)
    return [one.job_id for one in sealed]


def naming(driver: Driver) -> NamedQueues:
    """The driver. Raises InvalidSetting if it has no named queues."""
    if not getattr(driver, "names_queues", False):
        raise InvalidSetting("the driver", driver, "one with named queues (names_queues = True); this has one queue")
    return cast(NamedQueues, driver)
