"""Failures, settled first and recorded after: to this process's list at once, to the table from ``unrecorded``.

An exhausted job already stands in ``unrecorded`` when this begins, so a crash or a database that is down delays its
row and nothing else. Rows are inserted by job id if they are not there yet, then taken off: once, whoever does it.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from . import envelope, events
from .errors import DriverError, NotAnEnvelope, StoreUnavailable
from .ports import Driver, Failure, FailureStore, Runtime, Unrecorded
from .settle import Settling
from .text import visible

BATCH = 500
PAUSE_FIRST_S = 1.0
PAUSE_MAX_S = 30.0

YEAR_9999 = 253_402_214_400.0

Remember = Callable[[Settling, datetime], None]


class Recorder:
    """Called by one thread at a time."""

    def __init__(
        self,
        driver: Driver,
        store: FailureStore | None,
        runtime: Runtime,
        stream: events.EventStream,
        remember: Remember,
    ) -> None:
        self._driver = driver
        self._store = store
        self._runtime = runtime
        self._stream = stream
        self._remember = remember
        self._refused: set[bytes] = set()
        self._pause_s = 0.0
        self._not_before = 0.0

    @property
    def has_store(self) -> bool:
        return self._store is not None

    def remember(self, settling: Settling, failed_at: float) -> None:
        """Put a job this process gave up on into its list."""
        self._remember(settling, _utc(failed_at))

    def run(self) -> bool:
        """Record all that waits. False if some must wait longer."""
        if self._store is None:
            return True
        if self._runtime.monotonic() < self._not_before:
            return False
        try:
            while self._batch(self._store):
                pass
        except DriverError:
            return False
        except StoreUnavailable as error:
            self._rest(error)
            return False
        except Exception as error:  # a store of the user's own; the worker must go on
            events.log.exception("the failure store failed")
            self._rest(StoreUnavailable(f"{type(error).__name__}: {error}"))
            return False
        if self._refused:
            self._not_before = self._runtime.monotonic() + PAUSE_MAX_S
        return not self._refused

    def _batch(self, store: FailureStore) -> bool:
        """Record one batch; True if there may be more."""
        limit = BATCH + len(self._refused)
        waiting = self._driver.unrecorded(limit)
        entries = [entry for entry in waiting if entry.envelope not in self._refused]
        if not entries:
            return False
        failures = {entry.envelope: failure_of(entry) for entry in entries}
        refused = store.record(list(failures.values()))
        self._wake()
        taken = [raw for raw, failure in failures.items() if failure.job_id not in refused]
        for raw, failure in failures.items():
            about: dict[str, Any] = {"job_id": failure.job_id, "type": failure.job_type}
            if failure.job_id in refused:
                self._refused.add(raw)
                why = visible(refused[failure.job_id])
                events.log.error("the failure table refuses job %s: %s", visible(failure.job_id), why)
                self._stream.emit(events.FailureRefused, error=refused[failure.job_id], **about)
            else:
                self._stream.emit(events.FailureRecorded, **about)
        self._driver.recorded(taken)
        return len(waiting) == limit

    def _rest(self, error: StoreUnavailable) -> None:
        if not self._pause_s:
            self._stream.emit(events.StoreLost, error=str(error))
            events.log.warning("%s; failed jobs wait in the queue until it can", visible(str(error)))
        self._pause_s = min(self._pause_s * 2 or PAUSE_FIRST_S, PAUSE_MAX_S)
        self._not_before = self._runtime.monotonic() + self._pause_s

    def _wake(self) -> None:
        if self._pause_s:
            self._pause_s = 0.0
            self._stream.emit(events.StoreBack)
            events.log.warning("the failure table can be written again")


def failure_of(entry: Unrecorded) -> Failure:
    """The row for an exhausted job. Bytes that are no envelope are their own payload."""
    failed_at = _utc(entry.failed_at)
    try:
        e = envelope.read(entry.envelope)
    except NotAnEnvelope as error:  # somebody else's hand in our key: a row all the same
        stable_id = hashlib.sha256(entry.envelope).hexdigest()
        return Failure(stable_id, "", entry.envelope, str(error), 0, failed_at)
    payload = base64.b64decode(e.raw) if e.raw else bytes(e.payload)
    return Failure(e.id, e.type, payload, e.error, e.attempts, failed_at)


def _utc(at: float) -> datetime:
    """A score that no clock gave is taken for the nearest time there is."""
    return datetime.fromtimestamp(min(max(at, 0.0), YEAR_9999), UTC)
