"""Bugs of jobs, their names and outcomes: accepted too widely or too narrowly."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import Any

import msgspec

from kashvi import dispatch, loops
from kashvi.errors import InvalidSetting, PayloadMismatch, UnknownJobType, UnregisteredJob
from kashvi.jobs import codec as job
from kashvi.jobs import envelope
from kashvi.jobs.codec import JobType
from kashvi.jobs.fields import field_names, parts
from kashvi.queues import Queue
from kashvi.registry import Registry, default_name
from kashvi.runtime import SystemRuntime
from kashvi.worker import attempt, hooks, settle
from kashvi.worker.attempt import Attempts
from kashvi.worker.hooks import Attempt

from . import Patch, exhibit, where


@exhibit(
    "what is no job is called unregistered",
    "None, 5 and a class are refused with the wrong advice",
    "JOBS-1",
    also="DISPATCH-6 JOBS-19",
)
def _(patch: Patch) -> None:
    def of(real: Any, self: Registry, one: Any) -> JobType:
        raise UnregisteredJob(type(one), self.names())

    where(patch, Registry, "of", lambda self, one: not hasattr(type(one), "handle"), of)


@exhibit("only dataclasses are jobs", "a Struct with handle() is refused", "JOBS-1", also="JOBS-15")
def _(patch: Patch) -> None:
    where(patch, job, "field_names", lambda cls: issubclass(cls, msgspec.Struct), lambda real, cls: None)


@exhibit(
    "what a function fills in is forgotten", "its class's own defaults count", "JOBS-3", source="Go kashvi: the reverse"
)
def _(patch: Patch) -> None:
    where(patch, job, "_merged", lambda factory, payload: True, lambda real, factory, payload: payload)


@exhibit("a reload is another class", "and may not have the name", "JOBS-5")
def _(patch: Patch) -> None:
    patch.setattr(JobType, "origin", property(lambda self: f"{self.job_class.__qualname__} {id(self.job_class)}"))


@exhibit(
    "what handle() returns counts",
    "False is a failure",
    "JOBS-2",
    source="Go kashvi: Handle() returns its error",
)
def _(patch: Patch) -> None:
    returned(patch, "bool", lambda what: what is False)


@exhibit(
    "an error that is returned has failed",
    "as if it had been raised",
    "JOBS-2",
    source="Go kashvi: Handle() returns its error",
)
def _(patch: Patch) -> None:
    returned(patch, "Exception", lambda what: isinstance(what, Exception))


def returned(patch: Patch, annotation: str, bad: Callable[[object], bool]) -> None:
    """Fail an attempt whose handler has this return annotation and returns a bad value."""

    class Strict:
        def __init__(self, one: Any) -> None:
            self._one = one

        def handle(self) -> None:
            if bad(what := self._one.handle()):
                raise ValueError(f"handle() returned {what!r}")

    def says(self: Attempts, d: Any, one: Any) -> bool:
        return annotation in str(type(one).handle.__annotations__.get("return"))

    where(patch, Attempts, "_handle", says, lambda real, self, d, one: real(self, d, Strict(one)))


@exhibit("large integers go through a float", "and lose their last digits", "JOBS-3", source="Laravel: cjson")
def _(patch: Patch) -> None:
    def decode(real: Any, self: JobType, payload: bytes) -> Any:
        made = real(self, payload)
        for name, value in vars(made).items():
            setattr(made, name, int(float(value)) if isinstance(value, int) else value)
        return made

    where(patch, JobType, "decode", lambda self, payload: b"9007199254740993" in payload, decode)


@exhibit(
    "every field must be there",
    "a payload of an older release fits no longer",
    "JOBS-3",
    also="DELIVERY-6 ENVELOPE-4 ENVELOPE-7 QUEUES-4 QUEUES-6",
)
def _(patch: Patch) -> None:
    def decode(real: Any, self: JobType, payload: bytes) -> Any:
        raise PayloadMismatch(self.name, "a field is missing")

    where(patch, JobType, "decode", lacks, decode)


def lacks(self: JobType, payload: bytes) -> bool:
    """True if the payload lacks a field."""
    try:
        return not set(field_names(self.job_class) or ()) <= msgspec.json.decode(payload).keys()
    except (ValueError, AttributeError):
        return False


@exhibit(
    "a nameless type is named at the dispatch",
    "in this process, and in no worker",
    "JOBS-4",
    also="JOBS-19",
)
def _(patch: Patch) -> None:
    def of(real: Any, self: Registry, one: Any) -> JobType:
        self.register(default_name(type(one)), type(one))
        return self.of(one)

    where(patch, Registry, "of", nameless, of)


@exhibit(
    "a nameless job is sent",
    "the worker that claims it loses it",
    "JOBS-4",
    source="Go kashvi: Dispatch itself returns no error",
    also="JOBS-19",
)
def _(patch: Patch) -> None:
    where(patch, Registry, "of", nameless, lambda real, self, one: JobType(type(one).__name__, type(one)))


def nameless(self: Registry, one: Any) -> bool:
    """True for a job of an unregistered type."""
    return hasattr(type(one), "handle") and type(one) not in self._by_class


@exhibit(
    "a name is taken over",
    "the last class registered under it gets it",
    "JOBS-5",
    source="Go kashvi: registering a name again silently replaces it",
)
def _(patch: Patch) -> None:
    def register(real: Any, self: Registry, name: str, factory: Any, *policy: Any) -> None:
        del self._by_name[name]
        real(self, name, factory, *policy)

    where(patch, Registry, "register", taken, register)


def taken(self: Registry, name: str, factory: Any, *policy: Any) -> bool:
    """True if another class has the name."""
    return name in self._by_name and self._by_name[name].job_class is not factory


@exhibit("a job type has several names", "the producer decides which one is sent", "JOBS-5")
def _(patch: Patch) -> None:
    def register(real: Any, self: Registry, name: str, factory: Any, *policy: Any) -> None:
        del self._by_class[factory]
        real(self, name, factory, *policy)

    def named_otherwise(self: Registry, name: str, factory: Any, *policy: Any) -> bool:
        return factory in self._by_class and self._by_class[factory].name != name

    where(patch, Registry, "register", named_otherwise, register)


@exhibit("a module is imported once", "the same class again is refused", "JOBS-5", also="JOBS-15 JOBS-16")
def _(patch: Patch) -> None:
    def register(real: Any, self: Registry, name: str, factory: Any, *policy: Any) -> None:
        raise InvalidSetting("a job name", name, "registered once")

    where(patch, Registry, "register", lambda self, name, factory, *policy: factory in self._by_class, register)


@exhibit(
    "a pointer's name is unknown",
    "*jobs.X is another type than jobs.X",
    "JOBS-6",
    also="ENVELOPE-7",
    source="Go kashvi: dispatching &Job{}",
)
def _(patch: Patch) -> None:
    def named(real: Any, self: Registry, name: str) -> JobType:
        raise UnknownJobType(name, self.names())

    where(patch, Registry, "named", lambda self, name: name.startswith("*"), named)


@exhibit("a name may begin with a star", "*jobs.X and jobs.X may be two types", "JOBS-6")
def _(patch: Patch) -> None:
    def register(real: Any, self: Registry, name: str, factory: Any, *policy: Any) -> None:
        self._by_name[name] = JobType(name, factory, *policy)

    where(patch, Registry, "register", lambda self, name, factory, *policy: name.startswith("*"), register)


@exhibit(
    "one instance for all attempts",
    "the next attempt gets the changes of a failed one",
    "JOBS-7",
    source="Go kashvi: the same instance is retried",
)
def _(patch: Patch) -> None:
    def again(self: Attempts, d: settle.Delivery, one: Any) -> bool:
        made: dict[str, Any] = vars(self).setdefault("made", {})
        return made.setdefault(d.job_id, one) is not one

    where(patch, Attempts, "_handle", again, lambda real, self, d, one: real(self, d, vars(self)["made"][d.job_id]))


@exhibit(
    "what an attempt changed is recorded",
    "instead of what was dispatched",
    "JOBS-7",
    source="Go kashvi: the database payload holds the changed values",
)
def _(patch: Patch) -> None:
    def handle(real: Any, self: Attempts, d: settle.Delivery, one: Any) -> settle.Settling:
        settling: settle.Settling = real(self, d, one)
        if settling.move not in ("fail", "retry") or d.envelope is None:
            return settling
        fields = envelope._decode_fields(settling.new)
        fields["payload"] = msgspec.Raw(job._write(getattr(one, "job", one)))
        d.envelope.payload = fields["payload"]
        settling.new = msgspec.json.encode(fields)
        return settling

    def changeable(self: Attempts, d: settle.Delivery, one: Any) -> bool:
        return any(isinstance(value, list | dict) for value in (parts(getattr(one, "job", one)) or {}).values())

    where(patch, Attempts, "_handle", changeable, handle)


@exhibit(
    "only exceptions are failures", "after SystemExit, a job is done", "JOBS-2 WORKERS-2", also="DISPATCH-1 FAILURES-4"
)
def _(patch: Patch) -> None:
    def failed(real: Any, d: settle.Delivery, ended_at: float, error: str, *rest: Any) -> settle.Settling:
        return settle.succeeded(d, ended_at)

    where(patch, settle, "failed", lambda d, ended_at, error, *rest: error.startswith("SystemExit"), failed)


@exhibit("a list of coroutines is a success", "each is a value like any other", "JOBS-9")
def _(patch: Patch) -> None:
    where(patch, attempt, "check_ran", lambda returned: isinstance(returned, list), lambda real, returned: None)


@exhibit("a returned generator is a success", "the worker never runs it, and the job is gone", "JOBS-9")
def _(patch: Patch) -> None:
    where(patch, attempt, "check_ran", lambda returned: not isinstance(returned, list), lambda real, returned: None)


@exhibit("a function is called where it is decorated", "to see what it returns", "JOBS-10")
def _(patch: Patch) -> None:
    decorating(patch, lambda queue, function, name: queue.register(name or "jobs.Job", function))


@exhibit(
    "a function is replaced where it is decorated", "with an object that is not a function", "JOBS-10", source="Celery"
)
def _(patch: Patch) -> None:
    decorating(patch, lambda queue, function, name: None)


def decorating(patch: Patch, do: Any) -> None:
    """Change ``@queue.job`` on a function."""

    def job(real: Any, self: Queue, name: Any = None, /, **policy: Any) -> Any:
        if callable(name):
            return do(self, name, None)
        decorate = real(self, name, **policy)
        return lambda given: decorate(given) if isinstance(given, type) else do(self, given, name)

    where(patch, Queue, "job", lambda self, name=None, /, **policy: not isinstance(name, type), job)


@exhibit("attempts count from nought", "as Python's lists do", "JOBS-11", also="JOBS-23 JOBS-24")
def _(patch: Patch) -> None:
    def made(real: Any, cls: type[Attempt], job_id: str, name: str, n: int, *queue: Any) -> Any:
        return real(cls, job_id, name, n - 1, *queue)

    where(patch, Attempt, "__new__", lambda *_: True, made)


@exhibit(
    "one running attempt for all threads",
    "the last to start is every handler's",
    "JOBS-11",
    source="Sidekiq #6475: one hash of context that threads share",
    also="JOBS-20",
)
def _(patch: Patch) -> None:
    shared: list[Any] = [None]

    class Shared:
        def set(self, d: object) -> None:
            shared[0] = d

        def get(self) -> Any:
            return shared[0]

    for module in (hooks, attempt):
        patch.setattr(module, "RUNNING", Shared())
    patch.setattr(Attempts, "running", lambda self: None)  # that a thread ends shows no more of it


@exhibit(
    "a retry forgets the trace",
    "the field is of the first attempt alone",
    "JOBS-24",
    source="dramatiq's Sentry middleware starts a new trace at each retry",
    also="ENVELOPE-5",
)
def _(patch: Patch) -> None:
    def without(real: Any, raw: bytes, job_id: str, **changes: Any) -> Any:
        return real(raw, job_id, **changes, trace=None)

    where(patch, envelope, "rewrite", lambda raw, *_, **__: b'"trace"' in raw, without)


@exhibit("one trace for all jobs of a dispatch", "the hook is called for the first alone", "JOBS-24")
def _(patch: Patch) -> None:
    given: dict[int, Any] = {}

    def first(real: Any, one: Any, hooks: Any) -> Any:
        once = [lambda outgoing, hook=hook: given.setdefault(id(hook), hook(outgoing)) for hook in hooks]
        return real(one, once)

    where(patch, dispatch, "traced", lambda *_: True, first)


class _Thread:
    """A context that is the thread's own."""

    def run(self, call: Callable[..., Any], *args: Any) -> Any:
        return call(*args)


