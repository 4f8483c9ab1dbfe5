"""The tree of all errors that kashvi raises.

    KashviError
    ├── JobError                  the job that was handed over
    │   ├── NotAJob
    │   ├── UnregisteredJob
    │   ├── UnencodableJob
    │   ├── HandleNotRun
    │   │   └── LoopIsRunning
    │   ├── PayloadTooLarge
    │   ├── TooManyFollowUps
    │   └── DuplicateJobName
    ├── SettingError              a setting or an argument
    │   ├── InvalidDelay
    │   ├── InvalidSetting
    │   │   └── UnusableSetting
    │   ├── WorkersRunning
    │   ├── NoFollowUps
    │   ├── NoOutbox
    │   └── RedisRequired
    ├── UndeliverableJob          what a worker found on the queue
    │   ├── NotAnEnvelope
    │   ├── NotAChain
    │   ├── UnknownJobType
    │   └── PayloadMismatch
    ├── DriverError               the server behind a driver
    │   ├── DriverUnavailable     nothing was sent
    │   │   └── SettingsRefused   nothing was done; trying again with these settings is useless
    │   ├── ReplyLost             sent, and perhaps done
    │   └── CommandRefused        the server refused; nothing was done
    ├── StoreError                the failure table, or the outbox
    │   ├── StoreUnavailable
    │   └── OutboxUnavailable
    ├── NoAttempt                 current() where none runs
    ├── AttemptError              current().check(): the attempt is to end
    │   ├── TimedOut
    │   ├── AttemptCancelled
    │   └── AttemptOver
    └── ClockStandsStill          a frozen clock, which work(drain=True) would wait for

An error holds its facts as attributes and builds its message from them.
"""

from __future__ import annotations

from collections.abc import Sequence

from .text import without_passwords


class KashviError(Exception):
    """Base of all errors of kashvi. No message shows the password of a URL."""

    def __init__(self, message: str) -> None:
        super().__init__(without_passwords(message))


# -- the job that was handed over ----------------------------------------------------------


class JobError(KashviError):
    """The job can't be dispatched or registered as it is."""


class NotAJob(JobError, TypeError):
    """Not a dataclass, attrs class, msgspec Struct or pydantic model with ``handle()``."""

    def __init__(self, value: object, why: str) -> None:
        self.value = value
        super().__init__(
            f"{_shown(value)} is not a job: {why}. A job is a dataclass (or an attrs class, a msgspec "
            "Struct, a pydantic model) with a method handle(self)."
        )


class UnregisteredJob(JobError, LookupError):
    """The type of the job has no name yet, so no worker could find it."""

    def __init__(self, job_class: type, known: Sequence[str]) -> None:
        self.job_class = job_class
        self.known = tuple(known)
        name = job_class.__qualname__
        super().__init__(
            f'{name} is not registered. Put @queue.job("jobs.{name}") above the class, or call '
            f'queue.register("jobs.{name}", {name}) before dispatching. Registered: {_listed(known)}.'
        )


class UnencodableJob(JobError, TypeError):
    """A field of the job can't travel as JSON and come back."""

    def __init__(self, name: str, field: str | None, why: str) -> None:
        self.name = name
        self.field = field
        where = f"field {field!r} of {name}" if field else name
        super().__init__(
            f"{where} can't travel as JSON: {why}. Use JSON types, datetime, UUID, Decimal, bytes, enums "
            "or nested dataclasses, with values that fit the annotations; pass ids, not live objects."
        )


class HandleNotRun(JobError, TypeError):
    """``handle()`` returned a generator, or several coroutines, instead of running them; the attempt has failed."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"handle() returned {what}, and its code did not run. Run a generator in handle() by a for loop, and await "
            "coroutines in an async handle(): asyncio.gather(...) for several."
        )


class LoopIsRunning(HandleNotRun):
    """``handle()`` is async, and its thread runs an event loop already; the attempt has failed."""

    def __init__(self) -> None:
        KashviError.__init__(
            self,
            "handle() is async, and an event loop runs in this thread, which can't run another one: call queue.work() "
            "outside of async code, or use queue.start_workers(), whose threads have loops of their own",
        )


class PayloadTooLarge(JobError, ValueError):
    """The payload is over the queue's limit."""

    def __init__(self, name: str, size: int, limit: int) -> None:
        self.name = name
        self.size = size
        self.limit = limit
        super().__init__(
            f"the payload of {name} is {size:,} bytes, over the limit of {limit:,}. Store the data "
            "elsewhere and send its id, or raise Queue(payload_limit=...)."
        )


