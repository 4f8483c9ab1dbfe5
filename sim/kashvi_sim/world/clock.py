"""Virtual time for handlers: ``time.sleep``, ``time.time``, ``datetime.now()`` and the like, under any imported name.

The wall clock is time-machine's, which reaches names imported before; sleeping and the monotonic clocks are patched
here, with an effect only in simulated handlers. ``random`` and ``uuid4`` draw from the seed.
Escapes from virtual time (a real thread, a connection, a real wait) are reported with their stacks.
"""

from __future__ import annotations

import ctypes
import random
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NamedTuple

import time_machine
from greenlet import getcurrent

from .kernel import EPOCH, Kernel, Task

WATCH_S = 0.25
"""A step that takes longer in real time counts as a real wait."""
STACK = 8
"""The frames of an escape that are kept, the innermost ones."""

_real = {
    name: getattr(time, name) for name in ("sleep", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns")
}
_real_uuid4, _real_start = uuid.uuid4, threading.Thread.start
_active: HandlerTime | None = None


HOPELESS_S = 5.0
"""A step that takes longer is ended, by an exception in the handler."""


class Escaped(BaseException):
    """The handler waits in real time for an event of virtual time."""


class Escape(NamedTuple):
    """A handler left virtual time."""

    what: str
    task: str
    stack: str


class HandlerTime:
    """Virtual time for the handlers of one kernel, while its tasks run."""

    def __init__(self, kernel: Kernel, seed: object, *, watch: bool) -> None:
        self.escapes: list[Escape] = []
        self._kernel = kernel
        self._watch = watch
        self._chance = random.Random(str(seed)).getstate()
        self._travel: Any = None
        self._thread = threading.get_ident()

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Show handlers virtual time inside the context."""
        global _active  # noqa: PLW0603
        _install()
        outer, _active = _active, self
        before = random.getstate()
        random.setstate(self._chance)
        if self._watch:
            self._kernel.on_resume = self.resume
        over = threading.Event()
        self._thread = threading.get_ident()
        if self._watch:
            threading.Thread(target=self._watching, args=(over,), name="kashvi-sim-watch", daemon=True).start()
        try:
            with time_machine.travel(self._kernel.time, tick=False) as self._travel:
                yield
        finally:
            over.set()
            self._chance = random.getstate()
            random.setstate(before)
            _active = outer

    def resume(self, task: Task) -> None:
        """Set the wall clock to that of the task's process: its handler goes on."""
        if task.process is not None:
            self._travel.move_to(task.process.now())

    def current(self) -> Task | None:
        """The task whose handler calls, or None."""
        task = self._kernel.current
        return task if task is not None and task.on_stage and getcurrent() is task.fiber else None

    def sleep(self, seconds: float) -> None:
        if seconds < 0:
            raise ValueError("sleep length must be non-negative")
        self._kernel.sleep(seconds)

    def monotonic(self) -> float:
        return self._kernel.time - EPOCH + 1_000.0

    def escaped(self, what: str, task: Task, stack: str) -> None:
        self.escapes.append(Escape(what, task.name, stack))

    def _watching(self, over: threading.Event) -> None:
        """In a real thread: end a handler's step that takes too long, as a real wait."""
        seen, looks = -1, 0
        while not over.wait(WATCH_S):
            step, task = self._kernel.steps, self._kernel.current
            looks = looks + 1 if step == seen and task is not None and task.on_stage else 0
            if looks == 1 and task is not None:
                frame = sys._current_frames().get(self._thread)
                self.escaped(f"a step took over {WATCH_S:g} s of real time", task, _stack(frame))
            elif looks * WATCH_S > HOPELESS_S:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread), ctypes.py_object(Escaped))
                looks = 0
            seen = step


def _stack(frame: FrameType | None) -> str:
    """The last lines of a stack, from the app's first frame."""
    frames = [*traceback.walk_stack(frame)][::-1] if frame else []
    ours = ("kashvi", "kashvi_sim", "threading", "asyncio")
    packages = [str(at.f_globals.get("__name__", "")).partition(".")[0] for at, _ in frames]
    first = next((n for n, package in enumerate(packages) if package not in ours), 0)
    return "".join(traceback.StackSummary.extract(iter(frames[first:])).format()[-STACK:])


def _asking() -> tuple[HandlerTime, Task] | None:
    here = _active
    task = here.current() if here is not None else None
    return (here, task) if here is not None and task is not None else None


def _sleep(seconds: float) -> None:
    asked = _asking()
    if asked:
        asked[0].sleep(seconds)
    else:
        _real["sleep"](seconds)


def _clock(name: str, unit: float) -> Callable[[], float]:
    real = _real[name]

    def read() -> float:
        asked = _asking()
        if not asked:
            return real()  # type: ignore[no-any-return]
        return asked[0].monotonic() if unit == 1 else round(asked[0].monotonic() * unit)

    read.__name__ = read.__qualname__ = name
    return read


def _uuid4() -> uuid.UUID:
    return uuid.UUID(int=random.getrandbits(128), version=4) if _asking() else _real_uuid4()


def _start(self: threading.Thread) -> None:
    if asked := _asking():
        asked[0].escaped(f"a real thread was started: {self.name}", asked[1], _stack(sys._getframe(1)))
    _real_start(self)


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if event == "socket.connect" and _active is not None and (asked := _asking()):
        asked[0].escaped(f"a connection to {args[1]!r}", asked[1], _stack(sys._getframe(1)))


_OURS: dict[int, tuple[Any, Any]] = {
    id(_real["sleep"]): (_real["sleep"], _sleep), id(_real_uuid4): (_real_uuid4, _uuid4),
}  # fmt: skip
"""Each real function and its replacement, by the real function's id."""
for _name in ("monotonic", "perf_counter"):
    _OURS[id(_real[_name])] = _real[_name], _clock(_name, 1)
    _OURS[id(_real[f"{_name}_ns"])] = _real[f"{_name}_ns"], _clock(f"{_name}_ns", 1e9)
_audited = False


def _install() -> None:
    """Patch ``time`` and names imported from it, until ``uninstall``; only simulated handlers see a difference."""
    global _audited  # noqa: PLW0603
    if time.sleep is _sleep:
        return
    _exchange({number: ours for number, (_, ours) in _OURS.items()})
    threading.Thread.start = _start  # type: ignore[method-assign]
    if not _audited:
        _audited = True
        sys.addaudithook(_audit)


def uninstall() -> None:
    """Restore all names, also in modules that were imported meanwhile."""
    if time.sleep is _sleep:
        _exchange({id(ours): real for real, ours in _OURS.values()})
        threading.Thread.start = _real_start  # type: ignore[method-assign]


def _exchange(others: dict[int, Any]) -> None:
    for module in list(sys.modules.values()):
        top = getattr(module, "__name__", "").partition(".")[0]
        if top not in ("time", "uuid") and (
            top in sys.stdlib_module_names or getattr(module, "__name__", "") == __name__
        ):
            continue  # the library's own waits are real, and must measure in real time
        for name, value in list(vars(module).items()):
            if id(value) in others:
                setattr(module, name, others[id(value)])
