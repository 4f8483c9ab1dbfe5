"""The queue: jobs go in here, and workers start here.

``from kashvi import queue`` is the documented package: its functions act on one default queue, which takes
``KASHVI_REDIS_URL`` and ``KASHVI_DATABASE_URL`` from the environment at first use. A program that wants several makes
``Queue`` objects, with the same methods. This module puts the parts together; it decides nothing itself.
"""

from __future__ import annotations

import logging
import math
import os
import warnings
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar, overload

from .attempt import decoded_or_none
from .drivers.memory import MemoryDriver
from .envelope import seal, text_of
from .errors import DriverError, InvalidDelay, InvalidSetting, PayloadTooLarge, StoreError, WorkersRunning
from .events import Event, EventStream, JobDispatched
from .failures.memory import FailedJob, FailedJobs
from .job import Job
from .keeper import Keeper
from .pool import Workers
from .ports import Driver, FailureStore, Runtime, Stats
from .recorder import Recorder
from .registry import Registry, default_name
from .runtime import SystemRuntime
from .settle import Settling
from .worker import Limits, Until, Worker

if TYPE_CHECKING:
    import sqlalchemy

    from .drivers.redis import RedisDriver
    from .failures.table import FailedJobRecord

J = TypeVar("J", bound=type[Any])

PAYLOAD_LIMIT = 1024 * 1024
LEASE_S = 30.0
MANY_MAX = 500_000
"""One command to the server takes so many arguments."""
DELAY_MAX_S = 100 * 366 * 86_400.0
"""A hundred years: a longer delay is a slip, and its due time is soon no date any more."""
REGISTRY = Registry()
"""The job types every queue knows, unless it is given a registry of its own."""

log = logging.getLogger("kashvi")


class MemoryQueueWarning(UserWarning):
    """A job went to the default in-memory queue of a process that runs no workers."""


