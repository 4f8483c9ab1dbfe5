"""One attempt at one job: decode a fresh instance, call ``handle()``, and return the outcome as a value."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from contextvars import Context, copy_context
from typing import Any

import msgspec

from .. import events
from ..delays import seconds_of
from ..errors import FollowUpRefused, HandleNotRun, PayloadMismatch, TimedOut, UndeliverableJob, UnknownJobType
from ..jobs import chain
from ..jobs.codec import Job
from ..jobs.envelope import Envelope
from ..names import DEFAULT
from ..ports import Runtime
from ..raised import standing_at, traceback_of
from ..registry import Registry, is_a_name
from ..retries import Snooze
from ..stream import EventStream
from ..text import visible
from . import retry, settle
from .hooks import RUNNING, Hook, enclosed
from .running import FollowUps, Running, Timekeeper
from .settle import Delivery, Kept, Settling, TimeLimit

WHY_MAX = 1000
"""The most characters of the reason why a policy is ignored."""
SNOOZED_OFTEN = 1000
"""A warning is logged each time that a job has snoozed this often."""


class Attempts:
    """Makes a worker's attempts. ``interruptible``: Ctrl-C goes to the caller of ``work()``, not to the job."""

    def __init__(
        self,
        worker: str,
        registry: Registry,
        runtime: Runtime,
        stream: EventStream,
        max_attempts: Callable[[], int],
        follow_ups: FollowUps,
        hooks: Sequence[Hook] = (),
        *,
        unknown_for_s: float,
        interruptible: bool,
    ) -> None:
        self._worker = worker
        self._registry = registry
        self._runtime = runtime
        self._stream = stream
        self._max_attempts = max_attempts
        self.follow_ups = follow_ups
        self._hooks = hooks
        self._unknown_for_s = unknown_for_s
        self._unknown: set[str] = set()
        self._broken: set[str] = set()
        """The types whose policy has failed."""
        self.interruptible = interruptible
        self._over: dict[int, Settling] = {}
        self._process = runtime.process()
        self._time_limits = registry.time_limits
        self.timekeeper: Timekeeper
        """The worker's; it sets it."""

    def make(self, d: Delivery) -> Settling:
        """Make an attempt. Raises KeyboardInterrupt if interruptible, and a logging handler's errors (see ``over``)."""
        job = self.decoded(d)
        return job if type(job) is Settling else self._handle(d, job)  # type: ignore[arg-type]

    def decoded(self, d: Delivery) -> Job | Settling:
        """The job; or how its attempt ended, if none can be made."""
        if d.envelope is None:
            return self._undeliverable(d, printable(d.error))
        try:
            job = decode(d.envelope, self._registry)
            if d.envelope.next:
                chain.links(d.envelope.next)
            return job
        except UnknownJobType as why:
            return self._not_known(d, printable(str(why)))
        except UndeliverableJob as why:
            return self._undeliverable(d, printable(str(why)))
        except BaseException as error:  # the class raised a BaseException
            if self.interruptible and isinstance(error, KeyboardInterrupt):
                raise
            return settle.traced(self._undeliverable(d, describe(error)), traceback_of(error))

    def _not_known(self, d: Delivery, why: str) -> Settling:
        if not is_a_name(d.type.removeprefix("*")):
            return self._undeliverable(d, why)  # no worker can know it
        settling = settle.unknown(d, self._runtime.monotonic(), why, self._unknown_for_s)
        if settling.undeliverable:
            return self._told(settling, events.AttemptFailed, 0, settling.error)
        if d.type not in self._unknown:
            self._unknown.add(d.type)
            events.warn(f"{why} Jobs of this type wait {self._unknown_for_s:g} s for a worker that knows it")
        return settling

    def _returned(self, d: Delivery) -> Settling:
        """Hand the job back: the interpreter is shutting down, so executors, threads and imports fail. Or it has been
        handed back already, when the worker left the attempt behind."""
        return settle.returned(d, self._runtime.monotonic())

    def _undeliverable(self, d: Delivery, why: str) -> Settling:
        if self._runtime.closing():
            return self._returned(d)
        settling = settle.undeliverable(d, self._runtime.monotonic(), why)
        return self._told(settling, events.AttemptFailed, 0, settling.error)

    def _told(
        self,
        settling: Settling,
        kind: type[events.AttemptSucceeded | events.AttemptFailed | events.AttemptSnoozed],
        number: int,
        error: str | None = None,
        cause: BaseException | None = None,
        timed_out: str = "",
        *,
        unsent: bool = False,
    ) -> Settling:
        """Emit the end of an attempt. If that is interrupted, ``over`` has the outcome."""
        d = settling.delivery
        facts: dict[str, Any] = {} if error is None else {"error": error, "gave_up": settling.gave_up}
        if unsent:
            facts |= {"unsent": True}
        if settling.snoozed:
            facts = {"wait_s": settling.wait_s}
        if timed_out:
            facts |= {"late": True} if error is None else {"timed_out": timed_out}
        if settling.follow_ups:
            facts |= {"follow_ups": len(settling.follow_ups)}
        try:
            if cause is not None:
                events.log.debug("attempt %d of %s failed", number, visible(f"{d.type} {d.job_id}"), exc_info=cause)
            self._stream.emit(
                kind, cause, job_id=d.job_id, type=d.type, attempt=number, duration_s=settling.took_s or 0.0, **facts
            )
        except BaseException:
            self._over[id(d)] = settling
            raise
        return settling

    def over(self, d: Delivery) -> Settling | None:
        """The outcome of an attempt whose ``make`` was interrupted while it emitted the end."""
        return self._over.pop(id(d), None)

    def _handle(self, d: Delivery, job: Job) -> Settling:
        RUNNING.set(running := Running(d, self.timekeeper, self.follow_ups))
        began = self.begun(d)
        try:
            if self._hooks:
                if (raised := self._enclosed(d, job)) is not None:
                    raise raised
            elif (returned := (context := copy_context()).run(job.handle)) is not None:
                self._finish(returned, context)
        except BaseException as error:
            running.over = True
            return self.failed(d, began, error)
        running.over = True  # before the look at ``kept``, see ``FollowUps.keep``
        return self.succeeded(d, began, () if running.kept is None else running.taken())

    def begun(self, d: Delivery) -> float:
        """Emit the start of an attempt; the monotonic time of it."""
        timeout_s = (self._time_limits and self._registry.time_limit(d.type)) or 0.0
        if self._stream.observed:
            self._stream.emit(
                events.AttemptStarted, job_id=d.job_id, type=d.type, attempt=d.attempts + 1,
                worker=self._worker, claim=d.claim, suspect=d.suspect, lost=d.lost, server_at=d.server_at,
                type_limit=self._limit_of(d.type), timeout_s=timeout_s, queue=d.queue, next=_next_id(d),
            )  # fmt: skip
        began = self._runtime.monotonic()
        if timeout_s:
            self.timekeeper.begins(d, began, timeout_s)
        return began

    def failed(self, d: Delivery, began: float, error: BaseException) -> Settling:
        """``handle()`` raised. Raises the same if it interrupts the caller of ``work()``."""
        if self._runtime.process() != self._process:
            self._runtime.exit(error)
        ended = self._runtime.monotonic()
        if self.interruptible and isinstance(error, KeyboardInterrupt):
            raise error
        if self._runtime.closing() or (self._time_limits and self.timekeeper.left(d)):
            return self._returned(d)
        limit = self._passed(d, ended, error) if self._time_limits else None
        wait_s, error = (None, error) if limit else asked_for(error)
        if wait_s is not None:
            return self._snoozed(d, ended, wait_s, ended - began)
        text, reason, timed_out = describe(error), error, ""
        if limit:
            text, reason, timed_out = _too_late(limit, error)
        settling = self._failed(d, ended, text, reason, ended - began)
        settling.took_s = ended - began
        if settling.move == "fail":
            settle.traced(settling, traceback_of(error))
        return self._told(settling, events.AttemptFailed, d.attempts + 1, text, error, timed_out)

    def stuck(self, limit: TimeLimit) -> Settling:
        """An attempt that did not end after its time limit has failed: its process is about to go."""
        d, reason = limit.delivery, TimedOut(limit.timeout_s)
        took_s = limit.timeout_s - self.timekeeper.remaining_s(limit)
        text = f"{reason}: stuck"
        settling = self._failed(d, self._runtime.monotonic(), text, reason, took_s)
        settling.took_s = took_s
        frame = self._runtime.frame(limit.thread)
        if settling.move == "fail" and frame is not None:
            settle.traced(settling, standing_at(frame, text))
        return self._told(settling, events.AttemptFailed, d.attempts + 1, text, reason, "stuck")

    def unsent(self, done: Settling, number: int, prefix: str) -> Settling:
        """An attempt whose handler succeeded has failed: the server can't add its follow-up of this number."""
        d, one = done.delivery, done.follow_ups[number]
        start = prefix if one.queue == DEFAULT else f"{prefix}:{one.queue}"
        reason = FollowUpRefused(f"{one.type} {one.job_id}", one.queue, (f"{start}:jobs", f"{start}:delayed"))
        text = describe(reason)
        settling = self._failed(d, self._runtime.monotonic(), text, reason, done.took_s or 0.0)
        settling.took_s = done.took_s
        return self._told(settling, events.AttemptFailed, d.attempts + 1, text, reason, unsent=True)

    def _passed(self, d: Delivery, ended: float, error: BaseException | None) -> TimeLimit | None:
        """The attempt's time limit, if it had passed at its end."""
        limit = self.timekeeper.limit(d)
        if limit and (self.timekeeper.has_passed(limit, ended) or isinstance(error, TimedOut)):
            return limit
        return None

    def succeeded(self, d: Delivery, began: float, follow_ups: tuple[Kept, ...]) -> Settling:
        if self._runtime.process() != self._process:
            self._runtime.exit(None)  # a child that the handler forked; its parent has the job
        ended = self._runtime.monotonic()
        if self._time_limits and self.timekeeper.left(d):
            return self._returned(d)
        if d.envelope is not None and d.envelope.next:
            follow_ups += _next_link(d.envelope.next)
        settling = settle.succeeded(d, ended, ended - began, follow_ups)
        if not self._stream.observed:
            return settling
        timed_out = "late" if self._time_limits and self._passed(d, ended, None) else ""
        return self._told(settling, events.AttemptSucceeded, d.attempts + 1, timed_out=timed_out)

    def _enclosed(self, d: Delivery, job: Job) -> BaseException | None:
        """Run the handler inside the hooks; returns what the attempt raised."""

        def handle() -> None:
            if (returned := job.handle()) is not None:
                self._finish(returned, copy_context())  # a loop can't enter the context that is entered here

        def ended(error: BaseException | None) -> None:
            if self._runtime.process() != self._process:
                self._runtime.exit(error)

        def passed_over(hook: Hook, error: BaseException) -> None:
            name = str(getattr(hook, "__name__", type(hook).__name__))
            events.warn(f"the hook {name} raised after the handler of {visible(d.type)} had, whose error counts", error)
            self._stream.emit(
                events.HookFailed,
                job_id=d.job_id,
                type=d.type,
                attempt=d.attempts + 1,
                hook=name,
                error=describe(error),
            )

        return copy_context().run(enclosed, self._hooks, handle, ended, passed_over)

    def _finish(self, returned: object, context: Context) -> None:
        """Run what an async ``handle()`` returned, until its time limit passes."""
        if inspect.isawaitable(returned):
            returned = self._limited(returned)
            returned = self._runtime.run_async(returned, context)
        check_ran(returned)

    def _limited(self, awaitable: Awaitable[object]) -> Awaitable[object]:
        running = RUNNING.get() if self._time_limits else None
        limit = running and self.timekeeper.limit(running.delivery)
        if not limit:
            return awaitable
        from ..loops import within  # only async jobs need it

        return within(awaitable, self.timekeeper.remaining_s(limit), limit.timeout_s)

    def running(self) -> Running | None:
        """The attempt whose handler calls this; None if none does."""
        return RUNNING.get()

    def end_thread(self, outer: Running | None) -> None:
        """This thread makes no more attempts, or goes on with the handler of ``outer``, which called ``work()``."""
        RUNNING.set(outer)
        if outer is None:
            self._runtime.end_thread()

    def _snoozed(self, d: Delivery, ended: float, seconds: float, took_s: float) -> Settling:
        settling = settle.snoozed(d, ended, seconds, took_s)
        if settling.snoozed % SNOOZED_OFTEN == 0:
            job = visible(f"{d.type} {d.job_id}")
            events.warn(f"{job} was snoozed {settling.snoozed} times; it is never recorded as failed for that")
        return self._told(settling, events.AttemptSnoozed, d.attempts + 1)

    def _failed(self, d: Delivery, ended: float, text: str, error: BaseException, took_s: float) -> Settling:
        """What follows a failed attempt: asks the type's policy. Raises KeyboardInterrupt if interruptible."""
        policy, own = self._registry.policy(d.type), self._limit_of(d.type)
        most = own or self._max_attempts()
        decision = None
        try:
            decision = retry.decide_by(policy, d.attempts + 1, most, error, took_s, self._runtime.random)
        except BaseException as broken:  # it is the app's code
            if self.interruptible and isinstance(broken, KeyboardInterrupt):
                raise
            self._ignored(d, describe(broken)[:WHY_MAX])
        if self._runtime.process() != self._process:
            self._runtime.exit(None)  # a child that the policy forked
        settling = settle.failed(d, ended, text, most, decision)
        settling.type_limit = own
        return settling

    def _ignored(self, d: Delivery, why: str) -> None:
        self._stream.emit(events.PolicyIgnored, job_id=d.job_id, type=d.type, attempt=d.attempts + 1, why=why)
        if d.type not in self._broken:
            self._broken.add(d.type)
            told = f"the retry policy of {visible(d.type)} failed ({visible(why)})"
            events.warn(f"{told}; the job is tried again as types without one are")

    def _limit_of(self, name: str) -> int:
        policy = self._registry.policy(name)
        return (policy.attempts if policy else None) or 0

    def type_limit(self, d: Delivery) -> int:
        """The limit of an attempt that died with its process: of the type, if it is known here, else the envelope's."""
        return self._limit_of(d.type) if self._registry.find(d.type) else settle.limit_in(d)


