"""What may happen next in a state: one task goes on, up to its next call or wait."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from kashvi_spec.judging import Violation

from kashvi.events import AttemptLost, Event, JobReturned
from kashvi.worker.machine.steps import SECOND

from .choices import Broken, Choices
from .jobs import dispatched, number_of
from .memory import excused
from .shell import Shells
from .state import Doing, Process, State
from .step import LOCAL, Step

CHAIN = 32
"""The most steps without a choice that are one move: they may go on for ever, and then the state is a known one."""


class Move(NamedTuple):
    """``steps``: for people. ``died``: whether it was a crash. ``broken``: the promise that it broke."""

    state: State
    steps: list[tuple[int, str]]
    events: list[Event]
    died: bool
    broken: Violation | None
    change: tuple[str, Doing, Doing] | None = None
    """Of whom, from what to what, if it was one step of a task that lives on."""


class Mover:
    """Makes the moves of one scope. ``reduce``: leave out orders that come to the same as others."""

    def __init__(self, shells: Shells, *, reduce: bool = True) -> None:
        self._shells, self._scope, self._reduce = shells, shells.scope, reduce

    def first(self) -> Move:
        """The state in which all is dispatched and the workers are there."""
        shells, state = self._shells, State.first(self._scope)
        events = dispatched(self._scope, state.now, shells.server(state).push)
        for _ in range(self._scope.workers):
            self._hire(state)
        move = Move(state, [], [*events, *self._told()], False, None)
        return move._replace(broken=self._judged(state, move.events))

    def moves(self, state: State) -> Iterator[Move]:
        """All that may happen next."""
        if self._reduce or not self._restarts(state, state.next_at()):
            for number, place in self._going_on(state):
                choices = Choices()
                while True:
                    yield self._move(state, number, place, choices)
                    if not choices.next():
                        break
        else:
            then = state.copy()
            yield self._finish(then, [], [], False)

    def _move(self, state: State, number: int, place: int, choices: Choices) -> Move:
        then = state.copy()
        now = state.next_at()
        assert now is not None
        then.now = now
        step = Step(self._shells, then, number, place, choices)
        before = step.task.doing
        try:
            steps = [(now, step.make())]
        except Broken as broken:
            return Move(then, [(now, step.name)], self._told(), False, broken.violation)
        then.settle_times()
        change = None if step.died else (step.who, before, step.task.doing)
        return self._finish(then, steps, self._told(), step.died)._replace(change=change)

    def _finish(self, state: State, steps: list[tuple[int, str]], events: list[Event], died: bool) -> Move:
        """Go on while only one step may be made, and it has no choice."""
        broken = self._judged(state, events)
        while broken is None and not state.over(self._scope):
            now = state.next_at()
            if now is None:
                break
            if self._restarts(state, now):
                state.now = now
                state.restarts.remove(min(state.restarts))
                steps.append((now, f"{self._hire(state).name} starts"))
            elif self._reduce and len(steps) < CHAIN and (then := self._forced(state, now, steps)):
                state = then
            else:
                break
            told = self._told()
            events += told
            broken = self._judged(state, told)
        return Move(state, steps, events, died, broken)

    def _hire(self, state: State) -> Process:
        process = state.hire(self._scope)
        self._shells.enter(state, process).keeper.begins()
        return process

    def _told(self) -> list[Event]:
        told, self._shells.told = self._shells.told, []
        return told

    def _judged(self, state: State, events: list[Event]) -> Violation | None:
        found = state.minds.see(events)
        if (state.crashes, state.lost) == (self._scope.crashes, self._scope.lost) and not self._scope.hangs:
            taken = (e for e in events if isinstance(e, AttemptLost) or (isinstance(e, JobReturned) and e.suspect))
            found += [Violation("lease kept", e.job_id, "taken from a worker that was alive and well") for e in taken]
        new = state.close(self._scope)
        over = state.over(self._scope)
        if new or over:
            hangs = self._scope.hangs and not self._scope.timeout_s
            found += [v for v in state.minds.at_end() if v.job_id in new or (over and not (hangs and v.job_id == "0"))]
        rows = {number_of(job_id) for job_id in state.table} if over else set()
        missing = [n for n, move in enumerate(state.ended) if over and move == "fail" and n not in rows]
        found += [Violation("recorded iff exhausted", str(n), "failed, and has no row") for n in missing]
        return next((one for one in found if not excused(state, one)), None)

    def _restarts(self, state: State, now: int | None) -> bool:
        return any(at <= (now or 0) for at in state.restarts)

    # -- which orders are tried ------------------------------------------------------------------

    def _going_on(self, state: State) -> list[tuple[int, int]]:
        """The tasks of which any may be the next, by process and place."""
        now = state.next_at()
        if now is None:
            return []
        ready = going_on(state, now)
        if not self._reduce:
            return ready
        own = self._local(state, ready)
        if own:
            return own
        threads = self._scope.threads
        if threads == 1 and not self._expired(state, now):
            keepers = [one for one in ready if one[1] >= threads]
            if keepers:
                return keepers[:1]
            if self._calm(state, now):
                looking = [
                    one for one in ready if state.processes[one[0]].tasks[one[1]].doing not in ("wait", "waiting")
                ]
                if looking:
                    return looking[:1]
        return ready

    def _local(self, state: State, ready: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """The tasks of one process, if none of them calls the server next: no other's step matters to them."""
        by_process: dict[int, list[int]] = {}
        for number, place in ready:
            by_process.setdefault(number, []).append(place)
        for number, places in by_process.items():
            tasks = state.processes[number].tasks
            if all(tasks[place].doing in LOCAL for place in places) and (
                len(tasks) <= 2 or not any(task.doing == "waiting" for task in tasks)
            ):
                return [(number, place) for place in places]
        return []

    def _forced(self, state: State, now: int, steps: list[tuple[int, str]]) -> State | None:
        """The state after the only step that may be made, if it has no choice."""
        only = self._going_on(state)
        if len(only) != 1:
            return None
        number, place = only[0]
        then, choices = state.copy(), Choices()
        then.now = now
        try:
            step = Step(self._shells, then, number, place, choices).make()
        except Broken:
            step = ""
        if not step or choices.next():
            self._told()  # it is told when it is made as a move
            return None
        then.settle_times()
        steps.append((now, step))
        return then

    def _calm(self, state: State, now: int) -> bool:
        """Whether no worker has or finds a job: only the order of their waits makes a difference."""
        store = state.store
        if store.jobs or store.unrecorded or (store.delayed and store.delayed[0][0] * SECOND <= now):
            return False
        living = (p for p in state.processes.values() if p.machine)
        return not any(store.held.get(p.name) or store.running.get(p.name) for p in living)

    def _expired(self, state: State, now: int) -> bool:
        """Whether a dead process holds jobs that may be taken over now."""
        store = state.store
        return any(
            p.machine is None
            and (store.held.get(p.name) or store.running.get(p.name))
            and store.workers.get(p.name, 0.0) * SECOND <= now
            for p in state.processes.values()
        )


def going_on(state: State, now: int) -> list[tuple[int, int]]:
    """The tasks that are ready, by process and place."""
    return [
        (number, place)
        for number, p in state.processes.items()
        for place, task in enumerate(p.tasks)
        if task.at is not None and task.at <= now
    ]