class Queue:
    """A queue of jobs.

    driver: where jobs wait; MemoryDriver() if none is given.
    max_attempts: how often a job is tried in all.
    payload_limit: bytes of JSON a job may have.
    lease_s: seconds without a sign of life after which a worker's jobs are given to others.
    database: an SQLAlchemy engine or URL for ``kashvi_failed_jobs``.
    registry: the job types; by default those every queue shares.
    """

    def __init__(
        self,
        driver: Driver | None = None,
        *,
        max_attempts: int = 3,
        payload_limit: int = PAYLOAD_LIMIT,
        lease_s: float = LEASE_S,
        database: sqlalchemy.Engine | str | None = None,
        registry: Registry | None = None,
        runtime: Runtime | None = None,
    ) -> None:
        self.registry = REGISTRY if registry is None else registry
        self.payload_limit = _at_least("payload_limit", payload_limit, 1)
        self.lease_s = _seconds("lease_s", lease_s)
        self._runtime = runtime or SystemRuntime()
        self._max_attempts = 3
        self.set_max_retry(max_attempts)
        self._driver = driver
        self._driver_set = driver is not None
        self._store: FailureStore | None = None
        self._store_set = False
        self._failed = FailedJobs()
        self._workers: list[Workers | Worker] = []
        self._worked = False
        self._stream = EventStream(self._runtime.new_id(), self._runtime.now)
        if database is not None:
            self.use_db(database)

    # -- jobs -------------------------------------------------------------------------------

    @overload
    def job(self, name: J, /) -> J: ...
    @overload
    def job(self, name: str | None = None, /) -> Callable[[J], J]: ...
    def job(self, name: J | str | None = None, /) -> J | Callable[[J], J]:
        """Class decorator: ``@queue.job("jobs.WelcomeEmailJob")``.

        Bare ``@queue.job`` takes the last module segment and the class name.
        Raises NotAJob, DuplicateJobName, InvalidSetting (bare, in a script).
        """
        if isinstance(name, type):
            self.registry.register(default_name(name), name)
            return name

        def decorate(job_class: J) -> J:
            self.registry.register(default_name(job_class) if name is None else name, job_class)
            return job_class

        return decorate

    def register(self, name: str, factory: Callable[[], Job] | type[Any]) -> None:
        """Give a job type its name: a class, or a function that returns an instance with default fields.

        Raises NotAJob, DuplicateJobName, InvalidSetting.
        """
        self.registry.register(name, factory)

    # -- dispatching ------------------------------------------------------------------------

    def dispatch(self, job: object) -> str:
        """Put a job on the queue now; returns its id.

        The payload is captured here. Raises NotAJob, UnregisteredJob, UnencodableJob, PayloadTooLarge, and
        DriverError, whose ``maybe_sent`` says whether dispatching again could run the job twice.
        """
        return self._push([job], 0.0)[0]

    def dispatch_after(self, job: object, delay: float | timedelta) -> str:
        """Put a job on the queue, to start not before ``delay`` (seconds or a timedelta) from now; returns its id.

        The payload is captured here, not when it is due. A delay of 0 is ``dispatch``.
        Raises InvalidDelay, and what ``dispatch`` raises.
        """
        return self._push([job], _delay_s(delay))[0]

    def dispatch_many(self, jobs: Iterable[object]) -> list[str]:
        """Put many jobs on the queue in one round trip, in order; returns their ids.

        All or none: a job that can't be dispatched raises before any is sent. Raises what ``dispatch`` raises, and
        InvalidSetting for more than 500,000 jobs.
        """
        many = list(jobs)
        if len(many) > MANY_MAX:
            raise InvalidSetting("the number of jobs in one dispatch_many", len(many), f"{MANY_MAX:,} or less")
        return self._push(many, 0.0)

    def _push(self, jobs: list[object], delay_s: float) -> list[str]:
        sealed: list[tuple[str, str, bytes]] = []
        for job in jobs:
            job_type = self.registry.of(job)
            payload = job_type.encode(job)
            if len(payload) > self.payload_limit:
                raise PayloadTooLarge(job_type.name, len(payload), self.payload_limit)
            job_id = self._runtime.new_id()
            sealed.append((job_id, job_type.name, seal(job_id, job_type.type_json, payload)))
        if not sealed:
            return []
        driver = self._driver or self._resolve_driver()
        try:
            due = driver.push([envelope for _, _, envelope in sealed], delay_s)
        except DriverError as error:
            error.job_id = sealed[0][0]
            raise
        if self._stream.observed:
            for job_id, name, _ in sealed:
                self._stream.emit(JobDispatched, job_id=job_id, type=name, due=due)
        return [job_id for job_id, _, _ in sealed]

    # -- settings ---------------------------------------------------------------------------

    @property
    def driver(self) -> Driver:
        """Where jobs wait."""
        return self._driver or self._resolve_driver()

    @property
    def driver_chosen(self) -> bool:
        """Whether somebody set the driver, rather than leaving it to the environment."""
        return self._driver_set

    def _resolve_driver(self) -> Driver:
        self._driver = MemoryDriver(runtime=self._runtime)
        return self._driver

    def set_driver(self, driver: Driver) -> None:
        """Choose where jobs wait. Raises WorkersRunning while workers of this queue run."""
        self._check_stopped("the driver")
        if isinstance(driver, type) or not callable(getattr(driver, "exchange", None)):
            raise InvalidSetting("the driver", driver, "a MemoryDriver(), a RedisDriver(client) or another Driver")
        self._driver = driver
        self._driver_set = True

    def set_max_retry(self, attempts: int) -> None:
        """How often a job is tried in all (default 3): 1 means no retry. Running workers heed it at once.

        Raises InvalidSetting for less than 1.
        """
        self._max_attempts = _at_least("max_retry (attempts in all)", attempts, 1)

    def use_db(self, database: sqlalchemy.Engine | str) -> None:
        """Record failed jobs in the table ``kashvi_failed_jobs`` of this SQLAlchemy engine or URL.

        The table is made, or one the Go program made is adopted, now if the database is up, else at the first
        failure. Raises InvalidSetting for a URL that can't be used, WorkersRunning.
        """
        self._check_stopped("the database")
        from .failures.sql import SqlFailures

        store = SqlFailures(database)
        try:
            store.prepare()
        except StoreError as error:
            log.warning("%s; it is tried again when a job fails", error)
        self._store = store
        self._store_set = True

    @property
    def database_chosen(self) -> bool:
        """Whether somebody called ``use_db``, rather than leaving it to the environment."""
        return self._store_set

    @property
    def store(self) -> FailureStore | None:
        """The failure table, if there is one."""
        return self._store

    def failed_jobs(self) -> list[FailedJob]:
        """Jobs this process gave up on, oldest first; the newest 1,000 are kept."""
        return self._failed.list()

    def observe(self, observer: Callable[[Event], None]) -> Callable[[], None]:
        """Call ``observer(event)`` for everything that happens here; returns a function that ends it."""
        return self._stream.observe(observer)

    def stats(self) -> Stats:
        """How many jobs are ready, delayed, held by workers, and waiting to be recorded. Raises DriverError."""
        return self.driver.stats()

    # -- working ----------------------------------------------------------------------------

    def start_workers(self, n: int = 5, *, limits: Limits = Limits()) -> Workers:
        """Start ``n`` worker threads; returns their handle, a context manager. Raises InvalidSetting."""
        worker, keeper = self._worker(_at_least("the number of workers", n, 1), limits, interruptible=False)
        workers = Workers(worker, keeper, self._runtime)
        self._workers = [*self._running(), workers]
        return workers

    def work(
        self,
        *,
        stop_when_empty: bool = False,
        drain: bool = False,
        max_jobs: int | None = None,
        max_time: float | None = None,
    ) -> None:
        """Run jobs in this thread.

        stop_when_empty: return when nothing is ready; delayed jobs and waiting retries stay.
        drain: wait for delayed jobs and retries too. What other workers hold is theirs and not waited for.
        max_jobs, max_time: return after so many jobs, or seconds.
        Ctrl-C hands the running job back, uncounted, and raises KeyboardInterrupt.
        """
        until: Until = "drained" if drain else "empty" if stop_when_empty else "stopped"
        limits = Limits(until, max_jobs, max_time)
        worker, keeper = self._worker(1, limits, interruptible=True)
        self._workers.append(worker)
        keeping = self._runtime.spawn(keeper.keep, "kashvi-keeper")
        try:
            worker.run()
        finally:
            worker.stop()
            keeping.join()
            self._workers.remove(worker)

    def _worker(self, threads: int, limits: Limits, *, interruptible: bool) -> tuple[Worker, Keeper]:
        if limits.max_jobs is not None:
            _at_least("max_jobs", limits.max_jobs, 1)
        if limits.max_time_s is not None:
            _seconds("max_time", limits.max_time_s)
        self._worked = True
        driver = self.driver
        recorder = Recorder(driver, self.store, self._runtime, self._stream, self._remember)

        def max_attempts() -> int:
            return self._max_attempts

        worker = Worker(
            driver=driver,
            registry=self.registry,
            runtime=self._runtime,
            stream=self._stream,
            recorder=recorder,
            max_attempts=max_attempts,
            threads=threads,
            lease_s=self.lease_s,
            limits=limits,
            interruptible=interruptible,
        )
        return worker, Keeper(worker, driver, recorder, self._runtime, self._stream, max_attempts)

    def _remember(self, s: Settling, failed_at: datetime) -> None:
        d = s.delivery
        self._failed.add(
            FailedJob(
                job=decoded_or_none(d.envelope, self.registry),
                error=s.error,
                attempts=s.attempts,
                failed_at=failed_at,
                id=d.job_id,
                type=d.type,
                payload=text_of(bytes(d.envelope.payload) if d.envelope else d.raw),
            )
        )

    def _check_stopped(self, what: str) -> None:
        if self._running():
            raise WorkersRunning(what)

    def _running(self) -> list[Workers | Worker]:
        return [w for w in self._workers if isinstance(w, Worker) or w.is_alive()]


