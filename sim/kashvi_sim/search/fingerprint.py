"""The state of a suspended process as text: its frames and all reachable objects that can still matter.

Two processes with the same text go on alike. The text has the code, the instruction and the live variables of each
suspended frame, and the fields of each object. Times are relative to now; all times long ago are equal. Counters are
relative to the values they are compared with. Objects that do not change in a world are left out by their type. An
unknown type is an error, not a guess.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable
from datetime import datetime
from functools import cache
from types import BuiltinFunctionType, CodeType, FrameType, FunctionType, MethodType
from typing import Any

import msgspec
from greenlet import greenlet

from kashvi.drivers.memory import MemoryDriver
from kashvi.drivers.redis import RedisDriver
from kashvi.events import Event
from kashvi.failures.recent import FailedJobs
from kashvi.queues import Queue
from kashvi.registry import Registry
from kashvi.stream import EventStream
from kashvi.worker.machine import Machine
from kashvi.worker.machine.steps import SECOND, Idle, Rest, Wait, micros
from kashvi.worker.retry import GiveUp, SendBack

from ..world import kernel
from ..world.database import Database
from ..world.kernel import Condition, Kernel, Task
from ..world.network import Line
from ..world.runtime import SimRuntime
from ..world.tape import Stream
from ..world.world import World
from .liveness import live_after

UNIX_S, MONOTONIC_S = 1e9, 1e6
"""Floats above the first are points in time; a process's monotonic clock is the second number behind the world's."""

OPAQUE = (
    World, Kernel, SimRuntime, Line, Database, MemoryDriver, RedisDriver, EventStream, Registry, Queue, Stream,
    FailedJobs, greenlet, itertools.count, CodeType, BuiltinFunctionType, type,
)  # fmt: skip
"""Types not walked: singletons, immutable ones, and logs."""

UNASKED = {
    "Attempts": ("_process",),  # a process's number, only compared with itself
    "Request": ("n", "waits"),  # only compared with the number the server has, and with the machine's
    "Line.exchange": ("n",),
    "Line.exchange.<locals>.effect": ("n",),
}
"""Fields and locals that count, by type or function."""

Text = list[str]

MOMENTS = {Wait: ("began",), Idle: ("until",), Rest: ("until",)}
"""Fields that are points in time, in microseconds of a process's monotonic clock."""


def process_text(tasks: list[Task], walk: Walk, dues: dict[Task, float]) -> str:
    """The text of all suspended tasks of a process, and of their shared objects."""
    for task in tasks:
        if task.is_alive():
            walk.out.append(f"\ntask {task.name.partition('/')[2]}")
            walk.any(dues.get(task))
            walk.task(task)
    return " ".join(walk.out)


