"""One run of a search: its decisions come from a list, and are the defaults after it; every step is judged.

A decision is the next worker, if more than one can go on; an attempt's outcome; or a process's death at a call.
The workload, the faults and the predicates are those of ``sim:run``; so a trial can be repeated from its tape.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from kashvi_spec.predicates.safety import Judge, Violation, all_predicates

from kashvi.events import AttemptLost, JobReturned
from kashvi.ports import Failure, Refusal

from ..runs.play import Run, Swarm
from ..runs.verdict import settled_twice, undeserved
from ..runs.workload import Acts
from ..world.database import Database
from ..world.faults import RULES, Faults, Moment, Rule, rules_named
from ..world.kernel import Entry, Kernel, Task
from ..world.network import Line
from ..world.runtime import SimRuntime
from ..world.tape import AttemptStream, Tape
from ..world.world import World
from .scope import Scope
from .state import State, States

KILL = rules_named("kill")[0]
DEADLY = frozenset({
    *itertools.product(("before", "after"), ("exchange", "wait", "record", "recorded")), ("before", "handle"),
})  # fmt: skip
"""The places where a process may die. Calls without an effect are left out: the next one with an effect is equivalent.
An attempt has one place, since a death anywhere in it leaves the same state."""


WORKER, EVERYONE = ("kashvi-1",), ("kashvi-",)


class Stopped(Exception):
    """Ends the trial early."""


class Pop(NamedTuple):
    """A task that went on. ``pushed``: the number of tasks runnable before it; ``decided``: True if others could go."""

    time: float
    seq: int
    pushed: int
    decided: bool


class Table:
    """A failure table in memory, cheap to make."""

    def __init__(self) -> None:
        self.rows: dict[str, Failure] = {}

    def record(self, failures: Sequence[Failure]) -> dict[str, Refusal]:
        for failure in failures:
            self.rows.setdefault(failure.job_id, failure)
        return {}


@dataclass
class Small:
    """The job class of all trials; a new class for each would take longer than the trial."""

    n: int
    acts: ClassVar[Acts]
    world: ClassVar[World]

    def handle(self) -> None:
        if error := Small.acts(self.n, Small.world.attempt).error:
            raise RuntimeError(error)


class Trial(Run):
    """``given``: the decisions to repeat. ``at_state`` is called with each state after them; True ends the trial."""

    def __init__(
        self,
        scope: Scope,
        given: Sequence[int],
        path: Sequence[Pop],
        at_state: Callable[[Trial], bool],
        is_new_death: Callable[[State], bool],
        place: dict[str, Any],
        *,
        reduce: bool = True,
    ) -> None:
        self.reduce = reduce
        self.given = given
        self._path = path
        self.taken: list[int] = []
        self.others: list[Sequence[int]] = []
        self.popped: list[int] = []
        """The number of tasks that had gone on before each decision."""
        self.crashes: list[int] = []
        """The decisions that were deaths."""
        self.violations: list[Violation] = []
        self.table = Table()
        tape = Tape(given={})
        tape.attempts = _Outcomes(self)
        self.tape = tape
        super().__init__(
            scope.workload(), tape, Swarm((KILL,), 0.0, 0.0), place.get("client"), place.get("prefix", "kashvi:queue"),
            [1] * scope.workers, (), self.table,
        )  # fmt: skip
        # Only eight predicates: the memory of all would multiply the states. sim:run judges with all of them.
        self.world.judges = Judge(all_predicates(scope.attempts))
        self.states = States(self.world, ordered=scope.crashes > 1)
        self.world.faults = _Deaths(self, scope, self.world.faults.until_s if self.world.faults else 0.0)
        self.world.kernel.next = self._next
        self._at_state = at_state
        self._is_new_death = is_new_death
        self._at = self.world.kernel.time
        self._seen = 0
        self.pops: list[Pop] = []
        self._max_crashes = scope.crashes

    def job_class(self, job_type: str, acts: Acts) -> type[Small]:
        Small.acts, Small.world = acts, self.world
        return Small

    def rows(self) -> Sequence[str]:
        return list(self.table.rows)

    def left(self) -> list[str]:
        return []  # no worker is told to stop

    @property
    def fresh(self) -> bool:
        """True after the last given decision."""
        return len(self.taken) >= len(self.given)

    @property
    def crashes_left(self) -> int:
        return self._max_crashes - len(self.crashes)

    def decide(self, n: int, others: Sequence[int] = (1,)) -> int:
        """A decision from 0 to ``n`` - 1. ``others``: those to try beside the default."""
        at = len(self.taken)
        choice = self.given[at] if at < len(self.given) else 0
        self.taken.append(choice)
        self.others.append(others)
        self.popped.append(len(self.pops))
        return choice

    def state(self) -> State:
        return self.states.state(self.rows(), self.crashes_left)

    def is_new_death(self, process: SimRuntime) -> bool:
        """True if the process's death would leave a new state."""
        if not self.reduce:
            return True
        process.dead = True
        waiters, worker = self.world.waiters, self.world.queues[process.number].handles[0].id
        self.world.waiters = [waiter for waiter in waiters if waiter.worker != worker]
        left = self.states.state(self.rows(), self.crashes_left - 1)
        process.dead, self.world.waiters = False, waiters
        return self._is_new_death(left)

    def choices(self) -> dict[tuple[str, int], int]:
        """The tape that repeats this trial. On it, a task's place in the order is chosen when it becomes runnable."""
        places: list[tuple[Pop, int]] = []
        kernel = self.world.kernel
        left = [Pop(time, seq, kernel.pushes, False) for time, _, seq, _, _ in sorted(kernel.heap)]
        for pop in [*self.pops, *left]:
            before = [(other, place) for other, place in places if other.time == pop.time and pop.seq <= other.pushed]
            places.append((pop, max((place + (other.seq > pop.seq) for other, place in before), default=0)))
        return self.tape.taken() | {("schedule", pop.seq - 1): place for pop, place in places if place}

    # -- at every step ----------------------------------------------------------------------------

    def _next(self, heap: list[Entry]) -> Entry:
        """The next task: one that must run next, else a decision between the candidates."""
        if len(self.pops) < len(self._path):
            pop = self._path[len(self.pops)]
            at = next(i for i, one in enumerate(heap) if one[2] == pop.seq)
            entry = heap[at]
            self._at = pop.time
            if pop.decided:
                self.decide(0)
        else:
            entry, decided = self._choose(heap)
            at = heap.index(entry)
            pop = Pop(entry[0], entry[2], self.world.kernel.pushes, decided)
        del heap[at]
        heapq.heapify(heap)
        self.pops.append(pop)
        process = entry[3].process
        self.states.steps[process] = self.states.steps.get(process, 0) + 1
        return entry

    def _choose(self, heap: list[Entry]) -> tuple[Entry, bool]:
        time = min(one for one in heap if one[3].timer == one[4] and one[3].is_alive())[0]
        later, self._at = time > self._at, time
        if self.fresh:
            self._judge(later)
        entry, choices = self._ready(heap, time)
        if (len(choices) > 1 or later) and self.fresh and self._at_state(self):
            raise Stopped
        if entry is not None or len(choices) == 1:
            return entry or choices[0], False
        return choices[self.decide(len(choices), self._others(choices) if self.fresh else [])], True

    def _ready(self, heap: list[Entry], time: float) -> tuple[Entry | None, list[Entry]]:
        """The task that must run next, or the candidates if there is a choice."""
        entries = sorted(one for one in heap if one[0] == time and one[3].timer == one[4] and one[3].is_alive())
        if len(entries) == 1:
            return None, entries
        names = EVERYONE if self.crashes and self._expired() else WORKER
        free = [one for one in entries if one[3].name.partition("/")[2].startswith(names)]
        if not self.reduce:
            first = next((one for one in entries if one not in free), None)
            return first, free if first is None else []
        processes = [one[3].process for one in free]
        first = next(
            (
                one
                for one in entries
                if one not in free or (processes.count(one[3].process) == 1 and _call_of(one[3]) == "")
            ),
            None,
        )
        if first is not None:
            return first, []
        if self._producer.done and self._calm():
            first = next((one for one in free if _call_of(one[3]) != "wait"), None)
            if first is not None:
                return first, []
        return None, free

    def _expired(self) -> bool:
        """True if a dead process holds jobs that may be taken over now."""
        world, now = self.world, self.world.kernel.time
        dead = {queue.handles[0].id for queue in world.queues[1:] if queue.process.dead}
        shares = world.server.contents().shares
        return any(
            worker in dead and (share.held or share.running) and (share.deadline or 0.0) <= now
            for worker, share in shares.items()
        )

    def _calm(self) -> bool:
        """True if all workers are idle: only the order of their waits matters."""
        world, now = self.world, self.world.kernel.time
        found = world.server.contents()
        if found.jobs or found.unrecorded or (found.delayed and found.delayed[0][0] <= now) or self._expired():
            return False
        return not any(world.server.holds(queue.handles[0].id) for queue in world.queues[1:] if not queue.process.dead)

    def _others(self, choices: list[Entry]) -> list[int]:
        """The candidates to try beside the first: one of each group of processes in the same state."""
        if not self.reduce:
            return list(range(1, len(choices)))
        seen, others = set(), []
        for i, entry in enumerate(choices):
            what = self.states.share_of(entry[3].process), entry[3].name.partition("/")[2]
            if what not in seen and i:
                others.append(i)
            seen.add(what)
        return others

    def _judge(self, still: bool) -> None:
        """Raise on a violation so far; judge also the end when all jobs have ended and all tasks are idle."""
        world = self.world
        if len(world.events) > self._seen:
            new, self._seen = world.events[self._seen :], len(world.events)
            self.violations = [*world.unexcused(), *settled_twice(world)]
            if any(type(event) in (AttemptLost, JobReturned) for event in new):
                self.violations += undeserved(world)
        if still and not self.violations and self._producer.done:
            stats = world.server.driver.stats()
            if not (stats.ready or stats.delayed or stats.held or stats.unrecorded or self._owing()):
                self.drained = True
                self.violations, _ = self.judge()
        if self.violations or self.drained:
            raise Stopped

    def _owing(self) -> bool:
        """True if a worker still has settlements to send."""
        return any(queue.handles[0]._worker.unsettled for queue in self.world.queues[1:] if not queue.process.dead)


