"""Bugs of the envelope: other keys, other ids, lost fields."""

from __future__ import annotations

import hashlib
import itertools
import threading
import uuid
from typing import Any

import msgspec

from kashvi import dispatch
from kashvi.drivers.memory import MemoryDriver
from kashvi.errors import NotAnEnvelope, PayloadMismatch
from kashvi.jobs import envelope
from kashvi.jobs.codec import JobType
from kashvi.jobs.fields import field_names
from kashvi.runtime import SystemRuntime
from kashvi.worker import settle

from . import Patch, exhibit, where


def sealing(patch: Patch, form: bytes) -> None:
    """Make fresh envelopes of id, type and payload in this form."""

    def seal(job_id: str, type_json: bytes, payload: bytes) -> bytes:
        return form % {b"id": job_id.encode(), b"type": type_json, b"payload": payload}

    patch.setattr(envelope, "seal", seal)
    patch.setattr(dispatch, "seal", seal)


@exhibit(
    "the type comes first",
    "members with one score are sorted by type",
    "ENVELOPE-1",
    source="Go kashvi",
    also="ENVELOPE-2",
)
def _(patch: Patch) -> None:
    sealing(patch, b'{"type":%(type)b,"payload":%(payload)b,"id":"%(id)b"}')


@exhibit(
    "nothing is left out",
    "attempts, error and lost are written when they are empty",
    "ENVELOPE-1",
    also="ENVELOPE-2 JOBS-21 JOBS-22 OUTBOX-10 QUEUES-10 TABLE-11",
)
def _(patch: Patch) -> None:
    sealing(patch, b'{"id":"%(id)b","type":%(type)b,"payload":%(payload)b,"attempts":0,"error":"","lost":0}')


@exhibit(
    "a delayed job says so", "by one more field in its envelope", "ENVELOPE-1", source="Celery: eta in the headers"
)
def _(patch: Patch) -> None:
    def push(real: Any, driver: Any, stream: Any, sealed: Any, delay_s: float) -> Any:
        said = b'{"delay":%d,' % delay_s
        again = [msgspec.structs.replace(one, envelope=said + one.envelope[1:]) for one in sealed]
        return real(driver, stream, again, delay_s)

    where(patch, dispatch, "push", lambda driver, stream, sealed, delay_s: delay_s >= 300, push)


@exhibit("each thread counts for itself", "ids of two threads do not ascend", "ENVELOPE-3")
def _(patch: Patch) -> None:
    first = threading.get_ident()
    numbers: dict[int, Any] = {}

    def new_id(self: SystemRuntime) -> str:
        thread = threading.get_ident()
        mine = numbers.setdefault(thread, itertools.count(len(numbers) << 64))
        return str(uuid.UUID(int=next(mine)))

    where(
        patch, SystemRuntime, "new_id",
        lambda self: threading.get_ident() != first,
        lambda real, self: new_id(self),
    )  # fmt: skip


@exhibit("keys in camel case", "user_id travels as userId", "ENVELOPE-2", also="DISPATCH-4 JOBS-1 JOBS-3")
def _(patch: Patch) -> None:
    def encode(real: Any, self: JobType, one: Any) -> bytes:
        head, *tail = (next(n for n in names_of(self) if "_" in n)).split("_")
        camel = head + "".join(word.title() for word in tail)
        return bytes(real(self, one).replace(f'"{head}_{"_".join(tail)}"'.encode(), f'"{camel}"'.encode()))

    where(patch, JobType, "encode", lambda self, one: any("_" in name for name in names_of(self)), encode)


@exhibit(
    "a payload without names",
    "its fields are a list, in their order",
    "ENVELOPE-2",
    also="DISPATCH-4 JOBS-3 OUTBOX-9 QUEUES-8",
)
def _(patch: Patch) -> None:
    def encode(real: Any, self: JobType, one: Any) -> bytes:
        real(self, one)
        return msgspec.json.encode([getattr(one, name) for name in names_of(self)])

    def several(self: JobType, one: Any) -> bool:
        return len(names_of(self)) > 1 and "padding" not in names_of(self)  # as the examples' own job has

    where(patch, JobType, "encode", several, encode)


def names_of(self: JobType) -> list[str]:
    return field_names(self.job_class) or []


@exhibit("ids count down", "of two jobs due at once, the newer comes first", "ENVELOPE-3", also="DISPATCH-6")
def _(patch: Patch) -> None:
    numbers = itertools.count(1)
    patch.setattr(SystemRuntime, "new_id", lambda self: str(uuid.UUID(int=2**128 - next(numbers))))


@exhibit(
    "ids by the clock alone",
    "ids of one second are in any order",
    "ENVELOPE-3",
    also="DISPATCH-6",
    source="UUIDs of the seventh version without a counter",
)
def _(patch: Patch) -> None:
    numbers = itertools.count(1)

    def new_id(self: SystemRuntime) -> str:
        return str(uuid.UUID(f"{int(self.now()):012x}7{2**76 - next(numbers):019x}"))

    patch.setattr(SystemRuntime, "new_id", new_id)


@exhibit(
    "an envelope without an id is none",
    "jobs of the Go program are recorded as garbage",
    "ENVELOPE-4",
    also="COMMANDS-1 COMMANDS-2 COMMANDS-5 COMMANDS-9 COMMANDS-17 COMMANDS-18 COMMANDS-23 "
    "DELIVERY-6 ENVELOPE-6 ENVELOPE-7 JOBS-3 REDIS-1 REDIS-2",
)
def _(patch: Patch) -> None:
    def read(real: Any, raw: bytes) -> envelope.Envelope:
        raise NotAnEnvelope("it has no id")

    where(patch, envelope, "read", lambda raw: b'"type"' in raw and b'"id"' not in raw, read)


