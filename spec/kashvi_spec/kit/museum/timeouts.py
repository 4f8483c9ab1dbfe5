"""Bugs of time limits: attempts that end too late, and those that do not end."""

from __future__ import annotations

import asyncio
import os
import subprocess
from typing import Any

import msgspec

from kashvi import loops
from kashvi.cli import replacing
from kashvi.errors import InvalidSetting, TimedOut
from kashvi.jobs import codec
from kashvi.worker import attempt, retry, settle
from kashvi.worker.attempt import Attempts
from kashvi.worker.machine import Machine, tend, timeouts
from kashvi.worker.machine.state import State
from kashvi.worker.machine.steps import Stuck
from kashvi.worker.settle import Delivery, Settling, TimeLimit
from kashvi.worker.timekeeper import MachineTimekeeper

from . import Patch, exhibit, where


def timed(self: Attempts, d: Delivery, *rest: Any) -> bool:
    """True of an attempt with a time limit."""
    return self.timekeeper.limit(d) is not None


@exhibit(
    "a limit of no time is none",
    "0 and what is no number mean for ever",
    "JOBS-16",
    source="RQ: a timeout of -1 means for ever",
)
def _(patch: Patch) -> None:
    def time_limit(real: Any, given: object, job_class: type) -> Any:
        try:
            return real(given, job_class)
        except InvalidSetting:
            return None

    where(patch, codec, "_time_limit", lambda given, job_class: given is not None, time_limit)


@exhibit("the class's limit wins", "over the one at the registration", "JOBS-16")
def _(patch: Patch) -> None:
    where(
        patch, codec, "_time_limit",
        lambda given, job_class: given is not None and "timeout" in vars(job_class),
        lambda real, given, job_class: real(None, job_class) or real(given, job_class),
    )  # fmt: skip


@exhibit(
    "a limit for all attempts",
    "what the first one took is gone",
    "WORKERS-18",
    source="Sidekiq's retry_for, asynq's Deadline: of the job, not of the attempt",
)
def _(patch: Patch) -> None:
    where(
        patch, Machine, "limit",
        lambda self, d, *rest: d.attempts > 0,
        lambda real, self, d, began, timeout_s, *rest: real(self, d, began, timeout_s / 2, *rest),
    )  # fmt: skip


@exhibit("an attempt is never over", "what it left behind goes on", "JOBS-17")
def _(patch: Patch) -> None:
    def check(real: Any, self: MachineTimekeeper, d: Delivery, limit: TimeLimit | None) -> None:
        if limit and self.remaining_s(limit) <= 0 and self.limit(d):
            raise TimedOut(limit.timeout_s)

    where(patch, MachineTimekeeper, "check", lambda self, d, limit: id(d) not in self._machine.running, check)


@exhibit("less than no time remains", "a negative number is handed on", "JOBS-17")
def _(patch: Patch) -> None:
    from kashvi.worker.hooks import Attempt

    def remaining_s(self: Attempt) -> float | None:
        return self._running.timekeeper.remaining_s(self._limit) if self._limit else None

    patch.setattr(Attempt, "remaining_s", property(remaining_s))


@exhibit(
    "an async handler waits on",
    "its time limit is asked about by its own code alone",
    "JOBS-20",
)
def _(patch: Patch) -> None:
    where(
        patch, Attempts, "_limited",
        lambda self, awaitable: bool(self._time_limits),
        lambda real, self, awaitable: awaitable,
    )  # fmt: skip


@exhibit(
    "any TimeoutError is the limit's",
    "also one that the handler raises long before",
    "JOBS-20",
    source="Dramatiq #791: a task's own TimeoutError is taken for that of the waiting thread",
)
def _(patch: Patch) -> None:
    async def within(awaitable: Any, seconds: float, timeout_s: float) -> object:
        try:
            async with asyncio.timeout(max(seconds, 0.0)):
                return await awaitable
        except TimeoutError:
            raise TimedOut(timeout_s) from None

    patch.setattr(loops, "within", within)


@exhibit(
    "a late success is a failure",
    "its work is done, and is done again",
    "WORKERS-18",
    source="asynq: once the context is done, its error decides",
    also="DELIVERY-1 DISPATCH-1 JOBS-17 JOBS-20 WORKERS-19 WORKERS-20",
)
def _(patch: Patch) -> None:
    def succeeded(real: Any, self: Attempts, d: Delivery, began: float, *rest: Any) -> Settling:
        limit = self._passed(d, self._runtime.monotonic(), None)
        return self.failed(d, began, TimedOut(limit.timeout_s)) if limit else real(self, d, began, *rest)

    where(patch, Attempts, "succeeded", timed, succeeded)


@exhibit(
    "the next job is timed out",
    "an exception is thrown into a thread that has ended the attempt by then",
    "WORKERS-18",
    source="Dramatiq, by reading: it is raised after the lock is released, in whatever runs there",
    also="WORKERS-19",
)
def _(patch: Patch) -> None:
    def succeeded(real: Any, self: Attempts, d: Delivery, began: float, *rest: Any) -> Settling:
        thrown = vars(self).setdefault("_thrown", [])
        if thrown:
            return self.failed(d, began, thrown.pop())
        if limit := self._passed(d, self._runtime.monotonic(), None):
            thrown.append(TimedOut(limit.timeout_s))
        settling: Settling = real(self, d, began, *rest)
        return settling

    where(patch, Attempts, "succeeded", timed, succeeded)


