"""A small world as a value."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from typing import Any, Literal

from kashvi.drivers.lines import MemoryStore
from kashvi.worker import Limits
from kashvi.worker.machine import Machine
from kashvi.worker.machine.steps import SECOND, Idle, Request, Wait
from kashvi.worker.settle import Delivery

from .jobs import id_in, number_of
from .memory import Minds
from .scope import Scope
from .still import Bell

START = 1024 * SECOND
Doing = Literal[
    "free", "attempt", "exchange", "pausing", "ask due", "wait", "waiting", "idle", "keep", "reap", "record",
    "end",
]  # fmt: skip


class Task:
    """What a thread or a keeper does next, and when; None: when it is woken."""

    __slots__ = ("at", "doing", "what")

    def __init__(self, at: int | None, doing: Doing, what: Any = None) -> None:
        self.at, self.doing, self.what = at, doing, what

    def becomes(self, at: int | None, doing: Doing, what: Any = None) -> None:
        self.at, self.doing, self.what = at, doing, what


class Process:
    """A worker: the tasks of its threads, its keeper's, and its recorder's if it records. A dead one has no machine."""

    __slots__ = ("_text", "hurried", "machine", "name", "number", "rung", "tasks")

    def __init__(self, number: int, machine: Machine | None, tasks: list[Task]) -> None:
        self.number, self.name, self.machine, self.tasks = number, f"w{number}", machine, tasks
        self.rung = self.hurried = False
        self._text: tuple[int, str] | None = None

    def copy(self) -> Process:
        tasks = [Task(t.at, t.doing, t.what) for t in self.tasks]
        other = Process(self.number, self.machine and self.machine.clone(), tasks)
        other.rung, other.hurried = self.rung, self.hurried
        return other

    def jobs(self) -> Iterator[Delivery]:
        """Those that it may still tell something of."""
        machine = self.machine
        if machine is not None:
            yield from machine.ready
            yield from machine.suspects
            yield from machine.running.values()
            for settling in (*machine.outbox, *(machine.open.settlings if machine.open else ())):
                yield settling.delivery
        for task in self.tasks:
            if task.doing == "attempt":
                yield task.what[0]
            elif isinstance(task.what, Request):
                yield from (settling.delivery for settling in task.what.settlings)

    def _claims(self, now: int, horizon: int) -> list[tuple[str, int]]:
        """How each job was claimed that has not started, and when: its start will tell. Long ago is long ago."""
        machine = self.machine
        if machine is None:
            return []
        found = [*machine.ready, *machine.suspects]
        owed = (*machine.outbox, *(machine.open.settlings if machine.open else ()))
        found += [settling.delivery for settling in owed if settling.move == "start"]
        return [(d.claim, max(round(d.server_at * SECOND) - now, -2 * horizon)) for d in found]

    def text(self, now: int, horizon: int) -> str:
        if self._text is None or self._text[0] != now:
            machine = self.machine
            tasks = [(t.at and max(t.at - now, 0), t.doing, _told(t.what, now)) for t in self.tasks]
            key = (
                [sorted(told) if isinstance(told, frozenset) else told for told in machine.key(now)] if machine else ()
            )
            self._text = now, repr((key, tasks, self.rung, self.hurried, self._claims(now, horizon)))
        return self._text[1]


class State:
    """All that decides what may happen. Times are whole microseconds; in the store, the seconds nearest to them."""

    def __init__(self) -> None:
        self.now = START
        self.crashes = self.lost = 0
        """How many more there may be."""
        self.ended: tuple[str, ...] = ()
        """By job: how it was settled for good, or empty."""
        self.processes: dict[int, Process] = {}
        self.restarts: list[int] = []
        self.failures: tuple[int, ...] = ()
        """By job: how many of its attempts have failed."""
        self.starts = 0
        """Of the first job, if it has follow-ups: their ids differ."""
        self.born = 0
        self.table: frozenset[str] = frozenset()
        """The ids of recorded jobs."""
        self.untold: frozenset[tuple[str, str]] = frozenset()
        """Moves on the server whose event never came, with the job: the process had died."""
        self.closed: frozenset[str] = frozenset()
        """Jobs of which nothing can be told any more."""
        self.minds: Minds
        self.store: MemoryStore
        self._owned: set[int] = set()

    @staticmethod
    def first(scope: Scope) -> State:
        state = State()
        state.crashes, state.lost = scope.crashes, scope.lost
        state.ended, state.failures = ("",) * (scope.jobs + scope.follow_ups), (0,) * (scope.jobs + scope.follow_ups)
        state.store = MemoryStore(lambda: 0.0, Bell())
        state.minds = Minds.of(scope.attempts)
        return state

    def over(self, scope: Scope) -> bool:
        """Whether all jobs have ended, and been recorded and told; a job that has failed leaves no follow-ups."""
        last = scope.jobs + (scope.follow_ups if self.ended[0] == "done" else 0)
        if not all(self.ended[scope.hangs and not scope.timeout_s : last]):
            return False
        return not self.store.unrecorded and not any(
            p.machine and (p.machine.outbox or p.machine.open) for p in self.processes.values()
        )

    def hire(self, scope: Scope) -> Process:
        self.born += 1
        now = self.now
        limits = Limits(scope.until, patience_s=scope.patience_s if scope.timeout_s else None)
        machine = Machine.new(
            f"w{self.born}", scope.threads, scope.lease_s, limits, now, has_store=True, obey_s=scope.obey_s
        )
        tasks = [Task(now, "free") for _ in range(scope.threads)]
        process = self.processes[self.born] = Process(self.born, machine, [*tasks, Task(now, "keep")])
        self._owned.add(self.born)
        return process

    def own(self, number: int) -> Process:
        """The process, for a change: states share those that did not change."""
        if number not in self._owned:
            self._owned.add(number)
            self.processes[number] = self.processes[number].copy()
        return self.processes[number]

    def next_at(self) -> int | None:
        """When the next step may be made; None if there is none."""
        times = [task.at for p in self.processes.values() for task in p.tasks if task.at is not None]
        times += self.restarts
        return max(min(times), self.now) if times else None

    def has_failed(self, n: int) -> None:
        self.failures = (*self.failures[:n], self.failures[n] + 1, *self.failures[n + 1 :])

    def has_ended(self, n: int, move: str) -> None:
        self.ended = (*self.ended[:n], move, *self.ended[n + 1 :])

    def settle_times(self) -> None:
        """A sum of floats is not exact: equal times of the store become equal numbers."""
        store = self.store
        store.workers = {worker: _nearest(at) for worker, at in store.workers.items()}
        if store.delayed:
            store.delayed = sorted((_nearest(at), raw) for at, raw in store.delayed)

    def copy(self) -> State:
        other = State()
        vars(other).update(vars(self))
        other.restarts = self.restarts[:]
        other.processes, other.minds, other._owned = self.processes.copy(), self.minds.copy(), set()
        other.store = object.__new__(MemoryStore)
        vars(other.store).update((name, _copied(value)) for name, value in vars(self.store).items())
        return other

    def close(self, scope: Scope) -> set[str]:
        """Note the jobs of which nothing can be told any more; returns the new ones."""
        ended = [n for n, move in enumerate(self.ended) if move]
        known = {number_of(job_id) for job_id in self.closed}
        if len(ended) == len(known) or scope.follow_ups:
            return set()
        store = self.store
        left = {id_in(raw) for raw in (*store.jobs, *(raw for _, raw in store.delayed), *store.unrecorded)}
        left.update(id_in(raw) for lists in (store.held, store.running) for raws in lists.values() for raw in raws)
        left.update(d.job_id for p in self.processes.values() for d in p.jobs())
        recording = any(t.doing == "record" for p in self.processes.values() for t in p.tasks)
        new = {
            str(n)
            for n in ended
            if n not in known and str(n) not in left and not (self.ended[n] == "fail" and recording)
        }
        self.closed |= new
        return new


def _told(what: Any, now: int) -> Any:
    match what:
        case Request():
            return what.reconciles, what.by_thread, what.want, len(what.settlings)
        case Wait():
            return what.time, now - what.began
        case Idle():
            return what.until and max(what.until - now, 0)
        case Delivery():
            return what.raw, what.place
        case tuple():
            return tuple(_told(one, now) for one in what)
    return what


def _nearest(seconds: float) -> float:
    return round(seconds * SECOND) / SECOND


def _copied(value: Any) -> Any:
    if isinstance(value, dict) and value:
        kind = type(next(iter(value.values())))
        return {name: one[:] for name, one in value.items()} if kind is list else value.copy()
    if isinstance(value, dict | list | set | deque | Counter):
        return value.copy()
    return value
