"""The shell runs a worker's machine, with threads, a lock and a driver. It decides nothing.

A thread holds ``lock`` while it calls the machine, and carries out the machine's signals before it releases the lock.
It calls no server and decodes no job meanwhile. On the simulator's runtime, threads are greenlets.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from itertools import islice
from typing import cast

from .. import events
from ..errors import ClockStandsStill, CommandRefused, DriverError, unexpected
from ..named import NamedQueues
from ..names import DEFAULT, ONLY_DEFAULT
from ..ports import PAUSED, Driver, Exchange, Paused, Place, Runtime
from ..stream import EventStream
from ..text import visible
from . import settle
from .attempt import Attempts
from .machine import Machine
from .machine.state import ALL
from .machine.steps import SECOND, Again, AskDue, Idle, Request, ThreadStep, Wait, micros, not_before
from .recorder import Recorder
from .settle import Delivery, Settling
from .tally import Tally
from .timekeeper import MachineTimekeeper

STILL_S = 5.0
"""If a server's clock does not move for so long, a test has frozen it."""
STUMBLE_S = 1.0
"""How long a thread rests after an error that should not be."""
HAND_BACK_S = 1.0
"""How long a process that is about to exit waits for calls under way."""


def shown(queue: str) -> str:
    """A queue's name in a message."""
    return "the queue" if queue == DEFAULT else f"the queue {queue!r}"


