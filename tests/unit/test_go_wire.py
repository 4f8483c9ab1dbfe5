"""What the Go program really put on the wire, and what becomes of it here. ``spec/wire.md`` says it in words."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import pytest
from msgspec import Meta

from kashvi.drivers.memory import MemoryDriver
from kashvi.failures.recent import FailedJob
from kashvi.jobs import envelope
from kashvi.queue import Queue
from kashvi.registry import Registry

SPEC = Path(__file__).parents[2] / "spec"
VECTORS: dict[str, Any] = json.loads((SPEC / "vectors" / "go_wire.json").read_bytes())
PUSHED = [case for case in VECTORS["encode_cases"] if case.get("envelope_b64")]
DECODE = VECTORS["decode_cases"]

ran: list[Any] = []


@pytest.fixture(autouse=True)
def nothing_ran() -> Iterator[None]:
    """Each test starts with no job run."""
    ran.clear()
    yield
    ran.clear()


class Remembers:
    def handle(self) -> None:
        ran.append(self)


@dataclass
class After(Remembers):
    """Dispatched behind a case, it shows that the worker lives on."""


def work(name: str, job_class: type[Any], raw: bytes) -> tuple[Any, FailedJob | None]:
    """Put bytes on a queue and let a worker have them: the job that ran, or how it was recorded."""
    queue = Queue(MemoryDriver(), registry=Registry(), unknown_for_s=0)
    queue.register(name, job_class)
    queue.register("tests.After", After)
    queue.driver.push([raw])
    queue.dispatch(After())
    queue.work(stop_when_empty=True)
    assert ran.pop() == After()
    assert queue.stats().ready == queue.stats().delayed == queue.stats().held == 0
    failed = queue.failed_jobs()
    assert len(ran) + len(failed) == 1
    return (ran.pop(), None) if ran else (None, failed[0])


# -- what Go pushed ------------------------------------------------------------------------

PLAIN = {"float64": float, "string": str, "bool": bool, "time.Time": datetime, "json.Number": Decimal}


def python_type(go: str) -> Any:
    """The annotation for a Go type: a nil slice, map or pointer arrives as null."""
    if go == "*big.Int":
        return int | None
    if re.fullmatch(r"u?int(8|16|32|64|ptr)?|time\.(Duration|Month|Weekday)", go):
        return int
    if go == "[]uint8":
        return bytes | None
    if go.startswith("*"):
        return python_type(go[1:]) | None
    if found := re.fullmatch(r"\[(\d*)\](.+)", go):
        items = list[python_type(found[2])]  # type: ignore[misc]
        return items if found[1] else items | None
    if found := re.fullmatch(r"map\[(\w+)\](.+)", go):
        return dict[python_type(found[1]), python_type(found[2])] | None  # type: ignore[misc]
    return PLAIN.get(go, Any)


def python_value(go: Any) -> Any:
    """The value that the notation of the vectors describes."""
    if isinstance(go, list):
        return [python_value(item) for item in go]
    if not isinstance(go, dict):
        return go
    [*_, (kind, value)] = [*((k, v) for k, v in go.items() if k.startswith("$"))]
    if kind == "$map_pairs":
        return {key: python_value(item) for key, item in value}
    if kind == "$time":  # the wire has whole minutes of offset, we have whole microseconds
        at = datetime.fromisoformat(value["iso"][:19]) + timedelta(microseconds=round(value["nanos"] / 1000))
        return at.replace(tzinfo=timezone(timedelta(minutes=value["offset_s"] // 60)))
    if kind == "$struct":
        return {field["json_tag"]: python_value(field["value"]) for field in go["fields"]}
    if kind == "$dynamic_type":
        return python_value(go["value"])
    read = {"$float64_hex": float.fromhex, "$bytes_b64": base64.b64decode, "$bigint": int, "$json_number": json_number}
    return read[kind](value)


def json_number(text: str) -> Decimal:
    """An empty json.Number goes out as 0."""
    return Decimal(text or "0")


def known_fields(case: dict[str, Any], payload: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The fields of a case that a dataclass can spell, with their types and values."""
    found = {}
    for go in case.get("fields") or ():
        name, _, options = go.get("json_tag", "").partition(",")
        name = name or go["go_name"]
        if (
            name in payload
            and re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII)
            and "string" not in options
            and "embedded" not in go
        ):
            annotation = python_type(go["go_type"])
            plain = "Any" not in str(annotation) and "$string_b64" not in str(go["value"])
            found[name] = (annotation, python_value(go["value"]) if plain else payload[name])
    return found


