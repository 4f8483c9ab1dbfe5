"""What the server behind memory drivers holds: the lines of jobs, and the data of workers."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush

from ..names import DEFAULT, queue_name
from ..ports import PROMOTE_MAX, Condition, Lock
from ..reporting import Counts, Report
from .relays import LetIn
from .ticks import Known


class Line:
    """The jobs of one queue that no worker has."""

    def __init__(self) -> None:
        self.jobs: deque[bytes] = deque()
        """Jobs enter at the left and leave at the right."""
        self.delayed: list[tuple[float, bytes]] = []
        """A heap by due time, then by bytes."""
        self.members: set[bytes] = set()
        """The due time of each delayed envelope: for equal bytes the last one given, as in a sorted set."""
        self.paused_at: float | None = None

    def delay(self, due: float, envelope: bytes) -> None:
        self.forget(envelope)
        self.members.add(envelope)
        heappush(self.delayed, (due, envelope))

    def forget(self, envelope: bytes) -> bool:
        """Remove a delayed job; False if it is not there."""
        return envelope in self.members and bool(self.forget_delayed([envelope]))

    def forget_oldest(self, envelopes: Sequence[bytes]) -> Counter[bytes]:
        """Remove those that are among as many of the oldest ready jobs; returns them."""
        wanted, gone, kept = Counter(envelopes), Counter[bytes](), list[bytes]()
        for _ in range(min(len(envelopes), len(self.jobs))):
            envelope = self.jobs.pop()
            if gone[envelope] < wanted[envelope]:
                gone[envelope] += 1
            else:
                kept.append(envelope)
        self.jobs.extend(reversed(kept))
        return gone

    def forget_delayed(self, envelopes: Sequence[bytes]) -> Counter[bytes]:
        """Remove these delayed jobs; returns those that were there."""
        gone = self.members.intersection(envelopes)
        self.members -= gone
        self.delayed = [entry for entry in self.delayed if entry[1] not in gone]
        heapify(self.delayed)
        return Counter(gone)

    def copy_of(self, other: Line) -> None:
        """Become as the other one is."""
        self.jobs, self.delayed, self.members = other.jobs.copy(), other.delayed[:], other.members.copy()
        self.paused_at = other.paused_at

    def promote(self, now: float) -> None:
        for _ in range(PROMOTE_MAX):
            if not self.delayed or self.delayed[0][0] > now:
                break
            envelope = heappop(self.delayed)[1]
            self.members.discard(envelope)
            self.jobs.appendleft(envelope)


class MemoryStore(Line):
    """The data of a server, and the default queue. Several drivers may share one; each is a process's handle on it."""

    def __init__(self, now: Callable[[], float], condition: Condition) -> None:
        super().__init__()
        self.now = now
        self.condition = condition
        self.named: dict[str, Line] = {}
        """The other queues."""
        self.unique: dict[str, str] = {}
        """The keys of unique jobs, each with the id of the job that has it."""
        self.duplicates: dict[str, tuple[tuple[int, int], ...]] = {}
        """Of the last answer to a worker, if there were any."""
        self.marks: dict[str, float] = {}
        """The ids of cancelled jobs, with the time of the mark, the newest last."""
        self.cancelled: dict[str, tuple[int, ...]] = {}
        """Of the last answer to a worker, if any settlement met a mark."""
        self.serves: dict[str, tuple[str, ...]] = {}
        """The queues that a worker serves, if they are not the default one alone."""
        self.cron: dict[str, Known] = {}
        """Of each cron entry by name, what is known of its ticks."""
        self.held: dict[str, list[bytes]] = {}
        """Oldest first."""
        self.running: dict[str, list[bytes]] = {}
        self.workers: dict[str, float] = {}
        self.answers: dict[str, tuple[int, float, tuple[int, ...]]] = {}
        self.unrecorded: dict[bytes, float] = {}
        self.relay_target = ""
        self.relays: dict[str, LetIn] = {}
        """The relay of each outbox that was let in last."""
        self.relayed: dict[str, dict[str, tuple[str, str]]] = {}
        """Of each outbox the jobs that were pushed, by id: the push, and the id of the job that had the key."""
        self.about: dict[str, tuple[int, Report]] = {}
        """The number and the last report of each worker that reports."""
        self.counts: dict[int, Counts] = {}
        """What reports counted, by minute."""
        self.pauses = 0
        """How often a queue was paused: it ends waits."""
        self.waiting = 0
        """The workers that wait for a job."""

    def free(self, lock: Lock) -> None:
        """Give the key back, if this job has it."""
        key, job_id = lock
        if key and self.unique.get(key) == job_id:
            del self.unique[key]

    def lines(self) -> dict[str, Line]:
        """All queues by name."""
        return {DEFAULT: self, **{name: self.named[name] for name in sorted(self.named)}}

    def line(self, queue: str) -> Line:
        """The queue's jobs."""
        if queue == DEFAULT:
            return self
        found = self.named.get(queue)
        if found is None:
            found = self.named[queue_name(queue)] = Line()
        return found
