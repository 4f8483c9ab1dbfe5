"""Names and job types: how they find each other, and what is refused."""

from __future__ import annotations

import runpy
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pydantic
import pytest

from kashvi.errors import DuplicateJobName, InvalidSetting, NotAJob, PayloadMismatch, UnknownJobType, UnregisteredJob
from kashvi.queue import Queue
from kashvi.registry import Registry, default_name


@dataclass
class Email:
    user_id: int = 0

    def handle(self) -> None: ...


@dataclass
class Order:
    order_id: int = 0

    def handle(self) -> None: ...


class Outer:
    @dataclass
    class Inner:
        def handle(self) -> None: ...


@pytest.fixture
def registry() -> Registry:
    """An empty one."""
    return Registry()


@pytest.fixture
def queue(registry: Registry) -> Queue:
    """A queue with that registry."""
    return Queue(registry=registry)


def _function() -> None:
    raise AssertionError("it was called")


async def _coroutine_function() -> None:
    raise AssertionError("it was called")


@pytest.mark.parametrize(
    "no_class",
    [
        _function,
        _coroutine_function,
        lambda: None,
        partial(Email),
        Email().handle,
        len,
        Email(1),
        staticmethod(_function),
    ],
    ids=lambda value: type(value).__name__,
)
def test_decorator_on_what_is_no_class_is_refused_and_calls_nothing(queue: Queue, no_class: Any) -> None:
    """With a name, without one, and bare."""
    decorators: list[Any] = [queue.job("jobs.X"), queue.job()]
    if callable(no_class):
        decorators.append(queue.job)
    for decorate in decorators:
        with pytest.raises(NotAJob, match="it is not a class; nothing was called"):
            decorate(no_class)
    assert queue.registry.names() == []


def test_decorator_on_a_class_that_is_no_job_says_what_it_lacks(queue: Queue) -> None:
    """Also where the two decorators stand the wrong way round."""

    class Plain:
        def handle(self) -> None: ...

    for decorate in (queue.job, queue.job("jobs.Plain")):
        with pytest.raises(NotAJob, match=r"@dataclass goes below @queue\.job"):
            decorate(Plain)
        with pytest.raises(NotAJob, match=r"no method handle\(\)"):
            decorate(int)


@pytest.mark.parametrize(
    ("factory", "why"),
    [
        (lambda: None, r"^<function .*> is not a job: what it returned is none, for it has no method handle\(\)"),
        (_coroutine_function, r"register\(\) takes a class or a function that returns an instance"),
    ],
    ids=["function", "coroutine function"],
)
def test_a_function_that_makes_no_job_is_named(queue: Queue, factory: Any, why: str) -> None:
    """It had to be called to see what it makes; a coroutine function makes none."""
    with pytest.raises(NotAJob, match=why):
        queue.register("jobs.X", factory)
    assert queue.registry.names() == []


# -- finding -------------------------------------------------------------------------------


def test_registered_class_is_found_by_its_name_and_by_an_instance(registry: Registry) -> None:
    """A job on the queue has a name only, a job to dispatch a class only."""
    registry.register("jobs.Email", Email)
    assert registry.named("jobs.Email").job_class is Email
    assert registry.of(Email(1)).name == "jobs.Email"
    assert registry.names() == ["jobs.Email"]


def test_name_of_a_go_pointer_is_the_name_without_its_star(registry: Registry) -> None:
    """Go writes *jobs.Email for a job dispatched as a pointer."""
    registry.register("jobs.Email", Email)
    assert registry.named("*jobs.Email").job_class is Email


@pytest.mark.parametrize("name", ["jobs.Nope", "", "*", "**jobs.Email", "jobs.email", " jobs.Email"])
def test_unknown_name_is_an_error_that_lists_the_known_ones(registry: Registry, name: str) -> None:
    """Names match to the letter."""
    registry.register("jobs.Email", Email)
    with pytest.raises(UnknownJobType, match=r"Known: jobs\.Email\."):
        registry.named(name)


def test_subclass_of_a_registered_class_has_to_be_registered_itself(registry: Registry) -> None:
    """Under its parent's name it would come back as its parent."""

    @dataclass
    class Special(Email):
        pass

    registry.register("jobs.Email", Email)
    with pytest.raises(UnregisteredJob, match=r'@queue\.job\("jobs\..*Special"\).*Registered: jobs\.Email\.'):
        registry.of(Special())