@pytest.mark.parametrize("case", PUSHED, ids=lambda case: case["name"])
def test_envelope_go_pushed_is_read(case: dict[str, Any]) -> None:
    """Type and payload, as Go dispatched them."""
    for key in ("envelope_b64", "envelope_go1_27_3_b64"):
        if key in case:
            raw = base64.b64decode(case[key])
            e = envelope.read(raw)
            assert (e.id, e.type, e.attempts) == ("", case["type"], 0)
            assert json.loads(bytes(e.payload)) == json.loads(raw)["payload"]


@pytest.mark.parametrize(
    "case", [case for case in PUSHED if case["name"] != "time_year_9999"], ids=lambda case: case["name"]
)
def test_job_go_pushed_runs_with_the_values_it_had_there(case: dict[str, Any]) -> None:
    """A dataclass with the fields of the Go struct; a payload that is no object fits none, and is recorded."""
    raw = base64.b64decode(case["envelope_b64"])
    payload = json.loads(raw)["payload"]
    fields = known_fields(case, payload) if isinstance(payload, dict) else {}
    job_class = dataclasses.make_dataclass(
        "GoJob", [(name, annotation) for name, (annotation, _) in fields.items()], bases=(Remembers,)
    )
    job, failed = work(case["type"].removeprefix("*"), job_class, raw)
    if isinstance(payload, dict):
        assert failed is None, failed.error
        assert dataclasses.asdict(job) == {name: value for name, (_, value) in fields.items()}
    else:
        assert failed is not None
        assert "Expected `object`" in failed.error
        assert json.loads(failed.payload) == payload


def test_last_moment_of_the_year_9999_is_recorded_for_want_of_nanoseconds() -> None:
    """Rounded to microseconds it would be the year 10000, which Python's datetime does not know."""
    [case] = [case for case in PUSHED if case["name"] == "time_year_9999"]
    job_class = dataclasses.make_dataclass("TimeJob", [("at", datetime)], bases=(Remembers,))
    _, failed = work("jobs.TimeJob", job_class, base64.b64decode(case["envelope_b64"]))
    assert failed is not None
    assert "at `$.at`" in failed.error


@pytest.mark.parametrize("table", ["float64_table", "float32_table"])
def test_every_float_go_wrote_is_read_as_that_float(table: str) -> None:
    """Shortest form and exponents; -0 is 0."""
    job_class = dataclasses.make_dataclass("FloatJob", [("f", float)], bases=(Remembers,))
    registry = Registry()
    registry.register("jobs.FloatJob", job_class)
    for row in VECTORS[table]:
        job: Any = registry.named("jobs.FloatJob").decode(b'{"f":%b}' % row["json"].encode())
        assert job.f == float(row["json"]), row


def test_every_string_go_wrote_is_read_as_that_string() -> None:
    """Escapes and all planes; what was invalid in Go's string it has replaced already."""
    job_class = dataclasses.make_dataclass("StringJob", [("s", str)], bases=(Remembers,))
    registry = Registry()
    registry.register("jobs.StringJob", job_class)
    for row in VECTORS["string_table"]:
        text = base64.b64decode(row["json_b64"])
        job: Any = registry.named("jobs.StringJob").decode(b'{"s":%b}' % text)
        assert job.s == json.loads(text)


def test_payload_of_a_hundred_kilobytes_is_read() -> None:
    """It is in the vectors by its ends and its length."""
    [case] = [case for case in VECTORS["encode_cases"] if case["name"] == "large_payload_100k"]
    raw = b'{"type":"jobs.StringJob","payload":{"s":"%b"}}' % (b"ab\\u003c" * 33_334)
    assert len(raw) == case["envelope_len"]
    assert raw.startswith(case["envelope_head"].encode())
    assert raw.endswith(case["envelope_tail"].encode())
    job_class = dataclasses.make_dataclass("StringJob", [("s", str)], bases=(Remembers,))
    job, _ = work("jobs.StringJob", job_class, raw)
    assert job.s == "ab<" * 33_334


@pytest.mark.parametrize("case", VECTORS["delayed_cases"], ids=lambda case: case["name"])
def test_delayed_member_of_go_is_an_envelope(case: dict[str, Any]) -> None:
    """The sorted set holds the same bytes as the list."""
    assert envelope.read(base64.b64decode(case["member_b64"])).type


