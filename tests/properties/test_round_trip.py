"""Whatever a job is made of: either dispatching refuses it, or exactly it comes back."""

from __future__ import annotations

import dataclasses
import keyword
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any, Literal
from uuid import UUID

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kashvi.errors import UnencodableJob
from kashvi.jobs import envelope
from kashvi.jobs.codec import JobType
from kashvi.registry import Registry


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


@dataclasses.dataclass(frozen=True)
class Line:
    sku: str
    price: Decimal


minutes = st.integers(-23 * 60, 23 * 60).map(lambda m: timezone(timedelta(minutes=m)))
texts = st.text(max_size=8)
finite = st.floats(allow_nan=False, allow_infinity=False)
decimals = st.decimals(allow_nan=False, allow_infinity=False)

SCALARS: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (int, st.integers()),
    (float, finite),
    (str, texts),
    (bool, st.booleans()),
    (bytes, st.binary(max_size=8)),
    (datetime, st.datetimes().map(lambda at: at.replace(fold=0))),
    (datetime, st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 1, 1), timezones=minutes)),
    (date, st.dates()),
    (time, st.times().map(lambda at: at.replace(fold=0))),
    (timedelta, st.timedeltas(timedelta(days=-100_000), timedelta(days=100_000))),
    (UUID, st.uuids()),
    (Decimal, decimals),
    (Colour, st.sampled_from(Colour)),
    (Level, st.sampled_from(Level)),
    (Literal["a", "b", 3], st.sampled_from(["a", "b", 3])),
    (Line, st.builds(Line, texts, decimals)),
    (int | str, st.integers() | texts),
]
HASHABLE_KEYS = [(str, texts), (int, st.integers(-(2**63), 2**63 - 1)), (UUID, st.uuids()), (date, st.dates())]


def _containers(inner: tuple[Any, st.SearchStrategy[Any]]) -> st.SearchStrategy[tuple[Any, st.SearchStrategy[Any]]]:
    annotation, values = inner
    return st.sampled_from(
        [
            (list[annotation], st.lists(values, max_size=3)),
            (tuple[annotation, ...], st.lists(values, max_size=3).map(tuple)),
            (tuple[annotation, int], st.tuples(values, st.integers())),
            (annotation | None, st.none() | values),
            *((dict[key, annotation], st.dictionaries(keys, values, max_size=3)) for key, keys in HASHABLE_KEYS),
        ]
    )


scalars = st.sampled_from(SCALARS)
sets = st.sampled_from([(set[a], st.sets(v, max_size=3)) for a, v in SCALARS[:3] + SCALARS[6:13]])
kinds = st.one_of(scalars, sets, scalars.flatmap(_containers), scalars.flatmap(_containers).flatmap(_containers))
names = st.from_regex(r"[a-z][a-z0-9]{0,5}(_[a-z]{1,3})?", fullmatch=True).filter(
    lambda name: not keyword.iskeyword(name) and name not in {"handle", "self", "copy", "json", "dict"}
)


def handle(self: Any) -> None: ...


Maker = Callable[[dict[str, Any]], type[Any]]


def a_dataclass(**options: bool) -> Maker:
    """With these options."""
    return lambda fields: dataclasses.make_dataclass(
        "Job", list(fields.items()), namespace={"handle": handle}, **options
    )


def an_attrs_class(fields: dict[str, Any]) -> type[Any]:
    """Slotted, as attrs does by default."""
    namespace = {"handle": handle, "__annotations__": fields, "__module__": __name__}
    return attrs.define(kw_only=True)(type("Job", (), namespace))


def a_struct(**options: Any) -> Maker:
    """With these options."""
    return lambda fields: msgspec.defstruct(
        "Job", list(fields.items()), namespace={"handle": handle}, kw_only=True, **options
    )


def a_model(fields: dict[str, Any]) -> type[Any]:
    """Bytes as base64, for any may come."""

    class Base(pydantic.BaseModel, ser_json_bytes="base64", val_json_bytes="base64", protected_namespaces=()):
        def handle(self) -> None: ...

    return pydantic.create_model("Job", __base__=Base, **{name: (kind, ...) for name, kind in fields.items()})


MAKERS: list[Maker] = [
    a_dataclass(),
    a_dataclass(frozen=True, slots=True, kw_only=True),
    a_dataclass(eq=False),
    an_attrs_class,
    a_struct(),
    a_struct(frozen=True, rename="camel"),
    a_struct(array_like=True),
    a_model,
]


@st.composite
def jobs(draw: st.DrawFn) -> Any:
    """A job of a new type."""
    fields = draw(st.dictionaries(names, kinds, max_size=4))
    job_class = draw(st.sampled_from(MAKERS))({name: kind for name, (kind, _) in fields.items()})
    return job_class(**{name: draw(values) for name, (_, values) in fields.items()})


def fields_of(job: Any) -> dict[str, Any]:
    """Its values by name, with their types."""
    shown = {name: getattr(job, name) for name in type(job).__annotations__}
    return {name: (type(value), value) for name, value in shown.items()}


thorough = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@thorough
@given(jobs())
def test_job_of_any_type_comes_back_exactly(job: Any) -> None:
    """Sealed, read and decoded: another instance, every field equal and of the same type."""
    registry = Registry()
    registry.register("jobs.Job", type(job))
    job_type = registry.of(job)
    sealed = envelope.seal("a", job_type.type_json, job_type.encode(job))
    for raw in (sealed, envelope.rewrite(sealed, "a", attempts=1)):
        e = envelope.read(raw)
        back = registry.named(e.type).decode(bytes(e.payload))
        assert back is not job
        assert fields_of(back) == fields_of(job)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.datetimes() | st.uuids(),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers() | st.dates(), inner)
        | st.sets(st.integers())
    ),
    max_leaves=8,
)