def _next_id(d: Delivery) -> str:
    """The id of the next link of the chain; empty if there is none."""
    if d.envelope is None or not d.envelope.next:
        return ""
    following = chain.following(d.envelope.next)
    return following[0].id if following else ""


def _next_link(rest: msgspec.Raw) -> tuple[Kept, ...]:
    """The next link of the chain, which goes out after the attempt's own follow-ups."""
    if (following := chain.following(rest)) is None:
        return ()
    link, envelope = following
    return (Kept(link.id, link.type, envelope, 0.0, link.queue, link=True),)


def _too_late(limit: TimeLimit, error: BaseException) -> tuple[str, TimedOut, str]:
    """Of an attempt that raised after its time limit: the text, the error for its policy, and the outcome."""
    if isinstance(error, TimedOut):
        return str(error), error, "obeyed"
    reason = TimedOut(limit.timeout_s)
    reason.__cause__ = error
    return f"{reason}: {describe(error)}", reason, "late"


def asked_for(error: BaseException) -> tuple[float | None, BaseException]:
    """The wait that a Snooze asks for, if it is one; and the error that counts if it is not."""
    if not isinstance(error, Snooze):
        return None, error
    try:
        return seconds_of(error.seconds), error
    except BaseException as wrong:  # the app changed it
        return None, wrong