@exhibit(
    "one context for the life of a thread",
    "each job finds what the last one left",
    "JOBS-12",
    source="RQ #2040: contexts held for the worker's life",
)
def _(patch: Patch) -> None:
    patch.setattr(attempt, "copy_context", _Thread)


@exhibit(
    "a context is only new after a success",
    "what failed leaves its variables",
    "JOBS-12",
    also="QUEUES-4 JOBS-11 JOBS-13 JOBS-18 JOBS-19 JOBS-20 JOBS-23 JOBS-24 WORKERS-18 WORKERS-20",
)
def _(patch: Patch) -> None:
    kept: list[Any] = [None]
    real, failed = contextvars.copy_context, settle.failed

    def copied() -> Any:
        context, kept[0] = kept[0] or real(), None
        kept.append(context)
        return context

    def keeps(*args: Any) -> Any:
        kept[0] = kept[-1]
        return failed(*args)

    patch.setattr(attempt, "copy_context", copied)
    patch.setattr(settle, "failed", keeps)


@exhibit(
    "a commit that fails is only told",
    "the handler's result stands, and its rows are gone",
    "JOBS-13",
    source="Dramatiq: what a middleware raises is logged",
)
def _(patch: Patch) -> None:
    def enclosed(around: Any, handle: Any, ended: Any, passed_over: Any) -> BaseException | None:
        raised: list[BaseException | None] = []

        def over(error: BaseException | None) -> None:
            raised.append(error)
            ended(error)

        outcome = real(around, handle, over, passed_over)
        return raised[0] if raised else outcome

    real = hooks.enclosed
    patch.setattr(attempt, "enclosed", enclosed)


