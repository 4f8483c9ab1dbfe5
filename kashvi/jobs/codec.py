"""Job types: a dataclass, attrs class, msgspec Struct or pydantic model with ``handle()``; its wire name and codec.

A dispatch decodes the payload again and compares the result with the job, field by field, type and zone included.
A job that does not come back the same is refused.
"""

from __future__ import annotations

import inspect
import math
import re
import reprlib
from collections.abc import Callable
from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING, Any, Protocol, get_type_hints

import msgspec

from ..delays import seconds_of
from ..errors import InvalidDelay, InvalidSetting, NotAJob, PayloadMismatch, UnencodableJob
from ..names import DEFAULT, queue_name
from ..unique import Dispatched, Unique, checked, key_of
from .fields import Difference, difference, field_names, parts, same, stdlib_date

if TYPE_CHECKING:
    from ..retries import Retry


LEAST_S = 1e-6
"""The shortest time limit."""


class Job(Protocol):
    """Anything with ``handle()``. Returning is success, raising is a failed attempt."""

    def handle(self) -> object: ...


class JobType:
    """One registered type: its name and how its payload is written and read.

    ``factory``, where given, supplies the fields that a payload leaves out; it is called for every attempt.
    ``retry``: its policy; by default the one in the class's attribute ``retry``, if there is one.
    ``timeout``: an attempt's time limit; by default the class's attribute ``timeout``, likewise.
    ``queue``: where its jobs go.
    ``unique``: whether two jobs with one key may not be on their queues, and by which function.
    """

    def __init__(
        self,
        name: str,
        factory: Callable[[], Job] | type[Job],
        retry: Retry | None = None,
        timeout: float | timedelta | None = None,
        queue: str = DEFAULT,
        unique: Unique = False,
    ) -> None:
        self.name = name
        self.queue = queue_name(queue)
        self.factory = None if isinstance(factory, type) else factory
        self.job_class: type[Any] = factory if isinstance(factory, type) else type(_called(factory))
        if why := why_no_job(self.job_class):
            raise NotAJob(factory, why if self.factory is None else f"what it returned is none, for {why}")
        self.unique = checked(unique, self.job_class)
        self.type_json = msgspec.json.encode(name)
        self.retry = _policy(retry, self.job_class)
        self.timeout_s = _time_limit(timeout, self.job_class)
        attempts = self.retry.attempts if self.retry else None
        self.limit_json = b',"max_attempts":%d}' % attempts if attempts else b""
        """The end of an envelope, if the type has its own limit."""
        self._read: Callable[[bytes], Any] | None = None
        try:
            # Now, not at the first job: a test may have frozen the clock by then, and the types would resolve wrongly.
            self._read = _reader(self.job_class)
        except NameError:
            pass  # an annotation names a class further down in its module
        except TypeError as error:
            raise NotAJob(self.job_class, f"its fields can't be read from JSON ({error})") from error

    @property
    def origin(self) -> str:
        return f"{self.job_class.__module__}.{self.job_class.__qualname__}"

    def encode(self, job: Any) -> bytes:
        """The payload. Raises UnencodableJob if it can't be written, or would not come back as it is."""
        try:
            payload = _write(job)
        except Exception as error:
            raise UnencodableJob(self.name, _unwritable(job), _text(error)) from error
        try:
            back = self.decode(payload)
        except PayloadMismatch as error:
            found = re.search(r"`\$\.(\w+)", str(error))
            field = found[1] if found else _unreadable(job)
            raise self._one_way(job, field, f"it would not come back ({error})") from error
        try:
            differs = None if same(job, back) else difference(job, back)
        except RecursionError as error:
            raise self._one_way(job, None, "it is nested too deeply to be compared") from error
        if differs:
            raise self._one_way(job, re.split(r"\W", differs.at.lstrip("."))[0], _told(differs))
        return payload

    def lock(self, job: Any) -> str:
        """The key that no second job on a queue may have; empty if the type is not unique. Raises InvalidSetting."""
        return key_of(self.name, self.unique, job, lambda: _write_sorted(job)) if self.unique else ""

    def _one_way(self, job: Any, field: str | None, why: str) -> UnencodableJob:
        if _not_finite(getattr(job, field or "", None)):
            why = "JSON has no NaN and no infinity"
        return UnencodableJob(self.name, field, why)

    def decode(self, payload: bytes) -> Job:
        """A fresh instance. Raises PayloadMismatch."""
        try:
            if self.factory is not None:
                payload = _merged(self.factory, payload)
            if self._read is None:
                self._read = _reader(self.job_class)
            job: Job = self._read(payload)
            return job
        except (Exception, SystemExit) as error:
            raise PayloadMismatch(self.name, _text(error)) from error


def _policy(given: Retry | None, job_class: type) -> Retry | None:
    """The policy given, or the one in the class's attribute ``retry``. Any other attribute of that name is the class's
    own business."""
    found = inspect.getattr_static(job_class, "retry", None)
    if given is None and found is None:
        return None
    from ..retries import Retry, checked  # only apps with policies need it

    if given is not None or not (isinstance(found, Retry) or (isinstance(found, type) and issubclass(found, Retry))):
        return checked(given)
    if isinstance(found, type) or "retry" in (field_names(job_class) or ()):
        why = "a policy, not a field: retry = Retry(…) without an annotation, or retry: ClassVar[Retry] = Retry(…)"
        raise InvalidSetting(f"retry of {job_class.__qualname__}", found, why)
    return found