@dataclasses.dataclass
class Loose:
    value: Any

    def handle(self) -> None: ...


LOOSE = JobType("jobs.Loose", Loose)


@thorough
@given(anything)
def test_value_without_an_annotation_comes_back_exactly_or_is_refused(value: Any) -> None:
    """What JSON would change on the way is an error at the call that names the field, never a silent change."""
    try:
        payload = LOOSE.encode(Loose(value))
    except UnencodableJob as error:
        named = error.field
    else:
        named = "value"
        assert LOOSE.decode(payload) == Loose(value)
    assert named == "value"


class Text(str, Enum):  # noqa: UP042
    RED = "red"


class Word(str):
    __slots__ = ()


class Many(list[Any]):
    pass


@dataclasses.dataclass
class Sly:
    """Equal to all of its kind, and hides a field from ==."""

    n: float
    note: Any = dataclasses.field(default=None, compare=False)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sly)

    __hash__ = None  # type: ignore[assignment]


class Sub(Sly):
    pass


zoned = st.datetimes(min_value=datetime(1990, 1, 1), max_value=datetime(2050, 1, 1), timezones=st.timezones())
alike = st.one_of(
    st.sampled_from(
        [True, 1, 1.0, Level.LOW, Decimal("1.0"), Decimal("1.00"), "red", Text.RED, Colour.RED, Word("red")]
    ),
    st.sampled_from(
        [-0.0, 0.0, 0, None, b"red", bytearray(b"red"), datetime(2026, 10, 25, 2, 30, fold=1), time(2, fold=1)]
    ),
    st.sampled_from([Sly(1.0), Sly(1), Sly(1.0, note=(1, 2)), Sub(1.0), Line("a", Decimal(1))]),
    zoned,
    minutes.map(lambda zone: datetime(2026, 1, 1, tzinfo=zone)),
)
likely = st.recursive(
    alike,
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.lists(inner, max_size=2).map(tuple)
        | st.lists(inner, max_size=2).map(Many)
        | st.dictionaries(st.sampled_from(["a", 1, True, Text.RED, Word("b")]), inner, max_size=2)
        | st.sampled_from([{1}, {1.0}, {True}, frozenset({1}), {"red"}, {Text.RED}])
    ),
    max_leaves=4,
)
LOOSE_KINDS: list[Any] = [
    *(Any, object, int, float, str, bool, bytes, datetime, time, Decimal, Level, Text, Sly, int | float, float | None),
    *(list[Any], list[float], list[Sly], tuple[Any, ...], set[int], set[float], set[Any], frozenset[int], set[str]),
    *(dict[str, Any], dict[Any, Any], dict[int, float], dict[str, list[datetime]]),
]


def as_it_was(value: Any, back: Any) -> bool:
    """True if no user can tell them apart; a fixed offset is one, whatever its class.

    Of an integer the float of its value may come back: type checkers take one for the other (PEP 484).
    """
    kind = type(value)
    if kind is not type(back):
        return kind is int and type(back) is float and value == back
    if isinstance(value, Sly):
        return as_it_was(value.n, back.n) and as_it_was(value.note, back.note)
    if isinstance(value, dict):
        return as_it_was(list(value), list(back)) and as_it_was(list(value.values()), list(back.values()))
    if isinstance(value, list | tuple):
        return len(value) == len(back) and all(map(as_it_was, value, back))
    if isinstance(value, set | frozenset):
        return len(value) == len(back) and all(any(as_it_was(one, other) for other in back) for one in value)
    if isinstance(value, datetime) and value.tzinfo is not None:
        fixed = [one.tzinfo.utcoffset(None) for one in (value, back) if one.tzinfo is not None]
        return value.isoformat() == back.isoformat() and len(fixed) == 2 and fixed[0] == fixed[1]
    return repr(value) == repr(back)


@settings(thorough, max_examples=1500)
@given(
    st.sampled_from(LOOSE_KINDS),
    likely,
    st.sampled_from([a_dataclass(), a_dataclass(eq=False), an_attrs_class, a_struct()]),
)
@example(float, Level.LOW, a_dataclass())
@example(set[float], {1}, a_dataclass())
def test_value_that_is_like_another_comes_back_exactly_or_is_refused(kind: Any, value: Any, make: Maker) -> None:
    """1 and 1.0, a zone and its offset, what a class calls equal: == is not asked. The error names the field."""
    job = make({"value": kind})(value=value)
    job_type = JobType("jobs.Job", type(job))
    try:
        back: Any = job_type.decode(job_type.encode(job))
    except UnencodableJob as error:
        named = error.field
    else:
        named = "value"
        assert as_it_was(value, back.value)
    assert named == "value"


WRONG: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (int, finite | texts | st.none() | st.booleans()),
    (str, st.integers() | st.none() | st.booleans()),
    (bool, st.integers() | texts),
    (datetime, st.integers() | st.just("soon")),
    (float, st.sampled_from([float("nan"), float("inf"), float("-inf")])),
    (list[int], st.lists(texts, min_size=1) | st.integers()),
    (Line, st.integers()),
]


@thorough
@given(st.sampled_from(WRONG).flatmap(lambda kind: st.tuples(st.just(kind[0]), kind[1])), st.sampled_from(MAKERS[:6]))
def test_value_that_does_not_fit_its_annotation_is_refused(wrong: tuple[Any, Any], make: Maker) -> None:
    """Python does not look at annotations, dispatching does."""
    annotation, value = wrong
    job = make({"field_": annotation})(field_=value)
    with pytest.raises(UnencodableJob, match="field"):
        JobType("jobs.Job", type(job)).encode(job)
