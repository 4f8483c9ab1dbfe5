"""A worker's keeper: renews the lease when all threads are busy, settles for the dead, records failures.

It lives until the worker's last thread has ended; then it settles what is left and takes the worker off the list.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from itertools import groupby

from . import events, settle, suspects
from .errors import DriverError
from .ports import Driver, Runtime, Task
from .recorder import Recorder
from .worker import Worker

TICK_S = 1.0
MORE_S = 0.1
"""Until the next look at what the dead hold, where it was too much for one."""
CLOSE_S = 10.0
"""How long a worker that ends waits for the failure table."""
LOST_MAX = 400
"""Jobs of the dead that are settled at a time; of one of them, so many that are held. More than a worker claims."""


class Keeper:
    """Looks after one worker."""

    def __init__(
        self,
        worker: Worker,
        driver: Driver,
        recorder: Recorder,
        runtime: Runtime,
        stream: events.EventStream,
        max_attempts: Callable[[], int],
    ) -> None:
        self._worker = worker
        self._driver = driver
        self._recorder = recorder
        self._runtime = runtime
        self._stream = stream
        self._max_attempts = max_attempts
        self._reclaim_at = runtime.monotonic()
        self._more = False
        self._recording: Task | None = None

    def keep(self) -> None:
        """Until the last thread has ended: renew, reclaim, record; then close."""
        worker = self._worker
        lease_s = worker.lease.lease_s
        self._stream.emit(
            events.WorkerStarted,
            worker=worker.id,
            threads=worker.threads,
            lease_s=lease_s,
            driver=_name_of(self._driver),
        )
        while worker.alive:
            worker.wait_for_bell(MORE_S if self._more and not worker.stopping else min(TICK_S, lease_s / 3))
            try:
                if worker.alive:
                    self._tend()
            except BaseException:  # of a driver, or a logging handler
                self._runtime.sleep(TICK_S)
                with contextlib.suppress(BaseException):
                    events.log.exception("kashvi's keeper of worker %s goes on after an error", worker.id)
        try:
            self._close()
        finally:
            self._stream.emit(events.WorkerStopped, worker=worker.id, unsettled=worker.unsettled)

    def _close(self) -> None:
        worker = self._worker
        settled = worker.settle_all()
        if not settled or worker.gave_up:
            worker.error = worker.lease.lost
        self._record_to_the_end()
        if settled:
            worker.leave()
        if worker.unsettled:
            events.log.warning(
                "kashvi worker %s ends without an answer about %d jobs; their lease runs out",
                worker.id,
                worker.unsettled,
            )

    def _tend(self) -> None:
        now = self._runtime.monotonic()
        self._worker.stop_if_over()
        if not self._worker.stopping and now >= self._reclaim_at and not self._worker.hurries:
            self._reclaim_at = now + self._worker.lease.lease_s / 3
            self._reclaim(now)
        self._worker.exchange_if_due()
        wanted = self._worker.unrecorded and self._recorder.has_store
        if wanted and not (self._recording is not None and self._recording.is_alive()):
            # In a thread of its own: a database may take longer to fail than the lease lasts.
            self._recording = self._runtime.spawn(self._record, "kashvi-recorder")

    def _reclaim(self, now: float) -> None:
        """Settle for workers whose lease ran out."""
        worker, new_id = self._worker, self._runtime.new_id
        self._more = False
        try:
            found = self._driver.expired(LOST_MAX)
        except DriverError:
            return  # the exchange that follows says so
        at, limit = worker.lease.server_now(), self._max_attempts()
        settlings = [settle.gone(owner, now) for owner in found.gone if owner != worker.id]
        groups = [list(group) for _, group in groupby(found.lost, key=lambda one: one.owner)]
        whole = not found.more
        if found.more and len(groups) > 1:
            groups.pop()  # the last may be in part; it is the first of the next look
            whole = True
        for theirs in groups:
            if theirs[0].owner != worker.id:
                settlings += suspects.after_death(theirs, whole, now, new_id, limit, at)
        worker.put(settlings)
        self._more = found.more
        if self._more:
            self._reclaim_at = now

    def _record_to_the_end(self) -> None:
        """What is left, if the database is quick enough: what it has not taken waits in ``unrecorded``."""
        if self._runtime.closing():
            return  # no thread can be started any more
        for _ in range(2):
            if self._recording is not None:
                self._recording.join(CLOSE_S)
                if self._recording.is_alive():
                    events.log.warning("the failure table does not answer; failed jobs wait in the queue until it does")
                    return
            if not (self._worker.unrecorded and self._recorder.has_store):
                return
            self._recording = self._runtime.spawn(self._record, "kashvi-recorder")

    def _record(self) -> None:
        waiting, self._worker.unrecorded = self._worker.unrecorded, 0
        if waiting and not self._recorder.run(waiting):
            self._worker.unrecorded = max(waiting, self._worker.unrecorded)


def _name_of(driver: Driver) -> str:
    try:
        return repr(driver)
    except BaseException:  # it may be somebody's own
        return type(driver).__name__
