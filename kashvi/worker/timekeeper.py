"""The time limits of a worker's running attempts, between the threads that make them and the machine that decides."""

from __future__ import annotations

from datetime import UTC, datetime

from ..errors import AttemptCancelled, AttemptOver, TimedOut
from ..ports import Condition, Runtime
from .machine import Machine
from .machine.steps import SECOND, micros
from .settle import Delivery, TimeLimit


class MachineTimekeeper:
    """The Timekeeper of one worker. Its threads look at the machine without ``lock``: a look changes nothing."""

    def __init__(self, machine: Machine, lock: Condition, runtime: Runtime) -> None:
        self._machine = machine
        self._lock = lock
        self._runtime = runtime

    def begins(self, d: Delivery, began: float, timeout_s: float) -> None:
        with self._lock:
            self._machine.limit(d, micros(began), timeout_s, self._runtime.thread())

    def limit(self, d: Delivery) -> TimeLimit | None:
        return self._machine.time_limits.get(id(d))

    def remaining_s(self, limit: TimeLimit) -> float:
        return (limit.deadline - micros(self._runtime.monotonic())) / SECOND

    def cancelled(self, d: Delivery) -> bool:
        return self._machine.cancelled.get(id(d)) is d

    def left(self, d: Delivery) -> bool:
        return self._machine.left_behind and id(d) not in self._machine.running

    def has_passed(self, limit: TimeLimit, at: float) -> bool:
        return micros(at) >= limit.deadline

    def deadline(self, limit: TimeLimit) -> datetime:
        return datetime.fromtimestamp(self._runtime.now() + self.remaining_s(limit), UTC)

    def check(self, d: Delivery, limit: TimeLimit | None) -> None:
        if id(d) not in self._machine.running:
            raise AttemptOver(d.job_id)
        if limit is not None and self.remaining_s(limit) <= 0:
            raise TimedOut(limit.timeout_s)
        if self.cancelled(d):
            raise AttemptCancelled(d.job_id)
