"""The queue in this process's memory: the default, for development and tests. Its jobs end with the process.

It takes the same steps as Redis, so the same workload gives the same trace on both.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from heapq import heapify, heappop, heappush
from itertools import islice

from ..errors import CommandRefused
from ..ports import (
    EARLIER_S,
    FIRST_LEASE_S,
    GONE_AFTER_S,
    PAUSED,
    PROMOTE_MAX,
    Condition,
    Exchange,
    Expired,
    FollowUp,
    LostDelivery,
    Paused,
    Runtime,
    Settlement,
    Shown,
    Stats,
    Unrecorded,
    Where,
    at_once,
    so_many_of,
    worker_name,
)
from ..runtime import SystemRuntime

log = logging.getLogger("kashvi")

UNRECORDED_MAX = 100_000


class MemoryStore:
    """The data of a server. Several drivers may share one; each is a process's handle on it."""

    def __init__(self, now: Callable[[], float], condition: Condition) -> None:
        self.now = now
        self.condition = condition
        self.jobs: deque[bytes] = deque()
        """Jobs enter at the left and leave at the right."""
        self.delayed: list[tuple[float, bytes]] = []
        """A heap by due time, then by bytes."""
        self.members: set[bytes] = set()
        """The due time of each delayed envelope: for equal bytes the last one given, as in a sorted set."""
        self.held: dict[str, list[bytes]] = {}
        """Oldest first."""
        self.running: dict[str, list[bytes]] = {}
        self.workers: dict[str, float] = {}
        self.answers: dict[str, tuple[int, float, tuple[int, ...]]] = {}
        self.unrecorded: dict[bytes, float] = {}
        self.paused_at: float | None = None
        self.pauses = 0
        """How often the queue was paused: it ends waits."""
        self.waiting = 0
        """The workers that wait for a job."""