def _time_limit(given: object, job_class: type) -> float | None:
    """The time limit given, or the one in the class's attribute ``timeout``, if that is a time and no field."""
    where = f"timeout of {job_class.__qualname__}"
    if given is None:
        given = inspect.getattr_static(job_class, "timeout", None)
        is_time = isinstance(given, int | float | timedelta) and not isinstance(given, bool)
        if not is_time or "timeout" in (field_names(job_class) or ()):
            return None
    try:
        seconds = seconds_of(given)
    except InvalidDelay:
        seconds = 0.0
    if seconds < LEAST_S:
        raise InvalidSetting(where, given, "a number of seconds above 0, up to 100 years, or a timedelta")
    return seconds


def why_no_job(job_class: type) -> str | None:
    """Why a class is not a job; None if it is one."""
    handle = getattr(job_class, "handle", None)
    if not callable(handle):
        return "it has no method handle()"
    called = (handle, type(handle).__call__)  # handle may be a callable object whose __call__ is async
    unrun = (inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    if any(is_unrun(one) for is_unrun in unrun for one in called):
        return "calling its handle() does not run it: it is a generator (a for loop inside it runs one)"
    return (
        None
        if field_names(job_class) is not None
        else "it does not declare its fields (@dataclass goes below @queue.job)"
    )


def _called(factory: Callable[[], Job]) -> Job:
    if not callable(factory) or inspect.iscoroutinefunction(factory):
        raise NotAJob(factory, "register() takes a class or a function that returns an instance")
    return factory()


def _merged(factory: Callable[[], Job], payload: bytes) -> bytes:
    fields = dict[str, msgspec.Raw]
    given = msgspec.json.decode(payload, type=fields)
    try:
        defaults = msgspec.json.decode(_write(factory()), type=fields)
    except (Exception, SystemExit) as error:
        raise RuntimeError(f"its factory raised {type(error).__name__}: {_text(error)}") from error
    return msgspec.json.encode(defaults | given)


# -- reading and writing -------------------------------------------------------------------


def _reader(job_class: type[Any]) -> Callable[[bytes], Any]:
    if hasattr(job_class, "model_validate_json"):
        return job_class.model_validate_json  # type: ignore[no-any-return]
    return msgspec.json.Decoder(job_class, dec_hook=_convert).decode


def _plain(value: Any) -> Any:
    """Encode a type that msgspec does not know: a pydantic model, or a frozen clock's datetime."""
    if hasattr(value, "model_dump_json"):
        text: str = value.model_dump_json(by_alias=True, round_trip=True, warnings=False)
        return msgspec.json.decode(text, type=msgspec.Raw)  # raises if the model wrote NaN, which JSON lacks
    if known := stdlib_date(type(value)):
        return known.isoformat(value)
    if isinstance(value, Dispatched):
        return str(value)
    if type(value) is str:  # of an enum member that is a dict's key: msgspec before 0.22 asks
        return value
    raise TypeError(f"{type(value).__qualname__} has no JSON form")


def _convert(wanted: Any, value: Any) -> Any:
    """Decode into a type that msgspec does not know: a model in a field, or a frozen clock's datetime."""
    if hasattr(wanted, "model_validate_json"):
        return wanted.model_validate_json(_write(value))
    if wanted is object:
        return value
    if isinstance(wanted, type) and (known := stdlib_date(wanted)):
        return msgspec.convert(value, known)
    raise TypeError(f"{getattr(wanted, '__qualname__', wanted)} has no JSON form")


_write = msgspec.json.Encoder(enc_hook=_plain).encode
_write_sorted = msgspec.json.Encoder(enc_hook=_plain, order="deterministic").encode
_short = reprlib.Repr()
_short.maxstring, _short.maxother = 80, 120


# -- explaining ----------------------------------------------------------------------------


def _not_finite(value: Any) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    return any(map(_not_finite, (parts(value) or {}).values()))


def _unwritable(job: Any) -> str | None:
    """The first field that can't be encoded by itself."""
    for name, value in (parts(job) or {}).items():
        try:
            job.model_dump_json(include={name}) if hasattr(job, "model_dump_json") else _write(value)
        except Exception:
            return str(name)
    return None


def _unreadable(job: Any) -> str | None:
    """The first field that can't be decoded by itself; for codecs whose error names no field."""
    try:
        hints = get_type_hints(type(job), include_extras=True)
    except Exception:
        return None
    for name, value in (parts(job) or {}).items():
        try:
            msgspec.json.decode(_write(value), type=hints.get(name, Any), dec_hook=_convert)
        except Exception:
            return str(name)
    return None


def _told(found: Difference) -> str:
    """A sentence with both values, and with their types if the values look alike."""
    a, b = _repr(found.a), _repr(found.b)
    if a == b:
        a, b = (f"{shown}, of type {type(one).__qualname__}" for shown, one in ((a, found.a), (b, found.b)))
    told = f"{found.at.lstrip('.')} is {a}, and would come back as {b}"
    if not isinstance(found.a, datetime | time):
        return told
    lost = "has no fold" if found.a.tzinfo is None else "has offsets, but no zones"
    return f"{told} (a time in JSON {lost}: send .astimezone(UTC), and the zone's name in a field of its own)"


def _repr(value: object) -> str:
    try:
        return _short.repr(value)
    except Exception:
        return f"a {type(value).__qualname__}"


def _text(error: Any) -> str:
    """The text of an exception; its type's name if its ``__str__`` raises."""
    try:
        if hasattr(error, "errors"):  # pydantic's own text has many lines
            return "; ".join(f"{d['msg']} - at `{'.'.join(map(str, ('$', *d['loc'])))}`" for d in error.errors())
        return str(error) or type(error).__name__
    except Exception:
        return type(error).__name__