def test_queues_with_registries_of_their_own_do_not_see_each_other() -> None:
    """A registry belongs to the queue it is given to."""
    one, two = Queue(registry=Registry()), Queue(registry=Registry())
    one.register("jobs.Email", Email)
    two.register("jobs.Email", Order)
    assert one.registry.named("jobs.Email").job_class is Email
    assert two.registry.named("jobs.Email").job_class is Order


# -- names ---------------------------------------------------------------------------------


def test_decorator_gives_the_name_and_returns_the_class(queue: Queue) -> None:
    """The documented form."""
    assert queue.job("jobs.Email")(Email) is Email
    assert queue.registry.of(Email()).name == "jobs.Email"


def test_bare_decorator_takes_the_last_module_segment_and_the_class_name(queue: Queue) -> None:
    """With and without parentheses."""
    assert queue.job(Email) is Email
    assert queue.job()(Order) is Order
    assert queue.registry.names() == ["test_registry.Email", "test_registry.Order"]


def test_bare_name_of_a_nested_class_holds_the_outer_one() -> None:
    """Two inner classes of one name are two names."""
    assert default_name(Outer.Inner) == "test_registry.Outer.Inner"


def test_bare_decorator_in_a_script_is_refused(tmp_path: Path) -> None:
    """A worker would import the script under another name, and find nothing."""
    script = tmp_path / "script.py"
    script.write_text(
        "from dataclasses import dataclass\n"
        "from kashvi.queue import Queue, Registry\n"
        "queue = Queue(registry=Registry())\n"
        "@queue.job\n"
        "@dataclass\n"
        "class Email:\n"
        "    def handle(self): ...\n"
    )
    with pytest.raises(InvalidSetting, match=r'given in a script: @queue\.job\("jobs\.Email"\)'):
        runpy.run_path(str(script), run_name="__main__")


@pytest.mark.parametrize(
    "name", ["", "*jobs.Email", "a\nb", "a\0b", "\ud800", "x" * 256, None, 5, b"jobs.Email", Email], ids=ascii
)
def test_name_that_can_not_be_used_is_refused(registry: Registry, name: Any) -> None:
    """Empty, marked as a Go pointer, unprintable, longer than the failure table's column, or no text."""
    with pytest.raises(InvalidSetting, match="a job name must be a printable text"):
        registry.register(name, Email)
    assert registry.names() == []


@pytest.mark.parametrize(
    "name", ["x", "x" * 255, "jobs.ÜnïJob", 'jobs.GenericJob[struct { X int "json:\\"x\\"" }]', "jobs.G[*jobs.X]"]
)
def test_name_go_may_write_is_accepted(registry: Registry, name: str) -> None:
    """Whatever a Go program calls its types, a Python worker can serve."""
    registry.register(name, Email)
    assert msgspec.json.decode(registry.named(name).type_json) == name


# -- twice ---------------------------------------------------------------------------------


def test_one_name_for_two_classes_is_refused(registry: Registry) -> None:
    """The error names both."""
    registry.register("jobs.Email", Email)
    with pytest.raises(DuplicateJobName, match=r"'jobs\.Email' is taken by .*\.Email; .*\.Order can't have it too"):
        registry.register("jobs.Email", Order)
    assert registry.named("jobs.Email").job_class is Email


def test_two_names_for_one_class_are_refused(registry: Registry) -> None:
    """A dispatched instance would not know which to take."""
    registry.register("jobs.Email", Email)
    with pytest.raises(DuplicateJobName, match=r"one name only; a second name 'jobs\.Mail'"):
        registry.register("jobs.Mail", Email)
    assert registry.names() == ["jobs.Email"]


def test_same_class_may_be_registered_again(registry: Registry) -> None:
    """Importing twice does no harm."""
    registry.register("jobs.Email", Email)
    registry.register("jobs.Email", Email)
    assert registry.names() == ["jobs.Email"]


