"""What may happen next in a state: one task goes on, up to its next call or wait."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

from kashvi.ports import Place
from kashvi.worker import settle
from kashvi.worker.machine import suspects
from kashvi.worker.machine.state import ALL
from kashvi.worker.machine.steps import (
    SECOND,
    Abandon,
    AskDue,
    Idle,
    KeeperStep,
    Reap,
    Request,
    Rest,
    Stuck,
    ThreadStep,
    Wait,
    micros,
    not_before,
)  # fmt: skip
from kashvi.worker.settle import Delivery, Kept, Settling

from .state import Process, Scope, State, job_numbered

READS = 400


class Broken(Exception):
    """A promise is."""


class Choices:
    """The choices of one step, enumerated: the step is made once for each way through them."""

    def __init__(self) -> None:
        self._given: list[int] = []
        self._sizes: list[int] = []
        self._at = 0

    def of(self, n: int) -> int:
        if self._at == len(self._given):
            self._given.append(0)
            self._sizes.append(n)
        self._at += 1
        return self._given[self._at - 1]

    def next(self) -> bool:
        """Go to the next way; False if there is none."""
        while self._given and self._given[-1] + 1 == self._sizes[-1]:
            self._given.pop()
            self._sizes.pop()
        if self._given:
            self._given[-1] += 1
        self._at = 0
        return bool(self._given)


class Move(NamedTuple):
    """``name``: for people. ``died``: whether it was a crash."""

    state: State
    name: str
    died: bool


def moves(scope: Scope, state: State) -> Iterator[Move]:
    """All that may happen next. Raises Broken."""
    now = state.next_at()
    if now is None:
        return
    if any(at <= now for at in state.restarts):
        then = state.restarted(scope, now)
        yield Move(then, f"{then.processes[-1].id} starts", False)
        return
    for i, j in going_on(state, now):
        choices = Choices()
        while True:
            then = state.copy()
            then.clock.now = now
            one = Step(scope, then, then.processes[i], j, choices)
            name = one.make()
            then.settle_times()
            yield Move(then, name, one.died)
            if not choices.next():
                break


def going_on(state: State, now: int) -> list[tuple[int, int]]:
    """The tasks of which any may be the next, by process and place."""
    return [
        (i, j)
        for i, p in enumerate(state.processes)
        for j, task in enumerate(p.tasks)
        if task.at is not None and task.at <= now
    ]


class Step:
    """One step of one task."""

    def __init__(self, scope: Scope, state: State, process: Process, place: int, choices: Choices) -> None:
        self.died = False
        self._scope, self._state, self._process = scope, state, process
        self._task = process.tasks[place]
        self._driver = state.driver()
        self._is_keeper = place + 1 == len(process.tasks)
        self._choices = choices
        self._name = f"{process.id} {'keeper' if self._is_keeper else f'thread {place + 1}'}"

    def make(self) -> str:
        """Make it, and say what it was."""
        task, machine, now = self._task, self._process.machine, self._state.now
        assert machine is not None
        doing, what = task.doing, task.what
        if doing == "free":
            self._goes_on(machine.free(now))
        elif doing == "idle":
            self._goes_on(machine.woken(now, what))
        elif doing == "attempt":
            self._goes_on(machine.free(now, self._ended(*what)))
        elif doing == "ask due":
            self._goes_on(machine.due(now, self._next_due()))
        elif doing == "exchange":
            self._exchange(what)
        elif doing == "wait":
            self._wait(what)
        elif doing == "waiting":
            self._waited(*what)
        elif doing == "keep":
            self._keeps(machine.keep(now))
        elif doing == "reap":
            self._reap()
        return f"{self._name}: {doing}{', and dies' if self.died else ''}"

    def _goes_on(self, step: ThreadStep) -> None:
        task, now = self._task, self._state.now
        match step:
            case Delivery():
                self._begin(step)
            case Request():
                task.becomes(now, "exchange", step)
            case AskDue():
                task.becomes(now, "ask due")
            case Wait():
                task.becomes(now, "wait", step)
            case Idle():
                task.becomes(step.until, "idle", step)
            case None:
                task.becomes(None, "end")
                self._fewer()
        self._signal()

    def _fewer(self) -> None:
        if self._process.machine is not None:
            self._process.machine.fewer()

    def _keeps(self, step: KeeperStep) -> None:
        task, now = self._task, self._state.now
        match step:
            case Rest():
                task.becomes(step.until, "keep", step.deaf)
            case Request():
                task.becomes(now, "exchange", step)
            case Reap():
                task.becomes(now, "reap")
            case Stuck():
                task.becomes(now, "keep", False)
            case Abandon():
                self._abandon(step)
                task.becomes(now, "keep", False)
            case _:
                task.becomes(None, "end")
        self._signal()
        machine = self._process.machine
        if step is None and machine is not None and machine.left_behind:
            self._gone()

    def _abandon(self, step: Abandon) -> None:
        """The stuck attempts have failed."""
        state, machine = self._state, self._process.machine
        assert machine is not None
        for one in step.limits:
            state.has_failed(int(one.delivery.job_id))
        at = state.clock.monotonic()
        machine.abandoned(
            state.now, [settle.failed(one.delivery, at, "timed out", self._scope.attempts) for one in step.limits]
        )

    def _signal(self) -> None:
        machine, tasks, now = self._process.machine, self._process.tasks, self._state.now
        if machine is None:
            return
        if machine.wake:
            idle = [task for task in tasks if task.doing == "idle" and (task.at is None or task.at > now)]
            for task in idle if machine.wake == ALL else idle[: machine.wake]:
                task.at = now
            machine.wake = 0
        if machine.bell:
            machine.bell = False
            keeper = tasks[-1]
            if keeper.doing == "keep" and not keeper.what:
                keeper.at = now
        machine.hurry = False
        machine.news.clear()

    # -- attempts -----------------------------------------------------------------------------

    def _begin(self, d: Delivery) -> None:
        state, n = self._state, int(d.job_id)
        if state.ended[n]:
            raise Broken(f"job {n} starts, and was settled as {state.ended[n]!r}")
        if n >= self._scope.jobs and state.ended[0] != "done":
            raise Broken(f"job {n} starts, and job 0, whose follow-up it is, is not done")
        if not self._scope.crashes and d.attempts != state.failures[n]:
            raise Broken(f"job {n} starts with {d.attempts} attempts, and {state.failures[n]} have failed")
        if self._scope.hangs and n == 0:
            self._task.becomes(None, "attempt", (d, "hangs", 0))
            if self._scope.timeout_s and self._process.machine:
                self._process.machine.limit(d, state.now, self._scope.timeout_s)
            return
        how = self._choices.of(3 if state.crashes else 2)
        if how == 2:
            self._die()
        else:
            takes = micros(self._scope.takes_s)
            self._task.becomes(state.now + takes, "attempt", (d, ("ok", "fails")[how], takes))

    def _follow_ups(self, d: Delivery) -> tuple[Kept, ...]:
        jobs = self._scope.jobs
        numbers = range(jobs, jobs + self._scope.follow_ups) if d.job_id == "0" else ()
        return tuple(Kept(str(n), "jobs.Small", job_numbered(n), 0.0) for n in numbers)

    def _ended(self, d: Delivery, how: str, takes: int) -> Settling:
        at, took_s = self._state.clock.monotonic(), takes / SECOND
        if how == "ok":
            return settle.succeeded(d, at, took_s, self._follow_ups(d))
        machine = self._process.machine
        if machine is not None and id(d) in machine.running:  # else it was left behind, and has gone back
            self._state.has_failed(int(d.job_id))
        settling = settle.failed(d, at, "it fails", self._scope.attempts)
        settling.took_s = took_s
        return settling

    # -- with the server --------------------------------------------------------------------------

    def _exchange(self, request: Request) -> None:
        state, process = self._state, self._process
        machine = process.machine
        assert machine is not None
        crash = self._choices.of(3) if state.crashes else 0
        if crash == 1:
            self._die()
            return
        at = state.clock.monotonic()
        settlements = [settling.sent(at) for settling in request.settlings]
        answer = self._driver.exchange(process.id, request.n, self._scope.lease_s, settlements, request.want)
        if answer.listing is None:
            self._note(request, answer.refused)
        self._serve()
        if crash == 2:
            self._die()
            return
        held, running = answer.listing or ([], [])
        claimed = [self._read(raw, "running") for raw in running if request.reconciles]
        claimed += [self._read(raw) for raw in (held if request.reconciles else answer.claimed)]
        machine.answered(state.now, request, answer, claimed, state.now)
        if self._is_keeper:
            self._keeps(machine.keep(state.now))
        else:
            self._goes_on(machine.free(state.now))

    def _note(self, request: Request, refused: tuple[int, ...]) -> None:
        """What the server has settled for good."""
        state, scope = self._state, self._scope
        for i, one in enumerate(request.settlings):
            if i in refused or one.move not in ("done", "fail"):
                continue
            n = int(one.delivery.job_id)
            if state.ended[n]:
                raise Broken(f"job {n} is settled as {one.move!r}, and was as {state.ended[n]!r}")
            if one.move == "fail" and one.attempts != scope.attempts:
                raise Broken(f"job {n} has failed for good after {one.attempts} attempts of {scope.attempts}")
            state.ended = (*state.ended[:n], one.move, *state.ended[n + 1 :])

    def _wait(self, wait: Wait) -> None:
        state = self._state
        got = self._looked(self._process.id) if wait.time > 0 else None
        due = self._next_due() if got is None else None
        if got is None and wait.time > 0 and not (due is not None and due < state.now + wait.time):
            self._task.becomes(state.now + wait.time, "waiting", (wait, None))
        else:
            self._waited(wait, got if got is not None else due if wait.time > 0 else None)

    def _waited(self, wait: Wait, got: bytes | int | None) -> None:
        machine, state = self._process.machine, self._state
        assert machine is not None
        if isinstance(got, bytes):
            if state.crashes and self._choices.of(2):
                self._die()
                return
            machine.waited(state.now, wait, self._read(got))
        else:
            machine.waited(state.now, wait, got)
        self._goes_on(machine.free(state.now))

    def _looked(self, worker: str) -> bytes | int | None:
        got = self._driver.wait(worker, 0.0)
        return not_before(got) if isinstance(got, float) else got

    def _next_due(self) -> int | None:
        due = self._driver.next_due()
        return not_before(due) if isinstance(due, float) else None

    def _serve(self) -> None:
        """Hand jobs to those who wait on the server."""
        state = self._state
        for process in state.processes:
            for task in process.tasks:
                if task.doing == "waiting" and task.what[1] is None and state.store.jobs:
                    task.becomes(state.now, "waiting", (task.what[0], self._looked(process.id)))

    def _reap(self) -> None:
        state, process, scope = self._state, self._process, self._scope
        machine = process.machine
        assert machine is not None
        found, at = self._driver.expired(READS), state.clock.monotonic()
        settlings = [settle.gone(owner, at) for owner in found.gone if owner != process.id]
        for owner, theirs in groupby(found.lost, key=lambda one: one.owner):
            if owner != process.id:
                settlings += suspects.after_death(list(theirs), True, at, _no_id, scope.attempts, at)
        machine.reaped(state.now, settlings, found.more)
        self._keeps(machine.keep(state.now))

    def _read(self, raw: bytes, place: Place = "held") -> Delivery:
        return settle.delivery(raw, self._process.id, _no_id, self._state.clock.monotonic(), place=place)

    def _die(self) -> None:
        self._state.crashes -= 1
        self.died = True
        self._gone()

    def _gone(self) -> None:
        """Another process takes the place of this one."""
        state, process = self._state, self._process
        state.restarts.append(state.now + micros(self._scope.restart_s))
        state.processes[state.processes.index(process)] = Process(process.id, None, [])


def _no_id() -> str:
    raise AssertionError("every job here has an id")
