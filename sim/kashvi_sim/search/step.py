"""One step of one task, up to its next call, wait or attempt: the machine decides, the real shell tells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from kashvi import events
from kashvi.errors import DriverError, DriverUnavailable, ReplyLost
from kashvi.ports import Exchange, Expired
from kashvi.worker.keeper import LOST_MAX
from kashvi.worker.machine.state import ALL
from kashvi.worker.machine.steps import (
    SECOND,
    Abandon,
    AskDue,
    AskMarks,
    Idle,
    KeeperStep,
    Reap,
    Record,
    Request,
    Rest,
    Stuck,
    ThreadStep,
    Wait,
    micros,
)
from kashvi.worker.recorder import Recorder
from kashvi.worker.settle import Delivery, Kept, Settling

from .choices import Broken, Choices, Died, Suspended
from .jobs import job_numbered, number_of
from .recording import Calls
from .scope import Scope
from .shell import Shells
from .state import Process, State, Task

T = TypeVar("T")
LOCAL = frozenset({"free", "idle", "attempt", "keep"})
"""Steps that touch no server."""


class Step:
    """One step of one task."""

    def __init__(self, shells: Shells, state: State, number: int, place: int, choices: Choices) -> None:
        self.died = False
        self._state, self._process = state, state.own(number)
        self.task = self._process.tasks[place]
        self._shell = shells.enter(state, self._process)
        self._shells, self._scope, self._choices = shells, shells.scope, choices
        assert shells.driver is not None
        self._driver = shells.driver
        self._machine = self._shell.worker.machine
        self._is_keeper = place == self._scope.threads
        self.who = "recorder" if place > self._scope.threads else "keeper" if self._is_keeper else "thread"
        self.name = f"{self._process.name} {self.who}{f' {place + 1}' if self.who == 'thread' else ''}"

    def make(self) -> str:
        """Make it, and say what it was."""
        task, doing = self.task, self.task.doing
        makes: dict[str, Callable[[Any], None]] = {
            "free": self._free, "idle": self._woken, "attempt": self._ended, "ask due": self._ask_due,
            "exchange": self._exchange, "pausing": self._try_again, "wait": self._wait, "waiting": self._waited,
            "keep": self._keep, "reap": self._reap, "record": self._record,
        }  # fmt: skip
        try:
            makes[doing](task.what)
        except Died:
            self.died = True
            self._state.crashes -= 1
            gone(self._state, self._process, self._scope)
            return f"{self.name}: {doing}, and dies"
        if self._process.machine is not None:
            self._signal()
        return f"{self.name}: {doing}{self._how}"

    _how = ""

    def _signal(self) -> None:
        """Wake whom the shell called."""
        worker, tasks, now, state = self._shell.worker, self._process.tasks, self._state.now, self._state
        lock, bell, pause = worker.lock, worker.bell, worker.pause
        if called := lock.called:  # type: ignore[attr-defined]
            idle = [task for task in tasks if task.doing == "idle" and (task.at is None or task.at > now)]
            for task in idle if called == ALL else idle[:called]:
                task.at = now
            lock.called = 0  # type: ignore[attr-defined]
        if bell.called:  # type: ignore[attr-defined]
            keeper = tasks[self._scope.threads]
            if keeper.doing == "keep" and not keeper.what:
                keeper.at = now
            bell.called = 0  # type: ignore[attr-defined]
        if pause.called:  # type: ignore[attr-defined]
            for task in tasks:
                if task.doing == "pausing":
                    task.at = now
            pause.called = 0  # type: ignore[attr-defined]
        if self._driver.woke:
            for task in tasks:
                if task.doing == "waiting":
                    task.at = now
            self._driver.woke = ""
        self._process.rung, self._process.hurried = worker.rung, worker.hurried
        for one in [one for one in state.processes.values() if one.machine]:
            for place, task in enumerate(one.tasks):
                if task.doing == "waiting" and task.what[1] is None and state.store.jobs:
                    got = self._looked(one.name)
                    state.own(one.number).tasks[place].becomes(now, "waiting", (task.what[0], got))

    # -- a thread -----------------------------------------------------------------------------

    def _free(self, ended: Settling | None) -> None:
        self._goes_on(self._machine.free(self._state.now, ended))

    def _woken(self, idle: Idle) -> None:
        self._goes_on(self._machine.woken(self._state.now, idle))

    def _goes_on(self, step: ThreadStep) -> None:
        task, now = self.task, self._state.now
        match step:
            case Delivery():
                self._start(step)
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
                self._shell.worker.without(1)
        self._shell.worker.signal()

    def _start(self, d: Delivery) -> None:
        """The attempt begins: it may succeed or fail, at once or late, or its process dies in it."""
        state, scope, n = self._state, self._scope, number_of(d.job_id)
        if state.ended[n]:
            raise Broken("done is done", d.job_id, f"starts, and was settled as {state.ended[n]!r}")
        if n >= scope.jobs and state.ended[0] != "done":
            raise Broken("follow-ups all or none", d.job_id, "starts, and job 0, whose follow-up it is, is not done")
        if not scope.crashes and d.attempts != state.failures[n]:
            raise Broken(
                "attempts counted", d.job_id, f"starts with {d.attempts} attempts, and {state.failures[n]} have failed"
            )
        job = self._shell.attempts.decoded(d)
        if isinstance(job, Settling):
            self._free(job)
            return
        if state.crashes and self._choices.of(2):
            raise Died
        began = self._shell.attempts.begun(d)
        if scope.hangs and n == 0:
            self.task.becomes(None, "attempt", (d, began, "hangs", ()))
            return
        how = ("ok", "fails")[self._choices.of(2)]
        takes_s = scope.long_s if scope.long and self._choices.of(2) else scope.takes_s
        self._how = f", which {'succeeds' if how == 'ok' else 'fails'}{' late' if takes_s > scope.takes_s else ''}"
        self.task.becomes(state.now + micros(takes_s), "attempt", (d, began, how, self._follow_ups(d)))

    def _follow_ups(self, d: Delivery) -> tuple[Kept, ...]:
        scope, stream = self._scope, self._shell.stream
        if not scope.follow_ups or d.job_id != "0":
            return ()
        self._state.starts += 1
        kept = []
        for n in range(scope.jobs, scope.jobs + scope.follow_ups):
            job_id = f"{n}.{self._state.starts}"
            kept.append(Kept(job_id, "jobs.Small", job_numbered(n, self._state.starts), 0.0))
            about = {"parent": d.job_id, "attempt": d.attempts + 1}
            stream.emit(events.FollowUpKept, job_id=job_id, type="jobs.Small", unique="", **about)
        return tuple(kept)

    def _ended(self, what: tuple[Delivery, float, str, tuple[Kept, ...]]) -> None:
        d, began, how, kept = what
        if how == "ok":
            ended = self._shell.attempts.succeeded(d, began, kept)
        else:
            ended = self._shell.attempts.failed(d, began, RuntimeError("it fails"))
            if ended.move in ("retry", "fail"):  # or it was left behind, and has gone back
                self._state.has_failed(number_of(d.job_id))
        self._free(ended)

    # -- calls --------------------------------------------------------------------------------

    def _call(self, effect: Callable[[], T], before: bool, after: Callable[[], bool]) -> T:
        """A call of the server: it may be lost before or after its effect, or the process dies there.

        ``before``, ``after``: whether a death there makes a difference.
        """
        self._risk(before, DriverUnavailable, "request")
        answer = effect()
        self._risk(after(), ReplyLost, "reply")
        return answer

    def _risk(self, death_matters: bool, lost: type[DriverError], what: str) -> None:
        """The process may die here, or what is under way may be lost."""
        state = self._state
        dies, loses = state.crashes > 0 and death_matters, state.lost > 0
        which = self._choices.of(1 + dies + loses) if dies or loses else 0
        if dies and which == 1:
            raise Died
        if which:
            state.lost -= 1
            self._how = f", whose {what} is lost"
            raise lost(f"the {what} is lost")

    def _holds(self) -> bool:
        store, name = self._state.store, self._process.name
        return bool(store.held.get(name) or store.running.get(name))

    def _exchange(self, request: Request) -> None:
        worker, process = self._shell.worker, self._process
        sent_at = self._shell.runtime.monotonic()
        settlements = [settling.sent(sent_at) for settling in request.settlings]

        def effect() -> Exchange:
            answer = self._driver.exchange(process.name, request.n, worker.lease_s, settlements, request.want)
            if answer.listing is None:
                self._note(request, answer.refused)
            return answer

        matters = bool(settlements) or self._holds()
        try:
            answer = self._call(effect, matters, lambda: matters or self._holds())
        except DriverError as error:
            again = worker.failed(request, error)
            if again is None:
                self._asks()
            elif again.pause and not worker.hurried:
                self.task.becomes(self._state.now + micros(worker.pause_s(again)), "pausing", request)
            else:
                worker.hurried = False
                self.task.becomes(self._state.now, "exchange", request)
            return
        claimed, unsent = worker.claimed(request, answer), worker.unsent(request, answer)
        worker.lost = None
        self._machine.answered(self._state.now, request, answer, claimed, micros(sent_at), unsent)
        worker.signal()
        worker.tell_news()
        worker.tell(request, answer, sent_at)
        self._asks()

    def _asks(self) -> None:
        self._keep(True) if self._is_keeper else self._free(None)

    def _try_again(self, request: Request) -> None:
        self._shell.worker.hurried = False
        self.task.becomes(self._state.now, "exchange", request)

    def _note(self, request: Request, refused: tuple[int, ...]) -> None:
        """What the server has settled for good."""
        state, scope = self._state, self._scope
        for i, one in enumerate(request.settlings):
            if i in refused or one.move not in ("done", "fail"):
                continue
            d, n = one.delivery, number_of(one.delivery.job_id)
            if state.ended[n]:
                raise Broken("settle fenced", d.job_id, f"is settled as {one.move!r}, and was as {state.ended[n]!r}")
            if one.move == "fail" and one.attempts != scope.attempts:
                raise Broken(
                    "attempts bounded",
                    d.job_id,
                    f"has failed for good after {one.attempts} attempts of {scope.attempts}",
                )
            state.has_ended(n, one.move)

    def _ask_due(self, what: None) -> None:
        try:
            due = self._call(self._driver.next_due, False, lambda: False)
        except DriverError as error:
            self._wait_lost(error)
            return
        self.task.becomes(self._state.now, "wait", self._shell.worker.due(due))

    def _wait_lost(self, error: DriverError) -> None:
        self._machine.wait_lost(self._state.now, error.maybe_sent)
        self._shell.worker.signal()
        self._asks()

    def _wait(self, wait: Wait) -> None:
        now = self._state.now
        if wait.time <= 0:
            self._has_waited(wait, None)
            return
        try:
            self._risk(False, DriverUnavailable, "request")
        except DriverError as error:
            self._wait_lost(error)
            return
        got = self._looked(self._process.name)
        due = self._driver.next_due() if got is None else None
        if got is None and not (isinstance(due, float) and due < (now + wait.time) / SECOND):
            self.task.becomes(now + wait.time, "waiting", (wait, None))
        else:
            self.task.becomes(now, "waiting", (wait, due if got is None else got))

    def _waited(self, what: tuple[Wait, bytes | float | None]) -> None:
        wait, got = what
        try:
            self._call(lambda: None, False, lambda: isinstance(got, bytes)) if got is not None else None
        except DriverError as error:
            self._wait_lost(error)
            return
        self._has_waited(wait, got)

    def _has_waited(self, wait: Wait, got: bytes | float | None) -> None:
        self._machine.waited(self._state.now, wait, self._shell.worker.found(got, wait))
        self._shell.worker.signal()
        self._asks()

    def _looked(self, worker: str) -> bytes | float | None:
        got = self._driver.wait(worker, 0.0)
        assert got is None or isinstance(got, bytes | float)
        return got

    # -- the keeper ---------------------------------------------------------------------------

    def _keep(self, deaf: bool) -> None:
        """``deaf``: no call of a thread ends this rest."""
        task, now, worker, keeper = self.task, self._state.now, self._shell.worker, self._shell.keeper
        if not deaf:
            worker.rung = False
        step: KeeperStep = keeper.next()
        if isinstance(step, Stuck):
            keeper.stuck(step)
        worker.tell_news()
        match step:
            case Rest():
                rung = worker.rung and not step.deaf
                task.becomes(now if rung else step.until, "keep", step.deaf)
            case Request():
                task.becomes(now, "exchange", step)
            case Reap():
                task.becomes(now, "reap")
            case Abandon():
                for one in step.limits:
                    self._state.has_failed(number_of(one.delivery.job_id))
                keeper.abandon(step)
                self._keep(True)
            case Record():
                self._process.tasks.append(Task(now, "record", (step.waiting, ())))
                self._keep(True)
            case Stuck():
                self._keep(True)
            case AskMarks():
                keeper.told_marks(())
                self._keep(True)
            case _:
                task.becomes(None, "end")
                keeper.ends()
                keeper.ended()
                if self._machine.left_behind:
                    gone(self._state, self._process, self._scope)

    def _reap(self, what: None) -> None:
        found = Expired([], [])
        try:
            found = self._call(lambda: self._driver.expired(LOST_MAX), False, lambda: False)
        except DriverError:
            """The exchange that follows says so."""
        self._shell.keeper.reaped(found)
        self._asks()

    # -- the recorder -------------------------------------------------------------------------

    def _record(self, what: tuple[int, tuple[Any, ...]]) -> None:
        """Repeat the calls that were made, and make the next one."""
        waiting, made = what

        def call(effect: Callable[[], Any], matters: bool) -> Any:
            return self._call(effect, matters, lambda: matters)

        calls = Calls(call, self._state, self._shells, made)
        recorder = Recorder(calls, calls, self._shell.runtime, self._shell.stream, lambda *_: None)  # type: ignore[arg-type]
        try:
            done = recorder.run(waiting)
        except Suspended:
            done = False
        finally:
            self._shells.deaf = False
        if calls.died:
            raise Died
        if calls.suspended:
            self.task.becomes(self._state.now, "record", (waiting, calls.made))
            return
        self._process.tasks.remove(self.task)
        self._machine.recorded(waiting, done)
        self._shell.worker.signal()


def gone(state: State, process: Process, scope: Scope) -> None:
    """A process has died: another one takes its place."""
    machine = process.machine
    assert machine is not None
    n, _, refused = state.store.answers.get(process.name, (0, 0.0, ()))
    if machine.open is not None and machine.open.n == n:
        moves = ((one.move, one.delivery.job_id) for i, one in enumerate(machine.open.settlings) if i not in refused)
        state.untold |= {*moves}
    state.restarts.append(state.now + micros(scope.restart_s))
    state.processes[process.number] = Process(process.number, None, [])