def test_reloaded_module_takes_its_names_over(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new class is what jobs become; instances of the old one can still be dispatched."""
    source = (
        "from dataclasses import dataclass\n@dataclass\nclass Email:\n    n: int = 0\n    def handle(self) -> None: ..."
    )
    module = ModuleType("reloaded")
    monkeypatch.setitem(sys.modules, "reloaded", module)
    versions = []
    for _ in range(2):
        exec(source, module.__dict__)
        registry.register("jobs.Email", module.Email)
        versions.append(module.Email)
    old, new = versions
    assert registry.named("jobs.Email").job_class is new
    assert registry.of(old()).name == registry.of(new()).name == "jobs.Email"


# -- factories -----------------------------------------------------------------------------


class Model(pydantic.BaseModel, frozen=True):
    a: int
    b: list[int] = pydantic.Field(alias="bee")

    def handle(self) -> None: ...


class Struct(msgspec.Struct, frozen=True, rename="upper"):
    a: int
    b: list[int]

    def handle(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Frozen:
    a: int
    b: list[int] = field(default_factory=list)

    def handle(self) -> None: ...


@pytest.mark.parametrize(
    ("default", "payload", "expected"),
    [
        (Frozen(a=1, b=[2]), b'{"a":5}', Frozen(a=5, b=[2])),
        (Frozen(a=1, b=[2]), b"{}", Frozen(a=1, b=[2])),
        (Frozen(a=1, b=[2]), b'{"b":[],"a":3,"unknown":{}}', Frozen(a=3, b=[])),
        (Struct(1, [2]), b'{"B":[3]}', Struct(1, [3])),
        (Model(a=1, bee=[2]), b'{"bee":[3]}', Model(a=1, bee=[3])),
        (Model(a=1, bee=[2]), b'{"a":7}', Model(a=7, bee=[2])),
    ],
)
def test_fields_of_the_factorys_instance_are_the_defaults(
    registry: Registry, default: Any, payload: bytes, expected: Any
) -> None:
    """What the payload leaves out comes from the factory, for frozen classes and models too."""
    registry.register("jobs.X", lambda: default)
    assert registry.named("jobs.X").decode(payload) == expected
    assert registry.named("jobs.X").decode(registry.named("jobs.X").encode(expected)) == expected


def test_factory_is_called_for_every_decoding(registry: Registry) -> None:
    """Attempts share nothing that a factory made."""
    made: list[Email] = []

    def factory() -> Email:
        made.append(Email(len(made)))
        return made[-1]

    registry.register("jobs.Email", factory)
    jobs = [registry.named("jobs.Email").decode(b"{}") for _ in range(2)]
    assert jobs == [Email(1), Email(2)]


@pytest.mark.parametrize("payload", [b"[]", b"null", b"5", b'"x"', b"", b"{"])
def test_payload_that_is_no_object_does_not_fit_a_factory(registry: Registry, payload: bytes) -> None:
    """There is nothing to merge with."""
    registry.register("jobs.Email", lambda: Email(1))
    with pytest.raises(PayloadMismatch):
        registry.named("jobs.Email").decode(payload)


@pytest.mark.parametrize("error", [RuntimeError("no database"), SystemExit("no database")], ids=repr)
def test_factory_that_raises_fails_the_job_and_not_the_worker(queue: Queue, error: BaseException) -> None:
    """The job is recorded with the reason; the next one runs."""
    ill = False
    ran = []

    def factory() -> Email:
        if ill:
            raise error
        return Email()

    @dataclass
    class Next:
        def handle(self) -> None:
            ran.append(self)

    queue.register("jobs.Email", factory)
    queue.register("jobs.Next", Next)
    queue.dispatch(Email(1))
    queue.dispatch(Next())
    ill = True
    queue.work(stop_when_empty=True)
    [failed] = queue.failed_jobs()
    assert (
        failed.error == f"the payload does not fit jobs.Email: its factory raised {type(error).__name__}: no database"
    )
    assert failed.attempts == 0
    assert ran == [Next()]


@pytest.mark.parametrize(
    ("factory", "why"),
    [
        (lambda: None, r"no method handle\(\)"),
        (lambda: Email, r"no method handle\(\)"),
        (None, "takes a class or a function"),
        ("jobs.Email", "takes a class or a function"),
        (Email(), "takes a class or a function"),
        (int, r"no method handle\(\)"),
    ],
)
def test_what_makes_no_job_can_not_be_registered(registry: Registry, factory: Any, why: str) -> None:
    """A factory is tried once, at registration."""
    with pytest.raises(NotAJob, match=why):
        registry.register("jobs.X", factory)
    assert registry.names() == []
