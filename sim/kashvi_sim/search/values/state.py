"""A small world as a value."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from typing import Any, Literal, NamedTuple

import msgspec

from kashvi.drivers.lines import MemoryStore
from kashvi.drivers.memory import MemoryDriver
from kashvi.worker import Limits
from kashvi.worker.machine import Machine
from kashvi.worker.machine.steps import SECOND, Idle, Request, Until, Wait
from kashvi.worker.settle import Delivery

START = 1024 * SECOND
_NAME = re.compile(r"'(w\d+)'")
Doing = Literal["free", "attempt", "exchange", "ask due", "wait", "waiting", "idle", "keep", "reap", "end"]


class Scope(msgspec.Struct, frozen=True):
    """``attempts``: of each job in all. ``crashes``: the most processes that die. ``hangs``: the first job never ends.

    ``takes_s``: how long an attempt takes. ``follow_ups``: how many the first job has, numbered after the other jobs.
    """

    workers: int = 1
    threads: int = 2
    jobs: int = 2
    attempts: int = 2
    crashes: int = 0
    takes_s: float = 0.0
    hangs: bool = False
    until: Until = "stopped"
    """When a worker ends by itself."""
    timeout_s: float = 0.0
    """The time limit of the first job, which hangs: when others had ``patience_s``, its process is replaced."""
    obey_s: float = 0.25
    patience_s: float = 0.5
    follow_ups: int = 0
    lease_s: float = 1.21875
    restart_s: float = 0.40625


class Task:
    """What a thread or a keeper does next, and when; None: when it is woken."""

    __slots__ = ("at", "doing", "what")

    def __init__(self, at: int | None, doing: Doing, what: Any = None) -> None:
        self.at, self.doing, self.what = at, doing, what

    def becomes(self, at: int | None, doing: Doing, what: Any = None) -> None:
        self.at, self.doing, self.what = at, doing, what


class Process(NamedTuple):
    """A worker; the last of its tasks is its keeper. A dead one has no machine."""

    id: str
    machine: Machine | None
    tasks: list[Task]


class State:
    """All that decides what may happen. Times are whole microseconds; in the store, the seconds nearest to them."""

    def __init__(self, now: int, crashes: int, ended: tuple[str, ...]) -> None:
        self.clock = Clock(now)
        self.crashes = crashes
        self.ended = ended
        """By job: how it was settled for good, or empty."""
        self.processes: list[Process] = []
        self.restarts: list[int] = []
        self.failures: tuple[int, ...] = (0,) * len(ended)
        """By job: how many of its attempts have failed."""
        self.born = 0
        self.store = MemoryStore(self.clock.monotonic, _Free())  # type: ignore[arg-type]

    @staticmethod
    def first(scope: Scope) -> State:
        state = State(START, scope.crashes, ("",) * (scope.jobs + scope.follow_ups))
        for n in range(scope.jobs):
            state.store.jobs.appendleft(job_numbered(n))
        for _ in range(scope.workers):
            state.hire(scope)
        return state

    def over(self, scope: Scope) -> bool:
        """Whether all jobs have ended; a job that has failed leaves no follow-ups."""
        last = scope.jobs + (scope.follow_ups if self.ended[0] == "done" else 0)
        return all(self.ended[scope.hangs and not scope.timeout_s : last])

    def hire(self, scope: Scope) -> None:
        self.born += 1
        name, now = f"w{self.born}", self.now
        limits = Limits(scope.until, patience_s=scope.patience_s if scope.timeout_s else None)
        machine = Machine.new(name, scope.threads, scope.lease_s, limits, now, has_store=False, obey_s=scope.obey_s)
        tasks = [Task(now, "free") for _ in range(scope.threads)]
        self.processes.append(Process(name, machine, [*tasks, Task(now, "keep")]))

    @property
    def now(self) -> int:
        return self.clock.now

    def next_at(self) -> int | None:
        """When the next step may be made; None if there is none."""
        times = [task.at for p in self.processes for task in p.tasks if task.at is not None] + self.restarts
        return max(min(times), self.now) if times else None

    def restarted(self, scope: Scope, now: int) -> State:
        """A copy, in which a process has started in place of a dead one."""
        then = self.copy()
        then.clock.now = now
        then.restarts.remove(min(then.restarts))
        then.hire(scope)
        return then

    def has_failed(self, n: int) -> None:
        self.failures = (*self.failures[:n], self.failures[n] + 1, *self.failures[n + 1 :])

    def driver(self) -> MemoryDriver:
        return MemoryDriver(runtime=self.clock, store=self.store)  # type: ignore[arg-type]

    def settle_times(self) -> None:
        """A sum of floats is not exact: equal times of the store become equal numbers."""
        store = self.store
        store.workers = {worker: _nearest(at) for worker, at in store.workers.items()}
        store.delayed = sorted((_nearest(at), raw) for at, raw in store.delayed)

    def copy(self) -> State:
        other = State(self.now, self.crashes, self.ended)
        other.restarts, other.born, other.failures = self.restarts[:], self.born, self.failures
        other.processes = [
            Process(p.id, p.machine and p.machine.clone(), [Task(t.at, t.doing, t.what) for t in p.tasks])
            for p in self.processes
        ]
        old, new = self.store, other.store
        new.jobs, new.delayed, new.members = old.jobs.copy(), old.delayed[:], old.members.copy()
        new.held = {owner: held[:] for owner, held in old.held.items()}
        new.running = {owner: running[:] for owner, running in old.running.items()}
        new.workers, new.answers, new.unrecorded = old.workers.copy(), old.answers.copy(), old.unrecorded.copy()
        new.paused_at, new.pauses = old.paused_at, old.pauses
        return other

    def key(self) -> str:
        """Two states with the same key go on alike. Times are relative, and workers are interchangeable.

        Only the order in which the server lists several workers whose leases are over depends on their names.
        """
        store = self.store
        parts = sorted((repr(part).replace(repr(part[0]), ""), part) for p in self.processes if (part := self._part(p)))
        rest = (
            tuple(store.jobs), [(round(at * SECOND) - self.now, raw) for at, raw in store.delayed],
            sorted(store.unrecorded), self.crashes, sorted(at - self.now for at in self.restarts), self.ended,
            [0 if ended else failures for ended, failures in zip(self.ended, self.failures, strict=True)],
        )  # fmt: skip
        text = repr(([part for _, part in parts], rest))
        if sum(part[1] == 0 for _, part in parts) > 1:
            return text
        names = {part[0]: str(n) for n, (_, part) in enumerate(parts)}
        return _NAME.sub(lambda found: names.get(found[1], found[1]), text)

    def _part(self, p: Process) -> tuple[str, int | None, Any] | None:
        """A process, how long its lease lasts, and what else the server knows of it; None: nothing."""
        store, machine = self.store, p.machine
        lists = store.held.get(p.id, []), store.running.get(p.id, [])
        if machine is None and not any(lists):
            return None
        deadline = store.workers.get(p.id)
        lease = None if deadline is None else max(round(deadline * SECOND) - self.now, 0)
        if machine is None:
            return p.id, lease, lists
        n, _, refused = store.answers.get(p.id, (0, 0.0, ()))
        tasks = [(t.at and max(t.at - self.now, 0), t.doing, self._plain(t.what)) for t in p.tasks]
        key = [sorted(told) if isinstance(told, frozenset) else told for told in machine.key(self.now)]
        return p.id, lease, (lists, key, tasks, machine.n - n, refused)

    def _plain(self, what: Any) -> Hashable:
        match what:
            case Request():
                return what.reconciles, what.by_thread, what.want, len(what.settlings)
            case Wait():
                return what.time, self.now - what.began
            case Idle():
                return what.until and max(what.until - self.now, 0)
            case Delivery():
                return what.raw, what.place
            case tuple():
                return tuple(map(self._plain, what))
        return what  # type: ignore[no-any-return]


def job_numbered(n: int) -> bytes:
    return b'{"id":"%d","type":"jobs.Small","payload":{}}' % n


def _nearest(seconds: float) -> float:
    return round(seconds * SECOND) / SECOND


class _Free:
    """A condition of a world in which nothing runs at the same time."""

    def __enter__(self) -> bool:
        return True

    def __exit__(self, *error: object) -> None:
        """Do nothing."""

    def notify_all(self) -> None:
        """Do nothing: the search looks at who waits."""


class Clock:
    """A state's time. It knows nothing of the state: a state that is left must be gone without a garbage collection."""

    __slots__ = ("now",)

    def __init__(self, now: int) -> None:
        self.now = now

    def monotonic(self) -> float:
        return self.now / SECOND

    def at_fork(self, run: Callable[[], None]) -> None:
        """Do nothing."""