# -- what a worker accepts -----------------------------------------------------------------


@dataclass
class Sub:
    x: int = 0
    y: str = ""


@dataclass
class DecodeJob(Remembers):
    """main.DecodeJob of the vectors, every field at Go's zero."""

    i: int = 0
    i8: Annotated[int, Meta(ge=-128, le=127)] = 0
    u: Annotated[int, Meta(ge=0)] = 0
    f: float = 0.0
    s: str = ""
    b: bool = False
    t: datetime = datetime(1, 1, 1, tzinfo=UTC)
    by: bytes = b""
    m: dict[str, int] = field(default_factory=dict)
    sl: list[int] = field(default_factory=list)
    arr: tuple[int, int] = (0, 0)
    p: int | None = None
    any: Any = None
    sub: Sub = field(default_factory=Sub)
    psub: Sub | None = None
    q: str = "0"  # Go's ",string" option: an int64 that travels as text
    NoTag: int = 0


def decoded_by_go(case: dict[str, Any]) -> DecodeJob:
    """The job the Go worker ran."""
    values = {name if name == "NoTag" else name.lower(): value for name, value in case["non_zero_fields"].items()}
    job = DecodeJob(**{name: python_value(value) for name, value in values.items()})
    return dataclasses.replace(
        job,
        arr=tuple(job.arr),
        q=str(job.q),
        sub=Sub(**job.sub) if isinstance(job.sub, dict) else job.sub,
        psub=Sub(**job.psub) if isinstance(job.psub, dict) else job.psub,
    )


def exact(value: Any) -> Any:
    """For comparing: 5 is 5.0, but an instant with another offset is another value."""
    return repr(value) if isinstance(value, datetime) else value


def outcome(case: dict[str, Any]) -> str:
    """What we do with the case, against what Go did: "as Go", or the difference."""
    job, failed = work("main.DecodeJob", DecodeJob, base64.b64decode(case["raw_b64"]))
    handled_by_go = case["outcome"] == "handled"
    if failed is not None:
        assert failed.attempts == 0
        assert re.match(
            r"not an envelope: .|unknown job type '|the payload does not fit main\.DecodeJob: .", failed.error
        )
        return "recorded" if handled_by_go else "as Go"
    if not handled_by_go:
        return "handled"
    if "non_zero_fields" not in case:
        return "as Go"
    if any(int(nanos) % 1000 for nanos in re.findall(r'"nanos": (\d+)', json.dumps(case["non_zero_fields"]))):
        return "other value"
    ours, theirs = dataclasses.asdict(job), dataclasses.asdict(decoded_by_go(case))
    return (
        "as Go" if {k: exact(v) for k, v in ours.items()} == {k: exact(v) for k, v in theirs.items()} else "other value"
    )


def table() -> dict[str, str]:
    """The differences as spec/wire.md lists them: case -> handled, recorded or other value."""
    rows = re.findall(
        r"^\| `(\w+)` \| ([a-z ]+?) \| ([a-z ]+?) \| \S.+ \|$", (SPEC / "wire.md").read_text(), re.MULTILINE
    )
    assert len(rows) == len({name for name, _, _ in rows})
    return {name: ours for name, _, ours in rows}


@pytest.mark.parametrize("case", DECODE, ids=lambda case: case["name"])
def test_entry_is_handled_or_recorded_as_the_specification_says(case: dict[str, Any]) -> None:
    """Never dropped, the worker alive, and every difference from Go is in the table of spec/wire.md."""
    said = table().get(case["name"], "as Go")
    if case["name"] == "deep_nesting_9990":  # an interpreter with a deeper stack handles it
        assert outcome(case) in {said, "as Go"}
    else:
        assert outcome(case) == said


def test_table_of_the_specification_lists_recorded_cases_only() -> None:
    """Each of its rows is a case of the vectors, and says rightly what Go did."""
    go = {case["name"]: "handled" if case["outcome"] == "handled" else "dropped" for case in DECODE}
    text = (SPEC / "wire.md").read_text()
    said = dict(re.findall(r"^\| `(\w+)` \| ([a-z ]+?) \| [a-z ]+? \|", text, re.MULTILINE))
    assert said == {name: go[name] for name in said}
    assert set(said) == set(table())