def check_ran(returned: object) -> None:
    """Raise HandleNotRun for a coroutine or another awaitable, a generator, a context manager made of one, a ``map`` or
    ``filter``, and for several of them in a list or tuple."""
    if isinstance(returned, list | tuple):
        if returned and _is_unrun(returned[0]):
            for one in returned:
                _close(one)
            raise HandleNotRun(f"{_named(returned)} of {type(returned[0]).__qualname__}s")
    elif _is_unrun(returned):
        _close(returned)
        raise HandleNotRun(_named(returned))


def _is_unrun(returned: object) -> bool:
    if isinstance(returned, AbstractContextManager | AbstractAsyncContextManager):
        returned = getattr(returned, "gen", returned)
    is_generator = inspect.isgenerator(returned) or inspect.isasyncgen(returned)
    return is_generator or inspect.isawaitable(returned) or isinstance(returned, map | filter)


def _close(unrun: object) -> None:
    """Close a coroutine, or Python warns that it was never awaited."""
    if inspect.iscoroutine(unrun) or inspect.isgenerator(unrun):
        unrun.close()


def _named(value: object) -> str:
    kind = type(value).__qualname__
    return f"{'an' if kind[0] in 'aeiouAEIOU' else 'a'} {kind}"


def decode(envelope: Envelope, registry: Registry) -> Job:
    """A fresh instance of the job. Raises UnknownJobType, PayloadMismatch."""
    job_type = registry.named(envelope.type)
    payload = bytes(envelope.payload)
    if not payload:
        raise PayloadMismatch(job_type.name, "the envelope has no payload")
    return job_type.decode(payload)


def decoded_or_none(envelope: Envelope | None, registry: Registry) -> Any:
    """The job for display; None if it can't be decoded."""
    try:
        return decode(envelope, registry) if envelope else None
    except BaseException:  # the constructor of a class may raise anything
        return None


def describe(error: BaseException) -> str:
    """``ValueError: no card``; safe for exceptions whose ``__str__`` raises."""
    try:
        name = str(type(error).__qualname__)
    except BaseException:  # a metaclass may raise anything
        name = "an exception"
    try:
        text = printable(str(error))
    except BaseException as broken:
        text = f"(its text can't be had: {type(broken).__name__})"
    return f"{name}: {text}" if text else name


def printable(text: str) -> str:
    """The text with lone surrogates escaped, which is valid UTF-8."""
    return str.encode(text, "utf-8", "backslashreplace").decode()
