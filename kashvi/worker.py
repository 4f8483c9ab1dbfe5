"""The worker of one process: threads that share one lease, one box of finished work and one exchange with the server.

There is no dispatcher thread. A thread that finds nothing to run leads: it hands over everyone's finished work and
takes new work for every idle thread in one exchange; with nothing to hand over and nothing to take, it waits on
the server for the next job. When all are busy, ``keeper.py`` looks after the rest. All shared state is changed
under ``_lock``; no call leaves the process while it is held.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Literal, NamedTuple

from . import attempt, events, settle
from .errors import DriverError, UndeliverableJob
from .job import Job
from .lease import Answered, Lease
from .ports import Driver, Runtime
from .recorder import Recorder
from .registry import Registry
from .settle import Delivery, Settling

WAIT_MAX_S = 0.5
"""How long an idle worker waits before it looks for due jobs again."""
BATCH_MAX = 100
PREFETCH_S = 0.02
"""Claim ahead what the threads are likely to finish in this time."""
FLUSH_S = 0.02
"""Finished work is handed over after this time even while more work is at hand."""
HAND_BACK_S = 1.0
"""How long a process that is about to exit waits for calls under way."""
HOSTAGE_S = 1.0
"""Claimed jobs that could not start for so long go back to the queue, for others."""

Until = Literal["stopped", "empty", "drained"]
Step = Literal["exchange", "audit", "wait", "end"]


class Limits(NamedTuple):
    """When a worker ends by itself."""

    until: Until = "stopped"
    max_jobs: int | None = None
    max_time_s: float | None = None


class Worker:
    """What one process runs; its threads call ``run``, its keeper is a ``Keeper``."""

    def __init__(
        self,
        *,
        driver: Driver,
        registry: Registry,
        runtime: Runtime,
        stream: events.EventStream,
        recorder: Recorder,
        max_attempts: Callable[[], int],
        threads: int = 1,
        lease_s: float = 30.0,
        limits: Limits = Limits(),
        interruptible: bool = False,
    ) -> None:
        self.id = runtime.new_id()
        self.threads = threads
        self._driver = driver
        self._registry = registry
        self._runtime = runtime
        self._stream = stream
        self._recorder = recorder
        self._max_attempts = max_attempts
        self.limits = limits
        self._interruptible = interruptible
        self.lease = Lease(driver, self.id, lease_s, runtime, stream)
        self._lock = runtime.condition()
        self._bell = runtime.condition()

        self._ready: deque[Delivery] = deque()
        self._ready_since = 0.0
        self._suspects: deque[Delivery] = deque()
        self._suspect_at: float | None = None
        self._running: dict[int, Delivery] = {}
        self._outbox: list[Settling] = []
        self.alive = threads
        self._taken = 0
        self._job_s: float | None = None

        self._exchanging = False
        self._waiting = False
        self._waits = 0
        self._look = True
        self._backlog = 0
        self._next_due_at: float | None = None
        self.unrecorded = 0
        self._audit = False
        self._ghost = False
        self._flush_asked = False
        self._urgent = False
        self.stopping = False
        self._stopping_since = 0.0
        self._gave_up = False

    # -- a thread ---------------------------------------------------------------------------

    def run(self) -> None:
        """Take and run jobs until the worker stops."""
        try:
            while (delivery := self._next()) is not None:
                try:
                    self._attempt(delivery)
                finally:
                    self._return_unended(delivery)
        finally:
            with self._lock:
                self.alive -= 1
            self.ring()

    def _return_unended(self, d: Delivery) -> None:
        """An interrupt came before the attempt's end was noted: hand the job back."""
        if id(d) in self._running:
            self._put(settle.returned(d, self._runtime.monotonic()), None)

    def _next(self) -> Delivery | None:
        while True:
            with self._lock:
                step = self._choose()
                while step is None:
                    self._lock.wait()
                    step = self._choose()
                if step in ("exchange", "audit"):
                    self._exchanging = True
                elif step == "wait":
                    self._waiting = True
                    self._waits += 1
            if isinstance(step, Delivery):
                return step
            if step == "end":
                return None
            if step == "wait":
                self._wait()
            elif step == "audit":
                self._compare()
            else:
                self._exchange()

    def _choose(self) -> Delivery | Step | None:
        """What this idle thread does next; None: nothing, until something changes. Called with the lock."""
        late = self._outbox and (self._urgent or self._runtime.monotonic() - self._outbox[0].ended_at > FLUSH_S)
        if self._ready and not self.stopping and not (late and not self._exchanging):
            return self._take()
        if self._gave_up:
            return "end"
        if not self._exchanging:
            if self._audit:
                return None if self._waiting else "audit"
            if self._outbox or self._may_start_suspect() or self._wants_jobs():
                return "exchange"
        if self.stopping:
            return None if self._exchanging else "end"
        if self._finished():
            self._stop()
            return "end"
        if self._waiting or self._exchanging or self._want() <= 0:
            return None
        return "wait"

    def _take(self) -> Delivery:
        delivery = self._ready.popleft()
        self._running[id(delivery)] = delivery
        self._taken += 1
        if delivery.place == "running":
            self._suspect_at = self._runtime.monotonic()
        if self.limits.max_jobs is not None and self._taken >= self.limits.max_jobs:
            self._stop()
        if self._outbox and not self._flush_asked:
            self._flush_asked = True
            self.ring()
        return delivery

    def _wants_jobs(self) -> bool:
        if self.stopping or self._want() <= 0:
            return False
        due = self._next_due_at is not None and self._runtime.monotonic() >= self._next_due_at
        return self._look or self._backlog > 0 or due

    def _want(self) -> int:
        """How many jobs to claim: one for each idle thread, and more when jobs are short."""
        idle = self.threads - len(self._running)
        ahead = int(PREFETCH_S * self.threads / self._job_s) if self._job_s else 0
        want = min(max(idle, 0) + ahead, BATCH_MAX) - len(self._ready) - len(self._suspects)
        if self.limits.max_jobs is not None:
            want = min(want, self.limits.max_jobs - self._taken - len(self._ready) - len(self._suspects))
        return want

    def _may_start_suspect(self) -> bool:
        """One suspect at a time: the next when the last has ended or has run for one lease."""
        if self.stopping or not self._suspects:
            return False
        if len(self._running) + len(self._ready) >= self.threads:
            return False  # announced means counted, so not before a thread is free
        at = self._suspect_at
        return at is None or self._runtime.monotonic() - at >= self.lease.lease_s

    def _finished(self) -> bool:
        if self.limits.until == "stopped" or self._running or self._ready or self._suspects:
            return False
        if self._exchanging or self._waiting or self._look or self._backlog:
            return False
        return self.limits.until == "empty" or self._next_due_at is None

    def _attempt(self, d: Delivery) -> None:
        began = self._runtime.monotonic()
        try:
            if d.error is not None:
                raise d.error
            job = attempt.decode(d.envelope, self._registry)
        except UndeliverableJob as why:
            settling = settle.undeliverable(d, began, attempt.printable(str(why)))
            self._stream.emit(
                events.AttemptFailed, job_id=d.job_id, type=d.type, attempt=0, duration_s=0.0, error=settling.error
            )
        else:
            settling = self._handle(d, job)
        self._put(settling, settling.ended_at - began)

    def _handle(self, d: Delivery, job: Job) -> Settling:
        number = d.attempts + 1
        about = {"job_id": d.job_id, "type": d.type, "attempt": number}
        if self._stream.observed:
            self._stream.emit(
                events.AttemptStarted, worker=self.id, claim=d.claim, suspect=d.suspect,
                server_at=d.server_at, **about,
            )  # fmt: skip
        began = self._runtime.monotonic()
        try:
            job.handle()
        except BaseException as error:
            ended = self._runtime.monotonic()
            if self._interruptible and isinstance(error, KeyboardInterrupt):
                raise
            text = attempt.describe(error)
            events.log.debug("attempt %d of %s %s failed", number, d.type, d.job_id, exc_info=error)
            self._stream.emit(events.AttemptFailed, duration_s=ended - began, error=text, **about)
            return settle.failed(d, ended, text, self._max_attempts())
        ended = self._runtime.monotonic()
        self._stream.emit(events.AttemptSucceeded, duration_s=ended - began, **about)
        return settle.succeeded(d, ended)

    def _put(self, settling: Settling, took_s: float | None) -> None:
        with self._lock:
            d = settling.delivery
            self._running.pop(id(d), None)
            if d.place == "running":
                self._suspect_at = None
                self._urgent = True  # until it is settled, our death would count against a job that has ended
            self._outbox.append(settling)
            if took_s is not None:
                self._job_s = took_s if self._job_s is None else self._job_s + (took_s - self._job_s) * 0.2
                self._job_s = max(self._job_s, 1e-6)

    # -- with the server --------------------------------------------------------------------

    def _exchange(self, claim: bool = True) -> bool:
        """Hand over and take; False if we gave up. The caller has set ``_exchanging``."""
        answered: Answered | None = None
        with self._lock:
            batch, self._outbox = self._outbox, []
            if self._may_start_suspect():
                self._suspect_at = self._runtime.monotonic()
                batch.append(settle.started(self._suspects.popleft(), self._suspect_at))
            want = max(self._want(), 0) if claim and not self.stopping else 0
            waits, quiet = self._waits, not self._waiting
            self._look = self._flush_asked = self._urgent = False
        try:
            answered = self.lease.exchange(batch, want, self._give_up)
        finally:
            with self._lock:
                self._exchanging = False
                sent = answered.request.settlings if answered else self.lease.unanswered
                if sent is not batch:  # an older request went first
                    self._outbox = batch + self._outbox
                self._gave_up = answered is None and self._give_up()
                if answered:
                    self._absorb(answered, quiet and waits == self._waits)
                self._lock.notify_all()
        if answered:
            self._tell(answered)
        return answered is not None

    def _absorb(self, answered: Answered, quiet: bool) -> None:
        """Bring the books up to date. Called with the lock."""
        request, answer = answered.request, answered.answer
        holding = self.lease.holding
        refused = set(answer.refused)
        for i, settling in enumerate(request.settlings):
            d = settling.delivery
            if settling.move == "start":
                if i in refused:
                    self._suspect_at = None
                    continue
                d.place = "running"
                self._ready.appendleft(d)
            elif i not in refused and d.owner == self.id:
                holding[d.raw] -= 1
                if holding[d.raw] <= 0:
                    del holding[d.raw]
        for raw in answer.claimed:
            holding[raw] += 1
            self._admit(Delivery(raw, self.id, self._runtime.new_id, answer.server_at))
        self._backlog = answer.ready
        self.unrecorded = answer.unrecorded
        now = self._runtime.monotonic()
        self._next_due_at = None if answer.next_due_s is None else now + max(answer.next_due_s, 0.0)
        if answered.repeated or (quiet and answer.holding != holding.total()):
            self._audit = True
        self._release_if_stopping()

    def _compare(self) -> bool:
        """Find out what the server thinks we hold. The caller has set ``_exchanging``; no wait is under way."""
        answer = None
        try:
            answer = self.lease.repeat(self._give_up)
        finally:
            with self._lock:
                self._exchanging = False
                if answer and answer.listing:
                    self._audit = False
                    for raw, place in self.lease.compare(answer.listing):
                        self._admit(Delivery(raw, self.id, self._runtime.new_id, answer.server_at, "wait", place))
                self._gave_up = answer is None and self._give_up()
                self._look = True
                self._release_if_stopping()
                self._lock.notify_all()
        return answer is not None

    def _admit(self, d: Delivery) -> None:
        if d.suspect and d.place == "held":
            self._suspects.append(d)
            return
        if not self._ready:
            self._ready_since = self._runtime.monotonic()
        self._ready.append(d)

    def _wait(self) -> None:
        """Wait on the server for one job. The caller has set ``_waiting``."""
        now = self._runtime.monotonic()
        seconds = WAIT_MAX_S
        if self._next_due_at is not None:
            seconds = min(seconds, max(self._next_due_at - now, 0.0))
        raw: bytes | None = None
        lost: DriverError | None = None
        try:
            if seconds > 0:
                raw = self._driver.wait(self.id, seconds)
        except DriverError as error:
            lost = error
        except BaseException:
            self._audit = self._ghost = True
            raise
        finally:
            with self._lock:
                self._waiting = False
                self._look = True
                if raw is not None:
                    self.lease.holding[raw] += 1
                    self._admit(Delivery(raw, self.id, self._runtime.new_id, self.lease.server_now(), "wait"))
                if lost is not None and lost.maybe_sent:
                    self._audit = self._ghost = True
                self._release_if_stopping()
                self._lock.notify_all()
        left = seconds - (self._runtime.monotonic() - now)
        if raw is None and left > seconds / 2 and not self.stopping:
            self._runtime.sleep(min(left, 0.05))  # a wait that does not wait must not make us spin

    def _tell(self, answered: Answered) -> None:
        request, answer = answered.request, answered.answer
        refused = set(answer.refused)
        for i, settling in enumerate(request.settlings):
            settle.tell(self._stream, settling, answer.settled_at, answered.sent_at, i in refused)
            if settling.move == "fail" and i not in refused:
                self._recorder.remember(settling, answer.server_at - (answered.sent_at - settling.ended_at))
        if answer.unrecorded and self._recorder.has_store:
            self.ring()

    # -- stopping ---------------------------------------------------------------------------

    def stop(self) -> None:
        """Take no more jobs; hand back what has not started; let what runs end."""
        if not self.stopping:
            self._stream.emit(events.WorkerStopping, worker=self.id)
        with self._lock:
            self._stop()
        self._driver.wake(self.id)
        self.ring()

    def _stop(self) -> None:
        if not self.stopping:
            self.stopping = True
            self._stopping_since = self._runtime.monotonic()
            self._release_if_stopping()
            self._lock.notify_all()

    def _release_if_stopping(self) -> None:
        if self.stopping:
            self._release()

    def _release(self) -> None:
        """Claimed jobs that have not started go back, the newest first, so that their order is kept."""
        now = self._runtime.monotonic()
        back = sorted((*self._ready, *self._suspects), key=lambda d: d.server_at)
        self._outbox += [settle.returned(d, now) for d in reversed(back)]
        if any(d.place == "running" for d in self._ready):
            self._suspect_at = None
        self._ready.clear()
        self._suspects.clear()

    def _give_up(self) -> bool:
        """A stopping worker tries to reach the server for one lease; then its jobs are anyone's."""
        return self.stopping and self._runtime.monotonic() - self._stopping_since > self.lease.lease_s

    def hand_back(self) -> None:
        """The process is about to exit: return what runs, uncounted, whether or not it ends in time."""
        self.stop()
        with self._lock:
            self._stopping_since -= self.lease.lease_s  # one try
            now = self._runtime.monotonic()
            # A wait under way would take the job right back, for a process that is about to be gone.
            while (self._exchanging or self._waiting) and self._runtime.monotonic() - now < HAND_BACK_S:
                self._lock.wait(HAND_BACK_S)
            if self._exchanging:
                return  # the server does not answer: the lease will run out
            self._outbox += [settle.returned(d, now) for d in self._running.values()]
            self._exchanging = True
        self._exchange(claim=False)

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
        """Add to what the next exchange hands over."""
        with self._lock:
            self._outbox += settlings

    def exchange_if_due(self) -> None:
        """Renew the lease and hand over what has waited, when no thread comes to it."""
        with self._lock:
            now = self._runtime.monotonic()
            if self._ready and now - self._ready_since > HOSTAGE_S and len(self._running) >= self.threads:
                self._release()
            overdue = now - self.lease.renewed_at >= self.lease.lease_s / 3
            waiting = self._outbox and now - self._outbox[0].ended_at >= FLUSH_S
            due = not self._exchanging and bool(overdue or waiting)
            self._exchanging = self._exchanging or due
            self._flush_asked = False
            if self._suspects:
                self._lock.notify_all()  # one may start when the last has run for a lease
        if due:
            self._exchange(claim=False)

    def settle_all(self) -> bool:
        """Exchange until nothing is left to hand over; False if the server stays away."""
        while self._audit or self._outbox or self.lease.unanswered is not None:
            with self._lock:
                self._exchanging = True
            if not (self._compare() if self._audit else self._exchange(claim=False)):
                return False
        return True

    def leave(self) -> None:
        """After ``settle_all``: off the list of workers, unless something of ours may still arrive."""
        if not self._ghost and not self.lease.holding:
            self.put([settle.gone(self.id, self._runtime.monotonic())])
            self.settle_all()
