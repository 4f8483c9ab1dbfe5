"""The envelope: ``{"id":"…","type":"jobs.WelcomeEmailJob","payload":{…},"attempts":1}``, compact JSON.

The id comes first, so that members of the delayed set with one score sort by id. ``attempts`` counts finished
attempts; ``attempts``, ``error``, ``lost`` and ``unknown_since`` are left out when empty. A rewrite keeps unknown
fields and the payload's exact bytes.
"""

from __future__ import annotations

import base64
import math
import re
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec

from ..errors import NotAnEnvelope
from ..names import DEFAULT, is_queue

COUNT_MAX = 2**31 - 1
Count = Annotated[int, msgspec.Meta(ge=0, le=COUNT_MAX)]


class Envelope(msgspec.Struct, omit_defaults=True, gc=False):
    """A decoded envelope. ``id`` is empty if a Go program pushed it."""

    type: str
    id: str = ""
    payload: msgspec.Raw = msgspec.Raw(b"")
    attempts: Count = 0
    error: str = ""
    lost: Count = 0
    """0: fresh. 1: a suspect, held by a process that died. More: grave, announced in a process that died."""
    unknown_since: float = 0.0
    """When a worker first found the type unknown, in Unix seconds of the server's clock; 0: never."""
    queue: msgspec.Raw = msgspec.Raw(b"")
    """Raw, as ``unique``: a value of the wrong type must not make a job undeliverable."""
    unique: msgspec.Raw = msgspec.Raw(b"")
    """The key of a unique job."""
    next: msgspec.Raw = msgspec.Raw(b"")
    """The rest of its chain, see ``chain.py``."""


class _Ticked(msgspec.Struct):
    """The field of a job that a cron entry dispatched: Unix seconds."""

    tick: float = 0.0


class _Traced(msgspec.Struct):
    """The field of a job that was given a trace."""

    trace: dict[str, str] = {}


_TIMED = re.compile(r"([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-")
NAMES = frozenset(("id", "type", "payload", "attempts", "error", "lost", "unknown_since", "traceback", "snoozed"))
"""Fields that kashvi writes; it overwrites values that other programs put there."""

_decode = msgspec.json.Decoder(Envelope).decode
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


def seal(job_id: str, type_json: bytes, payload: bytes) -> bytes:
    """A new envelope. ``type_json`` is the name already quoted as JSON."""
    return b'{"id":"%b","type":%b,"payload":%b}' % (job_id.encode(), type_json, payload)


def queue_in(envelope: Envelope | None) -> str:
    """The queue that the envelope names; the default queue if it names none, or what no queue can be called."""
    return DEFAULT if envelope is None else queue_named(envelope.queue)


def queue_named(field: msgspec.Raw | bytes) -> str:
    """As ``queue_in``, of the field's JSON; empty bytes: there is none."""
    if not field:
        return DEFAULT
    try:
        name = msgspec.json.decode(field, type=str)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return DEFAULT
    return name if is_queue(name) else DEFAULT


def lock_in(envelope: Envelope) -> str:
    """The key of a unique job; empty if it has none, or no text."""
    if not envelope.unique:
        return ""
    try:
        return msgspec.json.decode(envelope.unique, type=str)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return ""


def tick_in(raw: bytes) -> datetime | None:
    """The time of the tick that dispatched the job; None if the envelope names none, or no time."""
    try:
        return datetime.fromtimestamp(msgspec.json.decode(raw, type=_Ticked).tick or math.nan, UTC)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError, OverflowError, OSError):
        return None


def trace_in(raw: bytes) -> dict[str, str]:
    """The texts of the job's trace by name; empty if the envelope has none, or anything else there."""
    try:
        return msgspec.json.decode(raw, type=_Traced).trace
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return {}


def made_s(job_id: str) -> float | None:
    """When the job was dispatched, in Unix seconds: a UUIDv7 begins with its milliseconds. None for another id."""
    found = _TIMED.match(job_id)
    return int(found[1] + found[2], 16) / 1000 if found else None


def read(raw: bytes) -> Envelope:
    """Decode an envelope of ours or of the Go program.

    Raises NotAnEnvelope, whatever the bytes are.
    """
    try:
        envelope = _decode(raw)
        if not raw.isascii():
            _decode_fields(raw)  # fails early if the name of an unknown field is not UTF-8: a rewrite would fail
        return envelope
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError) as error:
        raise NotAnEnvelope(str(error) or type(error).__name__) from None


def rewrite(raw: bytes, job_id: str, **changes: Any) -> bytes:
    """The same envelope with ``changes``; a value of None takes the field out.

    ``job_id`` is the envelope's own id, or a new one. Unknown fields and the payload's bytes stay.
    """
    fields: dict[str, Any] = {"id": job_id} | _decode_fields(raw)
    fields["id"] = job_id
    for name, value in changes.items():
        if value is None:
            fields.pop(name, None)
        else:
            fields[name] = value
    return _encode(fields)


def fields_of(raw: bytes) -> dict[str, msgspec.Raw]:
    """All fields by name, each as raw JSON. Raises NotAnEnvelope."""
    try:
        return _decode_fields(raw)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise NotAnEnvelope(str(error) or type(error).__name__) from None


def wrap_garbage(raw: bytes, job_id: str, error: str, queue: str = DEFAULT) -> bytes:
    """An envelope around bytes that are not an envelope, so that they can wait in ``unrecorded``."""
    return _encode(
        {
            "id": job_id,
            "type": "",
            "payload": None,
            "error": error,
            "raw": base64.b64encode(raw).decode(),
        }
        | ({} if queue == DEFAULT else {"queue": queue})
    )


def unwrapped(fields: dict[str, msgspec.Raw]) -> bytes | None:
    """The bytes in an envelope that ``wrap_garbage`` made; None for any other."""
    wrapper = fields.keys() - {"queue"} == {"id", "type", "payload", "error", "raw"}
    if not wrapper or bytes(fields["payload"]) != b"null":
        return None
    try:
        return base64.b64decode(msgspec.json.decode(fields["raw"], type=str), validate=True)
    except ValueError:
        return None


def text_of(data: bytes) -> str:
    """Text that a table can hold: the data itself if it is UTF-8 without NUL, else ``base64:…``."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = "\0"
    return base64_of(data) if "\0" in text or text.startswith("base64:") else text


def base64_of(data: bytes) -> str:
    return "base64:" + base64.b64encode(data).decode()


def bytes_of(text: str) -> bytes:
    """The reverse of ``text_of``."""
    if text.startswith("base64:"):
        try:
            return base64.b64decode(text.removeprefix("base64:"), validate=True)
        except ValueError:
            pass
    return text.encode()
