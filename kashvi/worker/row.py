"""A row of the failure table: made from an entry of ``unrecorded``, and made into a job again.

Values of other programs are kept as they are. ``extra`` holds the envelope's fields that have no column, and kashvi's
own, which begin with ``kashvi:``: original values that the row had to change, and the queue.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

import msgspec

from ..errors import NotAnEnvelope
from ..jobs import envelope
from ..names import DEFAULT, is_queue
from ..ports import NO_LOCK, PREFIX, Failure, Lock, Unrecorded

YEAR_9999 = 253_402_214_400.0
TYPE, PREFIX_FIELD = "kashvi:type", "kashvi:prefix"

_encode = msgspec.json.Encoder().encode


def failure_of(entry: Unrecorded, prefix: str | None = None) -> Failure:
    """The row for an exhausted job of the queue with this prefix. Bytes that are not an envelope become the payload."""
    failed_at = utc(entry.failed_at)
    ours: dict[str, Any] = {} if prefix in (None, PREFIX) else {PREFIX_FIELD: prefix}
    try:
        e, fields = envelope.read(entry.envelope), envelope.fields_of(entry.envelope)
    except NotAnEnvelope as error:  # a foreign entry in our key: record it anyway
        stable_id = hashlib.sha256(entry.envelope).hexdigest()
        return Failure(stable_id, "", entry.envelope, str(error), 0, failed_at, extra=_text(ours))
    queue = envelope.queue_in(e)
    queue = "" if queue == DEFAULT else queue
    if not e.type:
        whole = envelope.unwrapped(fields)
        payload = entry.envelope if whole is None else whole
        if queue:
            ours["queue"] = queue
        return Failure(e.id, "", payload, e.error, e.attempts, failed_at, queue=queue, extra=_text(ours))
    name = e.type.removeprefix("*") or e.type
    if name != e.type:
        ours[TYPE] = e.type
    extra = {key: value for key, value in fields.items() if key not in envelope.NAMES}
    return Failure(
        e.id, name, bytes(e.payload), e.error, e.attempts, failed_at,
        traceback=_string(fields.get("traceback")), queue=queue, extra=_text(extra | ours),
    )  # fmt: skip


def job_of(job_type: str, payload: bytes, extra: str | None, new_id: str) -> bytes:
    """A new envelope for a row's job. Bytes that were not an envelope are returned unchanged."""
    if not job_type:
        return payload
    fields = _fields(extra)
    name = bytes(fields.pop(TYPE, b"") or _encode(job_type))
    sealed = envelope.seal(new_id, name, payload) if payload else b'{"id":"%b","type":%b}' % (new_id.encode(), name)
    own = {key: value for key, value in fields.items() if key not in envelope.NAMES and not key.startswith("kashvi:")}
    return sealed[:-1] + b"," + _encode(own)[1:] if own else sealed


def prefix_of(extra: str | None) -> str:
    """The prefix of the queue that a row's job came from."""
    return _string(_fields(extra).get(PREFIX_FIELD)) or PREFIX


def queue_of(column: str | None, extra: str | None) -> str:
    """The queue that a row's job came from; the default queue if the row names none, or what no queue can be called.

    ``extra`` names it too, for a table without the column.
    """
    return column if column and is_queue(column) else envelope.queue_named(_fields(extra).get("queue", b""))


def lock_of(extra: str | None, new_id: str) -> Lock:
    """The key that a unique job needs again, under its new id."""
    key = _string(_fields(extra).get("unique"))
    return (key, new_id) if key else NO_LOCK


def utc(at: float) -> datetime:
    """A score as a UTC time, clamped to the times that datetime can hold."""
    return datetime.fromtimestamp(min(max(at, 0.0), YEAR_9999), UTC)


def _text(extra: dict[str, Any]) -> str:
    return _encode(extra).decode() if extra else ""


def _fields(extra: str | None) -> dict[str, Any]:
    """The JSON object in the column; empty if another program put anything else there."""
    try:
        return envelope.fields_of((extra or "{}").encode())
    except (NotAnEnvelope, UnicodeError):
        return {}


def _string(value: Any) -> str:
    try:
        return msgspec.json.decode(value, type=str) if value else ""
    except msgspec.MsgspecError:
        return ""