@exhibit(
    "who is late may snooze",
    "a job that can't keep its limit is never recorded",
    "WORKERS-18",
    also="DELIVERY-1 DISPATCH-1",
)
def _(patch: Patch) -> None:
    def failed(real: Any, self: Attempts, d: Delivery, began: float, error: BaseException) -> Settling:
        wait_s, _ = attempt.asked_for(error)
        ended = self._runtime.monotonic()
        return real(self, d, began, error) if wait_s is None else self._snoozed(d, ended, wait_s, ended - began)

    where(patch, Attempts, "failed", timed, failed)


@exhibit(
    "a timeout is an error like others",
    "that retry_on does not list",
    "WORKERS-18",
    source="Laravel: a timeout is retried or not by another setting than other errors",
)
def _(patch: Patch) -> None:
    def decide_by(real: Any, policy: Any, n: int, most: int, error: BaseException, *rest: Any) -> Any:
        return real(policy, n, most, error.__cause__ or RuntimeError(), *rest)

    where(
        patch, retry, "decide_by",
        lambda policy, n, most, error, *rest: isinstance(error, TimedOut) and policy and policy.retry_on is not None,
        decide_by,
    )  # fmt: skip


@exhibit(
    "stuck threads are lost",
    "one by one, until the worker runs nothing",
    "WORKERS-19",
    source="Dramatiq #211, #653: threads used up in a call that does not return",
)
def _(patch: Patch) -> None:
    def may_open(real: Any, state: State) -> bool:
        return False

    where(patch, timeouts, "may_open", lambda state: state.spare > 0, may_open)


@exhibit(
    "a thread in place of another stays",
    "when the stuck attempt has ended, there is one too many",
    "WORKERS-19",
    also="WORKERS-1",
)
def _(patch: Patch) -> None:
    where(patch, timeouts, "surplus", lambda state: state.opened > 0, lambda real, state: False)


@exhibit(
    "a stuck attempt is settled while it runs",
    "its retry starts beside it",
    "WORKERS-19",
    also="FAILURES-5 JOBS-2 RETRY-1 RETRY-3 WORKERS-13 WORKERS-20",
)
def _(patch: Patch) -> None:
    def look(real: Any, self: Machine, now: int) -> Any:
        step = real(self, now)
        if isinstance(step, Stuck) and self.limits.patience_s is None:
            d = step.limit.delivery
            self._owe(now, [settle.failed(d, now / 1e6, "timed out", 3)])
            self.limit(msgspec.structs.replace(d), now, 1e6)
        return step

    where(patch, Machine, "_look_at_time_limits", lambda self, now: bool(self.time_limits), look)


@exhibit(
    "neighbours pay for a stuck attempt",
    "all that runs has failed when its process goes",
    "WORKERS-20",
    source="River before #1290: what a shutdown cancels has failed",
    also="FAILURES-5 WORKERS-13",
)
def _(patch: Patch) -> None:
    def abandon(real: Any, self: Machine, now: int) -> Any:
        neighbours = [d for i, d in self.running.items() if i not in self.time_limits]
        step = real(self, now)
        self.outbox = [one for one in self.outbox if one.delivery not in neighbours]
        self._owe(now, [settle.failed(d, now / 1e6, "its process ended", 1) for d in neighbours])
        return step

    where(patch, Machine, "_abandon", lambda self, now: len(self.running) > len(self.time_limits), abandon)


@exhibit(
    "a stuck process dies on the spot",
    "its neighbours have no time to end",
    "WORKERS-20",
    source="remoulade #374: os._exit(1), whatever else runs",
)
def _(patch: Patch) -> None:
    where(patch, timeouts, "leaves", lambda state, now: bool(state.leave_at and state.running), lambda *rest: True)


@exhibit(
    "a stuck process goes without a word",
    "all that it held is a suspect, and the stuck job's attempt is free",
    "WORKERS-20",
    source="Laravel: the worker kills itself, and its job is taken over when its time to retry has come",
    also="DELIVERY-1 DISPATCH-1 WORKERS-13",
)
def _(patch: Patch) -> None:
    where(patch, tend, "settles", lambda state, now: state.left_behind, lambda *rest: False)


@exhibit(
    "the limits of a command begin anew",
    "with each process that takes its place",
    "COMMANDS-21",
)
def _(patch: Patch) -> None:
    where(
        patch, replacing, "replace",
        lambda program, signals, running, most, left_s: most is not None or left_s is not None,
        lambda real, program, signals, running, most, left_s: real(program, signals, running, None, None),
    )  # fmt: skip


@exhibit(
    "a worker is replaced by its child",
    "under another number, and its supervisor sees it end",
    "COMMANDS-21",
    source="Gunicorn's USR2, and other servers that fork a new master",
)
def _(patch: Patch) -> None:
    def execv(program: str, words: list[str]) -> None:
        os._exit(subprocess.run(words, executable=program, check=False).returncode)

    patch.setattr(os, "execv", execv)


@exhibit("what stands still is not ended", "its process stays for ever, and runs nothing", "COMMANDS-22")
def _(patch: Patch) -> None:
    patch.setattr(replacing, "watch", lambda seconds: None)


@exhibit("a watch that is set once", "then a process that is well dies after two leases", "COMMANDS-22")
def _(patch: Patch) -> None:
    set_at: list[float] = []
    real = replacing.watch

    def watch(seconds: float) -> None:
        if not set_at:
            set_at.append(seconds)
            real(seconds)

    patch.setattr(replacing, "watch", watch)
