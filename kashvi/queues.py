"""``Queue``: jobs go in here, and workers start here. This module only puts the parts together."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar, overload

from . import dispatch, settings
from .cron.calls import Scheduling, ticking
from .dispatch import Sealed, TraceHook
from .dispatching import Dispatching
from .drivers.memory import MemoryDriver
from .errors import InvalidSetting, NotAJob, StoreError, WorkersRunning
from .events import Observer
from .failures.recent import FailedJob, FailedJobs
from .jobs.codec import Job
from .jobs.envelope import text_of
from .names import DEFAULT, ONLY_DEFAULT, served
from .operating import Operating
from .outboxes import Outboxes
from .ports import Driver, FailureStore, Runtime, Task
from .registry import Registry, default_name
from .reporting import Reporting
from .runtime import SystemRuntime
from .stream import EventStream
from .text import visible
from .unique import Unique

if TYPE_CHECKING:  # a process that only dispatches does not load these
    import sqlalchemy

    from .retries import Retry
    from .worker.hooks import Hook
    from .worker.keeper import Keeper
    from .worker.machine.steps import Limits, Until
    from .worker.pool import Workers
    from .worker.reporter import Reporter
    from .worker.settle import Settling
    from .worker.shell import Worker
    from .worker.ticker import Ticker

J = TypeVar("J", bound=type[Any])
H = TypeVar("H", bound="Hook")
T = TypeVar("T", bound=TraceHook)

PAYLOAD_LIMIT = 1024 * 1024
LEASE_S = 30.0
REGISTRY = Registry()
"""The job types of every queue without a registry of its own."""

log = logging.getLogger("kashvi")


class Queue(Outboxes, Dispatching, Operating, Scheduling):
    """A queue of jobs.

    driver: where jobs wait, or the URL of a Redis; MemoryDriver() if none is given.
    max_attempts: how often a job is tried in all.
    payload_limit: bytes of JSON a job may have.
    lease_s: seconds without a renewal after which a worker's jobs are given to others.
    obey_s: seconds that a handler may take to end after its time limit; then it is stuck.
    unknown_for_s: seconds that a job of an unknown type waits for a worker that knows it; 0: it fails at once.
    database: an SQLAlchemy engine or URL for ``kashvi_failed_jobs``.
    registry: the job types; by default one registry shared by all queues.
    """

    def __init__(
        self,
        driver: Driver | str | None = None,
        *,
        max_attempts: int = 3,
        payload_limit: int = PAYLOAD_LIMIT,
        lease_s: float = LEASE_S,
        obey_s: float = settings.OBEY_S,
        unknown_for_s: float = settings.UNKNOWN_FOR_S,
        database: sqlalchemy.Engine | str | None = None,
        registry: Registry | None = None,
        runtime: Runtime | None = None,
    ) -> None:
        self.registry = REGISTRY if registry is None else registry
        self.payload_limit = settings.at_least("payload_limit", payload_limit, 1)
        self.lease_s = lease_s
        self.obey_s = obey_s
        self.unknown_for_s = unknown_for_s
        self._runtime = runtime or SystemRuntime()
        self._lock = self._runtime.condition()
        self._max_attempts = 3
        self.set_max_retry(max_attempts)
        self._driver = None if driver is None else settings.driver_of(driver)
        self._driver_set = driver is not None
        self._store: FailureStore | None = None
        self._store_set = False
        self._failed = FailedJobs()
        self._hooks: list[Hook] = []
        self._tracing = []
        self._cron = {}
        self._outboxes = []
        self._workers: list[Workers | Worker] = []
        self._worked = False
        self._runtime.at_fork(self._forked)
        self._stream = EventStream(self._runtime.new_id(), self._runtime.now, self._runtime.interruptible)
        if database is not None:
            self.use_db(database)

    def _forked(self) -> None:
        """In the child of a fork: drop the workers, and replace the locks that threads of the parent may hold."""
        self._lock = self._runtime.condition()
        self._workers, self._worked = [], False
        self._leave_outboxes()
        self._stream.restart(self._runtime.new_id())

    # -- jobs -------------------------------------------------------------------------------

    @overload
    def job(self, name: J, /) -> J: ...
    @overload
    def job(
        self,
        name: str | None = None,
        /,
        *,
        retry: Retry | None = None,
        timeout: float | timedelta | None = None,
        queue: str = DEFAULT,
        unique: Unique = False,
    ) -> Callable[[J], J]: ...
    def job(
        self,
        name: J | str | None = None,
        /,
        *,
        retry: Retry | None = None,
        timeout: float | timedelta | None = None,
        queue: str = DEFAULT,
        unique: Unique = False,
    ) -> J | Callable[[J], J]:
        """Class decorator: ``@queue.job("jobs.WelcomeEmailJob")``.

        Bare ``@queue.job`` takes the last module segment and the class name.
        retry: the type's policy (``kashvi.retries``), in place of the class's attribute ``retry``.
        timeout: the time limit of an attempt (seconds or a timedelta), in place of the class's attribute ``timeout``.
        queue: where its jobs go, unless a dispatch says otherwise: a worker serves the queues it is given.
        unique: True, or a function of the job that returns a text or a whole number: while a job of this type with
            the same payload, or the same result, is on a queue, a dispatch adds none and returns its id (QUEUES-7).
        Raises NotAJob, DuplicateJobName, InvalidSetting (bare, in a script; a ``retry`` that is no policy, a
        ``timeout`` that is no time above 0, a ``queue`` that is no name).
        """

        def decorate(job_class: J) -> J:
            if not isinstance(job_class, type):
                raise NotAJob(job_class, "it is not a class; nothing was called")
            self.registry.register(given or default_name(job_class), job_class, retry, timeout, queue, unique)
            return job_class

        given = name if isinstance(name, str) else None
        return decorate if name is None or isinstance(name, str) else decorate(name)

    def register(
        self,
        name: str,
        factory: Callable[[], Job] | type[Any],
        *,
        retry: Retry | None = None,
        timeout: float | timedelta | None = None,
        queue: str = DEFAULT,
        unique: Unique = False,
    ) -> None:
        """Give a job type its name: a class, or a function that returns an instance with default fields.

        ``retry``, ``timeout``, ``queue``, ``unique``: as for ``job``. Raises NotAJob, DuplicateJobName, InvalidSetting.
        """
        self.registry.register(name, factory, retry, timeout, queue, unique)

    def _push(self, sealed: Sequence[Sealed], delay_s: float) -> Sequence[str]:
        return dispatch.push(self._driver or self._resolve_driver(), self._stream, sealed, delay_s)

    # -- settings ---------------------------------------------------------------------------

    @property
    def lease_s(self) -> float:
        """Seconds without a renewal after which a worker's jobs are given to others, for workers started later."""
        return self._lease_s

    @lease_s.setter
    def lease_s(self, seconds: float) -> None:
        self._lease_s = settings.seconds("lease_s", seconds)

    @property
    def obey_s(self) -> float:
        """Seconds that a handler may take to end after its time limit; then it is stuck. For workers started later."""
        return self._obey_s

    @obey_s.setter
    def obey_s(self, seconds: float) -> None:
        self._obey_s = settings.seconds("obey_s", seconds, zero=True)

    @property
    def unknown_for_s(self) -> float:
        """Seconds that a job of an unknown type waits for a worker that knows it; then it is recorded as failed.

        Applies to workers started later.
        """
        return self._unknown_for_s

    @unknown_for_s.setter
    def unknown_for_s(self, seconds: float) -> None:
        self._unknown_for_s = settings.seconds("unknown_for_s", seconds, zero=True)

    @property
    def driver(self) -> Driver:
        """The driver."""
        return self._driver or self._resolve_driver()

    @property
    def driver_chosen(self) -> bool:
        """True if ``set_driver`` was called; False if the driver comes from the environment."""
        return self._driver_set

    def _resolve_driver(self) -> Driver:
        with self._lock:  # several threads may dispatch first; one of them makes the driver
            if self._driver is None:
                self._driver = self._default_driver()
            return self._driver

    def _default_driver(self) -> Driver:
        return MemoryDriver(runtime=self._runtime)

    def set_driver(self, driver: Driver | str) -> None:
        """Choose where jobs wait: a driver, or the URL of a Redis. Raises InvalidSetting, WorkersRunning."""
        self._check_stopped("the driver")
        self._driver = settings.driver_of(driver)
        self._driver_set = True

    @property
    def max_attempts(self) -> int:
        """The number of attempts that a job gets in all."""
        return self._max_attempts

    def set_max_retry(self, attempts: int) -> None:
        """Set the number of attempts that a job gets in all (default 3; 1 means no retry). Running workers follow.

        Types with a limit of their own (``retry=Retry(attempts=…)``) keep it. Raises InvalidSetting for less than 1.
        """
        self._max_attempts = settings.at_least("max_retry (attempts in all)", attempts, 1)

    def use_db(self, database: sqlalchemy.Engine | str, *, outbox: bool = False) -> None:
        """Record failed jobs in the table ``kashvi_failed_jobs`` of this SQLAlchemy engine or URL.

        outbox: True makes it an outbox too, as ``outbox`` does.
        Makes the table or adopts the Go program's: now if the database is up, else at the first failure.
        Raises InvalidSetting for a URL that can't be used, and WorkersRunning.
        """
        self._check_stopped("the database")
        from .failures.sql import SqlFailures

        store = SqlFailures(database)
        try:
            store.prepare()
        except StoreError as error:
            log.warning("%s; it is tried again when a job fails", visible(str(error)))
        self._store = store
        self._store_set = True
        if outbox:
            self.outbox(database)

    @property
    def database_chosen(self) -> bool:
        """True if ``use_db`` was called; False if the database comes from the environment."""
        return self._store_set

    @property
    def store(self) -> FailureStore | None:
        """The failure table, if there is one."""
        return self._store

    def host_time(self) -> float:
        """This process's wall clock, Unix seconds: simulated where the queue is."""
        return self._runtime.now()

    def failed_jobs(self) -> list[FailedJob]:
        """Jobs that failed for good in this process, oldest first; the newest 1,000 are kept."""
        return self._failed.list()

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Call ``observer(event)`` for every event of this queue; returns a function that ends it."""
        return self._stream.observe(observer)

    def around(self, hook: H) -> H:
        """Enclose every attempt: ``hook(attempt)`` returns a context manager, entered before ``handle()`` and left
        after it, in the same thread. The first hook is the outermost. May be used as a decorator.

        An error of a hook fails the attempt, unless the handler had one (JOBS-13). Raises InvalidSetting.
        """
        if not callable(hook):
            raise InvalidSetting("a hook", hook, "a function of the attempt that returns a context manager")
        self._hooks.append(hook)
        return hook

    def tracing(self, hook: T) -> T:
        """Give the jobs that are dispatched here a trace: ``hook(outgoing)`` is called for each, with its ``job_id``,
        ``type`` and ``queue``, and returns texts by name, or None; ``current().trace`` has them at each attempt.

        May be used as a decorator. What it raises, the dispatch raises, and nothing is sent (JOBS-24). Raises
        InvalidSetting.
        """
        if not callable(hook):
            raise InvalidSetting("a hook for traces", hook, "a function of the outgoing job that returns texts by name")
        self._tracing.append(hook)
        return hook

    # -- working ----------------------------------------------------------------------------

    def start_workers(
        self, n: int = 5, *, queues: str | Iterable[str] = DEFAULT, limits: Limits | None = None
    ) -> Workers:
        """Start ``n`` worker threads; returns their handle, a context manager.

        queues: those they serve: ``"payments,default"`` strictly in this order, ``"payments:3,default:1"`` by weight.
        Raises InvalidSetting, and SettingsRefused if the server rejects the settings (REDIS-15).
        """
        from .worker.pool import Workers

        worker, keeper = self._worker(
            settings.at_least("the number of workers", n, 1), limits, queues, interruptible=False
        )
        workers = Workers(worker, keeper, self._runtime)
        self._workers = [*self._running(), workers]
        return workers

    def work(
        self,
        *,
        queues: str | Iterable[str] = DEFAULT,
        stop_when_empty: bool = False,
        drain: bool = False,
        max_jobs: int | None = None,
        max_time: float | None = None,
    ) -> None:
        """Run jobs in this thread.

        queues: as for ``start_workers``.
        stop_when_empty: return when nothing is ready; delayed jobs and waiting retries stay.
        drain: wait for delayed jobs and retries too, but not for jobs that other workers hold. Raises
            ClockStandsStill if a frozen clock keeps a delayed job from becoming due for 5 s.
            Both run what is committed in the outboxes when it begins; without max_jobs and max_time also what is
            committed meanwhile.
        max_jobs, max_time: return after this many jobs, or seconds.
        Ctrl-C hands the running job back, uncounted, and raises KeyboardInterrupt. Raises DriverError if the server
        can't be reached for one lease. Raises SettingsRefused at once if the server rejects the settings (REDIS-15).
        """
        from .worker import Limits

        until: Until = "drained" if drain else "empty" if stop_when_empty else "stopped"
        limits = Limits(until, max_jobs, max_time)
        self._relaying_after(limits, lambda: self._work(limits, queues))

    def _work(self, limits: Limits, queues: str | Iterable[str]) -> None:
        worker, keeper = self._worker(1, limits, queues, interruptible=True)
        keeping: Task | None = None
        forget_end: Callable[[], None] = _nothing
        try:
            self._workers = [*self._running(), worker]
            forget_end = self._runtime.at_closing(worker.stop)
            keeping = self._runtime.spawn(keeper.keep, "kashvi-keeper")
            worker.run()
        finally:
            forget_end()
            try:
                worker.stop()
                worker.without(1)
                if keeping is not None:
                    keeping.join()
            finally:
                self._workers = [other for other in self._workers if other is not worker]
        if worker.error is not None:
            raise worker.error

    def _worker(
        self, threads: int, limits: Limits | None, queues: str | Iterable[str], *, interruptible: bool
    ) -> tuple[Worker, Keeper]:
        from .worker.attempt import Attempts
        from .worker.keeper import Keeper
        from .worker.machine import Machine
        from .worker.machine.steps import Limits, micros
        from .worker.recorder import Recorder
        from .worker.running import FollowUps
        from .worker.shell import Worker

        limits = limits or Limits()
        if limits.max_jobs is not None:
            settings.at_least("max_jobs", limits.max_jobs, 1)
        if limits.max_time_s is not None:
            settings.seconds("max_time", limits.max_time_s)
        self._worked = True
        driver, runtime, stream = self.driver, self._runtime, self._stream
        serves = ONLY_DEFAULT if queues == DEFAULT else served(queues)
        if serves != ONLY_DEFAULT:
            dispatch.naming(driver)
        settings.check(driver, relays=bool(self._outboxes))
        if limits.until != "stopped":
            self._relay_now()
        recorder = Recorder(driver, self.store, runtime, stream, self._remember)

        def max_attempts() -> int:
            return self._max_attempts

        worker_id, now = runtime.new_id(), micros(runtime.monotonic())
        machine = Machine.new(
            worker_id,
            threads,
            self.lease_s,
            limits,
            now,
            has_store=recorder.has_store,
            obey_s=self.obey_s,
            spare=0 if interruptible else threads,
            queues=serves,
        )
        attempts = Attempts(
            worker_id,
            self.registry,
            runtime,
            stream,
            max_attempts,
            FollowUps(driver, self.registry, runtime, stream, self.payload_limit, self._tracing),
            self._hooks,
            unknown_for_s=self.unknown_for_s,
            interruptible=interruptible,
        )
        worker = Worker(machine, attempts, driver=driver, runtime=runtime, stream=stream, recorder=recorder)
        ticker = self._ticker(worker_id) if self._cron else None
        relays = self._relays_beside(limits, in_main=interruptible)
        reporter = self._reporter(worker)
        keeper = Keeper(
            worker, driver, recorder, runtime, stream, max_attempts, attempts.type_limit, ticker, relays, reporter
        )
        return worker, keeper

    def _reporter(self, worker: Worker) -> Reporter | None:
        """None for a driver that takes no reports."""
        driver = self.driver
        if not isinstance(driver, Reporting):
            return None
        from .worker.reporter import Reporter

        kashvi = sys.modules[__name__.partition(".")[0]]  # which this module is a part of, and can't import
        reporter = Reporter(worker, driver, self._runtime, kashvi.__version__)
        worker.tally = reporter.tally
        return reporter

    def _ticker(self, worker_id: str) -> Ticker:
        from .cron.entry import Sealer
        from .worker.ticker import Ticker

        driver = ticking(self.driver, self._cron)
        seal = Sealer(getattr(driver, "prefix", ""), self.registry, self._runtime, self.payload_limit)
        return Ticker(worker_id, self._cron.values(), driver, seal, self._runtime, self._stream)

    def _remember(self, s: Settling, failed_at: datetime) -> None:
        from .worker.attempt import decoded_or_none

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
                traceback=s.traceback,
            )
        )

    def _check_stopped(self, what: str) -> None:
        if self._running():
            raise WorkersRunning(what)

    def _running(self) -> list[Workers | Worker]:
        if not self._workers:
            return []
        from .worker.shell import Worker

        return [w for w in self._workers if isinstance(w, Worker) or w.is_alive()]


def _nothing() -> None:
    """Do nothing."""
