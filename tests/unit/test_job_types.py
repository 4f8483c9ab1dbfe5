"""What a job may be, and that it comes back from the queue as it went in."""

import dataclasses
import functools
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from itertools import combinations
from types import ModuleType
from typing import Annotated, Any, Literal, NamedTuple, TypedDict
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import freezegun
import msgspec
import pydantic
import pytest
import time_machine

from kashvi.errors import NotAJob, PayloadMismatch, UnencodableJob
from kashvi.jobs.codec import JobType
from kashvi.queue import Queue
from kashvi.registry import Registry

ran: list[Any] = []


@pytest.fixture(autouse=True)
def nothing_ran() -> Iterator[None]:
    """Each test starts with no job run."""
    ran.clear()
    yield
    ran.clear()


class Remembers:
    """A handle() that shows what it was called on."""

    __slots__ = ()

    def handle(self) -> None:
        ran.append(self)


def through_a_queue(job: Any) -> Any:
    """Dispatch, work, and give back the instance that ran."""
    queue = Queue(registry=Registry())
    queue.register("jobs.Job", type(job))
    queue.dispatch(job)
    queue.work(stop_when_empty=True)
    assert not queue.failed_jobs()
    [back] = ran
    return back


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Typed(TypedDict):
    a: int


class Text(str, Enum):  # noqa: UP042
    RED = "red"


class Word(str):
    __slots__ = ()


@dataclass
class Hidden:  # noqa: PLW1641
    n: int
    note: Any = field(default=None, compare=False)

    def __eq__(self, other: object) -> bool:
        return True


class Point(NamedTuple):
    x: int
    y: int


@dataclass
class Plain(Remembers):
    user_id: int
    email: str


@dataclass(frozen=True)
class Frozen(Remembers):
    user_id: int


@dataclass(slots=True)
class Slotted(Remembers):
    user_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenSlottedKeywords(Remembers):
    user_id: int
    tags: tuple[str, ...] = ()


@dataclass
class Base(Remembers):
    tenant: int


@dataclass
class Inherited(Base):
    user_id: int = 0


@dataclass
class Defaults(Remembers):
    user_id: int
    tags: list[str] = field(default_factory=list)
    retries: int = 3
    shout: str = field(init=False, default="")

    def __post_init__(self) -> None:
        self.shout = "!" * self.user_id


@dataclass
class Forward(Remembers):
    order: "Order"
    more: "list[Order]" = field(default_factory=list)


@dataclass
class Order:
    lines: "dict[str, Line]"


@dataclass(frozen=True)
class Line:
    price: Decimal
    next: "Line | None" = None


@dataclass(eq=False)
class EqualToItselfOnly(Remembers):
    nested: "Unequal"


@dataclass(eq=False)
class Unequal:
    n: int


@attrs.define
class Attrs:
    user_id: int
    at: datetime
    tags: list[str] = attrs.Factory(list)

    def handle(self) -> None:
        ran.append(self)


@attrs.frozen
class FrozenAttrs:
    user_id: int = attrs.field(validator=attrs.validators.ge(0))

    def handle(self) -> None:
        ran.append(self)


class Struct(msgspec.Struct):
    user_id: int
    at: datetime | None = None

    def handle(self) -> None:
        ran.append(self)