class MemoryDriver:
    """A process's handle on a MemoryStore of its own, or on a shared one."""

    follows_up = True

    def __init__(self, *, runtime: Runtime | None = None, store: MemoryStore | None = None) -> None:
        runtime = runtime or SystemRuntime()
        self.store = store or MemoryStore(runtime.now, runtime.condition())
        self._monotonic = runtime.monotonic
        self._woken: set[str] = set()
        self._runtime = runtime
        runtime.at_fork(self._forked)

    def _forked(self) -> None:
        """In the child of a fork: replace the lock, which a thread of the parent may hold. The store is a copy."""
        self.store.condition, self.store.waiting = self._runtime.condition(), 0

    def __repr__(self) -> str:
        return "memory"

    def push(self, envelopes: Sequence[bytes], delay_s: float = 0.0) -> float | None:
        store = self.store
        with store.condition:
            if delay_s > 0:
                due = store.now() + delay_s
                for envelope in envelopes:
                    self._delay(due, envelope)
            else:
                due = None
                store.jobs.extendleft(envelopes)
            if store.waiting:
                store.condition.notify_all()
        return due

    def exchange(self, worker: str, n: int, lease_s: float, settlements: Sequence[Settlement], want: int) -> Exchange:
        store = self.store
        with store.condition:
            now = store.now()
            if worker not in store.workers:
                worker_name(worker)
            last, settled_at, refused = store.answers.get(worker, (0, now, ()))
            if n < last:
                raise CommandRefused(f"exchange {n} of worker {worker} comes after {last}", "the memory queue")
            held, running = store.held.setdefault(worker, []), store.running.setdefault(worker, [])
            if n == last:
                return self._answer(worker, now, settled_at, refused, [], (held[:], running[:]))
            store.workers[worker] = now + lease_s
            refused = tuple(i for i, s in enumerate(settlements) if not self._settle(worker, s, now))
            store.answers[worker] = (n, now, refused)
            for _ in range(PROMOTE_MAX):
                if not store.delayed or store.delayed[0][0] > now:
                    break
                envelope = heappop(store.delayed)[1]
                store.members.discard(envelope)
                store.jobs.appendleft(envelope)
            claimed = [] if store.paused_at is not None else at_once(islice(reversed(store.jobs), max(want, 0)))
            held.extend(claimed)
            for _ in claimed:
                store.jobs.pop()
            answer = self._answer(worker, now, now, refused, claimed)
            if any(s.move == "leave" and s.owner == worker for s in settlements):
                self._leave(worker, worker, now)
            return answer

    def _answer(
        self,
        worker: str,
        now: float,
        settled_at: float,
        refused: tuple[int, ...],
        claimed: list[bytes],
        listing: tuple[list[bytes], list[bytes]] | None = None,
    ) -> Exchange:
        store = self.store
        return Exchange(
            server_at=now,
            settled_at=settled_at,
            refused=refused,
            claimed=claimed,
            holding=len(store.held[worker]) + len(store.running[worker]),
            ready=len(store.jobs),
            unrecorded=len(store.unrecorded),
            next_due_s=store.delayed[0][0] - now if store.delayed else None,
            listing=listing,
            paused=store.paused_at is not None,
        )

    def _settle(self, worker: str, s: Settlement, now: float) -> bool:
        store = self.store
        if s.owner != worker:
            lease_end = store.workers.get(s.owner, now + 1)
            if lease_end > now or s.lease_end not in (None, lease_end):
                return False
        if s.move == "leave":
            return s.owner == worker or self._leave(worker, s.owner, now)
        place = (store.held if s.place == "held" else store.running).get(s.owner, [])
        if s.old not in place:
            return False
        if s.move == "retry":
            self._delay(now + s.in_s, s.new)
        elif s.move == "fail":
            store.unrecorded[s.new] = now + s.in_s
            if len(store.unrecorded) > UNRECORDED_MAX:
                oldest = next(iter(store.unrecorded))
                del store.unrecorded[oldest]
                log.warning(
                    "over %d failed jobs wait for a table; the oldest is dropped: %r", UNRECORDED_MAX, oldest[:200]
                )
        elif s.move == "return":
            store.jobs.append(s.new)
            store.condition.notify_all()
        elif s.move == "start":
            store.running[s.owner].append(s.old)
        elif s.follow_ups:
            self._follow(s.follow_ups, now)
        place.remove(s.old)
        return True

    def _follow(self, follow_ups: Sequence[FollowUp], now: float) -> None:
        store = self.store
        for envelope, in_s in follow_ups:
            if in_s > 0:
                self._delay(now + in_s, envelope)
            else:
                store.jobs.appendleft(envelope)
        if store.waiting:
            store.condition.notify_all()

    def _delay(self, due: float, envelope: bytes) -> None:
        store = self.store
        if envelope in store.members:
            store.delayed = [entry for entry in store.delayed if entry[1] != envelope]
            heapify(store.delayed)
        store.members.add(envelope)
        heappush(store.delayed, (due, envelope))

    def _leave(self, worker: str, owner: str, now: float) -> bool:
        store = self.store
        if store.held.get(owner) or store.running.get(owner):
            return False
        if owner != worker and store.workers[owner] > now - GONE_AFTER_S:
            return False
        store.held.pop(owner, None)
        store.running.pop(owner, None)
        store.answers.pop(owner, None)
        store.workers.pop(owner, None)
        return True

    def wait(self, worker: str, seconds: float) -> bytes | float | None:
        store = self.store
        deadline = self._monotonic() + seconds
        with store.condition:
            if worker not in store.workers:  # or its job would be lost if it dies: only known workers are taken over
                store.workers[worker_name(worker)] = store.now() + FIRST_LEASE_S
            pauses = store.pauses
            while not store.jobs or worker in self._woken or store.pauses > pauses:
                if store.pauses > pauses:
                    return store.now()  # as if a job were due: the worker looks, and is told
                left = deadline - self._monotonic()
                if left <= 0 or worker in self._woken:
                    self._woken.discard(worker)
                    return None
                if store.delayed and store.delayed[0][0] < store.now() + left - EARLIER_S:
                    return store.delayed[0][0]
                store.waiting += 1
                try:
                    store.condition.wait(left)
                finally:
                    store.waiting -= 1
            envelope = store.jobs[-1]
            # Before the removal: an interrupt in between must not lose the job.
            store.held.setdefault(worker, []).append(envelope)
            store.jobs.pop()
            return envelope

    def next_due(self) -> float | Paused | None:
        with self.store.condition:
            if self.store.paused_at is not None:
                return PAUSED
            return self.store.delayed[0][0] if self.store.delayed else None

    def pause(self) -> float:
        store = self.store
        with store.condition:
            if store.paused_at is None:
                store.paused_at = store.now()
                store.pauses += 1
                store.condition.notify_all()
            return store.paused_at

    def resume(self) -> float:
        store = self.store
        with store.condition:
            store.paused_at = None
            store.condition.notify_all()
            return store.now()

    def paused_since(self) -> float | None:
        return self.store.paused_at

    def wake(self, worker: str) -> None:
        with self.store.condition:
            self._woken.add(worker)
            self.store.condition.notify_all()

    def expired(self, limit: int) -> Expired:
        store = self.store
        with store.condition:
            now = store.now()
            lost: list[LostDelivery] = []
            gone: list[str] = []
            more = False
            for owner, lease_end in sorted(store.workers.items(), key=lambda w: (w[1], w[0])):
                if lease_end > now:
                    break
                running, held = store.running.get(owner, []), store.held.get(owner, [])
                found = [LostDelivery(owner, "running", e, lease_end) for e in reversed(running)]
                found += [LostDelivery(owner, "held", e, lease_end) for e in reversed(held)]
                read = so_many_of(lost, found, limit)
                lost += found[:read]
                more = more or read < len(found)
                if not found and lease_end <= now - GONE_AFTER_S:
                    gone.append(owner)
            return Expired(lost, gone[:limit], more)

    def unrecorded(self, limit: int, skip: int = 0) -> list[Unrecorded]:
        with self.store.condition:
            oldest = sorted(self.store.unrecorded.items(), key=lambda item: (item[1], item[0]))[skip : skip + limit]
            read = len(at_once(envelope for envelope, _ in oldest))
            return [Unrecorded(envelope, at) for envelope, at in oldest[:read]]

    def recorded(self, envelopes: Sequence[bytes]) -> None:
        with self.store.condition:
            for envelope in envelopes:
                self.store.unrecorded.pop(envelope, None)

    def show(self, where: Where, limit: int) -> Iterator[Shown]:
        store = self.store
        with store.condition:
            if where == "ready":
                found = [Shown(envelope) for envelope in reversed(store.jobs)]
            elif where == "delayed":
                found = [Shown(envelope, due) for due, envelope in sorted(store.delayed)]
            else:
                workers = sorted(store.held.keys() | store.running.keys())
                lists = ((w, [*store.running.get(w, []), *store.held.get(w, [])]) for w in workers)
                found = [Shown(envelope, worker=worker) for worker, jobs in lists for envelope in jobs]
        return iter(found[:limit])

    def stats(self) -> Stats:
        store = self.store
        with store.condition:
            held = sum(map(len, (*store.held.values(), *store.running.values())))
            return Stats(len(store.jobs), len(store.delayed), held, len(store.unrecorded), len(store.workers))