class TooManyFollowUps(JobError, ValueError):
    """More follow-ups than one attempt may have; none of this call's jobs was added."""

    def __init__(self, most: int, most_bytes: int) -> None:
        super().__init__(
            f"an attempt may have {most:,} follow-ups and {most_bytes:,} bytes of them, since one request carries them "
            "all: dispatch one follow-up that dispatches the others, or use queue.dispatch_many(), which sends at once"
        )


class DuplicateJobName(JobError, ValueError):
    """One name for two job types, or two names for one."""

    def __init__(self, name: str, old: str, new: str) -> None:
        self.name = name
        super().__init__(
            f"the job name {name!r} is taken by {old}; {new} can't have it too. Choose another name: "
            "jobs on the queue find their code by it."
        )


# -- a setting or an argument --------------------------------------------------------------


class SettingError(KashviError):
    """A setting or an argument that can't be used."""


class InvalidDelay(SettingError, ValueError):
    """A delay that is negative, NaN, infinite or not a number of seconds."""

    def __init__(self, delay: object) -> None:
        self.delay = delay
        super().__init__(
            f"the delay must be from 0 seconds to 100 years (a number of seconds or a timedelta), not {delay!r}."
        )


class InvalidSetting(SettingError, ValueError):
    """A setting out of its range."""

    def __init__(self, name: str, value: object, allowed: str) -> None:
        self.name = name
        self.value = value
        super().__init__(f"{name} must be {allowed}, not {value!r}.")


class UnusableSetting(InvalidSetting):
    """A setting that can't be used, with the reason. ``name`` includes the value, unless the value is a secret."""

    def __init__(self, name: str, why: str) -> None:
        self.name = name
        self.value = None
        KashviError.__init__(self, f"{name} can't be used: {why}.")


class WorkersRunning(SettingError, RuntimeError):
    """The driver and the failure table can't change under running workers."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} can't change while workers of this queue are running. Stop them first.")


class NoFollowUps(SettingError):
    """The queue's driver can't add jobs in the step that settles another one."""

    def __init__(self, driver: object) -> None:
        super().__init__(
            f"the driver {type(driver).__qualname__} has no follow-ups (kashvi.ports.Following): call "
            "queue.dispatch(job), which sends at once, or use another driver"
        )


class NoOutbox(SettingError):
    """A job can't be stored in this transaction: no relay would find it, or a rollback would not take it back."""

    def __init__(self, why: str, remedy: str) -> None:
        super().__init__(f"the job can't be dispatched in this transaction: {why}. {remedy}")


class RedisRequired(SettingError):
    """The command needs the shared queue; in memory it would lose the job."""

    def __init__(self, command: str) -> None:
        super().__init__(
            f"{command} needs Redis: a queue in this command's memory would be gone with it. "
            "Pass --redis-url or set KASHVI_REDIS_URL."
        )


# -- what a worker found on the queue ------------------------------------------------------


class UndeliverableJob(KashviError):
    """Recorded as failed at once: no attempt could be made."""


class NotAnEnvelope(UndeliverableJob):
    """The bytes are not a job envelope."""

    def __init__(self, why: str) -> None:
        super().__init__(f"not an envelope: {why}")


class NotAChain(UndeliverableJob):
    """The rest of the job's chain is malformed, so the job is not run: what comes after it would be lost."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the rest of its chain (next) is malformed, and the job was not run: {why}")


class UnknownJobType(UndeliverableJob):
    """The worker has no job type of that name."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        self.name = name
        super().__init__(
            f"unknown job type {name!r}: no module this worker imported registers it. "
            f"Known: {_listed(known)}. Load it (queue:work --app MODULE), then retry the job."
        )


class PayloadMismatch(UndeliverableJob):
    """The payload does not fit the job type's fields."""

    def __init__(self, name: str, why: str) -> None:
        self.name = name
        super().__init__(f"the payload does not fit {name}: {why}")


# -- the server behind a driver ------------------------------------------------------------


