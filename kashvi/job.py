"""What a job is: a dataclass, attrs class, msgspec Struct or pydantic model with ``handle()``; its wire name and codec.

A job goes out only if it would come back: what is written is read again at the call, and must be equal, field by field.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
import reprlib
from collections.abc import Callable
from datetime import datetime
from typing import Any, Protocol

import msgspec

from .errors import NotAJob, PayloadMismatch, UnencodableJob


class Job(Protocol):
    """Anything with ``handle()``. Returning is success, raising is a failed attempt."""

    def handle(self) -> object: ...


class JobType:
    """One registered type: its name and how its payload is written and read.

    ``factory``, where given, supplies the fields that a payload leaves out; it is called for every attempt.
    """

    def __init__(self, name: str, factory: Callable[[], Job] | type[Job]) -> None:
        self.name = name
        self.factory = None if isinstance(factory, type) else factory
        self.job_class: type[Any] = factory if isinstance(factory, type) else type(_called(factory))
        if why := why_no_job(self.job_class):
            raise NotAJob(self.job_class, why)
        self.type_json = msgspec.json.encode(name)
        self._read: Callable[[bytes], Any] | None = None
        try:
            # Now rather than at the first job: under a test's frozen clock the types would resolve wrongly.
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
            raise self._one_way(job, found and found[1], f"it would not come back ({error})") from error
        if not _equal(back, job) and (field := _changed(job, back)):
            raise self._one_way(job, field, f"it would come back as {reprlib.repr(getattr(back, field, None))}")
        return payload

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


def why_no_job(job_class: type) -> str | None:
    """What a class lacks to be a job."""
    handle = getattr(job_class, "handle", None)
    if not callable(handle):
        return "it has no method handle()"
    if any(f(handle) for f in (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)):
        return "calling its handle() does not run it: it is async or a generator (asyncio.run(...) inside it does)"
    return None if _field_names(job_class) is not None else "it does not declare its fields"


def _called(factory: Callable[[], Job]) -> Job:
    if not callable(factory):
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
    """Write what the codec does not know: a pydantic model, and a frozen clock's datetime."""
    if hasattr(value, "model_dump_json"):
        text: str = value.model_dump_json(by_alias=True, round_trip=True, warnings=False)
        return msgspec.json.decode(text, type=msgspec.Raw)  # a model may write NaN, which is no JSON: here it raises
    if known := _stdlib_date(type(value)):
        return known.isoformat(value)
    raise TypeError(f"{type(value).__qualname__} has no JSON form")


def _convert(wanted: Any, value: Any) -> Any:
    """Read into what the codec does not know: a model in a field, and annotations resolved under a frozen clock."""
    if hasattr(wanted, "model_validate_json"):
        return wanted.model_validate_json(_write(value))
    if wanted is object:
        return value
    if isinstance(wanted, type) and (known := _stdlib_date(wanted)):
        return msgspec.convert(value, known)
    raise TypeError(f"{getattr(wanted, '__qualname__', wanted)} has no JSON form")


def _stdlib_date(cls: type) -> type[Any] | None:
    """datetime or date where ``cls`` is a subclass of it (a frozen clock hands those out)."""
    return next((c for c in cls.__mro__ if c.__module__ == "datetime" and c.__name__ in ("datetime", "date")), None)


_write = msgspec.json.Encoder(enc_hook=_plain).encode


# -- comparing and explaining --------------------------------------------------------------


def _field_names(cls: type[Any]) -> list[str] | None:
    """The declared fields; None for a class that declares none."""
    if hasattr(cls, "model_validate_json"):
        return list(cls.model_fields)
    if issubclass(cls, msgspec.Struct):
        return list(cls.__struct_fields__)
    if hasattr(cls, "__attrs_attrs__"):
        return [field.name for field in cls.__attrs_attrs__]
    return [field.name for field in dataclasses.fields(cls)] if dataclasses.is_dataclass(cls) else None


def _parts(value: Any) -> dict[Any, Any] | None:
    """What a value is made of, by key; None where it is not made of others."""
    if isinstance(value, dict):
        return value
    if isinstance(value, list | tuple | set | frozenset):
        return dict(enumerate(value))
    names = _field_names(type(value))
    return None if names is None else {name: getattr(value, name, None) for name in names}


def _equal(a: Any, b: Any) -> bool:
    try:
        return bool(a == b)
    except Exception:
        return False


def _same(a: Any, b: Any) -> bool:
    """Whether nothing was lost, also for values that are equal to nothing but themselves."""
    if _equal(a, b):
        return True
    if isinstance(a, datetime) and isinstance(b, datetime):  # in the hour a zone repeats, == says no
        return a.isoformat() == b.isoformat()
    if isinstance(a, float) and isinstance(b, float):
        return math.isnan(a) and math.isnan(b)
    if type(a) is not type(b) or isinstance(a, set | frozenset):
        return False
    if (parts := _parts(a)) is None:
        return False
    others = _parts(b) or {}
    return parts.keys() == others.keys() and all(_same(part, others[key]) for key, part in parts.items())


def _not_finite(value: Any) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    return any(map(_not_finite, (_parts(value) or {}).values()))


def _unwritable(job: Any) -> str | None:
    """The first field that can't be written by itself."""
    for name, value in (_parts(job) or {}).items():
        try:
            job.model_dump_json(include={name}) if hasattr(job, "model_dump_json") else _write(value)
        except Exception:
            return str(name)
    return None


def _changed(job: Any, back: Any) -> str | None:
    """The first field that did not come back as it was."""
    return next((n for n, value in (_parts(job) or {}).items() if not _same(value, getattr(back, n, None))), None)


def _text(error: Any) -> str:
    """What an exception says, whatever it does when it is asked."""
    try:
        if hasattr(error, "errors"):  # pydantic's own text has many lines
            return "; ".join(f"{d['msg']} - at `{'.'.join(map(str, ('$', *d['loc'])))}`" for d in error.errors())
        return str(error) or type(error).__name__
    except Exception:
        return type(error).__name__
