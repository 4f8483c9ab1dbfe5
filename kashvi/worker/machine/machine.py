"""The calls of the machine: by the worker's threads, by its keeper, and by the process around it."""

from __future__ import annotations

from collections.abc import Sequence

from ...names import ONLY_DEFAULT, Served
from .. import settle
from ..settle import Delivery, Settling, TimeLimit
from . import choose, stop, tend, timeouts
from .calls import Calls
from .state import FLUSH
from .steps import (
    REAP,
    SECOND,
    Abandon,
    AskMarks,
    Idle,
    KeeperStep,
    Limits,
    Record,
    Request,
    Rest,
    Stuck,
    ThreadStep,
    micros,
)


class Machine(Calls):
    """One worker. ``now``: this process's monotonic clock, in microseconds; given with each call."""

    @classmethod
    def new(
        cls,
        worker: str,
        threads: int,
        lease_s: float,
        limits: Limits,
        now: int,
        *,
        has_store: bool,
        obey_s: float = 5.0,
        spare: int = 0,
        queues: tuple[Served, ...] = ONLY_DEFAULT,
    ) -> Machine:
        return cls(
            worker, threads, micros(lease_s), limits, has_store, now, alive=threads, renewed_at=now, counted_at=now,
            asked_at=now, reap_at=now, server_moved_at=now, obey=micros(obey_s), spare=spare,
            queues=queues,
        )  # fmt: skip

    # -- a thread ---------------------------------------------------------------------------

    def free(self, now: int, ended: Settling | None = None) -> ThreadStep:
        """A thread asks for its next step. ``ended``: the outcome of its last attempt."""
        if ended is not None:
            self._ended(now, ended)
            if self.time_limits and self._has_surplus(ended.delivery):
                return None
        step: ThreadStep = None
        what = choose.choose(self, now)
        if what == "run":
            step = self._take(now)
        elif what == "idle":
            if self.outbox and not self.exchanging:  # a wait is in the way
                self._ask_to_flush()
            return self._rest(now)  # and calls no thread, since it would take its own call
        elif what == "exchange":
            step = self._request(now, by_thread=True)
        elif what == "reconcile":
            step = self._compare()
        elif what == "wait":
            step = self._begin_wait(now)
        elif what == "finished":
            self._stop(now)
        if self.idle and (self.ready or not (self.exchanging or self.waiting)):
            self._call()
        return step

    def woken(self, now: int, idle: Idle) -> ThreadStep:
        """An idle thread asks for its next step: it was woken, or its time is over."""
        self.roused(idle)
        return self.free(now)

    def roused(self, idle: Idle) -> None:
        """It is idle no longer."""
        if idle.until == self.watched:
            self.watched = None
        self.idle -= 1
        self.called = False

    def interrupted(self, now: int, d: Delivery, ended: Settling | None) -> None:
        """An interrupt ended the thread before it reported its attempt. Without an outcome, the job goes back."""
        if id(d) in self.running:
            self._ended(now, ended or settle.returned(d, now / SECOND))
            self.time_limits.pop(id(d), None)

    def fewer(self, threads: int = 1) -> None:
        """``threads`` threads have ended, or never ran."""
        self.alive = max(self.alive - threads, 0)
        self.bell = True

    def _take(self, now: int) -> Delivery:
        d = self.ready.popleft()
        self.running[id(d)] = d
        self.taken += 1
        if d.place == "running":
            self._begin(now, d)
        if self.limits.max_jobs is not None and self.full:
            self._stop(now)
        if self.owes:
            self._ask_to_flush()
        return d

    def limit(self, d: Delivery, began: int, timeout_s: float, thread: int = 0) -> None:
        """An attempt with a time limit has begun."""
        self.time_limits[id(d)] = TimeLimit(d, timeout_s, began + micros(timeout_s), thread)

    def _has_surplus(self, d: Delivery) -> bool:
        """After an attempt, whether this thread ends: the attempt was stuck, and another thread is in its place."""
        self.time_limits.pop(id(d), None)
        if not timeouts.surplus(self):
            return False
        self.opened -= 1
        self._ask_to_flush()
        return True

    def not_opened(self) -> None:
        """The thread in place of a stuck one could not be started."""
        self.opened -= 1
        self.fewer()

    def _rest(self, now: int) -> Idle:
        self.idle += 1
        at = None if self.stopping_at is not None else choose.watch(self, now)
        if at is not None:
            self.watched = at
        return Idle(at)

    # -- the end of the process ----------------------------------------------------------------

    @property
    def calling(self) -> bool:
        """A call is under way that may bring jobs."""
        return self.exchanging or self.waiting

    def hand_back(self, now: int) -> Request | None:
        """Return what runs, uncounted, whether or not it ends in time. None: there is nothing to hand over."""
        self._owe(now, [settle.returned(d, now / SECOND) for d in self.running.values()])
        return self.hand_over(now)

    def hand_over(self, now: int) -> Request | None:
        """The next request of a process that hands back: one may not carry all. None: nothing is left, or the keeper
        has ended without an answer and told what is unsettled."""
        if self.phase == "over" or (not self.outbox and self.open is None):
            return None
        return self._request(now, by_thread=False)

    # -- the keeper -----------------------------------------------------------------------------

    def keep(self, now: int, closing: bool = False) -> KeeperStep:
        """What the keeper does next. ``closing``: the interpreter goes down, and no thread can be started."""
        if not self.alive or self.left_behind:
            return self._close(now, closing)
        step: KeeperStep = None
        while step is None:
            duty, self.duty = self.duty, tend.THEN[self.duty]
            step = self._tend(now, duty)
        return step

    def _tend(self, now: int, duty: str) -> KeeperStep:
        """The step of one duty; None if there is nothing to do."""
        if duty == "rest" and not self.flush_asked:
            return Rest(tend.rests_until(self, now))
        if duty == "gather" and self.flush_asked:
            return Rest(now + FLUSH, deaf=True)
        if duty == "marks" and self.to_ask:
            self.to_ask = False
            held = {d.job_id for d in (*self.ready, *self.suspects, *self.running.values())}
            return AskMarks(sorted(held)) if held else None
        if duty == "limits" and timeouts.matter(self):
            return self._look_at_time_limits(now)
        if duty == "reap":
            if stop.time_is_over(self, now):
                self.stop(now)
            if tend.reaps(self, now):
                self.reap_at = now + tend.third(self)
                return REAP
        if duty == "exchange":
            self._release_hostages(now)
            if tend.exchanges(self, now):
                return self._request(now, by_thread=False)
            self.flush_asked = self.owes and not self.exchanging  # work that ended just now is due in a moment
            if self.suspects:
                self._call()  # a suspect may start by now
        if duty == "record" and tend.records(self):
            return self._record()
        return None

    def _look_at_time_limits(self, now: int) -> Stuck | Abandon | None:
        for one in timeouts.passed(self, now):
            # From now on: a process that was stopped for a while gives its handlers time, too.
            self.time_limits[id(one.delivery)] = one._replace(obey_until=now + self.obey)
        limit = timeouts.disobeyed(self, now)
        if limit is None:
            return self._abandon(now) if timeouts.leaves(self, now) else None
        self.duty = "limits"  # there may be more
        self.time_limits[id(limit.delivery)] = limit._replace(stuck=True)
        if self.limits.patience_s is not None and self.leave_at is None:
            self.leave_at = now + micros(self.limits.patience_s)
            self.to_replace = self.stopping_at is None
            self.stop(now)
        opens = timeouts.may_open(self)
        self.opened += opens
        self.alive += opens
        return Stuck(limit, now - limit.deadline + micros(limit.timeout_s), opens)

    def _abandon(self, now: int) -> Abandon:
        """The process goes, and the threads of what runs with it: what is not stuck goes back, uncounted."""
        stuck = [one for one in self.time_limits.values() if one.stuck]
        failed = {id(one.delivery) for one in stuck}
        self._owe(now, [settle.returned(d, now / SECOND) for i, d in self.running.items() if i not in failed])
        self.running.clear()
        self.time_limits.clear()
        self.left_behind = True
        self.stopping_at = max(self.stopping_at or 0, self.renewed_at)  # the server may take a lease to answer
        return Abandon(stuck)

    def abandoned(self, now: int, settlings: Sequence[Settling]) -> None:
        """The stuck attempts have failed."""
        self._owe(now, settlings)

    def _release_hostages(self, now: int) -> None:
        if not tend.stuck(self):
            self.stuck_at = None
        elif tend.hostages(self, now):
            self._release(now)
        elif self.stuck_at is None or self.stuck_taken != self.taken:
            self.stuck_at, self.stuck_taken = now, self.taken

    def reaped(self, now: int, settlings: Sequence[Settling], more: bool) -> None:
        """The settlings for the jobs of the dead. ``more``: the dead hold more than this look read."""
        self._owe(now, settlings)
        self.urgent = self.urgent or bool(settlings)
        self.more_dead = more
        if more:
            self.reap_at = now

    def _record(self) -> Record:
        waiting, self.unrecorded, self.recording = self.unrecorded, 0, True
        return Record(waiting)

    def recorded(self, waiting: int, done: bool) -> None:
        self.recording = False
        if not done:
            self.unrecorded = max(waiting, self.unrecorded)
        self.bell = self.bell or self.left_behind or not self.alive

    def _close(self, now: int, closing: bool) -> KeeperStep:
        """The last thread has ended: settle what is left, record, go off the list."""
        if self.exchanging:  # the process hands back, or a thread was left behind in an exchange: its end calls
            return Rest(now + SECOND)
        if tend.settles(self, now):
            return self._compare() if self.to_reconcile else self._request(now, by_thread=False)
        if self.phase == "settle":
            left = self.to_reconcile or self.outbox or self.open is not None
            self.away = bool(left) or self.gave_up
            self.phase = "record"
        if self.phase == "record":
            if not closing and (step := self._record_the_rest(now)):
                return step
            self.phase = "leave"
        if self.phase == "leave":
            self.phase = "over"
            if not self.away and stop.may_leave(self):
                self.one_try()  # if this fails, another worker removes the name in an hour
                self._owe(now, [settle.gone(self.id, now / SECOND)])
                return self._request(now, by_thread=False)
        return None

    def _record_the_rest(self, now: int) -> KeeperStep:
        """Record failures, for as long as a stop may take; the rest waits in ``unrecorded`` for another worker."""
        if self.recording:
            self.record_until = self.record_until or now + tend.CLOSE
            if now < self.record_until:
                return Rest(self.record_until)
            self.news.append("table silent")
            return None
        if self.records < tend.RECORDS_MAX and self.unrecorded and self.has_store:
            self.records += 1
            self.record_until = None
            return self._record()
        return None
