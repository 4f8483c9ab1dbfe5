"""A worker's keeper: renews the lease when all threads are busy, settles for the dead, records failures.

It lives until the worker's last thread has ended; then it settles what is left and takes the worker off the list.
What comes when is the machine's to say.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Protocol, cast

from .. import events
from ..cancelling import Cancelling
from ..errors import DriverError
from ..ports import Driver, Expired, Runtime
from ..stream import EventStream
from ..text import visible
from . import settle
from .machine import suspects
from .machine.steps import SECOND, Abandon, AskMarks, KeeperStep, Reap, Record, Request, Rest, Stuck
from .recorder import Recorder
from .reporter import Reporter
from .settle import Delivery, Settling
from .shell import Worker

if TYPE_CHECKING:  # a worker without cron entries does not load it
    from .ticker import Ticker

STUMBLE_S = 1.0
"""How long it rests after an error that should not be."""
LOST_MAX = 400
"""The most jobs of the dead that are settled at a time: more than one worker claims."""


RELAY_ENDS_S = 1.0
"""How long it waits for a relay to end."""


class Runs(Protocol):
    """A relay of an outbox: it has a thread of its own, as long as the worker lives."""

    def run(self) -> None: ...
    def stop(self) -> None: ...


class Keeper:
    """Looks after one worker."""

    def __init__(
        self,
        worker: Worker,
        driver: Driver,
        recorder: Recorder,
        runtime: Runtime,
        stream: EventStream,
        max_attempts: Callable[[], int],
        type_limit: Callable[[Delivery], int],
        ticker: Ticker | None = None,
        relays: Sequence[Runs] = (),
        reporter: Reporter | None = None,
    ) -> None:
        self._worker = worker
        self._driver = driver
        self._recorder = recorder
        self._runtime = runtime
        self._stream = stream
        self._max_attempts = max_attempts
        self._type_limit = type_limit
        self.ticker = ticker
        """None if there are no cron entries."""
        self._relays = relays
        self._reporter = reporter
        """None if the driver takes no reports."""

    def keep(self) -> None:
        """Until the last thread has ended: renew, reclaim, record; then close."""
        worker = self._worker
        self.begins()
        relaying = [self._runtime.spawn(relay.run, "kashvi-relay") for relay in self._relays]
        try:
            while (step := self.next()) is not None:
                try:
                    self._do(step)
                    if self._reporter is not None and worker.machine.alive:
                        self._reporter.look()
                except BaseException as error:  # of a driver, or a logging handler
                    if not worker.machine.alive:
                        raise
                    self._runtime.sleep(STUMBLE_S)
                    self.stumbled(error)
            for relay in self._relays:
                relay.stop()
            self.ends()
        finally:
            self.ended()
        for task in relaying:
            task.join(RELAY_ENDS_S)

    def begins(self) -> None:
        worker = self._worker
        self._stream.emit(
            events.WorkerStarted,
            worker=worker.id,
            threads=worker.threads,
            lease_s=worker.lease_s,
            driver=_name_of(self._driver),
            queues=tuple(map(str, worker.machine.queues)),
        )
        if self.ticker is not None:
            self.ticker.start()

    def ended(self) -> None:
        worker = self._worker
        if self.ticker is not None:
            self.ticker.stop()
        self._stream.emit(events.WorkerStopped, worker=worker.id, unsettled=worker.unsettled)

    def stumbled(self, error: BaseException) -> None:
        """It goes on after an error that should not be."""
        with contextlib.suppress(BaseException):
            who = self._worker.id
            events.log.error("kashvi's keeper of worker %s goes on after an error", who, exc_info=error)

    def next(self) -> KeeperStep:
        worker = self._worker
        with worker.lock:
            step = worker.machine.keep(worker.now(), self._runtime.closing())
            worker.signal()
        return step

    def _do(self, step: KeeperStep) -> None:
        worker = self._worker
        if isinstance(step, Stuck):  # before the news that it stops for that
            self.stuck(step)
        worker.tell_news()
        if isinstance(step, Rest):
            seconds = max(step.until - worker.now(), 0) / SECOND
            self._runtime.sleep(seconds) if step.deaf else worker.wait_for_bell(seconds)
        elif isinstance(step, Request):
            if worker.machine.phase == "over" and self._reporter is not None:
                self._reporter.leave()
            worker.exchange(step)
        elif isinstance(step, Reap):
            self._reap()
        elif isinstance(step, AskMarks):
            self._ask_marks(step)
        elif isinstance(step, Record):
            self.start_recorder(step)
        elif isinstance(step, Abandon):
            self.abandon(step)

    def stuck(self, step: Stuck) -> None:
        """An attempt does not obey its time limit."""
        d, limit, worker = step.limit.delivery, step.limit, self._worker
        if step.opens:
            try:
                self._runtime.spawn(worker.run, f"kashvi-in-place-of-{d.job_id[-12:]}")
            except BaseException:  # no more threads to be had
                with worker.lock:
                    worker.machine.not_opened()
                    worker.signal()
                raise
        self._stream.emit(
            events.AttemptStuck, job_id=d.job_id, type=d.type, attempt=d.attempts + 1, worker=worker.id,
            timeout_s=limit.timeout_s, duration_s=step.took / SECOND, replaced=step.opens,
        )  # fmt: skip
        leaves = worker.machine.leave_at is not None
        what = "the worker stops, and its process ends" if leaves else "no other thread runs in its place"
        what = "another thread runs in its place" if step.opens else what
        told = f"{visible(d.type)} {visible(d.job_id)} has not ended {step.took / SECOND:g} s after its start"
        events.warn(f"{told}, under a time limit of {limit.timeout_s:g} s: {what}")

    def abandon(self, step: Abandon) -> None:
        """The process goes, and the stuck attempts in it have failed."""
        worker = self._worker
        settlings = [worker.attempts.stuck(limit) for limit in step.limits]
        with worker.lock:
            worker.machine.abandoned(worker.now(), settlings)
            worker.signal()

    def ends(self) -> None:
        worker = self._worker
        worker.tell_news()
        if worker.machine.away:
            worker.error = worker.lost
        if worker.unsettled:
            without = f"ends without an answer about {worker.unsettled} jobs; their lease runs out"
            events.warn(f"kashvi worker {worker.id} {without}")

    def _reap(self) -> None:
        """Settle for workers whose lease ran out."""
        found = Expired([], [])
        with contextlib.suppress(DriverError):  # the exchange that follows says so
            found = self._driver.expired(LOST_MAX)
        self.reaped(found)

    def reaped(self, found: Expired) -> None:
        """Take the jobs of workers whose lease ran out."""
        worker = self._worker
        settlings = self._after_deaths(found)
        with worker.lock:
            worker.machine.reaped(worker.now(), settlings, found.more)
            worker.signal()

    def _after_deaths(self, found: Expired) -> list[Settling]:
        worker, new_id, now = self._worker, self._runtime.new_id, self._runtime.monotonic()
        at, limit = worker.server_now(), self._max_attempts()
        settlings = [settle.gone(owner, now) for owner in found.gone if owner != worker.id]
        groups = [list(group) for _, group in groupby(found.lost, key=lambda one: one.owner)]
        whole = not found.more
        if found.more and len(groups) > 1:
            groups.pop()  # the last may be in part; it is the first of the next look
            whole = True
        for theirs in groups:
            if theirs[0].owner != worker.id:
                settlings += suspects.after_death(theirs, whole, now, new_id, limit, at, self._type_limit)
        return settlings

    def _ask_marks(self, step: AskMarks) -> None:
        marked: Sequence[str] | None = None
        with contextlib.suppress(DriverError):  # the next exchange says so
            marked = cast(Cancelling, self._driver).marked(step.job_ids)
        self.told_marks(marked)

    def told_marks(self, marked: Sequence[str] | None) -> None:
        """Which of the worker's jobs are cancelled; None: no answer came."""
        worker = self._worker
        with worker.lock:
            worker.machine.not_told() if marked is None else worker.machine.told_marks(worker.now(), marked)
            worker.signal()

    def start_recorder(self, step: Record) -> None:
        """In a thread of its own: a database may take longer to fail than the lease lasts."""
        try:
            self._runtime.spawn(lambda: self._record(step.waiting), "kashvi-recorder")
        except BaseException:  # no more threads to be had
            self._recorded(step.waiting, False)
            raise

    def _record(self, waiting: int) -> None:
        done = False
        try:
            done = self._recorder.run(waiting)
        finally:
            self._recorded(waiting, done)

    def _recorded(self, waiting: int, done: bool) -> None:
        worker = self._worker
        with worker.lock:
            worker.machine.recorded(waiting, done)
            worker.signal()


def _name_of(driver: Driver) -> str:
    try:
        return repr(driver)
    except BaseException:  # the app may have written the driver
        return type(driver).__name__