@exhibit("a hook can swallow an error", "as a with statement lets it", "JOBS-13")
def _(patch: Patch) -> None:
    def enclosed(around: Any, handle: Any, ended: Any, passed_over: Any) -> BaseException | None:
        error = real(around, handle, ended, passed_over)
        return None if swallowed else error

    def leave(manager: Any, error: BaseException | None) -> None:
        swallowed.clear()
        if manager.__exit__(type(error) if error is not None else None, error, None):
            swallowed.append(True)

    swallowed: list[bool] = []
    real = hooks.enclosed
    patch.setattr(hooks, "_leave", leave)
    patch.setattr(attempt, "enclosed", enclosed)


@exhibit("the last hook is the outermost", "a session outlives its span", "JOBS-13")
def _(patch: Patch) -> None:
    real = hooks.enclosed
    patch.setattr(attempt, "enclosed", lambda around, *rest: real(list(around)[::-1], *rest))


@exhibit(
    "a returned coroutine is a success",
    "the job is gone, and never ran",
    "JOBS-14",
    source="Celery #6552: an async task is never awaited",
    also="JOBS-9",
)
def _(patch: Patch) -> None:
    def run_async(self: SystemRuntime, awaitable: Any, context: object) -> None:
        awaitable.close()

    patch.setattr(SystemRuntime, "run_async", run_async)


@exhibit(
    "a loop for each attempt",
    "a client bound to the last one is of no use",
    "JOBS-14",
    source="asyncio.run() in each task, as Celery users must",
)
def _(patch: Patch) -> None:
    real = loops.run

    def run(awaitable: Any, context: Any) -> object:
        try:
            return real(awaitable, context)
        finally:
            loops.close()

    patch.setattr(loops, "run", run)


@exhibit("tasks outlive their handler", "they go on in the next job's attempt", "JOBS-14")
def _(patch: Patch) -> None:
    async def leaves(tasks: object) -> None:
        pass

    patch.setattr(loops, "cancel", leaves)
    patch.setattr(loops, "close", lambda: vars(loops._here).clear())
