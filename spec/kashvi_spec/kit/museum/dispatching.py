"""Bugs of dispatching: payloads captured late, jobs sent twice or in part, wrong refusals."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any
from unittest import mock

import msgspec

from kashvi import dispatch
from kashvi.dispatch import Sealed
from kashvi.drivers.memory import MemoryDriver
from kashvi.drivers.redis import RedisDriver
from kashvi.errors import CommandRefused, DriverError, KashviError, UnencodableJob
from kashvi.jobs import codec as job
from kashvi.jobs import fields
from kashvi.jobs.codec import JobType
from kashvi.jobs.envelope import Envelope
from kashvi.ports import Exchange, Expired, Stats
from kashvi.queues import Queue
from kashvi.registry import Registry
from kashvi.runtime import SystemRuntime
from kashvi.worker import attempt
from kashvi.worker.shell import Worker

from . import Patch, exhibit, where


@exhibit(
    "a full queue drops jobs",
    "from the 1,001st on, without a word",
    "DISPATCH-1 DISPATCH-10 DELIVERY-1",
    source="lists that are trimmed to a length",
    also="QUEUES-9",
)
def _(patch: Patch) -> None:
    where(patch, MemoryDriver, "push", full, lambda real, self, envelopes, delay_s=0.0, *queues: None)


@exhibit(
    "a full queue refuses jobs",
    "the 1,001st is an error",
    "DISPATCH-10",
    source="Go kashvi: the 1,001st Dispatch blocks for ever",
    also="QUEUES-9",
)
def _(patch: Patch) -> None:
    def push(
        real: Any, self: MemoryDriver, envelopes: Sequence[bytes], delay_s: float = 0.0, *queues: Any
    ) -> float | None:
        raise CommandRefused("the queue is full", "the memory queue")

    where(patch, MemoryDriver, "push", full, push)


def full(self: MemoryDriver, envelopes: Sequence[bytes], delay_s: float = 0.0, *queues: Any) -> bool:
    return delay_s <= 0 and not queues and len(self.store.jobs) + len(envelopes) > 1000


@exhibit(
    "an idle worker falls asleep",
    "after half a minute without jobs, it looks every three seconds",
    "DISPATCH-2",
    also="CRON-1 CRON-3 DELAY-1 DELAY-10 DELIVERY-2 WORKERS-14",
)
def _(patch: Patch) -> None:
    since: dict[str, tuple[int, float]] = {}

    def sleepy(self: Worker, step: Any) -> bool:
        taken, now = self.machine.taken, self._runtime.monotonic()
        if since.get(self.id, (-1, now))[0] != taken:
            since[self.id] = taken, now
        return now - since[self.id][1] > 30

    def wait(real: Any, self: Worker, step: Any) -> None:
        self._runtime.sleep(3.0)
        real(self, step)

    where(patch, Worker, "_wait", sleepy, wait)


@exhibit("waking a worker that is not there", "is an error, although it does no harm", "DISPATCH-2")
def _(patch: Patch) -> None:
    def wake(real: Any, self: MemoryDriver, worker: str) -> None:
        raise CommandRefused(f"no worker {worker}", "the memory queue")

    where(patch, MemoryDriver, "wake", lambda self, worker: worker not in self.store.workers, wake)


@exhibit(
    "last in, first out",
    "the newest job is claimed first",
    "DISPATCH-3",
    also=(
        "DELAY-3 DELIVERY-1 DELIVERY-2 DELIVERY-3 DELIVERY-5 DELIVERY-6 DELIVERY-8 DELIVERY-13 "
        "DELIVERY-14 DISPATCH-6 ENVELOPE-5 JOBS-1 JOBS-2 JOBS-12 JOBS-17 JOBS-19 MEMORY-3 "
        "QUEUES-9 REDIS-3 RETRY-7 RETRY-11 RETRY-14 WORKERS-3 WORKERS-6 WORKERS-10 WORKERS-14 "
        "WORKERS-17 WORKERS-21"
    ),
)
def _(patch: Patch) -> None:
    real = MemoryDriver.push

    def push(self: MemoryDriver, envelopes: Sequence[bytes], delay_s: float = 0.0, *queues: Any) -> float | None:
        if delay_s > 0 or queues:
            return real(self, envelopes, delay_s, *queues)
        with self.store.condition:
            self.store.jobs.extend(envelopes)
            self.store.condition.notify_all()
        return None

    patch.setattr(MemoryDriver, "push", push)


@exhibit("a wait takes the newest", "while exchanges take the oldest", "DISPATCH-3", also="DELIVERY-14")
def _(patch: Patch) -> None:
    def wait(real: Any, self: MemoryDriver, worker: str, seconds: float, *queues: Any) -> bytes | None:
        self.store.jobs.rotate(-1)
        found: bytes | None = real(self, worker, seconds, *queues)
        return found

    where(patch, MemoryDriver, "wait", lambda self, worker, seconds, *queues: len(self.store.jobs) > 3, wait)


@exhibit("a second batch overtakes the first", "batches of more than three are put at the head", "DISPATCH-3")
def _(patch: Patch) -> None:
    def push(
        real: Any, self: MemoryDriver, envelopes: Sequence[bytes], delay_s: float = 0.0, *queues: Any
    ) -> float | None:
        self.store.jobs.extend(list(envelopes)[::-1])
        return None

    def second(self: MemoryDriver, envelopes: Sequence[bytes], delay_s: float = 0.0, *queues: Any) -> bool:
        return delay_s <= 0 and len(envelopes) > 3 and len(self.store.jobs) > 0 and not queues

    where(patch, MemoryDriver, "push", second, push)


@exhibit(
    "a delayed job is read when it is due",
    "it runs with its object's values at that time",
    "DISPATCH-4",
    source="Go kashvi: DispatchAfter marshals at due time",
)
def _(patch: Patch) -> None:
    by_reference(patch, delayed_alone=True)


@exhibit("jobs in memory are not copied", "a worker gets the caller's object with later changes", "DISPATCH-4")
def _(patch: Patch) -> None:
    by_reference(patch, delayed_alone=False)


def by_reference(patch: Patch, delayed_alone: bool) -> None:
    """Make the payload when the job is claimed."""
    live: dict[bytes, tuple[object, JobType]] = {}
    delayed: list[bytes] = []

    def seal(one: object, registry: Registry, *rest: Any) -> bool:
        with suppress(KashviError):
            kind = registry.of(one)
            live[kind.encode(one)] = one, kind
        return False

    def push(self: MemoryDriver, envelopes: Sequence[bytes], delay_s: float = 0.0, *queues: Any) -> bool:
        if delay_s > 0:
            delayed.extend(envelopes)
        return False

    def changed(e: Envelope, registry: Registry) -> bool:
        one, kind = live.get(bytes(e.payload), (None, None))
        if kind is None or (delayed_alone and not any(e.id.encode() in raw for raw in delayed)):
            return False
        return kind.encode(one) != bytes(e.payload)

    def decode(real: Any, e: Envelope, registry: Registry) -> Any:
        one, kind = live[bytes(e.payload)]
        return real(msgspec.structs.replace(e, payload=msgspec.Raw(kind.encode(one))), registry)

    where(patch, dispatch, "seal_job", seal, decode)
    where(patch, MemoryDriver, "push", push, decode)
    where(patch, attempt, "decode", changed, decode)


@exhibit(
    "equal delayed jobs are one",
    "the member of the set is the job without an id",
    "DISPATCH-5",
    source="Go kashvi: five equal PushDelayed are one member",
    also="DELAY-8 DELIVERY-1 DISPATCH-1 MEMORY-3",
)
def _(patch: Patch) -> None:
    def push(
        real: Any, self: MemoryDriver, envelopes: Sequence[bytes], delay_s: float = 0.0, *queues: Any
    ) -> float | None:
        return self.store.now() + delay_s

    def same(self: MemoryDriver, envelopes: Sequence[bytes], delay_s: float = 0.0, *queues: Any) -> bool:
        bodies = {body(envelope) for _, envelope in self.store.delayed}
        return delay_s > 0 and all(body(envelope) in bodies for envelope in envelopes)

    where(patch, MemoryDriver, "push", same, push)


def body(envelope: bytes) -> bytes:
    """The envelope without its id."""
    return envelope.partition(b'"type"')[2] or envelope


@exhibit(
    "equal jobs of one moment have one id",
    "the id is a hash of their content and the time",
    "DISPATCH-5",
    source="BullMQ, RQ: ids by hand",
    also="QUEUES-1 DISPATCH-3 DELAY-8 DELIVERY-5 DELIVERY-7",
)
def _(patch: Patch) -> None:
    def again(one: object, registry: Registry, runtime: Any, limit: int, *queue: Any) -> bool:
        last, vars(registry)["last"] = vars(registry).get("last"), (one, runtime.now())
        return bool(last == vars(registry)["last"])

    def seal_job(real: Any, one: object, registry: Registry, runtime: Any, limit: int, *queue: Any) -> Sealed:
        sealed: Sealed = real(one, registry, runtime, limit, *queue)
        same = f"{sealed.job_id[:13]}-7000-8000-{int(runtime.now() * 1000) % 10**12:012}"
        return Sealed(same, sealed.type, sealed.envelope.replace(sealed.job_id.encode(), same.encode()), sealed.queue)

    where(patch, dispatch, "seal_job", again, seal_job)


@exhibit("half a batch is sent", "jobs go out one by one, until one can't", "DISPATCH-6", source="asynq: BatchEnqueue")
def _(patch: Patch) -> None:
    patch.setattr(Queue, "dispatch_many", lambda self, jobs, **queue: [self.dispatch(one, **queue) for one in jobs])


@exhibit(
    "one push for each", "all are checked first, and then sent one by one", "DISPATCH-6", source="RQ: enqueue_many"
)
def _(patch: Patch) -> None:
    def push(real: Any, driver: Any, stream: Any, sealed: Sequence[Sealed], delay_s: float) -> list[str]:
        return [job_id for one in sealed for job_id in real(driver, stream, (one,), delay_s)]

    where(patch, dispatch, "push", lambda driver, stream, sealed, delay_s: len(sealed) > 1, push)


@exhibit("what can't be sent is passed over", "the caller gets no error", "DISPATCH-6")
def _(patch: Patch) -> None:
    real = Queue.dispatch_many

    def dispatch_many(self: Queue, jobs: Iterable[object], **queue: Any) -> list[str]:
        return real(self, [one for one in jobs if hasattr(type(one), "handle")], **queue)

    patch.setattr(Queue, "dispatch_many", dispatch_many)


def on_a_server(driver: Any, *rest: Any) -> bool:
    """True for a driver of a server, which may be away."""
    return isinstance(driver, RedisDriver)


@exhibit(
    "dispatched again behind the caller's back",
    "until it succeeds, or three times",
    "DISPATCH-7",
    source="Sidekiq #3303: client timeout and retry",
    also="REDIS-12 REDIS-14",
)
def _(patch: Patch) -> None:
    def push(real: Any, driver: Any, *rest: Any) -> Any:
        for _ in range(2):
            with suppress(DriverError):
                return real(driver, *rest)
        return real(driver, *rest)

    where(patch, dispatch, "push", on_a_server, push)


@exhibit("a failed dispatch was never sent", "so a lost reply says: safe to dispatch again", "DISPATCH-7")
def _(patch: Patch) -> None:
    def push(real: Any, driver: Any, *rest: Any) -> Any:
        try:
            return real(driver, *rest)
        except DriverError as error:
            error.maybe_sent = False
            raise

    where(patch, dispatch, "push", on_a_server, push)


def bulky(one: Any, *rest: Any) -> bool:
    """True for a payload near the limit."""
    return len(getattr(one, "data", "")) > 1_000_000


@exhibit("one byte over the limit goes through", "the comparison is off by one", "DISPATCH-8")
def _(patch: Patch) -> None:
    where(patch, dispatch, "seal_job", bulky, lambda real, one, *rest: real(one, *rest[:2], rest[2] + 1, *rest[3:]))


@exhibit("the envelope counts", "a payload may have fewer bytes than the limit", "DISPATCH-8")
def _(patch: Patch) -> None:
    where(patch, dispatch, "seal_job", bulky, lambda real, one, *rest: real(one, *rest[:2], rest[2] - 80, *rest[3:]))


@exhibit("no limit at all", "one large job holds up the server for all others", "DISPATCH-8")
def _(patch: Patch) -> None:
    where(patch, dispatch, "seal_job", bulky, lambda real, one, *rest: real(one, *rest[:2], 2**40, *rest[3:]))


@exhibit("the limit is for dispatch alone", "delayed jobs may have any size", "DISPATCH-8")
def _(patch: Patch) -> None:
    def dispatch_after(real: Any, self: Queue, *args: Any, **queue: Any) -> Any:
        with mock.patch.object(self, "payload_limit", 2**40):
            return real(self, *args, **queue)

    where(patch, Queue, "dispatch_after", lambda self, *args, **queue: True, dispatch_after)


def unwritable(self: JobType, one: Any) -> bool:
    """True if kashvi refuses to encode the job."""
    try:
        _encode(self, one)
    except UnencodableJob:
        return True
    return False


_encode = JobType.encode


@exhibit(
    "what JSON lacks is written as text",
    "json.dumps(…, default=str)",
    "DISPATCH-9",
    also="JOBS-19",
)
def _(patch: Patch) -> None:
    def encode(real: Any, self: JobType, one: Any) -> bytes:
        return json.dumps(vars(one), default=str).encode()

    where(patch, JobType, "encode", unwritable, encode)


@exhibit("a payload is not read back", "a tuple goes out, and a list arrives", "DISPATCH-9")
def _(patch: Patch) -> None:
    def encode(real: Any, self: JobType, one: Any) -> bytes:
        try:
            return job._write(one)
        except Exception:
            return bytes(real(self, one))

    where(patch, JobType, "encode", unwritable, encode)


@exhibit(
    "values are compared by ==",
    "so True is 1, a zone equals its current offset, and a class defines its own equality",
    "DISPATCH-9",
)
def _(patch: Patch) -> None:
    def encode(real: Any, self: JobType, one: Any) -> bytes:
        with mock.patch.object(job, "difference", lambda a, b, at="": None if a == b else fields.difference(a, b, at)):
            return bytes(real(self, one))

    where(patch, JobType, "encode", unwritable, encode)


@exhibit(
    "adispatch waits in the loop", "all other tasks wait, too", "DISPATCH-11", source="RQ, Huey and Celery in asyncio"
)
def _(patch: Patch) -> None:
    async def aside(self: SystemRuntime, run: Any, timeout_s: float | None) -> None:
        run()

    patch.setattr(SystemRuntime, "aside", aside)


@exhibit("a timeout that is not heeded", "it waits for the server's answer", "DISPATCH-11")
def _(patch: Patch) -> None:
    real = SystemRuntime.aside
    patch.setattr(SystemRuntime, "aside", lambda self, run, timeout_s: real(self, run, None))


@exhibit(
    "nothing at all",
    "a driver that takes jobs and never gives one out",
    "DISPATCH-1 DISPATCH-2",
    also="JOBS-24 QUEUES-11 QUEUES-12 HISTORY-1 HISTORY-2 "
    "CRON-1 CRON-3 CRON-4 CRON-5 COMMANDS-13 COMMANDS-14 DELAY-1 DELAY-2 DELAY-3 DELAY-4 DELAY-5 DELAY-6 DELAY-7 "
    "DELAY-8 DELAY-9 DELAY-10 DELIVERY-1 DELIVERY-2 DELIVERY-3 DELIVERY-4 DELIVERY-5 "
    "DELIVERY-6 DELIVERY-7 DELIVERY-8 DELIVERY-10 DELIVERY-11 DELIVERY-12 DELIVERY-13 "
    "DELIVERY-14 DELIVERY-15 DELIVERY-16 DELIVERY-17 DISPATCH-3 DISPATCH-4 DISPATCH-5 "
    "DISPATCH-6 DISPATCH-10 DISPATCH-11 ENVELOPE-4 ENVELOPE-5 ENVELOPE-6 ENVELOPE-7 "
    "FAILURES-1 FAILURES-2 FAILURES-4 FAILURES-5 FAILURES-7 FAILURES-8 FAILURES-9 "
    "FAILURES-10 FAILURES-12 FAILURES-13 JOBS-1 JOBS-2 JOBS-7 JOBS-9 JOBS-11 JOBS-12 "
    "JOBS-13 JOBS-14 JOBS-17 JOBS-18 JOBS-19 JOBS-20 JOBS-21 JOBS-22 MEMORY-1 MEMORY-2 "
    "MEMORY-3 OUTBOX-1 OUTBOX-2 OUTBOX-5 OUTBOX-7 OUTBOX-9 OUTBOX-10 QUEUES-1 QUEUES-2 QUEUES-3 QUEUES-4 "
    "QUEUES-5 QUEUES-6 QUEUES-7 QUEUES-8 QUEUES-9 QUEUES-10 REDIS-3 REDIS-8 RETRY-1 "
    "RETRY-2 RETRY-3 RETRY-4 RETRY-5 RETRY-6 RETRY-7 RETRY-8 RETRY-9 RETRY-10 RETRY-11 "
    "RETRY-12 RETRY-13 RETRY-14 TABLE-2 TABLE-6 WORKERS-1 WORKERS-2 WORKERS-3 WORKERS-5 "
    "WORKERS-6 WORKERS-7 WORKERS-10 WORKERS-11 WORKERS-13 WORKERS-14 WORKERS-15 WORKERS-17 "
    "WORKERS-18 WORKERS-19 WORKERS-20 WORKERS-21",
)
def _(patch: Patch) -> None:
    def push(self: MemoryDriver, envelopes: Sequence[bytes], delay_s: float = 0.0, queues: Any = ()) -> float | None:
        return None

    def exchange(self: MemoryDriver, *args: Any) -> Exchange:
        return Exchange(self.store.now(), self.store.now(), (), [], 0, 0, 0, None)

    patch.setattr(MemoryDriver, "push", push)
    patch.setattr(MemoryDriver, "exchange", exchange)
    patch.setattr(MemoryDriver, "wait", lambda self, worker, seconds, queues=(): None)
    patch.setattr(MemoryDriver, "expired", lambda self, limit: Expired([], []))
    patch.setattr(MemoryDriver, "unrecorded", lambda self, limit, skip=0: [])
    patch.setattr(MemoryDriver, "recorded", lambda self, envelopes: None)
    patch.setattr(MemoryDriver, "stats", lambda self: Stats(0, 0, 0, 0, 0))
