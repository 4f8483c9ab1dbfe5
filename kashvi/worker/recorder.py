"""Records settled failures: in this process's list at once, in the table from ``unrecorded``.

An exhausted job is already in ``unrecorded`` by then, so a crash or a database that is down only delays its row. Rows
are inserted by job id if they are missing, then removed from ``unrecorded``: idempotent for several recorders.
A row that the database refuses is put off, and no other waits for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple

from .. import events
from ..errors import DriverError, StoreUnavailable
from ..ports import READ_MAX_BYTES, Driver, Failure, FailureStore, Refusal, Runtime, Unrecorded
from ..stream import EventStream
from ..text import visible
from .row import failure_of, utc
from .settle import Settling

BATCH = 500
PAUSE_FIRST_S = 1.0
PAUSE_MAX_S = 30.0
CONTENT_PAUSE_S = 600.0
"""The wait before a row whose content was refused is tried again: the table may have changed."""

Remember = Callable[[Settling, datetime], None]


class _PutOff(NamedTuple):
    """A row that the database refused: the time of the next try, and its last wait."""

    at: float
    pause_s: float


class Recorder:
    """Called by one thread at a time."""

    def __init__(
        self,
        driver: Driver,
        store: FailureStore | None,
        runtime: Runtime,
        stream: EventStream,
        remember: Remember,
    ) -> None:
        self._driver = driver
        self._store = store
        self._runtime = runtime
        self._stream = stream
        self._remember = remember
        self._prefix: str | None = getattr(driver, "prefix", None)
        self._put_off: dict[bytes, _PutOff] = {}
        """The rows put off, by a digest of the envelope, which may be large."""
        self._pause_s = 0.0
        self._not_before = self._look_at = 0.0

    @property
    def has_store(self) -> bool:
        return self._store is not None

    def remember(self, settling: Settling, failed_at: float) -> None:
        """Add a failed job to this process's list."""
        self._remember(settling, utc(failed_at))

    def run(self, waiting: int) -> bool:
        """Record all waiting failures, ``waiting`` by the server's last answer. False if some are put off."""
        if self._store is None:
            return True
        now = self._runtime.monotonic()
        if now < self._not_before:
            return False
        known, due = len(self._put_off), any(one.at <= now for one in self._put_off.values())
        if waiting == known and not due and now < self._look_at:
            return False
        self._look_at = now + PAUSE_MAX_S
        try:
            # Rows put off are usually the oldest, so the read starts at the last of them.
            if due or not known or self._pass(self._store, known - 1) != 1:
                self._pass(self._store, 0)
        except DriverError:
            return False
        except StoreUnavailable as error:
            self._rest(error)
            return False
        except BaseException as error:  # a store of the user's own; the worker must go on
            self._runtime.sleep(0.0)
            events.log.exception("the failure store failed")
            self._rest(StoreUnavailable(f"{type(error).__name__}: {error}"))
            return False
        return not self._put_off

    def _pass(self, store: FailureStore, skip: int) -> int:
        """Record batch after batch, after skipping the ``skip`` oldest; returns how many of them are put off."""
        met = 0
        stay: set[bytes] = set()
        whole, more = skip == 0, True
        while more:
            entries = self._driver.unrecorded(BATCH, skip)
            more = len(entries) >= BATCH or sum(len(entry.envelope) for entry in entries) >= READ_MAX_BYTES
            now = self._runtime.monotonic()
            put_off = {key for key, one in self._put_off.items() if one.at > now}
            fresh = [entry for entry in entries if _digest(entry.envelope) not in put_off]
            met += len(entries) - len(fresh)
            taken = self._batch(store, fresh)
            stay.update(_digest(entry.envelope) for entry in entries if entry.envelope not in taken)
            skip += len(entries) - len(taken)
        if whole:  # missing ones were recorded by others
            self._put_off = {key: one for key, one in self._put_off.items() if key in stay}
        return met

    def _batch(self, store: FailureStore, entries: Sequence[Unrecorded]) -> set[bytes]:
        """Record these; returns the envelopes that were recorded."""
        if not entries:
            return set()
        failures = {entry.envelope: failure_of(entry, self._prefix) for entry in entries}
        refused = store.record(list(failures.values()))
        self._wake()
        taken = {raw for raw, failure in failures.items() if failure.job_id not in refused}
        for raw, failure in failures.items():
            if refusal := refused.get(failure.job_id):
                self._postpone(raw, failure, refusal)
            else:
                self._put_off.pop(_digest(raw), None)
                self._stream.emit(events.FailureRecorded, job_id=failure.job_id, type=failure.job_type)
        self._driver.recorded([raw for raw in failures if raw in taken])
        return taken

    def _postpone(self, raw: bytes, failure: Failure, refusal: Refusal) -> None:
        key = _digest(raw)
        before = self._put_off.get(key)
        pause_s = min(before.pause_s * 2, PAUSE_MAX_S) if before else PAUSE_FIRST_S
        if not refusal.passing:
            pause_s = CONTENT_PAUSE_S
        self._put_off[key] = _PutOff(self._runtime.monotonic() + pause_s, pause_s)
        if before and (refusal.passing or before.pause_s == CONTENT_PAUSE_S):
            return
        job_id, why = visible(failure.job_id), visible(refusal.why)
        if refusal.passing:
            events.log.warning("the failure table can't take job %s now: %s", job_id, why)
        else:
            events.log.error("the failure table refuses job %s: %s", job_id, why)
            self._stream.emit(events.FailureRefused, job_id=failure.job_id, type=failure.job_type, error=refusal.why)

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


def _digest(raw: bytes) -> bytes:
    return hashlib.sha256(raw).digest()
