"""The worker of one process: threads that share one lease, one box of finished work and one exchange with the server.

There is no dispatcher thread. A thread that finds nothing to run leads: it hands over everyone's finished work and
takes new work for every idle thread in one exchange; with nothing to hand over and nothing to take, it waits on
the server for the next job. What it has and what comes next is in ``books.py``; when all are busy, ``keeper.py``
looks after the rest. The books are changed under ``_lock``; no call leaves the process while it is held.
"""

from __future__ import annotations

import contextlib

from . import events, settle
from .attempt import Attempts
from .books import FLUSH_S, Books, Limits, Step
from .errors import ClockStandsStill, CommandRefused, DriverError, unexpected
from .lease import Answered, Lease
from .ports import EARLIER_S, WAIT_MAX_S, Driver, Exchange, Place, Runtime
from .recorder import Recorder
from .settle import Delivery, Settling

STILL_S = 5.0
"""A server's clock that does not move for so long was frozen by a test."""
STUMBLE_S = 1.0
"""How long a thread rests after an error that should not be."""
HAND_BACK_S = 1.0
"""How long a process that is about to exit waits for calls under way."""


class Worker:
    """What one process runs; its threads call ``run``, its keeper is a ``Keeper``."""

    def __init__(
        self,
        lease: Lease,
        attempts: Attempts,
        *,
        driver: Driver,
        runtime: Runtime,
        stream: events.EventStream,
        recorder: Recorder,
        threads: int = 1,
        limits: Limits = Limits(),
    ) -> None:
        self.id = lease.worker
        self.lease = lease
        self.threads = threads
        self.limits = limits
        self.alive = threads
        self.unrecorded = 0
        """Exhausted jobs that wait for a table, by the server's last answer."""
        self.error: DriverError | None = None
        """Why the server could not be reached, once the worker has ended without it."""
        self._attempts = attempts
        self._driver = driver
        self._runtime = runtime
        self._stream = stream
        self._recorder = recorder
        self._lock = runtime.condition()
        self._bell = runtime.condition()
        self._books = Books(threads, limits, lease.lease_s, runtime.monotonic)
        self._born_at = runtime.monotonic()
        self._server_at, self._server_moved_at = 0.0, self._born_at
        """The server's time by its last answer, and when, by our own clock, it was last another one."""
        self._waits = 0
        self._counted_at = self._born_at
        """When the server's count of what we hold was last compared with ours: never while somebody waits."""
        self._ghost = False
        """A wait whose answer never came may still claim a job."""
        self._wait_refused = False
        """The server does not let us wait, and we have said so."""
        self._flush_asked = False
        self._called = False
        """An idle thread has been called and has not answered yet."""

    @property
    def stopping(self) -> bool:
        return self._books.stopping

    @property
    def full(self) -> bool:
        """Whether it has had its ``max_jobs``."""
        return self._books.full

    @property
    def gave_up(self) -> bool:
        """Whether it ends since the server can't be reached."""
        return self._books.gave_up

    # -- a thread ---------------------------------------------------------------------------

    def run(self) -> None:
        """Take and run jobs until the worker stops.

        Raises what interrupts it, for the caller of ``work()``. A thread of a pool goes on, whatever a driver, a
        logging handler or an exception that was thrown into it does.
        """
        try:
            while not self._ran_to_the_end():
                """It goes on."""
        finally:
            with self._lock:
                self.alive -= 1
            self.ring()

    def _ran_to_the_end(self) -> bool:
        try:
            self._run()
        except BaseException as error:
            if self._attempts.interruptible:
                raise
            self._runtime.sleep(STUMBLE_S)
            with contextlib.suppress(BaseException):
                events.log.error("a thread of kashvi worker %s goes on after an error", self.id, exc_info=error)
            return False
        return True

    def _run(self) -> None:
        delivery: Delivery | None = None
        ended: Settling | None = None
        try:
            while (step := self._step(ended)) != "end":
                ended = delivery = None  # noted by now; an idle thread keeps no job in mind
                if isinstance(step, Delivery):
                    delivery = step
                    ended = self._attempts.make(delivery)
                elif step == "wait":
                    self._wait()
                elif step == "audit":
                    self._compare()
                else:
                    self._exchange()
                    self._check_clock()
        finally:
            with self._lock:
                if delivery is not None and id(delivery) in self._books.running:
                    # An interrupt came before the attempt's end was noted, or while it was told: else hand it back.
                    over = ended or self._attempts.over(delivery)
                    self._books.ended(over or settle.returned(delivery, self._runtime.monotonic()))

    def _step(self, ended: Settling | None) -> Delivery | Step:
        """Note how this thread's last attempt ended; returns the next thing to do, marked as begun."""
        books = self._books
        with self._lock:
            if ended is not None:
                books.ended(ended)
            stopping = books.stopping
            while (step := books.choose()) is None:
                if books.outbox and not books.exchanging:  # a wait is in the way
                    self._ask_to_flush()
                books.idle += 1
                watched = books.watch()
                self._lock.wait(watched and max(watched - self._runtime.monotonic(), 0.0))
                books.watched(watched)
                books.idle -= 1
                self._called = False
            if books.stopping and not stopping:
                self._lock.notify_all()
            if step in ("exchange", "audit"):
                books.exchanging = True
            elif step == "wait":
                books.waiting = True
                self._waits += 1
            elif step != "end" and books.owes:
                self._ask_to_flush()
            if books.idle and books.leaves_work:
                self._call()
            return step

    def _ask_to_flush(self) -> None:
        """Have the keeper hand over what is finished, if no thread does so soon."""
        if not self._flush_asked:
            self._flush_asked = True
            self.ring()

    def _call(self, leader: bool = True) -> None:
        """Wake one idle thread, which wakes the next: short jobs need few. Called with the lock.

        ``leader``: the caller, which had the lead, may not come back for it; else it goes on by itself.
        """
        if self.stopping:
            self._lock.notify_all()
        elif leader and self._books.idle and not self._called:
            self._called = True
            self._lock.notify()

    # -- with the server --------------------------------------------------------------------

    def _exchange(self, claim: bool = True) -> bool:
        """Hand over and take; False if we gave up. The caller has set ``exchanging``."""
        books = self._books
        answered: Answered | None = None
        with self._lock:
            batch, want = books.sending(claim)
            waits, quiet = self._waits, not books.waiting
            self._flush_asked = False
        try:
            answered = self.lease.exchange(batch, want, self._give_up)
        finally:
            with self._lock:
                books.exchanging = False
                sent = answered.request.settlings if answered else self.lease.unanswered
                if sent is not batch:  # an older request went first
                    books.outbox = batch + books.outbox
                books.gave_up = answered is None and self._gives_up
                if answered:
                    self._absorb(answered, quiet and waits == self._waits)
                else:
                    books.look = True  # the request may have claimed jobs, and is sent again
                self._call(leader=answered is None or not claim)
        if answered:
            self._tell(answered)
        return answered is not None

    def _check_clock(self) -> None:
        """Raises ClockStandsStill."""
        still_s, books = self._runtime.monotonic() - self._server_moved_at, self._books
        if still_s > STILL_S and self.limits.until == "drained" and books.next_due_at is not None and not books.running:
            raise ClockStandsStill(still_s)

    def _absorb(self, answered: Answered, quiet: bool) -> None:
        """Bring the books up to date. Called with the lock."""
        request, answer = answered.request, answered.answer
        books = self._books
        holding = self.lease.holding
        if answer.server_at != self._server_at:
            self._server_at, self._server_moved_at = answer.server_at, self._runtime.monotonic()
        refused = set(answer.refused)
        for i, settling in enumerate(request.settlings):
            d = settling.delivery
            if settling.move == "start":
                books.announced(d, i in refused)
                # Refused, it may be held all the same: taken over and claimed again unchanged, under another delivery.
                books.audit = books.audit or i in refused
                continue
            # Refused or not, ours is off our books; if the server still has it, we compare.
            if d.owner == self.id and (left := holding.pop(d.raw, 0) - 1) > 0:
                holding[d.raw] = left
        if answer.claimed:
            books.claimed(answer.claimed)
        for raw in answer.claimed:
            holding[raw] = holding.get(raw, 0) + 1
            self._admit(raw, answer.server_at)
        books.backlog = answer.ready
        self.unrecorded = answer.unrecorded
        due_in = answer.next_due_s
        books.next_due_at = None if due_in is None else self._runtime.monotonic() + max(due_in, 0.0)
        if quiet:
            self._counted_at = answered.sent_at
        if answered.repeated or (quiet and answer.holding != holding.total()):
            books.audit = True
        self._release_if_stopping()

    def _compare(self) -> bool:
        """Find out what the server thinks we hold. The caller has set ``exchanging``; no wait is under way."""
        books = self._books
        answer: Exchange | None = None
        try:
            answer = self.lease.repeat(self._give_up)
        finally:
            with self._lock:
                books.exchanging = False
                if answer and answer.listing:
                    books.audit = False
                    for raw, place in self.lease.compare(answer.listing):
                        self._admit(raw, answer.server_at, "wait", place)
                books.gave_up = answer is None and self._gives_up
                books.look = True
                self._release_if_stopping()
                self._call(leader=True)
        return answer is not None

    def _wait(self) -> None:
        """Wait on the server for one job. The caller has set ``waiting``."""
        books = self._books
        now = self._runtime.monotonic()
        seconds = 0.0
        got: bytes | float | None = None
        lost: DriverError | None = None
        try:
            if (seconds := self._until_due(now)) > 0:
                got = self._driver.wait(self.id, seconds)
        except DriverError as error:
            lost = error
            if isinstance(error, CommandRefused):
                self._rest(error, seconds - (self._runtime.monotonic() - now))
        except Exception as error:
            lost = unexpected(error)
        except BaseException:
            books.audit = self._ghost = True
            raise
        finally:
            with self._lock:
                books.waited()
                uncounted = self._runtime.monotonic() - self._counted_at >= self.lease.lease_s / 4
                books.look = isinstance(got, bytes) or lost is not None or uncounted
                if isinstance(got, bytes):
                    books.waited_at = self._runtime.monotonic()
                    self.lease.holding[got] += 1
                    self._admit(got, self.lease.server_now(), "wait")
                elif got is not None:
                    due = got + self._runtime.monotonic() - self.lease.server_now()
                    books.due(due)
                    # Not earlier than we would have looked: the server's clock jumped, and an exchange tells how far.
                    books.look = books.look or due > now + seconds - EARLIER_S
                if lost is not None and lost.maybe_sent:
                    books.audit = self._ghost = True
                self._release_if_stopping()
                self._call(leader=books.audit)
        left = seconds - (self._runtime.monotonic() - now)
        if got is None and left > seconds / 2 and not books.stopping:
            self._runtime.sleep(min(left, 0.05))  # a wait that does not wait must not make us spin

    def _rest(self, error: CommandRefused, seconds: float) -> None:
        """The server does not let us wait (it is full, or a right is missing): look as often as if it did."""
        if not self._wait_refused:
            self._wait_refused = True
            events.log.warning("kashvi worker %s can't wait for jobs and looks from time to time: %s", self.id, error)
        self._runtime.sleep(max(seconds, 0.0))

    def _until_due(self, now: float) -> float:
        """How long to wait. The last exchange said what is delayed; others may have delayed more since."""
        books, due = self._books, None
        if now - self.lease.renewed_at > WAIT_MAX_S / 2 and (due := self._driver.next_due()) is not None:
            due += self._runtime.monotonic() - self.lease.server_now()
        with self._lock:
            if due is not None:
                books.due(due)
            at, due = books.next_at, books.next_due_at  # what has passed meanwhile is no longer next
            if due is not None and due <= self._runtime.monotonic():
                return 0.0
            if at is None:
                return WAIT_MAX_S
            left = max(at - now, 0.0)
            if left < WAIT_MAX_S and books.idle and books.unwatched:
                self._lock.notify()  # it will watch: a server may end our wait 100 ms late
            return min(WAIT_MAX_S, left)

    def _admit(self, raw: bytes, server_at: float, claim: str = "exchange", place: Place = "held") -> None:
        self._books.admit(settle.delivery(raw, self.id, self._runtime.new_id, server_at, claim, place))

    def _tell(self, answered: Answered) -> None:
        request, answer = answered.request, answered.answer
        refused = set(answer.refused)
        for i, settling in enumerate(request.settlings):
            if self._stream.observed:
                settle.tell(self._stream, settling, answer.settled_at, answered.sent_at, i in refused)
            if settling.move == "fail" and i not in refused:
                self._recorder.remember(settling, answer.server_at - (answered.sent_at - settling.ended_at))
        if answer.unrecorded and self._recorder.has_store:
            self.ring()

    # -- stopping ---------------------------------------------------------------------------

    def stop(self) -> None:
        """Take no more jobs; hand back what has not started; let what runs end."""
        with self._lock:
            news = not self.stopping
            self._books.stop()
            self._lock.notify_all()
        self._driver.wake(self.id)
        self.lease.hurry()
        self.ring()
        if news:
            self._stream.emit(events.WorkerStopping, worker=self.id)

    def stop_if_over(self) -> None:
        """After ``max_time``."""
        limit = self.limits.max_time_s
        if limit is not None and not self.stopping and self._runtime.monotonic() - self._born_at >= limit:
            self.stop()

    def _give_up(self) -> bool:
        self.stop_if_over()
        unheard_s = self._runtime.monotonic() - self.lease.renewed_at
        if self.limits.until != "stopped" and not self.stopping and unheard_s > self.lease.lease_s:
            self.stop()  # it can't know whether the queue is empty
        return self._gives_up

    @property
    def _gives_up(self) -> bool:
        """Whether it stops, and has tried to reach the server for long enough: for a lease, if it has anything in hand.

        A wait whose answer was lost may have claimed a job all the same; its lease runs out whether we stay or not.
        """
        books, lease = self._books, self.lease
        if not books.stopping:
            return False
        empty_handed = not (books.running or books.outbox or lease.holding or lease.unanswered)
        return (empty_handed and lease.lost is not None) or books.give_up()

    def _release_if_stopping(self) -> None:
        if self.stopping:
            self._books.release()

    def hand_back(self) -> bool:
        """The process is about to exit: return what runs, uncounted, whether or not it ends in time.

        False if the server has not confirmed it, or if a wait whose answer is not here may claim a job.
        """
        self.stop()
        books = self._books
        with self._lock:
            books.stopping_since -= self.lease.lease_s  # one try
            self.lease.hurry()
            now = self._runtime.monotonic()
            # A wait under way would take the job right back, for a process that is about to be gone.
            while (books.exchanging or books.waiting) and self._runtime.monotonic() - now < HAND_BACK_S:
                self._lock.wait(HAND_BACK_S)
            if books.exchanging:
                return False  # the server does not answer: the lease will run out
            books.outbox += [settle.returned(d, now) for d in books.running.values()]
            if not books.outbox and self.lease.unanswered is None:
                return not (self._ghost or books.waiting)
            books.exchanging = True
        return self._exchange(claim=False) and not (self._ghost or books.waiting)

    def without(self, threads: int) -> None:
        """So many threads never came to run."""
        with self._lock:
            self.alive = max(self.alive - threads, 0)
        self.ring()

    # -- for the keeper -----------------------------------------------------------------------

    def ring(self) -> None:
        """Call the keeper."""
        with self._bell:
            self._bell.notify_all()

    def wait_for_bell(self, seconds: float) -> None:
        """Until somebody rings, or for so long; finished work gets a moment to gather before it is handed over."""
        with self._bell:
            if self.alive and not self._flush_asked:
                self._bell.wait(seconds)
        if self.alive and self._flush_asked:
            self._runtime.sleep(FLUSH_S)

    def put(self, settlings: list[Settling]) -> None:
        """To be handed over at the next occasion."""
        with self._lock:
            self._books.put(settlings)

    def exchange_if_due(self) -> None:
        """Renew the lease and hand over what has waited, when no thread comes to it."""
        books = self._books
        with self._lock:
            books.release_hostages()
            overdue = self._runtime.monotonic() - self.lease.renewed_at >= self.lease.lease_s / 3
            due = not books.exchanging and (overdue or books.overdue)
            books.exchanging = books.exchanging or due
            self._flush_asked = books.owes and not books.exchanging  # what ended just now is due in a moment
            if books.turns.waiting:
                self._call()  # one may start by now
        if due:
            self._exchange(claim=False)

    def settle_all(self) -> bool:
        """Exchange until nothing is left to hand over; False if the server stays away."""
        books = self._books
        while True:
            with self._lock:
                while books.exchanging:  # by ``hand_back``, at the exit of the process
                    self._lock.wait(HAND_BACK_S)
                if not (books.audit or books.outbox or self.lease.unanswered is not None):
                    return True
                if self.lease.lost is not None and self._gives_up:
                    return False
                books.exchanging = True
            if not (self._compare() if books.audit else self._exchange(claim=False)):
                return False

    @property
    def hurries(self) -> bool:
        """Whether it has settlements for the dead, or about suspects, that have not gone out yet."""
        return self._books.urgent

    @property
    def unsettled(self) -> int:
        """Of how many jobs the server has not confirmed what became of them."""
        return sum(s.move != "leave" for s in (*self._books.outbox, *(self.lease.unanswered or ())))

    def leave(self) -> None:
        """After ``settle_all``: off the list of workers, unless something of ours may still arrive."""
        if not self._ghost and not self.lease.holding and self.lease.lost is None:
            self._books.stopping_since -= self.lease.lease_s  # one try: others take it off in an hour
            self.put([settle.gone(self.id, self._runtime.monotonic())])
            self.settle_all()