class RenamedStruct(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    user_id: int
    is_new: bool = False

    def handle(self) -> None:
        ran.append(self)


class ArrayStruct(msgspec.Struct, array_like=True):
    user_id: int
    email: str

    def handle(self) -> None:
        ran.append(self)


class Address(pydantic.BaseModel):
    city: str
    since: date | None = None


class Model(pydantic.BaseModel):
    user_id: int
    address: Address
    others: list[Address] = []
    price: Decimal = Decimal("1.10")
    wait: timedelta = timedelta(seconds=90)

    def handle(self) -> None:
        ran.append(self)


class AliasedModel(pydantic.BaseModel):
    user_id: int = pydantic.Field(alias="userId")

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def double(self) -> int:
        return self.user_id * 2

    def handle(self) -> None:
        ran.append(self)


class Open(pydantic.BaseModel, extra="allow"):
    user_id: int

    def handle(self) -> None:
        ran.append(self)


class FrozenModel(pydantic.BaseModel, frozen=True, extra="forbid"):
    user_id: int

    def handle(self) -> None:
        ran.append(self)


@dataclass
class HoldsModel(Remembers):
    address: Address
    others: dict[str, Address]


@dataclass
class Empty(Remembers):
    pass


@dataclass
class Anything(Remembers):
    value: Any = None
    thing: object = None


JOBS = [
    Plain(1, "a@example.com"),
    Plain(10**30, "ÄÖ\u2028<>&\0😀"),
    Frozen(1),
    Slotted(-1),
    FrozenSlottedKeywords(user_id=1, tags=("a", "b")),
    Inherited(1, 2),
    Defaults(2, ["x"]),
    Forward(Order({"a": Line(Decimal("1.10"), Line(Decimal(2)))})),
    Attrs(1, datetime(2026, 2, 28, tzinfo=UTC), ["a"]),
    FrozenAttrs(1),
    Struct(1, datetime(2026, 2, 28, 1, 2, 3, 456789)),
    RenamedStruct(user_id=1, is_new=True),
    RenamedStruct(user_id=1),
    ArrayStruct(1, "a"),
    Model(user_id=1, address=Address(city="Köln", since=date(2020, 1, 1)), others=[Address(city="x")]),
    AliasedModel(userId=1),
    FrozenModel(user_id=1),
    HoldsModel(Address(city="a"), {"b": Address(city="b", since=date(2020, 1, 1))}),
    Empty(),
    Anything({"a": [1, 1.5, None, True, "x", {"b": 10**30}]}, [1, "x"]),
]


@pytest.mark.parametrize("job", JOBS, ids=lambda job: type(job).__name__)
def test_job_comes_back_from_the_queue_as_it_was_dispatched(job: Any) -> None:
    """Every kind of class with declared fields is a job; the worker runs an equal one, not the same one."""
    back = through_a_queue(job)
    assert back == job
    assert type(back) is type(job)
    assert back is not job


VALUES: list[tuple[Any, Any]] = [
    (datetime, datetime(2026, 2, 28, 21, 20, 41, 123456, tzinfo=UTC)),
    (datetime, datetime(2026, 2, 28, 21, 20, 41, tzinfo=timezone(timedelta(hours=5, minutes=30)))),
    (datetime, datetime(2026, 2, 28, 21, 20, 41)),
    (datetime, datetime.min),
    (datetime, datetime.max),
    (date, date(2026, 2, 28)),
    (time, time(21, 20, 41, 5)),
    (timedelta, timedelta(days=-3, microseconds=7)),
    (UUID, UUID("0190a0a0-0000-7000-8000-000000000000")),
    (Decimal, Decimal("1.10")),
    (bytes, b"\x00\xff\xfe"),
    (Colour, Colour.BLUE),
    (Level, Level.HIGH),
    (int | None, None),
    (int | None, 0),
    (int | str, "1"),
    (int | str, 1),
    (int | float, 1.0),
    (float, 5e-324),
    (float, -0.0),
    (list[int], []),
    (dict[str, list[int]], {"": [], "a": [1]}),
    (dict[int, str], {-1: "a", 10: "b"}),
    (dict[UUID, date], {UUID(int=1): date(2020, 1, 1)}),
    (dict[Colour, int], {Colour.RED: 1}),
    (set[str], {"a", "b"}),
    (frozenset[int], frozenset({1, 2})),
    (tuple[int, str], (1, "a")),
    (tuple[date, ...], (date(2020, 1, 1),)),
    (Point, Point(1, 2)),
    (Literal["a", "b", 3], 3),
    (Line | None, Line(Decimal("1"))),
    (Annotated[int, msgspec.Meta(ge=0)], 5),
    (Any, None),
]


def with_field(annotation: Any, value: Any) -> Any:
    """A dataclass job with one field."""
    return dataclasses.make_dataclass("OneField", [("value", annotation)], bases=(Remembers,))(value)


@pytest.mark.parametrize(("annotation", "value"), VALUES)
def test_field_of_that_type_comes_back_equal(annotation: Any, value: Any) -> None:
    """The types a field may have, and values at their edges."""
    assert through_a_queue(with_field(annotation, value)).value == value


def test_fixed_offset_comes_back_whatever_its_class() -> None:
    """What a database or ``astimezone()`` makes: a zone that is always UTC, an offset with a name."""
    for zone in (ZoneInfo("UTC"), ZoneInfo("Etc/GMT-3"), timezone(timedelta(hours=1), "CET")):
        at = datetime(2026, 10, 25, 2, 30, tzinfo=zone)
        back = through_a_queue(with_field(datetime, at)).value
        assert (back, back.utcoffset()) == (at, at.utcoffset())
        ran.clear()


def test_model_keeps_what_it_does_not_declare_or_refuses_it() -> None:
    """pydantic's extra fields travel, and are compared."""
    job_type = JobType("jobs.Open", Open)
    assert job_type.decode(job_type.encode(Open(user_id=1, more=[1]))).more == [1]  # type: ignore[attr-defined]
    with pytest.raises(UnencodableJob, match=r"field 'more'.*more is \(1, 2\), and would come back as \[1, 2\]"):
        job_type.encode(Open(user_id=1, more=(1, 2)))


def test_job_that_equals_only_itself_is_compared_by_its_fields() -> None:
    """Classes without an == of their own can be jobs and fields of jobs."""
    assert through_a_queue(EqualToItselfOnly(Unequal(5))).nested.n == 5


def test_what_is_no_field_does_not_travel() -> None:
    """Attributes that are not declared, and pydantic's private ones, stay at home."""
    job = Plain(1, "a")
    job.cache = object()  # type: ignore[attr-defined]
    assert not hasattr(through_a_queue(job), "cache")


@pytest.mark.parametrize(
    ("annotation", "value", "why"),
    [
        (Any, (1, 2), "come back as [1, 2]"),
        (Any, {1: 2}, "come back as {'1': 2}"),
        (Any, {1}, "come back as [1]"),
        (Any, b"x", "come back as 'eA=='"),
        (Any, date(2020, 1, 1), "come back as '2020-01-01'"),
        (Any, Line(Decimal(1)), "come back as"),
        (Any, object(), "object has no JSON form"),
        (Any, {(1, 2): 3}, "no JSON form"),
        (Any, print, "no JSON form"),
        (Any, 1j, "complex"),
        (Base, Inherited(1, 2), "come back as Base(tenant=1)"),
        (float, float("nan"), "no NaN and no infinity"),
        (float, float("inf"), "no NaN and no infinity"),
        (float | None, float("nan"), "no NaN and no infinity"),
        (list[float], [1.0, float("-inf")], "no NaN and no infinity"),
        (Any, {"a": [{"b": float("nan")}]}, "no NaN and no infinity"),
        (set[float | None], {float("inf")}, "no NaN and no infinity"),
        (int, "1", "Expected `int`, got `str`"),
        (int, True, "Expected `int`, got `bool`"),
        (int, 1.0, "Expected `int`, got `float`"),
        (int, None, "Expected `int`, got `null`"),
        (float, 2**53 + 1, "value is 9007199254740993, and would come back as 9007199254740992.0"),
        (list[float], [0.5, -(2**53) - 1], "value[1] is -9007199254740993"),
        (float, True, "Expected `float`, got `bool`"),
        (float, Level.HIGH, "value is <Level.HIGH: 2>, and would come back as 2.0"),
        (int, Level.HIGH, "value is <Level.HIGH: 2>, and would come back as 2"),
        (str, Text.RED, "value is <Text.RED: 'red'>, and would come back as 'red'"),
        (str, Word("x"), "Word has no JSON form"),
        (set[Any], [Hidden(1)], "unhashable"),
        (bytes, bytearray(b"x"), "would come back as b'x'"),
        (dict[str, Any], {"a": [{"b": (1, 2)}]}, "value['a'][0]['b'] is (1, 2), and would come back as [1, 2]"),
        (dict[str, int], OrderedDict(a=1), "would come back as {'a': 1}"),
        (Typed, {"a": 1, "b": 2}, "value is {'a': 1, 'b': 2}, and would come back as {'a': 1}"),
        (set[str], frozenset({"a"}), "would come back as {'a'}"),
        (set[float], {2**53 + 1}, "would come back as {9007199254740992.0}"),
        (Hidden, Hidden(1, note=(1, 2)), "value.note is (1, 2), and would come back as [1, 2]"),
        (datetime, datetime(2026, 7, 1, tzinfo=ZoneInfo("Europe/Berlin")), "offsets, but no zones"),
        (list[datetime], [datetime(2026, 7, 1, tzinfo=ZoneInfo("Europe/Berlin"))], "value[0] is datetime"),
        (datetime, datetime(2026, 10, 25, 2, 30, fold=1), "has no fold"),
        (str, 5, "Expected `str`, got `int`"),
        (Literal["a"], "b", "Invalid enum value"),
        (list[int], [1, "x"], "$.value[1]"),
        (Annotated[int, msgspec.Meta(ge=0)], -1, ">= 0"),
        (str, "a\ud800", "surrogates not allowed"),
        (list[int], [10**5000], "limit"),
        (datetime, datetime(2026, 1, 1, tzinfo=timezone(timedelta(seconds=1))), ""),
    ],
)
def test_field_that_would_not_come_back_is_an_error_at_the_call(annotation: Any, value: Any, why: str) -> None:
    """The error names the field and says why; nothing is pushed."""
    queue = Queue(registry=Registry())
    job = with_field(annotation, value)
    queue.register("jobs.OneField", type(job))
    with pytest.raises(UnencodableJob) as caught:
        queue.dispatch(job)
    assert caught.value.field == "value"
    assert why in str(caught.value)
    assert "'value' of jobs.OneField" in str(caught.value)
    assert queue.stats().ready == 0


@pytest.mark.parametrize(
    ("annotation", "value", "back"),
    [
        (float, 3, 3.0),
        (float | None, -(2**53), -(2.0**53)),
        (list[float], [0.5, 3], [0.5, 3.0]),
        (dict[str, float], {"a": 0}, {"a": 0.0}),
        (set[float], {1}, {1.0}),
    ],
)
def test_an_integer_comes_back_as_the_float_of_its_value(annotation: Any, value: Any, back: Any) -> None:
    """Type checkers take an int where the annotation is float (PEP 484)."""
    assert repr(through_a_queue(with_field(annotation, value)).value) == repr(back)


def test_cyclic_data_is_an_error_at_the_call() -> None:
    """A list that holds itself has no end in JSON."""
    cyclic: list[Any] = []
    cyclic.append(cyclic)
    for job in (Anything(cyclic), Anything([cyclic])):
        with pytest.raises(UnencodableJob, match=r"field 'value' of jobs.Anything.*recursion"):
            JobType("jobs.Anything", Anything).encode(job)


def test_data_nested_too_deeply_to_be_compared_is_an_error_at_the_call() -> None:
    """No RecursionError, and nothing goes out unchecked."""
    job_type = JobType("jobs.Anything", Anything)
    for depth in (100, 450, 700, 5000):
        nested: list[Any] = []
        for _ in range(depth):
            nested = [nested]
        with nullcontext() if depth == 100 else suppress(UnencodableJob):
            job_type.encode(Anything(nested))


class Secretive(pydantic.BaseModel):
    password: pydantic.SecretStr = pydantic.SecretStr("")
    hidden: int = pydantic.Field(0, exclude=True)
    ratio: float = 0.0
    data: bytes = b""

    def handle(self) -> None: ...


class WritesNan(Secretive, ser_json_inf_nan="constants"):
    pass


class Base64(Secretive, ser_json_bytes="base64", val_json_bytes="base64"):
    pass


@pytest.mark.parametrize(
    ("job", "named"),
    [
        (Secretive(password=pydantic.SecretStr("hunter2")), "password"),
        (Secretive(hidden=5), "hidden"),
        (Secretive(ratio=float("nan")), "ratio"),
        (Secretive(data=b"\xff"), "data"),
        (Secretive.model_construct(ratio="1"), "ratio"),
        (Secretive.model_construct(ratio="x"), "ratio"),
        (WritesNan(ratio=float("nan")), None),
    ],
)
def test_model_that_would_not_come_back_is_an_error_at_the_call(job: Any, named: str | None) -> None:
    """pydantic writes stars for secrets, null for NaN, and whatever an unchecked model holds."""
    with pytest.raises(UnencodableJob) as caught:
        JobType("jobs.Model", type(job)).encode(job)
    assert caught.value.field == named
    assert "hunter2" not in str(caught.value)


def test_model_that_says_how_its_bytes_travel_may_hold_any() -> None:
    """ser_json_bytes and val_json_bytes are heeded."""
    job = Base64(data=b"\xff")
    assert JobType("jobs.Model", Base64).decode(JobType("jobs.Model", Base64).encode(job)) == job


def test_private_attribute_of_an_attrs_class_is_not_lost_silently() -> None:
    """The codec leaves out names with an underscore; a value other than the default is an error."""

    @attrs.define
    class Private:
        _n: int = 0

        def handle(self) -> None: ...

    private = JobType("jobs.Private", Private)
    assert private.decode(private.encode(Private())) == Private()
    with pytest.raises(UnencodableJob, match=r"field '_n'.*come back as 0"):
        private.encode(Private(n=1))


def test_validator_and_post_init_run_on_what_comes_in() -> None:
    """A payload that the class itself refuses does not fit."""
    with pytest.raises(PayloadMismatch, match="user_id"):
        JobType("jobs.FrozenAttrs", FrozenAttrs).decode(b'{"user_id":-1}')
    with pytest.raises(PayloadMismatch, match=r"at `\$\.address\.city`"):
        JobType("jobs.Model", Model).decode(b'{"user_id":1,"address":{"city":5}}')


@pytest.mark.parametrize("error", [SystemExit(1), RecursionError(), MemoryError("no room"), KeyError("x")], ids=repr)
def test_whatever_a_class_raises_while_it_is_made_is_a_mismatch(error: BaseException) -> None:
    """Not even SystemExit gets past the decoder into the worker."""

    @dataclass
    class Raises:
        n: int = 0

        def __post_init__(self) -> None:
            if self.n:
                raise error

        def handle(self) -> None: ...

    with pytest.raises(PayloadMismatch, match=r"does not fit jobs\.Raises"):
        JobType("jobs.Raises", Raises).decode(b'{"n":1}')


def test_error_that_can_not_tell_its_text_is_a_mismatch_all_the_same() -> None:
    """A broken __str__ costs the text, not the worker."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    @dataclass
    class Raises:
        def __post_init__(self) -> None:
            raise Mute

        def handle(self) -> None: ...

    with pytest.raises(PayloadMismatch, match=r"does not fit jobs\.Raises: Mute"):
        JobType("jobs.Raises", Raises).decode(b"{}")


class NoFields:
    def handle(self) -> None: ...


@dataclass
class NoHandle:
    n: int


@dataclass
class HandleIsData:
    handle: int


@dataclass
class Async:
    async def handle(self) -> None: ...


@dataclass
class Generator:
    def handle(self) -> Iterator[None]:
        yield


class Called:
    async def __call__(self, *args: object) -> None: ...


@dataclass
class Partial:
    handle = functools.partial(Called().__call__)


@dataclass
class CalledObject:
    handle = Called()


@dataclass
class TwoDates(Remembers):
    at: date | str


@pytest.mark.parametrize("job_class", [Async, Partial, CalledObject])
def test_async_handlers_are_jobs(job_class: type) -> None:
    """However they are written."""
    Registry().register("jobs.Async", job_class)


@pytest.mark.parametrize(
    ("job_class", "why"),
    [
        (NoFields, "does not declare its fields"),
        (NoHandle, r"no method handle\(\)"),
        (HandleIsData, r"no method handle\(\)"),
        (Generator, "it is a generator"),
        (TwoDates, "more than one str-like type"),
        (int, r"no method handle\(\)"),
    ],
)
def test_class_that_is_no_job_is_refused_at_registration(job_class: type, why: str) -> None:
    """The error says what is missing, and what a job is."""
    with pytest.raises(NotAJob, match=f"{why}.*A job is a dataclass"):
        JobType("jobs.X", job_class)


def test_annotation_nobody_can_resolve_is_an_error_at_the_call() -> None:
    """A string annotation that names a class hidden in a function can't be read back."""

    @dataclass
    class Hidden:
        inner: "Inner"  # type: ignore[name-defined]  # noqa: F821

        def handle(self) -> None: ...

    with pytest.raises(UnencodableJob, match="name 'Inner' is not defined"):
        JobType("jobs.Hidden", Hidden).encode(Hidden(1))


# -- clocks that stand still ---------------------------------------------------------------

IMPORTS = """
from __future__ import annotations
from dataclasses import dataclass, field
from datetime import date, datetime, UTC
import pydantic
"""

MODULES = {
    "dataclass": IMPORTS
    + """
@dataclass
class Job:
    at: datetime
    maybe: datetime | None = None
    on: list[date] = field(default_factory=list)
    by: dict[str, datetime] = field(default_factory=dict)

    def handle(self):
        ran.append(self)

def make():
    now = datetime.now(UTC)
    return Job(now, now, [date.today()], {"a": now})
""",
    "model": IMPORTS
    + """
class Job(pydantic.BaseModel):
    at: datetime
    on: list[date] = []

    def handle(self):
        ran.append(self)

def make():
    return Job(at=datetime.now(UTC), on=[date.today()])
""",
}


@pytest.fixture
def load() -> Iterator[Callable[[str], Any]]:
    """Imports one of a user's modules with a job, now: under a frozen clock or not."""

    def run(kind: str) -> Any:
        module: Any = ModuleType("clocked")
        module.ran = ran
        sys.modules["clocked"] = module
        exec(MODULES[kind], module.__dict__)
        return module

    yield run
    del sys.modules["clocked"]


def frozen_clock(library: str) -> Any:
    """A clock that stands still."""
    if library == "freezegun":
        return freezegun.freeze_time("2026-02-28 21:20:41.5")
    return time_machine.travel(datetime(2026, 2, 28, 21, 20, 41, 500000, tzinfo=UTC), tick=False)


STEPS = ("defined", "registered", "sent", "sent again")
CASES = [
    (library, kind, frozen)
    for library in ("freezegun", "time_machine")
    for kind in MODULES
    for size in range(5)
    for frozen in combinations(STEPS, size)
    # pydantic itself can't define a model with a date under freezegun
    if (library, kind) != ("freezegun", "model") or "defined" not in frozen
]


@pytest.mark.parametrize(
    ("library", "kind", "frozen"), CASES, ids=[f"{lib}-{kind}-{'+'.join(frozen)}" for lib, kind, frozen in CASES]
)
def test_jobs_survive_a_frozen_clock(
    library: str, kind: str, frozen: tuple[str, ...], load: Callable[[str], Any]
) -> None:
    """Defined, registered, dispatched under a frozen clock or not, worked there and elsewhere: all combinations."""
    queue = Queue(registry=Registry())

    def under(step: str) -> Any:
        return frozen_clock(library) if step in frozen else nullcontext()

    with under("defined"):
        module = load(kind)
    with under("registered"):
        queue.register("jobs.Job", module.Job)
    jobs = []
    for sent, worked in (("sent", "sent again"), ("sent again", "sent")):
        with under(sent):
            jobs.append(module.make())
            queue.dispatch(jobs[-1])
        with under(worked):
            queue.work(stop_when_empty=True)
    assert queue.failed_jobs() == []
    assert ran == jobs
    assert {type(job.at).__module__ for job in ran} == {"datetime"}


def test_job_first_used_under_a_frozen_clock_works_after_it(load: Callable[[str], Any]) -> None:
    """A date in a string annotation that could only be resolved while frozen is read ever after."""
    module = load("dataclass")
    plain = MODULES["dataclass"]
    early = plain.replace("class Job:", "class Early:").replace("at: datetime", "also: Late\n    at: datetime", 1)
    exec(early, module.__dict__)
    queue = Queue(registry=Registry())
    queue.register("jobs.Early", module.Early)  # Late does not exist yet
    module.Late = module.Job
    at = datetime(2026, 1, 1, tzinfo=UTC)
    for clock in (frozen_clock("freezegun"), nullcontext(), frozen_clock("freezegun")):
        with clock:
            queue.dispatch(module.Early(module.Job(at), at, at, [date(2026, 1, 1)], {"a": at}))
            queue.work(stop_when_empty=True)
    assert [job.also.at for job in ran] == [at] * 3
    assert [job.by for job in ran] == [{"a": at}] * 3


def test_integer_beyond_pythons_own_limit_is_said_to_be_so() -> None:
    """4,300 digits come back (wire.md); one more is an error at the call, and a mismatch in a worker."""
    job_type = JobType("jobs.Plain", Plain)
    most = 10**4299
    assert job_type.decode(job_type.encode(Plain(most, ""))).user_id == most  # type: ignore[attr-defined]
    with pytest.raises(UnencodableJob, match=r"field 'user_id'.*4300"):
        job_type.encode(Plain(most * 10, ""))
    with pytest.raises(PayloadMismatch):
        job_type.decode(b'{"user_id":1' + b"0" * 5000 + b',"email":""}')