@exhibit(
    "equal envelopes get equal ids",
    "made of their bytes, so two jobs are one from the first retry on",
    "ENVELOPE-4",
    also="DELIVERY-7 DELIVERY-5",
)
def _(patch: Patch) -> None:
    def delivery(real: Any, raw: bytes, owner: str, new_id: Any, *rest: Any, **named: Any) -> settle.Delivery:
        found: settle.Delivery = real(raw, owner, hashlib.md5(raw).hexdigest, *rest, **named)
        return found

    def nameless(raw: bytes, *rest: Any, **named: Any) -> bool:
        return b'"type"' in raw and b'"id"' not in raw

    where(patch, settle, "delivery", nameless, delivery)


@exhibit(
    "who came without an id stays without",
    "two equal envelopes fail, and one is recorded",
    "ENVELOPE-4",
    also="",
)
def _(patch: Patch) -> None:
    def rewrite(real: Any, raw: bytes, job_id: str, **changes: Any) -> bytes:
        fields = msgspec.json.decode(real(raw, job_id, **changes), type=dict[str, msgspec.Raw])
        del fields["id"]
        return msgspec.json.encode(fields)

    where(patch, envelope, "rewrite", lambda raw, job_id, **changes: b'"id"' not in raw, rewrite)


@exhibit("bytes as text", "bytes that are not UTF-8 are replaced", "ENVELOPE-5")
def _(patch: Patch) -> None:
    def push(real: Any, self: MemoryDriver, envelopes: Any, delay_s: float = 0.0, *queues: Any) -> float | None:
        due: float | None = real(self, [e.decode("utf-8", "replace").encode() for e in envelopes], delay_s, *queues)
        return due

    def odd(self: MemoryDriver, envelopes: Any, delay_s: float = 0.0, *queues: Any) -> bool:
        return any(e.decode("utf-8", "replace").encode() != e for e in envelopes)

    where(patch, MemoryDriver, "push", odd, push)


@exhibit(
    "a retry drops what it does not know",
    "a field of a newer release is gone after a failure",
    "ENVELOPE-5",
    also="JOBS-24",
)
def _(patch: Patch) -> None:
    known = {
        "id",
        "type",
        "payload",
        "attempts",
        "error",
        "lost",
        "raw",
        "max_attempts",
        "snoozed",
        "queue",
        "unique",
        "next",
    }

    def rewrite(real: Any, raw: bytes, job_id: str, **changes: Any) -> bytes:
        fields = {name: value for name, value in envelope._decode_fields(raw).items() if name in known}
        return bytes(real(msgspec.json.encode(fields), job_id, **changes))

    def unknown(raw: bytes, job_id: str, **changes: Any) -> bool:
        return not envelope._decode_fields(raw).keys() <= known

    where(patch, envelope, "rewrite", unknown, rewrite)


@exhibit("a retry writes the payload anew", "1.0 is 1 afterwards", "ENVELOPE-5", source="Laravel: cjson")
def _(patch: Patch) -> None:
    def plain(raw: bytes) -> bytes:
        return msgspec.json.encode(msgspec.json.decode(envelope._decode_fields(raw)["payload"]))

    def rewrite(real: Any, raw: bytes, job_id: str, **changes: Any) -> bytes:
        return bytes(real(raw, job_id, **changes, payload=msgspec.Raw(plain(raw))))

    def differs(raw: bytes, job_id: str, **changes: Any) -> bool:
        return plain(raw) != bytes(envelope._decode_fields(raw)["payload"])

    where(patch, envelope, "rewrite", differs, rewrite)


def guessing(patch: Patch, mend: Any) -> None:
    """Convert a payload that does not fit, if possible."""
    strict = JobType.decode

    def misfit(self: JobType, payload: bytes) -> bool:
        try:
            strict(self, payload)
        except PayloadMismatch:
            return True
        return False

    def decode(real: Any, self: JobType, payload: bytes) -> Any:
        try:
            return mend(self, payload)
        except Exception:
            return real(self, payload)

    where(patch, JobType, "decode", misfit, decode)


@exhibit('"1" is a number', "text that looks like a number is read as one", "ENVELOPE-6")
def _(patch: Patch) -> None:
    guessing(patch, lambda self, payload: msgspec.json.decode(payload, type=self.job_class, strict=False))


@exhibit("1.0 is an integer", "and so is what a float was rounded to", "ENVELOPE-6")
def _(patch: Patch) -> None:
    guessing(patch, lambda self, payload: JobType.decode(self, payload.replace(b":1.0", b":1")))


@exhibit("half a character is mended", "as in Go, against wire.md", "ENVELOPE-7", source="Go kashvi")
def _(patch: Patch) -> None:
    where(
        patch,
        envelope,
        "read",
        lambda raw: b"\\ude00" in raw,
        lambda real, raw: real(raw.replace(b"\\ude00", b"\\ufffd")),
    )


@exhibit("integers end at 64 bits", "as in Go, against wire.md", "ENVELOPE-7", source="Go kashvi")
def _(patch: Patch) -> None:
    def decode(real: Any, self: JobType, payload: bytes) -> Any:
        made = real(self, payload)
        if any(isinstance(value, int) and value >= 2**63 for value in vars(made).values()):
            raise PayloadMismatch(self.name, "an integer overflows")
        return made

    where(patch, JobType, "decode", lambda self, payload: b"9223372036854775808" in payload, decode)
