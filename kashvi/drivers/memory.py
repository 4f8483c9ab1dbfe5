"""The queue in this process's memory: the default, for development and tests. Its jobs end with the process.

It takes the same steps as Redis, so the same workload gives the same trace on both.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from itertools import islice

from ..errors import CommandRefused
from ..named import QueueStats
from ..names import DEFAULT
from ..ports import (
    EARLIER_S,
    FIRST_LEASE_S,
    GONE_AFTER_S,
    NO_LOCK,
    PAUSED,
    Exchange,
    Expired,
    FollowUp,
    Lock,
    LostDelivery,
    Paused,
    Runtime,
    Settlement,
    Shares,
    Shown,
    Stats,
    Unrecorded,
    Want,
    Where,
    at_once,
    so_many_of,
    worker_name,
)
from ..runtime import SystemRuntime
from ..ticking import Ask, Ticked
from .lines import Line, MemoryStore
from .marks import MemoryCancels
from .paged import PagedInMemory
from .relays import RelayedToMemory
from .reports import ReportedToMemory
from .ticks import Known

log = logging.getLogger("kashvi")

UNRECORDED_MAX = 100_000


class MemoryDriver(RelayedToMemory, MemoryCancels, PagedInMemory, ReportedToMemory):
    """A process's handle on a MemoryStore of its own, or on a shared one."""

    follows_up = True
    names_queues = True
    keeps_ticks = True

    def __init__(self, *, runtime: Runtime | None = None, store: MemoryStore | None = None) -> None:
        runtime = runtime or SystemRuntime()
        self.store = store or MemoryStore(runtime.now, runtime.condition())
        self._monotonic = runtime.monotonic
        self._woken: set[str] = set()
        self._runtime = runtime
        self._duplicates: list[FollowUp] = []
        """The follow-ups of the exchange under way that are none."""
        self._cancelled: list[Settlement] = []
        """Its settlements that met a mark."""
        runtime.at_fork(self._forked)

    def _forked(self) -> None:
        """In the child of a fork: replace the lock, which a thread of the parent may hold. The store is a copy."""
        self.store.condition, self.store.waiting = self._runtime.condition(), 0

    def __repr__(self) -> str:
        return "memory"

    def push(self, envelopes: Sequence[bytes], delay_s: float = 0.0, queues: Sequence[str] = ()) -> float | None:
        store = self.store
        with store.condition:
            due = store.now() + delay_s if delay_s > 0 else None
            if due is None and not queues:
                store.jobs.extendleft(envelopes)
            else:
                lines = [store.line(queue) for queue in queues] or [store] * len(envelopes)
                for line, envelope in zip(lines, envelopes, strict=True):
                    self._put(line, envelope, due)
            if store.waiting:
                store.condition.notify_all()
        return due

    def push_unique(
        self, envelopes: Sequence[bytes], delay_s: float, queues: Sequence[str], locks: Sequence[Lock]
    ) -> tuple[float, float | None, list[str]]:
        store = self.store
        with store.condition:
            now = store.now()
            due = now + delay_s if delay_s > 0 else None
            holders: list[str] = []
            for queue, envelope, lock in zip(queues, envelopes, locks or [NO_LOCK] * len(envelopes), strict=True):
                holders.append(self._taken(lock))
                if not holders[-1]:
                    self._put(store.line(queue), envelope, due)
            if store.waiting:
                store.condition.notify_all()
            return now, due, holders

    def _taken(self, lock: Lock) -> str:
        """The id of the job that has the key; empty if it was free, and is this job's now."""
        key, job_id = lock
        if not key:
            return ""
        if holder := self.store.unique.get(key):
            return holder
        self.store.unique[key] = job_id
        return ""

    def _put(self, line: Line, envelope: bytes, due: float | None) -> None:
        if due is None:
            line.jobs.appendleft(envelope)
        elif line is self.store:
            self._delay(due, envelope)
        else:
            line.delay(due, envelope)

    def exchange(self, worker: str, n: int, lease_s: float, settlements: Sequence[Settlement], want: Want) -> Exchange:
        store = self.store
        with store.condition:
            now = store.now()
            if worker not in store.workers:
                worker_name(worker)
            marked_at = next(reversed(store.marks.values()), None)
            last, settled_at, refused = store.answers.get(worker, (0, now, ()))
            if n < last:
                raise CommandRefused(f"exchange {n} of worker {worker} comes after {last}", "the memory queue")
            held, running = store.held.setdefault(worker, []), store.running.setdefault(worker, [])
            if n == last:
                listing = (held[:], running[:])
                return self._answer(worker, now, settled_at, refused, [], want, listing, marked_at=marked_at)
            store.workers[worker] = now + lease_s
            self._duplicates.clear()
            self._cancelled.clear()
            refused = tuple(i for i, s in enumerate(settlements) if not self._settle(worker, s, now))
            store.answers[worker] = (n, now, refused)
            store.duplicates.pop(worker, None)
            store.cancelled.pop(worker, None)
            if self._cancelled:
                ended = {id(s) for s in self._cancelled}
                store.cancelled[worker] = tuple(i for i, s in enumerate(settlements) if id(s) in ended)
            if self._duplicates:
                store.duplicates[worker] = _numbered(settlements, self._duplicates)
            claimed_of: tuple[tuple[str, int], ...] = ()
            if isinstance(want, int):
                store.promote(now)
                claimed = [] if store.paused_at is not None else self._claim(store, max(want, 0))
            else:
                store.serves[worker] = tuple(name for name, _ in want.queues)
                claimed, claimed_of = self._claim_shares(want, now)
            held.extend(claimed)
            answer = self._answer(worker, now, now, refused, claimed, want, claimed_of=claimed_of, marked_at=marked_at)
            if any(s.move == "leave" and s.owner == worker for s in settlements):
                self._leave(worker, worker, now)
            return answer

    def _claim(self, line: Line, most: int, size: int = 0) -> list[bytes]:
        claimed = at_once(islice(reversed(line.jobs), most), size)
        for _ in claimed:
            line.jobs.pop()
        return claimed

    def _claim_shares(self, want: Shares, now: float) -> tuple[list[bytes], tuple[tuple[str, int], ...]]:
        """Each queue's share, then what others leave of theirs."""
        lines = [(name, self.store.line(name), most) for name, most in want.queues]
        for _, line, _ in lines:
            line.promote(now)
        claimed: list[bytes] = []
        claimed_of: list[tuple[str, int]] = []
        open_lines = [one for one in lines if one[1].paused_at is None]
        for name, line, most in (*open_lines, *((name, line, want.total) for name, line, _ in open_lines)):
            found = self._claim(line, max(min(most, want.total - len(claimed)), 0), sum(map(len, claimed)))
            claimed += found
            claimed_of += [(name, len(found))] if found else []
        return claimed, tuple(claimed_of)

    def _answer(
        self,
        worker: str,
        now: float,
        settled_at: float,
        refused: tuple[int, ...],
        claimed: list[bytes],
        want: Want,
        listing: tuple[list[bytes], list[bytes]] | None = None,
        claimed_of: tuple[tuple[str, int], ...] = (),
        marked_at: float | None = None,
    ) -> Exchange:
        store = self.store
        ready, first, paused = len(store.jobs), store.delayed[:1], store.paused_at is not None
        paused_queues: tuple[str, ...] = ()
        if not isinstance(want, int):
            lines = {name: store.line(name) for name, _ in want.queues}
            paused_queues = tuple(name for name, line in lines.items() if line.paused_at is not None)
            unpaused = [line for line in lines.values() if line.paused_at is None]
            paused = not unpaused
            ready, first = sum(len(line.jobs) for line in unpaused), [e for line in unpaused for e in line.delayed[:1]]
        return Exchange(
            server_at=now,
            settled_at=settled_at,
            refused=refused,
            claimed=claimed,
            holding=len(store.held[worker]) + len(store.running[worker]),
            ready=ready,
            unrecorded=len(store.unrecorded),
            next_due_s=min(first)[0] - now if first else None,
            listing=listing,
            paused=paused,
            claimed_of=claimed_of,
            paused_queues=paused_queues,
            duplicates=store.duplicates.get(worker, ()),
            cancelled=store.cancelled.get(worker, ()),
            marked_at=marked_at,
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
        follow_ups = s.follow_ups
        if store.marks and self._ends(s):
            self._cancelled.append(s)
            if s.move != "done":
                place.remove(s.old)
                store.free(s.lock)
                return True
            follow_ups = follow_ups[:-1]
        if s.move == "retry":
            self._put(store.line(s.queue), s.new, now + s.in_s)
        elif s.move == "fail":
            store.unrecorded[s.new] = now + s.in_s
            if len(store.unrecorded) > UNRECORDED_MAX:
                oldest = next(iter(store.unrecorded))
                del store.unrecorded[oldest]
                log.warning(
                    "over %d failed jobs wait for a table; the oldest is dropped: %r", UNRECORDED_MAX, oldest[:200]
                )
        elif s.move == "return":
            store.line(s.queue).jobs.append(s.new)
            store.condition.notify_all()
        elif s.move == "start":
            store.running[s.owner].append(s.old)
        place.remove(s.old)
        if s.move in ("done", "fail"):
            store.free(s.lock)
        if follow_ups:
            self._follow(follow_ups, now)
        return True

    def _follow(self, follow_ups: Sequence[FollowUp], now: float) -> None:
        store = self.store
        for one in follow_ups:
            if self._taken(one.lock):
                self._duplicates.append(one)
            else:
                self._put(store.line(one.queue), one.envelope, now + one.in_s if one.in_s > 0 else None)
        if store.waiting:
            store.condition.notify_all()

    def _delay(self, due: float, envelope: bytes) -> None:
        self.store.delay(due, envelope)

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
        store.serves.pop(owner, None)
        store.duplicates.pop(owner, None)
        store.cancelled.pop(owner, None)
        return True

    def wait(self, worker: str, seconds: float, queues: Sequence[str] = (DEFAULT,)) -> bytes | float | None:
        store = self.store
        lines = [store.line(queue) for queue in queues]
        first = lines[0]
        deadline = self._monotonic() + seconds
        with store.condition:
            if worker not in store.workers:  # or its job would be lost if it dies: only known workers are taken over
                store.workers[worker_name(worker)] = store.now() + FIRST_LEASE_S
            pauses = store.pauses
            while not first.jobs or worker in self._woken or store.pauses > pauses:
                if store.pauses > pauses or any(line.jobs and line.paused_at is None for line in lines[1:]):
                    return store.now()  # as if a job were due: the worker looks, and is told
                left = deadline - self._monotonic()
                if left <= 0 or worker in self._woken:
                    self._woken.discard(worker)
                    return None
                due = min((line.delayed[0][0] for line in lines if line.delayed), default=None)
                if due is not None and due < store.now() + left - EARLIER_S:
                    return due
                store.waiting += 1
                try:
                    store.condition.wait(left)
                finally:
                    store.waiting -= 1
            envelope = first.jobs[-1]
            # Before the removal: an interrupt in between must not lose the job.
            store.held.setdefault(worker, []).append(envelope)
            first.jobs.pop()
            return envelope

    def next_due(self, queues: Sequence[str] = (DEFAULT,)) -> float | Paused | None:
        with self.store.condition:
            lines = [line for line in map(self.store.line, queues) if line.paused_at is None]
            if not lines:
                return PAUSED
            return min((line.delayed[0][0] for line in lines if line.delayed), default=None)

    def pause(self, queue: str = DEFAULT) -> float:
        store = self.store
        with store.condition:
            line = store.line(queue)
            if line.paused_at is None:
                line.paused_at = store.now()
                store.pauses += 1
                store.condition.notify_all()
            return line.paused_at

    def resume(self, queue: str = DEFAULT) -> float:
        store = self.store
        with store.condition:
            store.line(queue).paused_at = None
            store.condition.notify_all()
            return store.now()

    def paused_since(self, queue: str = DEFAULT) -> float | None:
        return self.store.line(queue).paused_at

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

    def tick(self, ask: Ask) -> Ticked:
        store = self.store
        with store.condition:
            now = store.now()
            known = store.cron.setdefault(ask.name, Known(now))
            answer = known.ask(ask, now)
            if answer.outcome != "fired" or ask.through is None:
                return answer
            holders: list[str] = []
            for one in ask.jobs:
                too_old = one.tick <= max(answer.last, answer.since)
                holders.append(one.lock[1] if too_old else self._taken(one.lock))
                if not (holders[-1] or too_old):
                    self._put(store.line(ask.queue), one.envelope, None)
            known.last = ask.through
            if store.waiting:
                store.condition.notify_all()
            return answer._replace(last=ask.through, holders=tuple(holders))

    def last_ticks(self) -> tuple[float, dict[str, float]]:
        with self.store.condition:
            return self.store.now(), {name: known.last for name, known in self.store.cron.items()}

    def forget_ticks(self, name: str) -> bool:
        with self.store.condition:
            return self.store.cron.pop(name, None) is not None

    def show(self, where: Where, limit: int, queue: str = DEFAULT) -> Iterator[Shown]:
        store = self.store
        with store.condition:
            if where == "ready":
                found = [Shown(envelope) for envelope in reversed(store.line(queue).jobs)]
            elif where == "delayed":
                found = [Shown(envelope, due) for due, envelope in sorted(store.line(queue).delayed)]
            else:
                workers = sorted(store.held.keys() | store.running.keys())
                lists = ((w, [*store.running.get(w, []), *store.held.get(w, [])]) for w in workers)
                found = [Shown(envelope, worker=worker) for worker, jobs in lists for envelope in jobs]
        return iter(found[:limit])

    def stats(self) -> Stats:
        store = self.store
        with store.condition:
            lines = store.lines().values()
            ready, delayed = sum(len(one.jobs) for one in lines), sum(len(one.delayed) for one in lines)
            held = sum(map(len, (*store.held.values(), *store.running.values())))
            return Stats(ready, delayed, held, len(store.unrecorded), len(store.workers))

    def queue_stats(self) -> dict[str, QueueStats]:
        store = self.store
        with store.condition:
            now = store.now()
            serving = {
                name
                for worker, lease_end in store.workers.items()
                if lease_end > now
                for name in store.serves.get(worker, (DEFAULT,))
            }
            return {
                name: QueueStats(
                    len(line.jobs),
                    len(line.delayed),
                    line.paused_at is not None,
                    name in serving,
                    line.jobs[-1] if line.jobs else None,
                    now,
                )
                for name, line in store.lines().items()
            }


def _numbered(settlements: Sequence[Settlement], follow_ups: Sequence[FollowUp]) -> tuple[tuple[int, int], ...]:
    """The indexes of these follow-ups in the request."""
    those = {id(one) for one in follow_ups}
    return tuple((i, k) for i, s in enumerate(settlements) for k, one in enumerate(s.follow_ups) if id(one) in those)
