"""What a job is: a dataclass, attrs class, msgspec Struct or pydantic model with ``handle()``; its wire name and codec."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
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
        check_is_job(self.job_class)
        self.type_json = msgspec.json.encode(name)
        self.pydantic = hasattr(self.job_class, "model_validate_json")
        self._decode: Callable[[bytes], Any] | None = None
        try:
            # Now rather than at the first job: under a test's frozen clock the types would resolve wrongly.
            self._decode = self._decoder()
        except NameError:
            pass  # an annotation names a class further down in its module

    @property
    def origin(self) -> str:
        return f"{self.job_class.__module__}.{self.job_class.__qualname__}"

    def encode(self, job: Any) -> bytes:
        """The payload. Raises UnencodableJob if it can't be written, or would not come back."""
        try:
            payload: bytes = (
                job.model_dump_json().encode() if self.pydantic else msgspec.json.encode(job, enc_hook=_plain)
            )
        except Exception as error:
            raise UnencodableJob(self.name, _culprit(job), str(error) or type(error).__name__) from error
        if b"null" in payload and (field := _not_finite(job)):
            raise UnencodableJob(self.name, field, "JSON has no NaN and no infinity")
        try:
            self.decode(payload)
        except PayloadMismatch as error:
            raise UnencodableJob(self.name, None, f"it would not come back ({error})") from error
        return payload

    def decode(self, payload: bytes) -> Job:
        """A fresh instance. Raises PayloadMismatch."""
        try:
            if self.factory is not None:
                payload = _merged(self.factory(), payload)
            if self._decode is None:
                self._decode = self._decoder()
            job: Job = self._decode(payload)
            return job
        except Exception as error:
            raise PayloadMismatch(self.name, str(error) or type(error).__name__) from error

    def _decoder(self) -> Callable[[bytes], Any]:
        if self.pydantic:
            return self.job_class.model_validate_json  # type: ignore[no-any-return]
        return msgspec.json.Decoder(self.job_class, dec_hook=_convert).decode


def check_is_job(job_class: type) -> None:
    """Raises NotAJob, saying what is missing."""
    if not callable(getattr(job_class, "handle", None)):
        raise NotAJob(job_class, "it has no method handle()")
    if not (
        dataclasses.is_dataclass(job_class)
        or hasattr(job_class, "__attrs_attrs__")
        or issubclass(job_class, msgspec.Struct)
        or hasattr(job_class, "model_validate_json")
    ):
        raise NotAJob(job_class, "it does not declare its fields")


def _called(factory: Callable[[], Job]) -> Job:
    if not callable(factory):
        raise NotAJob(factory, "register() takes a class or a function that returns an instance")
    return factory()


def _merged(defaults: Any, payload: bytes) -> bytes:
    fields = dict[str, msgspec.Raw]
    ours = defaults.model_dump_json() if hasattr(defaults, "model_dump_json") else msgspec.json.encode(defaults)
    return msgspec.json.encode(
        msgspec.json.decode(ours, type=fields) | msgspec.json.decode(payload, type=fields)
    )


def _stdlib_date(cls: type) -> type[Any] | None:
    """datetime or date where ``cls`` is a subclass of it (a frozen clock hands those out)."""
    return next((c for c in cls.__mro__ if c.__module__ == "datetime" and c.__name__ in ("datetime", "date")), None)


def _plain(value: Any) -> Any:
    """Write what the codec does not know: instances of a frozen clock's datetime."""
    if known := _stdlib_date(type(value)):
        return known.isoformat(value)
    raise TypeError(f"{type(value).__qualname__} has no JSON form")


def _convert(wanted: type, value: Any) -> Any:
    """Read into what the codec does not know: annotations resolved while a clock was frozen."""
    if isinstance(wanted, type) and (known := _stdlib_date(wanted)):
        return msgspec.convert(value, known)
    raise TypeError(f"{getattr(wanted, '__qualname__', wanted)} has no JSON form")


def _fields(job: Any) -> Iterator[tuple[str, Any]]:
    names = (
        getattr(type(job), "model_fields", None)
        or getattr(type(job), "__struct_fields__", None)
        or [f.name for f in getattr(type(job), "__attrs_attrs__", ())]
        or [f.name for f in dataclasses.fields(job)]
    )
    return ((name, getattr(job, name, None)) for name in names)


def _culprit(job: Any) -> str | None:
    """The first field that can't be written by itself."""
    for name, value in _fields(job):
        try:
            msgspec.json.encode(value, enc_hook=_plain)
        except Exception:
            return name
    return None


def _not_finite(job: Any) -> str | None:
    """The first field that holds a NaN or an infinity, which would silently become null."""

    def found(value: Any) -> bool:
        if isinstance(value, float):
            return not math.isfinite(value)
        if isinstance(value, dict):
            return any(map(found, value.values()))
        return isinstance(value, list | tuple | set | frozenset) and any(map(found, value))

    for name, value in _fields(job):
        plain = value.model_dump() if hasattr(value, "model_dump") else msgspec.to_builtins(value, enc_hook=_plain)
        if found(plain):
            return name
    return None
