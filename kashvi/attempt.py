"""One attempt at one job: decode a fresh instance, call ``handle()``, and whatever comes of it is a value."""

from __future__ import annotations

from typing import Any

from .envelope import Envelope
from .errors import PayloadMismatch, UndeliverableJob
from .job import Job
from .registry import Registry


def decode(envelope: Envelope | None, registry: Registry) -> Job:
    """A fresh instance of the job. Raises UnknownJobType, PayloadMismatch."""
    assert envelope is not None
    job_type = registry.named(envelope.type)
    payload = bytes(envelope.payload)
    if not payload:
        raise PayloadMismatch(job_type.name, "the envelope has no payload")
    return job_type.decode(payload)


def decoded_or_none(envelope: Envelope | None, registry: Registry) -> Any:
    """The job for a reader's eyes; None where it can't be decoded."""
    try:
        return decode(envelope, registry) if envelope else None
    except UndeliverableJob:
        return None


def describe(error: BaseException) -> str:
    """``ValueError: no card``, whatever the exception does when it is asked."""
    try:
        text = str(error)
    except Exception as broken:
        text = f"(its text can't be had: {type(broken).__name__})"
    name = type(error).__qualname__
    return printable(f"{name}: {text}" if text else name)


def printable(text: str) -> str:
    """Text that any UTF-8 reader takes: lone surrogates are escaped."""
    return text.encode("utf-8", "backslashreplace").decode()
