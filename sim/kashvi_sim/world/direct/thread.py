"""One thread of a worker, without a greenlet: see ``kashvi.worker.shell``. Its jobs have declared handlers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, cast

from kashvi.errors import CommandRefused, DriverError, unexpected
from kashvi.jobs.codec import Job
from kashvi.worker.hooks import RUNNING
from kashvi.worker.machine.steps import SECOND, AskDue, Idle, Request, ThreadStep, Wait
from kashvi.worker.running import Running
from kashvi.worker.settle import Delivery, Settling
from kashvi.worker.shell import STUMBLE_S

from ..kernel import Turns
from ..stage import unstaged
from .exchange import Exchanges

if TYPE_CHECKING:
    from ..world import World


class Act(Protocol):
    """What an attempt does."""

    @property
    def takes_s(self) -> float: ...


class Declared(Protocol):
    """A job whose handler is declared."""

    def act(self) -> Act:
        """What the attempt of the current task does."""

    def ends(self, act: Any) -> None:
        """The end of ``handle()``, when its time is over: it may raise, or kill the process."""


class DirectThread:
    """What all threads of one worker run."""

    def __init__(self, world: World, exchanges: Exchanges) -> None:
        self._world = world
        self._exchanges = exchanges
        self._kernel = exchanges.kernel
        self._process = exchanges.process
        self._line = exchanges.line
        self._worker = exchanges.worker

    def run(self) -> Turns[None]:
        """For ``Worker.run``."""
        try:
            while not (yield from self._ran_to_the_end()):
                """It goes on."""
        finally:
            self._worker.without(1)

    def _ran_to_the_end(self) -> Turns[bool]:
        try:
            yield from self._run()
        except BaseException as error:
            if self._kernel.is_closed:
                raise
            yield from self._exchanges.sleep(STUMBLE_S)
            self._worker.stumbled(error)
            return False
        return True

    def _run(self) -> Turns[None]:
        worker, machine = self._worker, self._worker.machine
        step: ThreadStep = None
        ended: Settling | None = None
        try:
            while True:
                step = machine.free(worker.now(), ended)
                while type(step) is Idle:
                    step = yield from self._idle(step)
                if machine.wake or machine.bell:
                    worker.signal()
                ended = None
                if type(step) is Delivery:
                    ended = yield from self._attempt(step)
                elif step is None:
                    return
                elif type(step) is Request:
                    yield from self._exchanges.make(step)
                    worker.check_clock()
                else:
                    yield from self._wait(step)  # type: ignore[arg-type]
        finally:
            if type(step) is Delivery:
                machine.interrupted(worker.now(), step, ended or worker.attempts.over(step))
                worker.signal()

    def _idle(self, idle: Idle) -> Turns[ThreadStep]:
        worker, machine = self._worker, self._worker.machine
        worker.signal()
        seconds = None if idle.until is None else max(idle.until - worker.now(), 0) / SECOND
        try:
            if self._exchanges.wait_in(worker.lock, seconds):
                yield
        except BaseException:
            machine.roused(idle)
            raise
        return machine.woken(worker.now(), idle)

    def _attempt(self, d: Delivery) -> Turns[Settling]:
        attempts = self._worker.attempts
        job = attempts.decoded(d)
        if isinstance(job, Settling):
            return job
        running, began = Running(d, attempts.timekeeper, attempts.follow_ups), attempts.begun(d)
        try:
            yield from self._handled(job, running)
        except BaseException as error:
            if self._kernel.is_closed:
                raise
            return attempts.failed(d, began, error)
        running.over = True
        return attempts.succeeded(d, began, running.taken())

    def _handled(self, job: Job, running: Running) -> Turns[None]:
        """What ``handle()`` on a stage does."""
        world, process, task = self._world, self._process, self._kernel.current
        assert task is not None
        if not world.calm:
            world.poison(process)
            if process.dead:
                yield  # and never goes on
            yield from self._line.strike("before", "handle", None)
        task.on_stage = True
        try:
            declared = cast(Declared, unstaged(job))
            act = declared.act()
            if act.takes_s > 0 and self._kernel.waits(None, act.takes_s):
                yield
            outside = RUNNING.set(running)
            try:
                declared.ends(act)
            finally:
                RUNNING.reset(outside)
            if process.dead:
                yield  # and never goes on
        finally:
            task.on_stage = False
            if not (world.calm or self._kernel.is_closed):
                yield from self._line.strike("after", "handle", None)

    def _wait(self, step: AskDue | Wait) -> Turns[None]:
        worker, machine = self._worker, self._worker.machine
        began, wait = worker.now(), step if isinstance(step, Wait) else None
        got: Delivery | int | None = None
        maybe_sent, lost = True, True
        try:
            if wait is None:
                wait = worker.due((yield from self._line.next_due(worker.asks_for())))
            if wait.time > 0:
                got = worker.found((yield from self._line.wait(worker.id, wait.time / SECOND, wait.queues)), wait)
            lost = False
        except Exception as caught:
            error = caught if isinstance(caught, DriverError) else unexpected(caught)
            maybe_sent = error.maybe_sent
            if wait is not None and isinstance(error, CommandRefused):
                worker.warn(error)
                yield from self._exchanges.sleep((wait.time - (worker.now() - began)) / SECOND)
        finally:
            if lost or wait is None:
                machine.wait_lost(worker.now(), maybe_sent)
            else:
                machine.waited(worker.now(), wait, got)
            worker.signal()
        seconds = (wait.time if wait else 0) / SECOND
        left = seconds - (worker.now() - began) / SECOND
        if got is None and left > seconds / 2 and machine.stopping_at is None:
            yield from self._exchanges.sleep(min(left, 0.05))