class Worker:
    """What one process runs; its threads call ``run``, its keeper is a ``Keeper``."""

    def __init__(
        self,
        machine: Machine,
        attempts: Attempts,
        *,
        driver: Driver,
        runtime: Runtime,
        stream: EventStream,
        recorder: Recorder,
    ) -> None:
        self.id = machine.id
        self.threads = machine.threads
        self.lease_s = machine.lease / SECOND
        self.machine = machine
        self.error: DriverError | None = None
        """Why the server could not be reached, once the worker has ended without it."""
        self.lost: DriverError | None = None
        """Why the server can't be reached, since it was last heard of."""
        self.attempts = attempts
        self._driver = cast(NamedQueues, driver)  # as such only if the worker serves other queues than the default one
        self._runtime = runtime
        self._stream = stream
        self._recorder = recorder
        self.lock = runtime.condition()
        attempts.timekeeper = MachineTimekeeper(machine, self.lock, runtime)
        self.bell = runtime.condition()
        self.rung = False
        """The keeper was called."""
        self.pause = runtime.condition()
        self.hurried = False
        """True if the next pause between two tries is to end at once."""
        self.tally: Tally | None = None
        """What reports tell, if the driver takes them."""
        self._wait_refused = False
        """The server does not let us wait, and we have said so."""

    @property
    def full(self) -> bool:
        """Whether it has had its ``max_jobs``."""
        return self.machine.full

    @property
    def unsettled(self) -> int:
        """The number of jobs whose settlement the server has not confirmed."""
        return self.machine.unsettled

    def now(self) -> int:
        return micros(self._runtime.monotonic())

    # -- a thread ---------------------------------------------------------------------------

    def run(self) -> None:
        """Take and run jobs until the worker stops.

        Raises what interrupts it, for the caller of ``work()``. A thread of a pool goes on, whatever a driver, a
        logging handler or an exception that was thrown into it does.
        """
        outer = self.attempts.running()
        try:
            while not self._ran_to_the_end():
                """It goes on."""
        finally:
            self.without(1)
            self.attempts.end_thread(outer)

    def _ran_to_the_end(self) -> bool:
        try:
            self._run()
        except BaseException as error:
            if self.attempts.interruptible:
                raise
            self._runtime.sleep(STUMBLE_S)
            self.stumbled(error)
            return False
        return True

    def stumbled(self, error: BaseException) -> None:
        """A thread goes on after an error that should not be."""
        with contextlib.suppress(BaseException):
            events.log.error("a thread of kashvi worker %s goes on after an error", self.id, exc_info=error)

    def _run(self) -> None:
        machine, monotonic, make = self.machine, self._runtime.monotonic, self.attempts.make
        acquire, release = self.lock.acquire, self.lock.release  # `with` takes longer
        step: ThreadStep = None
        ended: Settling | None = None
        try:
            while True:
                acquire()
                try:
                    step = machine.free(int(monotonic() * 1e6 + 0.5), ended)  # micros(), likewise
                    while type(step) is Idle:
                        step = self._idle(step)
                    if machine.wake or machine.bell:
                        self.signal()
                finally:
                    release()
                ended = None
                if type(step) is Delivery:
                    ended = make(step)
                elif step is None:
                    return
                elif type(step) is Request:
                    self.exchange(step)
                    self.check_clock()
                else:
                    self._wait(step)  # type: ignore[arg-type]
        finally:
            if type(step) is Delivery:  # an interrupt came before the end was noted, or while it was told
                with self.lock:
                    machine.interrupted(self.now(), step, ended or self.attempts.over(step))
                    self.signal()

    def _idle(self, idle: Idle) -> ThreadStep:
        """Called with the lock."""
        machine = self.machine
        self.signal()
        try:
            self.lock.wait(None if idle.until is None else max(idle.until - self.now(), 0) / SECOND)
        except BaseException:
            machine.roused(idle)
            raise
        return machine.woken(self.now(), idle)

    def signal(self) -> None:
        """Do what the machine asks for beside its answers. Called with the lock."""
        machine = self.machine
        if machine.wake:
            self.lock.notify_all() if machine.wake == ALL else self.lock.notify(machine.wake)
            machine.wake = 0
        if machine.bell:
            machine.bell = False
            with self.bell:
                self.rung = True
                self.bell.notify_all()
        if machine.hurry:
            machine.hurry = False
            with self.pause:
                self.hurried = True
                self.pause.notify_all()

    def tell_news(self) -> None:
        """Called without the lock: observers are slow."""
        if not self.machine.news:
            return
        with self.lock:
            news, self.machine.news = self.machine.news, []
        for one in news:
            if one == "server lost":
                self._tell_lost()
            elif one == "server back":
                self._stream.emit(events.ServerBack)
                events.warn(f"kashvi worker {self.id}: the server is back")
            elif one.startswith("paused "):
                name = one.partition(" ")[2]
                self._stream.emit(events.QueuePaused, server_at=self.server_now(), worker=self.id, queue=name)
                what = f"{shown(name)} is paused; no job of it starts until it is resumed"
                events.warn(f"kashvi worker {self.id}: {what}")
            elif one.startswith("resumed "):
                name = one.partition(" ")[2]
                self._stream.emit(events.QueueResumed, server_at=self.server_now(), worker=self.id, queue=name)
                events.warn(f"kashvi worker {self.id}: {shown(name)} is resumed")
            elif one == "table silent":
                events.warn("the failure table does not answer; failed jobs wait in the queue until it does")
            else:
                self._driver.wake(self.id)
                self._stream.emit(events.WorkerStopping, worker=self.id)

    def _tell_lost(self) -> None:
        self._stream.emit(events.ServerLost, error=str(self.lost))
        events.warn(f"kashvi worker {self.id} keeps trying: {visible(str(self.lost))}")

    # -- with the server --------------------------------------------------------------------

    def exchange(self, request: Request) -> bool:
        """Send, again and again until there is an answer; False if the machine gives up."""
        answer: Exchange | None = None
        sent_at = 0.0
        over = False
        try:
            while answer is None and not over:
                sent_at = self._runtime.monotonic()
                settlements = [settling.sent(sent_at) for settling in request.settlings]
                try:
                    answer = self._driver.exchange(self.id, request.n, self.lease_s, settlements, request.want)
                except Exception as caught:
                    over = not self._goes_on(request, caught)
            if answer is not None:
                claimed, unsent = self.claimed(request, answer), self.unsent(request, answer)
                self.lost = None
                with self.lock:
                    over = True
                    self.machine.answered(self.now(), request, answer, claimed, micros(sent_at), unsent)
                    if self.tally is not None and not request.reconciles:
                        self.tally.claimed(claimed, answer.server_at)
                    self.signal()
        finally:
            if not over:
                with self.lock:
                    self.machine.unanswered(self.now())
                    self.signal()
        if answer is None:
            return False
        self.tell_news()
        self.tell(request, answer, sent_at)
        return True

    def _goes_on(self, request: Request, caught: Exception) -> bool:
        """After an exchange that failed. False: the machine has given up."""
        again = self.failed(request, caught)
        if again is None:
            return False
        if again.pause:
            seconds = self.pause_s(again)
            with self.pause:
                if not self.hurried:
                    self.pause.wait(seconds)
                self.hurried = False
        return True

    def failed(self, request: Request, caught: Exception) -> Again | None:
        """An exchange failed."""
        if not isinstance(caught, DriverError):
            events.log.exception("the driver failed in a way it must not")
        error = caught if isinstance(caught, DriverError) else unexpected(caught)
        self.lost = error
        with self.lock:
            again = self.machine.lost(self.now(), request, error.maybe_sent)
            self.signal()
        self.tell_news()
        return again

    def pause_s(self, again: Again) -> float:
        """How long to pause, by chance: workers that lost the same server do not come back together."""
        return again.pause / SECOND * (0.5 + self._runtime.random() / 2)

    def claimed(self, request: Request, answer: Exchange) -> list[Delivery]:
        """What an answer brings, decoded."""
        at = answer.server_at
        if not request.reconciles:
            me, new_id, read = self.id, self._runtime.new_id, settle.delivery
            if not answer.claimed_of:
                return [read(raw, me, new_id, at, "exchange", "held", None, DEFAULT) for raw in answer.claimed]
            raws = iter(answer.claimed)
            return [
                read(raw, me, new_id, at, "exchange", "held", None, queue)
                for queue, count in answer.claimed_of
                for raw in islice(raws, count)
            ]
        held, running = answer.listing or ([], [])
        announced = [self._read(raw, at, "wait", "running") for raw in running]
        return announced + [self._read(raw, at, "wait") for raw in held]

    def _read(
        self, raw: bytes, server_at: float, claim: str, place: Place = "held", queue: str | None = None
    ) -> Delivery:
        return settle.delivery(raw, self.id, self._runtime.new_id, server_at, claim, place, queue=queue)

    def unsent(self, request: Request, answer: Exchange) -> Sequence[Settling]:
        """The attempts that have failed since their follow-ups can't be sent."""
        if not answer.unsendable or request.reconciles:
            return ()
        prefix: str = getattr(self._driver, "prefix", "")
        return [self.attempts.unsent(request.settlings[i], k, prefix) for i, k in answer.unsendable]

    def tell(self, request: Request, answer: Exchange, sent_at: float) -> None:
        """Tell observers and the recorder the outcome of each settlement."""
        refused = answer.refused
        if self._stream.observed:
            unsent = {i for i, _ in answer.unsendable} if answer.unsendable else ()
            for i, settling in enumerate(request.settlings):
                if i in unsent:
                    continue  # it has failed, and is settled as that
                duplicates = [k for one, k in answer.duplicates if one == i] if answer.duplicates else ()
                cancelled = bool(answer.cancelled) and i in answer.cancelled
                settle.tell(self._stream, settling, answer.settled_at, sent_at, i in refused, duplicates, cancelled)
        others = [i for i, settling in enumerate(request.settlings) if settling.move != "done"]
        if self.tally is not None:
            queue = DEFAULT if self.machine.queues == ONLY_DEFAULT else None
            with self.lock:
                self.tally.settled(request.settlings, others, refused, answer.cancelled, queue)
        for i in others:
            settling = request.settlings[i]
            if settling.move == "fail" and i not in refused and i not in answer.cancelled:
                self._recorder.remember(settling, answer.server_at - (sent_at - settling.ended_at))

    def check_clock(self) -> None:
        """Raises ClockStandsStill."""
        if self.machine.stands_still > STILL_S * SECOND:
            raise ClockStandsStill(self.machine.stands_still / SECOND)

    def _wait(self, step: AskDue | Wait) -> None:
        """Wait on the server for one job."""
        began, wait = self.now(), step if isinstance(step, Wait) else None
        got: Delivery | int | None = None
        maybe_sent, lost = True, True
        try:
            if wait is None:
                wait = self._ask_due()
            if wait.time > 0:
                got = self._waited_for(wait)
            lost = False
        except Exception as caught:
            error = caught if isinstance(caught, DriverError) else unexpected(caught)
            maybe_sent = error.maybe_sent
            if wait is not None and isinstance(error, CommandRefused):
                self._rest(error, wait.time - (self.now() - began))
        finally:
            with self.lock:
                if lost or wait is None:
                    self.machine.wait_lost(self.now(), maybe_sent)
                else:
                    self.machine.waited(self.now(), wait, got)
                    if self.tally is not None and isinstance(got, Delivery):
                        self.tally.claimed((got,), got.server_at)
                self.signal()
        seconds = (wait.time if wait else 0) / SECOND
        left = seconds - (self.now() - began) / SECOND
        if got is None and left > seconds / 2 and self.machine.stopping_at is None:
            self._runtime.sleep(min(left, 0.05))  # a wait that does not wait must not make us spin

    def _ask_due(self) -> Wait:
        queues = self.asks_for()
        return self.due(self._driver.next_due(queues) if queues else self._driver.next_due())

    def asks_for(self) -> tuple[str, ...]:
        """The queues to ask about before a wait; empty: the default queue alone."""
        return tuple(one.name for one in self.machine.queues if self.machine.queues != ONLY_DEFAULT)

    def due(self, due: float | Paused | None) -> Wait:
        """When the server says that a job is due, or that the queue is paused."""
        at = None if due is None or due is PAUSED else not_before(due)
        with self.lock:
            wait = self.machine.due(self.now(), at, due is PAUSED)
            self.signal()
        self.tell_news()
        return wait

    def _waited_for(self, wait: Wait) -> Delivery | int | None:
        seconds = wait.time / SECOND
        if wait.queues:
            return self.found(self._driver.wait(self.id, seconds, wait.queues), wait)
        return self.found(self._driver.wait(self.id, seconds), wait)

    def found(self, got: bytes | float | None, wait: Wait) -> Delivery | int | None:
        """What a wait brought."""
        if isinstance(got, bytes):
            queue = wait.queues[0] if wait.queues else DEFAULT
            return self._read(got, self.server_now(), "wait", queue=queue)
        return None if got is None else not_before(got)

    def _rest(self, error: CommandRefused, left: int) -> None:
        """The server does not let us wait (it is full, or a right is missing): look as often as if it did."""
        self.warn(error)
        self._runtime.sleep(max(left, 0) / SECOND)

    def warn(self, error: CommandRefused) -> None:
        """Once, that the server does not let us wait."""
        if not self._wait_refused:
            self._wait_refused = True
            events.warn(f"kashvi worker {self.id} can't wait for jobs and looks from time to time: {error}")

    def server_now(self) -> float:
        """The server's time: right, or ahead by a round trip at the most."""
        return self._runtime.monotonic() + self.machine.server_ahead / SECOND

    # -- from outside -----------------------------------------------------------------------

    def stop(self) -> None:
        """Take no more jobs; hand back what has not started; let what runs end."""
        with self.lock:
            known = self.machine.stopping_at is not None
            self.machine.stop(self.now())
            self.signal()
        if known:
            self._driver.wake(self.id)
        self.tell_news()

    def hand_back(self) -> bool:
        """The process is about to exit: return what runs, uncounted, whether or not it ends in time.

        False if the server has not confirmed it, or if a wait whose answer is not here may claim a job.
        """
        self.stop()
        machine = self.machine
        with self.lock:
            machine.one_try()
            self.signal()
            until = self._runtime.monotonic() + HAND_BACK_S
            # A wait under way would take the job right back, for a process that is about to be gone.
            while machine.calling and self._runtime.monotonic() < until:
                self.lock.wait(HAND_BACK_S)
            if machine.exchanging:
                return False  # the server does not answer: the lease will run out
            request = machine.hand_back(self.now())
        while request is not None:
            if not self.exchange(request):
                return False
            with self.lock:
                request = machine.hand_over(self.now())
        return not (machine.ghost or machine.waiting or machine.unsettled)

    def without(self, threads: int) -> None:
        """``threads`` threads have ended, or never ran."""
        with self.lock:
            self.machine.fewer(threads)
            self.signal()

    # -- for the keeper -----------------------------------------------------------------------

    def wait_for_bell(self, seconds: float) -> None:
        """Wait until a thread calls the keeper, at most for so long."""
        with self.bell:
            if not self.rung:
                self.bell.wait(seconds)
            self.rung = False
