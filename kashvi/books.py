"""A worker's books: what it has claimed, what runs, what it owes the server; and so, what an idle thread does next.

Plain state and decisions: no call leaves the process from here. The worker uses them under its lock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from . import settle
from .ports import READ_MAX_BYTES
from .settle import Delivery, Settling
from .suspects import Turns

BATCH_MAX = 300
HELD_MAX_BYTES = 4 * READ_MAX_BYTES
"""About how much may wait here: where jobs are large, fewer are claimed."""
PREFETCH_S = 0.02
"""Claim ahead what the threads are likely to finish in this time."""
FLUSH_S = 0.02
"""Finished work is handed over after this time even while more work is at hand."""
JOB_MIN_S = 1e-6
HOSTAGE_S = 1.0
"""Claimed jobs that could not start for so long go back to the queue, for others."""

Until = Literal["stopped", "empty", "drained"]
Step = Literal["exchange", "audit", "wait", "end"]


class Limits(NamedTuple):
    """When a worker ends by itself."""

    until: Until = "stopped"
    max_jobs: int | None = None
    max_time_s: float | None = None


class Books:
    """Times are this process's monotonic seconds."""

    def __init__(self, threads: int, limits: Limits, lease_s: float, monotonic: Callable[[], float]) -> None:
        self.threads = threads
        self.limits = limits
        self.outbox: list[Settling] = []
        """Finished work, not handed over yet."""
        self.running: dict[int, Delivery] = {}
        self.idle = 0
        """Threads with nothing to do."""
        self.exchanging = False
        self.waiting = False
        self.look = True
        """Something may be there to claim."""
        self.audit = False
        """What the server thinks we hold must be compared with what we know."""
        self.backlog = 0
        self.next_due_at: float | None = None
        self.stopping = False
        self.stopping_since = 0.0
        self.gave_up = False
        self.waited_at: float | None = None
        """When a wait claimed a job that no exchange has followed: the server may not know this worker any more."""
        self.turns = Turns(lease_s, monotonic)
        self._lease_s = lease_s
        self._now = monotonic
        self._ready: deque[Delivery] = deque()
        self._overtaking = False
        """Suspects were claimed by an exchange while a wait was under way that is not over yet."""
        self._stuck_at: float | None = None
        self._stuck_taken = 0
        self._watched: float | None = None
        self.urgent = False
        """What is to be handed over should not wait."""
        self._taken = 0
        self._job_s: float | None = None
        self._job_bytes = 1.0

    # -- what to do next --------------------------------------------------------------------

    def choose(self) -> Delivery | Step | None:
        """What an idle thread does next; None: nothing, until something changes."""
        late = self.outbox and (self.urgent or self._now() - self.outbox[0].ended_at > FLUSH_S)
        if self._ready and not self.stopping and not (late and not self.exchanging) and not self._barred():
            return self._take()
        if self.gave_up:
            return "end"
        if not self.exchanging:
            if self.audit:
                return None if self.waiting else "audit"
            if self.outbox or self._may_start_suspect() or self._wants_jobs() or self._kept_out():
                return "exchange"
        if self.stopping:
            return None if self.exchanging else "end"
        if self._finished():
            self.stop()
            return "end"
        if self.waiting or self.exchanging or self._want() <= 0:
            return None
        return "wait"

    def watch(self) -> float | None:
        """When an idle thread should look up, if at all: nobody waits, or too long for what comes next."""
        if self.stopping or not self.unwatched:
            return None
        self._watched = self.next_at
        return self._watched

    @property
    def next_at(self) -> float | None:
        """When a job is to become due that somebody waits for, or the turn of other jobs comes."""
        due, turn = self.next_due_at, self.turns.next_at()
        if not self.waiting or due is None or due <= self._now():
            return turn
        return due if turn is None else min(due, turn)

    @property
    def unwatched(self) -> bool:
        """There is something to come, and no idle thread looks up by then."""
        at = self.next_at
        return at is not None and (self._watched is None or self._watched > at)

    def watched(self, at: float | None) -> None:
        """An idle thread that watched looks up, for whatever reason."""
        if at == self._watched:
            self._watched = None

    @property
    def leaves_work(self) -> bool:
        """Whether there is something for one more thread to do."""
        return bool(self._ready) or not (self.exchanging or self.waiting)

    def _take(self) -> Delivery:
        delivery = self._ready.popleft()
        self.running[id(delivery)] = delivery
        self._taken += 1
        if delivery.place == "running":
            self.turns.begin(delivery)
        if self.full:
            self.stop()
        return delivery

    @property
    def full(self) -> bool:
        """It has taken as many jobs as it may."""
        return self.limits.max_jobs is not None and self._taken >= self.limits.max_jobs

    def _wants_jobs(self) -> bool:
        if self.stopping or self._want() <= 0:
            return False
        due = self.next_due_at is not None and self._now() >= self.next_due_at
        return self.look or self.backlog > 0 or due

    def _want(self) -> int:
        """How many jobs to claim: one for each idle thread, and more when jobs are short."""
        suspects = len(self.turns.waiting)
        if self._fresh_kept_out():
            return 0
        idle = self.threads - len(self.running)
        ahead = int(PREFETCH_S * self.threads / self._job_s) if self._job_s else 0
        ahead = min(ahead, int(READ_MAX_BYTES / self._job_bytes))
        room = min(BATCH_MAX, max(self.threads, int(HELD_MAX_BYTES / self._job_bytes)))
        # Suspects that wait for their turn are no work for the threads that are free, only for the memory.
        want = min(max(idle, 0) + ahead, room - suspects) - len(self._ready)
        if self.limits.max_jobs is not None:
            want = min(want, self.limits.max_jobs - self._taken - len(self._ready) - suspects)
        return want

    def _may_start_suspect(self) -> bool:
        """None while a wait may have claimed what was ahead of it, and has the first turn."""
        if self.stopping or self._overtaking or self.audit:
            return False
        running = len(self.running)
        free = self.threads - running - (0 if self.turns.keeps_fresh_out() else len(self._ready))
        return self.turns.may_start(running, free)

    def _fresh_kept_out(self) -> bool:
        turns = self.turns
        return (turns.last is not None or bool(turns.waiting)) and turns.keeps_fresh_out()

    def _barred(self) -> bool:
        """What is ready may not start beside a suspect; one that was announced may."""
        return self._fresh_kept_out() and self._ready[0].place == "held"

    def _kept_out(self) -> list[Delivery]:
        """Fresh jobs that were claimed and may not start: they are for others."""
        if not self._ready or self.stopping or not self._fresh_kept_out():
            return []
        return [d for d in self._ready if d.place == "held"]

    def _finished(self) -> bool:
        if self.limits.until == "stopped" or self.running or self._ready or self.turns.waiting:
            return False
        if self.exchanging or self.waiting or self.look or self.backlog:
            return False
        return self.limits.until == "empty" or self.next_due_at is None

    # -- what came, what went ---------------------------------------------------------------

    def sending(self, claim: bool) -> tuple[list[Settling], int]:
        """For an exchange that begins: what to settle, and how many jobs to ask for."""
        batch, self.outbox = self.outbox, []
        now = self._now()
        for d in reversed(self._kept_out()):  # where it stays in our hands, a death of the suspect would not be certain
            batch.append(settle.returned(d, now))
            self._ready.remove(d)
        starting = self._may_start_suspect()
        if starting:
            d = self.turns.waiting.popleft()
            self.turns.begin(d)
            batch.append(settle.started(d, now))
        self.look = self.urgent = False
        self.waited_at = None
        return batch, max(self._want() - starting, 0) if claim and not self.stopping else 0

    def announced(self, d: Delivery, refused: bool) -> None:
        """A suspect may start now, unless it is no longer ours."""
        if refused:
            self.turns.end(d)
            return
        d.place = "running"
        self.turns.begin(d)  # the answer may have taken long
        self._ready.appendleft(d)

    def claimed(self, envelopes: Sequence[bytes]) -> None:
        """An exchange brought these: how many large ones to claim ahead is a question of their size."""
        self._job_bytes = max(sum(map(len, envelopes)) / len(envelopes), 1.0)

    def admit(self, d: Delivery) -> None:
        """A claimed job."""
        if d.place == "running":
            self._ready.appendleft(d)
        elif d.suspect:
            self.turns.add(d)
            self._overtaking = self.waiting
        else:
            self._ready.append(d)

    def waited(self) -> None:
        """A wait is over."""
        self.waiting = self._overtaking = False

    def due(self, at: float) -> None:
        """A delayed job becomes due then."""
        self.next_due_at = at if self.next_due_at is None else min(self.next_due_at, at)

    def put(self, settlings: list[Settling]) -> None:
        """For the dead: they have waited long enough."""
        self.outbox += settlings
        self.urgent = self.urgent or bool(settlings)

    def ended(self, settling: Settling) -> None:
        """An attempt is over."""
        d, took_s = settling.delivery, settling.took_s
        self.running.pop(id(d), None)
        if d.place == "running":
            self.turns.end(d)
            self.urgent = True  # until it is settled, our death would count against a job that has ended
        self.outbox.append(settling)
        if took_s is not None:
            job_s = took_s if self._job_s is None else self._job_s + (took_s - self._job_s) * 0.2
            self._job_s = job_s if job_s > JOB_MIN_S else JOB_MIN_S

    # -- giving back ------------------------------------------------------------------------

    def stop(self) -> None:
        if not self.stopping:
            self.stopping = True
            self.stopping_since = self._now()
            self.release()

    def release(self) -> None:
        """Claimed jobs that have not started go back, the newest first, so that their order is kept."""
        now = self._now()
        waiting = self.turns.waiting
        back = sorted((*self._ready, *waiting), key=lambda d: d.server_at)
        self.outbox += [settle.returned(d, now) for d in reversed(back)]
        if any(d.place == "running" for d in self._ready):
            self.turns.end()
        self._ready.clear()
        waiting.clear()

    def release_hostages(self) -> None:
        """All threads are busy with long jobs: what they hold back is for others."""
        if len(self.running) < self.threads or not (self._ready or self.turns.waiting):
            self._stuck_at = None
        elif self._stuck_at is None or self._stuck_taken != self._taken:
            self._stuck_at, self._stuck_taken = self._now(), self._taken
        elif self._now() - self._stuck_at >= HOSTAGE_S:
            self.release()

    def give_up(self) -> bool:
        """A stopping worker tries to reach the server for one lease; then its jobs are anyone's."""
        return self.stopping and self._now() - self.stopping_since > self._lease_s

    @property
    def owes(self) -> bool:
        """Finished work is to be handed over, or the server wants a sign of life after a wait."""
        return bool(self.outbox) or self.waited_at is not None

    @property
    def overdue(self) -> bool:
        """Finished work has waited long enough, or the server for a sign of life after a wait."""
        since = self.outbox[0].ended_at if self.outbox else self.waited_at
        return since is not None and (self.urgent or self._now() - since >= FLUSH_S / 2)
