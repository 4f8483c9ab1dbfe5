"""Envelopes after ``spec/wire.md``: read without trust, rewritten without a change to the payload's bytes."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

COUNT_MAX = 2**31 - 1
NAME = re.compile(r"[a-z0-9_.-]{1,64}")
RESERVED = {
    "jobs", "delayed", "workers", "exchanges", "unrecorded", "held", "running", "paused", "unique", "cancelled",
    "names", "serves", "retried", "relay", "relayed", "cron", "counts", "about",
}  # fmt: skip
"""The names of other keys."""


class NotAnEnvelope(ValueError):
    """The bytes are not an envelope. The message has the reason."""


def is_queue(name: str) -> bool:
    """True if a queue can have this name: it becomes part of a key."""
    return NAME.fullmatch(name) is not None and name not in RESERVED


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_number)


class Envelope:
    """The fields of an envelope, each as its text in the bytes. Raises NotAnEnvelope."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        try:
            self._texts = _fields(raw.decode())
            values = {name: _DECODER.decode(text) for name, text in self._texts.items()}
            json.dumps(values, ensure_ascii=False).encode()  # half a surrogate pair is no text
        except (ValueError, RecursionError) as error:
            raise NotAnEnvelope(str(error)) from None
        self.id: str = values.get("id", "")
        self.type: str = values.get("type")  # type: ignore[assignment]
        self.payload: Any = values.get("payload")
        self.attempts: int = values.get("attempts", 0)
        self.lost: int = values.get("lost", 0)
        self.unknown_since: float = values.get("unknown_since", 0.0)
        self.error: str = values.get("error", "")
        queue = values.get("queue")
        self.queue: str = queue if isinstance(queue, str) and is_queue(queue) else "default"
        unique = values.get("unique")
        self.unique: str = unique if isinstance(unique, str) else ""
        """The key of a unique job."""
        self._max_attempts: Any = values.get("max_attempts")
        self._wrapped: str = values.get("raw", "")
        if not all(isinstance(text, str) for text in (self.id, self.type, self.error, self._wrapped)):
            raise NotAnEnvelope("type, id, error and raw have to be text")
        if not all(type(n) is int and 0 <= n <= COUNT_MAX for n in (self.attempts, self.lost)):
            raise NotAnEnvelope("attempts and lost have to be whole numbers from 0")
        if type(self.unknown_since) not in (int, float):
            raise NotAnEnvelope("unknown_since has to be a number")

    def limit(self, usual: int) -> int:
        """How often the job is tried in all: as its type says, else ``usual``."""
        own = self._max_attempts
        return own if type(own) is int and 1 <= own <= COUNT_MAX else usual

    def payload_bytes(self) -> bytes:
        """The payload's exact bytes; the whole bytes if they were not an envelope."""
        return base64.b64decode(self._wrapped) if self._wrapped else self._texts.get("payload", "").encode()

    def rewritten(self, **changes: Any) -> bytes:
        """The envelope with these fields changed, or removed if None; all other bytes are unchanged."""
        texts = {name: text for name, text in self._texts.items() if changes.get(name, text) is not None}
        texts |= {name: json.dumps(value, ensure_ascii=False) for name, value in changes.items() if value is not None}
        if "id" in changes:
            texts = {"id": texts["id"], **texts}
        return ("{" + ",".join(f"{json.dumps(name)}:{text}" for name, text in texts.items()) + "}").encode()


def wrapped(raw: bytes, job_id: str, error: str) -> bytes:
    """An envelope around bytes that are not one, which can wait for the failure table."""
    fields = {"id": job_id, "type": "", "payload": None, "error": error, "raw": base64.b64encode(raw).decode()}
    return json.dumps(fields, ensure_ascii=False).encode()


def _fields(text: str) -> dict[str, str]:
    """The names and the text of each value of the one object in the text. Raises ValueError."""

    def skip(at: int) -> int:
        while text[at : at + 1] in (" ", "\t", "\n", "\r") and at < len(text):
            at += 1
        return at

    def expect(at: int, *marks: str) -> int:
        if text[at : at + 1] not in marks:
            raise ValueError(f"{' or '.join(marks)} is missing at {at}")
        return skip(at + 1)

    found: dict[str, str] = {}
    at = expect(skip(0), "{")
    while text[at : at + 1] != "}" or found:
        name, end = _DECODER.raw_decode(text, at)
        if not isinstance(name, str):
            raise ValueError(f"a name is missing at {at}")
        at = expect(skip(end), ":")
        _, end = _DECODER.raw_decode(text, at)
        found[name] = text[at:end]
        at = skip(end)
        if text[at : at + 1] == "}":
            break
        at = expect(at, ",")
    if skip(at + 1) != len(text):
        raise ValueError("there is something behind the object")
    return found