class _DefaultQueue(Queue):
    """The queue behind this module's functions: what is not set comes from the environment, at first use."""

    def _resolve_driver(self) -> Driver:
        if url := os.environ.get("KASHVI_REDIS_URL"):
            from .drivers.redis import RedisDriver

            self._driver = RedisDriver(url)
            return self._driver
        driver = super()._resolve_driver()
        if not self._worked:
            warnings.warn(
                "this job went to an in-memory queue, and no worker runs in this process: set KASHVI_REDIS_URL or "
                "call queue.set_driver(queue.RedisDriver(...)); to mean memory, queue.set_driver(queue.MemoryDriver())",
                MemoryQueueWarning,
                stacklevel=4,
            )
        return driver

    @property
    def store(self) -> FailureStore | None:
        if self._store is None and (url := os.environ.get("KASHVI_DATABASE_URL")):
            self.use_db(url)
            self._store_set = False
        return self._store


def _at_least(name: str, value: object, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidSetting(name, value, f"a whole number, {least} or more")
    return value


def _seconds(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise InvalidSetting(name, value, "a number of seconds above 0")
    return float(value)


def _delay_s(delay: object) -> float:
    seconds = delay.total_seconds() if isinstance(delay, timedelta) else delay
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= DELAY_MAX_S:
        raise InvalidDelay(delay)
    return float(seconds)


_default = _DefaultQueue()

job = _default.job
register = _default.register
dispatch = _default.dispatch
dispatch_after = _default.dispatch_after
dispatch_many = _default.dispatch_many
set_driver = _default.set_driver
set_max_retry = _default.set_max_retry
use_db = _default.use_db
failed_jobs = _default.failed_jobs
observe = _default.observe
stats = _default.stats
start_workers = _default.start_workers
work = _default.work


def default() -> Queue:
    """The queue these functions act on."""
    return _default


def __getattr__(name: str) -> Any:
    """RedisDriver and FailedJobRecord, imported when they are asked for: not every program needs both."""
    if name == "RedisDriver":
        from .drivers.redis import RedisDriver

        return RedisDriver
    if name == "FailedJobRecord":
        from .failures.table import FailedJobRecord

        return FailedJobRecord
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "FailedJob",
    "FailedJobRecord",
    "MemoryDriver",
    "MemoryQueueWarning",
    "Queue",
    "RedisDriver",
    "Registry",
    "Workers",
    "default",
    "dispatch",
    "dispatch_after",
    "dispatch_many",
    "failed_jobs",
    "job",
    "observe",
    "register",
    "set_driver",
    "set_max_retry",
    "start_workers",
    "stats",
    "use_db",
    "work",
]