class Walk:
    """One walk over the reachable objects; an object visited before is written as its number."""

    def __init__(self, now: float, long_ago_s: float) -> None:
        self.out: Text = []
        self._now = now
        self._long_ago = -long_ago_s
        self._met: dict[int, int] = {}
        self._kept: list[object] = []

    def task(self, task: Task) -> None:
        assert task.fiber is not None, "a search runs no direct task"
        frame = task.fiber.gr_frame
        while frame is not None and frame.f_code is not Task._run.__code__:
            self._frame(frame, task)
            frame = frame.f_back

    def _frame(self, frame: FrameType, task: Task) -> None:
        head, names = _plan(frame.f_code, frame.f_lasti)
        self.out.append(head)
        if frame.f_code.co_filename == kernel.__file__:
            if "woken_before" in frame.f_locals:
                self.out.append(str(task.woken > frame.f_locals["woken_before"]))
            return
        values = frame.f_locals
        for name in names:
            if name in values:
                self.out.append(name)
                self.any(values[name])

    def any(self, value: Any) -> None:
        kind = type(value)
        write = _PLAIN.get(kind)
        if write is not None:
            self.out.append(write(value))
        elif kind is float:
            self.out.append(self.time(value))
        elif kind is datetime:
            self.out.append(self.time(value.timestamp()))
        elif kind is Task:
            self.out.append(f"{value.name.partition('/')[2]} {value.is_alive()}")
        elif kind is Condition:
            waiting = [task.name.partition("/")[2] for task in value.waiting]
            self.out.append(f"{waiting} {value._owner.name.partition('/')[2] if value._depth else ''}")
        elif _opaque(kind):  # type: ignore[arg-type]
            self.out.append(kind.__name__)
        elif (number := self._met.get(id(value))) is not None:
            self.out.append(f"#{number}")
        else:
            self._met[id(value)] = len(self._met)
            self._kept.append(value)
            self._object(kind, value)

    def time(self, value: float) -> str:
        """A point in time as seconds from now; a duration unchanged."""
        if value < UNIX_S:
            return repr(value)
        since = value - self._now
        if since < -MONOTONIC_S / 2:
            since += MONOTONIC_S
        since = round(since, 5)
        return f"t{since:g}" if since >= self._long_ago else "long ago"

    def _object(self, kind: type, value: Any) -> None:
        out = self.out
        if kind is Machine:
            self.any(value.key(micros(self._now - MONOTONIC_S)))
        elif issubclass(kind, tuple | list | deque):
            names = getattr(kind, "_fields", None)
            unasked, moments = UNASKED.get(kind.__name__, ()), MOMENTS.get(kind, ())
            out.append("(")
            for i, item in enumerate(value):
                if names is not None and names[i] in moments:
                    self.any(None if item is None else item / SECOND)
                elif names is None or names[i] not in unasked:
                    self.any(item)
            out.append(")")
        elif issubclass(kind, dict):
            out.append("{")
            for key, item in value.items():
                self.any("id" if key == id(item) else key)
                self.any(item)
            out.append("}")
        elif issubclass(kind, set | frozenset):
            out.append(f"{{{sorted(map(repr, value))}}}")
        elif kind is MethodType:
            out.append(value.__func__.__qualname__)
            self.any(value.__self__)
        elif kind is FunctionType:
            self._function(value)
        elif issubclass(kind, BaseException):
            out.append(kind.__name__)
            self.any(value.args)
        else:
            self._fields(kind, value)

    def _function(self, value: FunctionType) -> None:
        self.out.append(value.__qualname__)
        unasked = UNASKED.get(value.__qualname__, ())
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
            if name not in unasked:
                try:
                    content = cell.cell_contents
                except ValueError:  # not assigned yet
                    self.out.append("-")
                else:
                    self.any(content)

    def _fields(self, kind: type, value: Any) -> None:
        self.out.append(kind.__name__)
        unasked = UNASKED.get(kind.__name__, ())
        for name in _slots(kind):
            if name not in unasked:
                self.any(getattr(value, name, None))
        for name, content in getattr(value, "__dict__", _NOTHING).items():
            if name not in unasked:
                self.any(content)


@cache
def _plan(code: CodeType, at: int) -> tuple[str, tuple[str, ...]]:
    """The text at a frame's beginning, and its live variables."""
    live, unasked = live_after(code)[at], UNASKED.get(code.co_qualname, ())
    names = (*code.co_varnames, *code.co_cellvars, *code.co_freevars)
    return f"\n{code.co_qualname}@{at}", tuple(
        name for name in dict.fromkeys(names) if name in live and name not in unasked
    )


@cache
def _slots(kind: type) -> tuple[str, ...]:
    """The fields in slots. Raises TypeError for a type whose state can't be read."""
    if issubclass(kind, msgspec.Struct):
        left = ("seq", "at", "process") if issubclass(kind, Event) else ()
        return tuple(name for name in kind.__struct_fields__ if name not in left)
    slots = tuple(name for base in kind.__mro__ for name in getattr(base, "__slots__", ()))
    if not slots and not kind.__dictoffset__ and kind not in (GiveUp, SendBack):
        raise TypeError(f"a search can't tell the state of {kind.__module__}.{kind.__qualname__}")
    return slots


@cache
def _opaque(kind: type) -> bool:
    return issubclass(kind, OPAQUE)


_NOTHING: dict[str, Any] = {}
_PLAIN: dict[type, Callable[[Any], str]] = {
    type(None): repr, bool: repr, int: repr, str: repr, bytes: repr, msgspec.Raw: lambda raw: repr(bytes(raw)),
}  # fmt: skip