class DriverError(KashviError):
    """A request to the queue's server failed.

    ``job_id`` is the job being dispatched, if any. ``maybe_sent``: True if the server may have taken the job;
    False if it did not, so dispatching again is safe.
    """

    maybe_sent = False
    job_id: str | None = None


class DriverUnavailable(DriverError):
    """No connection; nothing was sent."""

    def __init__(self, why: str, server: str = "Redis") -> None:
        super().__init__(f"{server} can't be reached, nothing was sent: {why}")


class SettingsRefused(DriverUnavailable):
    """The server answers but rejects our settings: a wrong password, a missing database. Nothing was done.

    Trying again does not help; a worker that gets this at its start ends.
    """

    def __init__(self, why: str, server: str = "Redis") -> None:
        DriverError.__init__(
            self,
            f"{server} does not take these settings, nothing was done: {why.rstrip('.')}. "
            "Check the Redis URL or client.",
        )


class ReplyLost(DriverError):
    """The request was sent and no reply came: it may have been carried out."""

    maybe_sent = True

    def __init__(self, why: str, server: str = "Redis") -> None:
        super().__init__(f"{server} did not answer, so the request may or may not have been carried out: {why}")


class CommandRefused(DriverError):
    """The server answered with an error and changed nothing."""

    def __init__(self, why: str, server: str = "Redis") -> None:
        super().__init__(f"{server} refused the command: {why}")


def unexpected(error: Exception) -> DriverError:
    """ReplyLost in place of an error that a driver must not raise: the request may have been carried out."""
    return ReplyLost(f"{type(error).__name__} in the driver", "the queue's server")


class NoAttempt(KashviError, LookupError):
    """``current()`` was called where no attempt runs."""

    def __init__(self) -> None:
        super().__init__(
            "no attempt runs here: current() answers in handle(), in the hooks around it, and in threads and tasks "
            "that were given a copy of its context (contextvars.copy_context().run)"
        )


class AttemptError(KashviError):
    """``current().check()``: the attempt is to end now."""


class TimedOut(AttemptError):
    """The attempt's time limit has passed. ``timeout_s``: the limit."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        super().__init__(f"timed out after {timeout_s:g} s")


class AttemptCancelled(AttemptError):
    """The job has been cancelled: no further attempt starts, however this one ends."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(f"job {job_id} has been cancelled: end this attempt; no other starts")


class AttemptOver(AttemptError):
    """The attempt is no longer this worker's: it has ended, or was handed back; or this is a child process.

    What it does now counts for nothing, and a follow-up would never be sent.
    """

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(
            f"this attempt at job {job_id} is over: it has ended, its worker has handed the job back to the queue, "
            "or this is a child process"
        )


class FollowUpRefused(AttemptError):
    """The handler succeeded, and the server can't add one of its follow-ups, so the attempt has failed.

    ``queue``: the follow-up's. ``keys``: two keys of it, of which one is the wrong type.
    """

    def __init__(self, job: str, queue: str, keys: tuple[str, str]) -> None:
        self.queue = queue
        self.keys = keys
        super().__init__(
            f"its follow-up {job} can't be added to the queue {queue!r}: {keys[0]} is no list, or {keys[1]} no sorted "
            "set. Another program has put something else there: rename or delete that key, then send this job again"
        )


class ClockStandsStill(KashviError):
    """``work(drain=True)`` would wait for ever for a delayed job: a test has frozen the queue's clock."""

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"the queue's clock has not moved for {seconds:.0f} s, so no delayed job and no retry becomes due: "
            "move it on (freezegun: tick=True, or frozen.tick()) before work(drain=True), or test with the fixture sim"
        )


# -- the failure table ---------------------------------------------------------------------


class StoreError(KashviError):
    """The failure table, or the outbox, could not be read or written."""


class StoreUnavailable(StoreError):
    """The database is down or rejects the connection; rows wait and are written later."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the failure table can't be used right now: {why}")


class OutboxUnavailable(StoreError):
    """The database is down or rejects the connection; committed jobs wait in the outbox."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the table kashvi_outbox can't be used right now: {why}")


def _shown(value: object) -> str:
    return repr(value) if len(repr(value)) <= 80 else f"a {type(value).__name__}"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(sorted(names)[:10]) or "none"
    return shown + (", …" if len(names) > 10 else "")
