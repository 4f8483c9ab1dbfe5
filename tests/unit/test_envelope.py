"""The envelope, byte by byte: what goes out, what a rewrite keeps, and that no bytes whatever break the reader."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kashvi.errors import NotAnEnvelope
from kashvi.jobs import envelope
from kashvi.ports import Unrecorded
from kashvi.worker.row import failure_of, job_of

FULL = (
    b'{"id":"a","type":"jobs.Email","payload":{"n":1},"attempts":2,"error":"ValueError: no card","lost":1,'
    b'"traceparent":"00-ab","queue":"mail","x":{"y":[1.0, 1E5]}}'
)


# -- what goes out -------------------------------------------------------------------------


def test_fresh_envelope_is_compact_json_with_the_id_first() -> None:
    """The exact bytes; the payload is taken over as it is."""
    sealed = envelope.seal("0190a0a0-0000-7000-8000-000000000000", b'"jobs.Email"', b'{"user_id":1,"x":"\xc3\xa9"}')
    assert sealed == (
        b'{"id":"0190a0a0-0000-7000-8000-000000000000","type":"jobs.Email","payload":{"user_id":1,"x":"\xc3\xa9"}}'
    )


def test_fresh_envelope_reads_back() -> None:
    """Nothing has been attempted yet."""
    e = envelope.read(envelope.seal("a", b'"jobs.Email"', b'{"n":1}'))
    assert (e.id, e.type, bytes(e.payload)) == ("a", "jobs.Email", b'{"n":1}')
    assert (e.attempts, e.error, e.lost) == (0, "", 0)


# -- what comes in -------------------------------------------------------------------------


def test_envelope_of_a_go_program_has_no_id() -> None:
    """It gets one when it is first settled or sent back."""
    e = envelope.read(b'{"type":"*jobs.Email","payload":{"email":"\\u003ca@b.c\\u003e"}}')
    assert (e.id, e.type, bytes(e.payload)) == ("", "*jobs.Email", b'{"email":"\\u003ca@b.c\\u003e"}')


def test_all_fields_are_read_and_unknown_ones_are_no_obstacle() -> None:
    """Newer versions may add some."""
    e = envelope.read(FULL)
    assert (e.id, e.attempts, e.error, e.lost) == ("a", 2, "ValueError: no card", 1)


def test_payload_may_be_missing() -> None:
    """The envelope is one all the same; the decoder of the payload says what is missing."""
    assert bytes(envelope.read(b'{"type":"x"}').payload) == b""


@pytest.mark.parametrize(
    "raw",
    [
        b"", b" ", b"hello", b"null", b"[]", b'"x"', b"5", b"{}", b'{"payload":{}}', b'{"TYPE":"x","payload":{}}',
        b'{"type":null}', b'{"type":5}', b'{"type":"x"}x', b'{"type":"x"}{"type":"x"}', b'{"type":"x",}',
        b'\xef\xbb\xbf{"type":"x"}', b'{"type":"\xff"}', b'{"type":"\\ud800"}', b'{"type":"x","payload":NaN}',
        b'{"type":"x","payload":01}', b'{"type":"x","payload":{"a":1,}}', b'{"type":"x","id":5}',
        b'{"type":"x","id":null}', b'{"type":"x","attempts":-1}', b'{"type":"x","attempts":1.0}',
        b'{"type":"x","attempts":"1"}', b'{"type":"x","attempts":2147483648}', b'{"type":"x","attempts":true}',
        b'{"type":"x","lost":-1}', b'{"type":"x","error":5}',
        b'{"type":"x","\xff":1}', b'{"type":"x","\\ud800":1}', b"\x00", b"\xff\xfe{\x00}\x00",
        "{\"type\":\"x\"}".encode("utf-16"),
    ],
    ids=ascii,
)  # fmt: skip
def test_bytes_that_are_no_envelope_say_why(raw: bytes) -> None:
    """A clear error for anything that another program pushed."""
    with pytest.raises(NotAnEnvelope, match=r"not an envelope: .+"):
        envelope.read(raw)


@pytest.mark.parametrize("pair", [(b"[", b"]"), (b'{"a":', b"}")], ids=["arrays", "objects"])
@pytest.mark.parametrize("closed", [True, False])
def test_bottomless_nesting_is_no_envelope(pair: tuple[bytes, bytes], closed: bool) -> None:
    """Neither the stack nor the process pays for it."""
    depth = 1_000_000
    deep = pair[0] * depth + (b"1" + pair[1] * depth if closed else b"")
    for raw in (deep, b'{"type":"x","payload":%b}' % deep, b'{"type":"x","unknown":%b,"payload":{}}' % deep):
        with pytest.raises(NotAnEnvelope):
            envelope.read(raw)


# -- rewriting -----------------------------------------------------------------------------


def test_rewrite_changes_what_it_is_told_and_nothing_else() -> None:
    """Unknown fields keep their bytes and their place; None takes a field out."""
    assert envelope.rewrite(FULL, "a", attempts=3, error=None, lost=None) == (
        b'{"id":"a","type":"jobs.Email","payload":{"n":1},"attempts":3,'
        b'"traceparent":"00-ab","queue":"mail","x":{"y":[1.0, 1E5]}}'
    )


def test_rewrite_gives_an_envelope_of_go_its_id_and_puts_it_first() -> None:
    """So that two equal jobs stay two in the delayed set."""
    assert envelope.rewrite(b'{"type":"*jobs.X","payload":{"u":"\\u003c"}}', "b", attempts=1) == (
        b'{"id":"b","type":"*jobs.X","payload":{"u":"\\u003c"},"attempts":1}'
    )


@pytest.mark.parametrize(
    "payload",
    [
        b'{"n":123456789012345678901234567890,"f":1.0,"e":1E+2,"tiny":1e-400,"huge":1e400}',
        b'{"z":1,"a":2,"m":3}',
        b'{"s":"\\u003c\\u00e9\\/\\ud83d\\ude00"}',
        b'{"a":1,"a":2}',
        b'{ "a" : [ 1 ,\t2 ],\n"b":{} }',
        b'{"raw":"\xff\xed\xa0\x80"}',
        b"null",
        b"[1]",
        b'"x"',
        b"-0",
    ],
    ids=ascii,
)
def test_rewrite_keeps_the_exact_bytes_of_the_payload(payload: bytes) -> None:
    """Big integers, 1.0, the order of keys, escapes, duplicates, blanks, and what is no proper text."""
    again = envelope.rewrite(b'{"payload":%b,"type":"x"}' % payload, "a", attempts=1)
    again = envelope.rewrite(again, "a", attempts=2, error="é")
    assert bytes(envelope.read(again).payload) == payload
    assert envelope.read(again).attempts == 2


def test_last_of_duplicate_fields_counts_before_and_after_a_rewrite() -> None:
    """As in Go."""
    raw = b'{"type":"x","payload":1,"type":"y","payload":2,"attempts":1}'
    for e in (envelope.read(raw), envelope.read(envelope.rewrite(raw, "a"))):
        assert (e.type, bytes(e.payload), e.attempts) == ("y", b"2", 1)


# -- bytes that are none -------------------------------------------------------------------


@settings(deadline=None)
@given(st.binary(), st.text(max_size=5).filter(lambda s: s.isprintable()))
def test_garbage_can_be_wrapped_and_had_back(raw: bytes, error: str) -> None:
    """What was no envelope waits inside one to be recorded."""
    e = envelope.read(envelope.wrap_garbage(raw, "a", error))
    assert (e.id, e.type, e.error) == ("a", "", error)
    assert envelope.unwrapped(envelope.fields_of(envelope.wrap_garbage(raw, "a", error))) == raw


@settings(deadline=None)
@given(st.binary() | st.text().map(str.encode) | st.binary().map(lambda b: b"base64:" + base64.b64encode(b)))
@example(b"base64:")
@example(b"base64:%%")
@example(b"a\x00b")
def test_text_of_bytes_fits_a_table_and_goes_back(data: bytes) -> None:
    """UTF-8 without NUL; base64 for the rest."""
    text = envelope.text_of(data)
    assert "\0" not in text
    text.encode()
    assert envelope.bytes_of(text) == data


# -- any bytes whatever --------------------------------------------------------------------

KEYS = [b"type", b"id", b"payload", b"attempts", b"error", b"lost", b"raw", b"TYPE", b"", b"a"]
ODD = [
    b"\xff",
    b"\xed\xa0\x80",
    b"\xc3",
    b"\\ud800",
    b"\\udc00",
    b"\\u",
    b"\\u0",
    b"\\x",
    b"\0",
    b"\n",
    b"\\n",
    b"\xc3\xa9",
]
VALUES = [
    b"1", b"-0", b"01", b"1e400", b"1.", b"null", b"true", b"[]", b"{}", b"[[", b"NaN", b'"x"', b'"\\ud800"', b'"\xff"',
    b'"\n"', b'"%%="', b'"eA=="', b"9" * 400, b"", b'"', b'{"a":1,"a":2}',
]  # fmt: skip
keys = st.sampled_from(KEYS) | st.lists(st.sampled_from([*KEYS, *ODD]), max_size=4).map(b"".join)
members = st.lists(st.tuples(keys, st.sampled_from(VALUES) | st.binary(max_size=3)), max_size=6)
objects = members.map(lambda found: b'{"type":"x",' + b",".join(b'"%b":%b' % pair for pair in found) + b"}")


@settings(max_examples=500, deadline=None)
@given(st.binary() | objects)
@example(b'{"type":"x","\xff":1}')
@example(b'{"type":"x","\\ud800":1}')
@example(b'{"type":"x","raw":"eA="}')
def test_any_bytes_are_an_envelope_or_not_an_envelope(raw: bytes) -> None:
    """Never another error; and what reads can be rewritten, and reads the same again."""
    try:
        e = envelope.read(raw)
    except NotAnEnvelope as error:
        str(error).encode("utf-8", "backslashreplace")
        return
    changes: dict[str, Any] = {"attempts": e.attempts + 1, "error": "e", "lost": None}
    again = envelope.read(envelope.rewrite(raw, "i", **changes))
    assert (again.id, again.type, bytes(again.payload)) == ("i", e.type, bytes(e.payload))
    assert (again.attempts, again.error, again.lost) == (e.attempts + 1, "e", 0)


numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@settings(deadline=None)
@given(st.dictionaries(st.text().filter(lambda key: key not in {"id", "type", "payload"}), json_values), json_values)
def test_every_unknown_field_survives_a_rewrite(unknown: dict[str, Any], payload: Any) -> None:
    """Whatever a newer version adds, a retry by an older one keeps."""
    known = {"type": "x", "payload": payload}
    text = json.dumps(
        {name: value for name, value in unknown.items() if name not in {"attempts", "error", "lost"}} | known
    )
    again = json.loads(envelope.rewrite(text.encode(), "i", attempts=1))
    assert again == json.loads(text) | {"id": "i", "attempts": 1}


# -- a row, and back -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        b'"type":"jobs.Email","payload":{"n":1.0}',
        b'"type":"jobs.Email"',
        b'"type":"jobs.Email","x":[1]',
        b'"type":"jobs.Email","payload":null',
        b'"type":"*jobs.Email","payload":[],"queue":"mail"',
        b'"type":"jobs.Email","payload":{},"max_attempts":5',
    ],
)
def test_a_job_goes_back_to_the_queue_as_its_producer_wrote_it(fields: bytes) -> None:
    """Under a new id; also one without a payload, which never could be attempted."""
    failure = failure_of(Unrecorded(b'{"id":"old",%b}' % fields, 0.0))
    assert job_of(failure.job_type, failure.payload, failure.extra, "new") == b'{"id":"new",%b}' % fields


def test_a_job_that_goes_back_has_not_snoozed() -> None:
    """It is a new one."""
    failure = failure_of(Unrecorded(b'{"id":"old","type":"jobs.Email","payload":{},"snoozed":7,"x":1}', 0.0))
    sent = job_of(failure.job_type, failure.payload, failure.extra, "new")
    assert sent == b'{"id":"new","type":"jobs.Email","payload":{},"x":1}'
