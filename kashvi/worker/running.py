"""An attempt under way: its time limit, and its follow-ups.

Follow-ups are jobs that a handler dispatches through ``current()``. They are sent in the exchange that settles its
attempt as done (JOBS-18).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import islice
from typing import Protocol

import msgspec

from .. import dispatch, events
from ..errors import AttemptOver, NoFollowUps, TooManyFollowUps
from ..names import DEFAULT
from ..ports import Driver, Runtime
from ..registry import Registry
from ..stream import EventStream
from .settle import Delivery, Kept, TimeLimit

MANY_MAX = 1000
BYTES_MAX = 8 * 1024 * 1024
"""The most follow-ups of one attempt, and the most bytes of their envelopes: one request carries them all."""


class Timekeeper(Protocol):
    """The time limits of a worker's running attempts."""

    def begins(self, d: Delivery, began: float, timeout_s: float) -> None:
        """An attempt with a time limit has begun, at this time of the monotonic clock."""

    def limit(self, d: Delivery) -> TimeLimit | None:
        """The attempt's time limit; None if it has none, or is over."""

    def cancelled(self, d: Delivery) -> bool:
        """Whether the worker has heard that the job is cancelled."""

    def left(self, d: Delivery) -> bool:
        """Whether the worker has left the attempt behind, and settled it."""

    def has_passed(self, limit: TimeLimit, at: float) -> bool:
        """Whether it had passed then."""

    def remaining_s(self, limit: TimeLimit) -> float:
        """The seconds until the limit passes; negative afterwards."""

    def deadline(self, limit: TimeLimit) -> datetime:
        """The time on this host's clock when the limit passes."""

    def check(self, d: Delivery, limit: TimeLimit | None) -> None:
        """Raises TimedOut after the limit, AttemptCancelled after a cancel, AttemptOver after the attempt's end."""


class Running(msgspec.Struct, eq=False, gc=False):
    """An attempt under way."""

    delivery: Delivery
    timekeeper: Timekeeper
    follow_ups: FollowUps
    kept: list[Kept] | None = None
    """None until a follow-up is dispatched: most attempts have none."""
    size: int = 0
    """The bytes of all that is kept."""
    over: bool = False

    def taken(self) -> tuple[Kept, ...]:
        """The follow-ups of an attempt that is over and has succeeded."""
        return self.follow_ups.taken(self)


class FollowUps:
    """Keeps the follow-ups of one worker's attempts."""

    def __init__(
        self,
        driver: Driver,
        registry: Registry,
        runtime: Runtime,
        stream: EventStream,
        payload_limit: int,
        tracing: Sequence[dispatch.TraceHook] = (),
    ) -> None:
        self._driver = driver
        self._registry = registry
        self._runtime = runtime
        self._stream = stream
        self._payload_limit = payload_limit
        self._tracing = tracing
        self._process = runtime.process()
        self._lock = runtime.condition()
        """Several threads of one attempt may dispatch."""

    def keep(self, running: Running, jobs: Iterable[object], delay_s: float, queue: str | None = None) -> list[str]:
        """Seal the jobs and keep them, all or none; returns their ids.

        Raises NotAJob, UnregisteredJob, UnencodableJob, PayloadTooLarge, AttemptOver, NoFollowUps, TooManyFollowUps,
        InvalidSetting.
        """
        if not getattr(self._driver, "follows_up", False):
            raise NoFollowUps(self._driver)
        sealed, size = list[dispatch.Sealed](), 0
        for job in islice(jobs, MANY_MAX + 1):
            one = dispatch.seal_job(job, self._registry, self._runtime, self._payload_limit, queue)
            sealed.append(dispatch.traced(one, self._tracing) if self._tracing else one)
            if sealed[-1].queue != DEFAULT:
                dispatch.naming(self._driver)
            size += len(sealed[-1].envelope)
            if size > BYTES_MAX:
                break
        d = running.delivery
        if self._runtime.process() != self._process:  # a thread of the parent may hold the lock
            raise AttemptOver(d.job_id)
        with self._lock:
            # First the list, then the look at ``over``. An attempt that ends does the reverse, and takes no lock if it
            # finds no list: one of the two sees the other.
            kept = running.kept = [] if running.kept is None else running.kept
            if running.over:
                raise AttemptOver(d.job_id)
            if len(kept) + len(sealed) > MANY_MAX or running.size + size > BYTES_MAX:
                raise TooManyFollowUps(MANY_MAX, BYTES_MAX)
            kept += [Kept(one.job_id, one.type, one.envelope, delay_s, one.queue, one.lock) for one in sealed]
            running.size += size
        if self._stream.observed:
            about = {"parent": d.job_id, "attempt": d.attempts + 1}
            for one in sealed:
                self._stream.emit(events.FollowUpKept, job_id=one.job_id, type=one.type, unique=one.lock, **about)
        return [one.job_id for one in sealed]

    def taken(self, running: Running) -> tuple[Kept, ...]:
        with self._lock:
            return tuple(running.kept or ())