class _Outcomes(AttemptStream):
    """Makes each attempt's outcome a decision."""

    def __init__(self, trial: Trial) -> None:
        super().__init__(None, {})
        self._trial = trial

    def choose(self, n: int) -> int:
        position, self.position = self.position, self.position + 1
        if not self._trial.decide(2):
            return 0
        self.taken[position] = n - 1
        return n - 1


class _Deaths(Faults):
    """Makes each possible death a decision, while deaths are left."""

    def __init__(self, trial: Trial, scope: Scope, until_s: float) -> None:
        super().__init__((KILL,), 0.0, until_s)
        self._trial = trial

    def draw(self, world: World, moment: Moment, call: str, process: SimRuntime) -> Rule | None:
        if world.elapsed_s >= self.until_s:
            return None
        trial, stream = self._trial, world.tape.faults
        position, stream.position = stream.position, stream.position + 1
        if (moment, call) not in DEADLY or trial.crashes_left <= 0 or not self._matters(world, moment, call, process):
            return None
        if not trial.decide(2, [1] if trial.fresh and trial.is_new_death(process) else []):
            return None
        trial.crashes.append(len(trial.taken) - 1)
        stream.taken[position] = RULES.index(KILL) + 1
        return KILL

    def _matters(self, world: World, moment: Moment, call: str, process: SimRuntime) -> bool:
        """False for crashes of idle processes, which change nothing."""
        if call in ("record", "recorded") or not self._trial.reduce:
            return True
        worker = world.queues[process.number].handles[0]
        return bool((asked := worker._worker.machine.open) and asked.settlings) or world.server.holds(worker.id)


def _call_of(task: Task) -> str | None:
    """The call a task is about to make; empty for one that makes none; None while it waits."""
    frame = task.fiber.gr_frame if task.fiber is not None else None
    outer = frame
    while outer is not None and outer.f_code not in _CALLS:
        outer = outer.f_back
    if outer is None:
        return ""
    assert frame is not None
    assert frame.f_back is not None
    return outer.f_locals.get("call", "record") if frame.f_back.f_code is Kernel.pause.__code__ else None


_CALLS = (Line._call.__code__, Database.record.__code__)
