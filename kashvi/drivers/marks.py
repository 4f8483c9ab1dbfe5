"""The ports ``Cancelling`` and ``Clearing`` in memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from ..names import DEFAULT
from ..ports import Lock, Settlement, Where
from .lines import MemoryStore

KEPT_S = 90 * 86400.0
"""How long a mark is kept that nothing takes off."""


class MemoryCancels:
    """The part of the memory driver that cancels jobs, and clears queues."""

    store: MemoryStore

    def mark(self, job_id: str) -> float:
        store = self.store
        with store.condition:
            now, marks = store.now(), store.marks
            newest = next(reversed(marks.values()), -math.inf)
            while marks and next(iter(marks.values())) <= now - KEPT_S:
                del marks[next(iter(marks))]
            marks.pop(job_id, None)
            marks[job_id] = at = max(now, newest + 1e-6)
            return at

    def unmark(self, job_id: str, at: float) -> bool:
        with self.store.condition:
            found = self.store.marks.get(job_id)
            if found == at:
                del self.store.marks[job_id]
            return found is not None

    def marked(self, job_ids: Sequence[str]) -> list[str]:
        with self.store.condition:
            return [job_id for job_id in job_ids if job_id in self.store.marks]

    def search(self, text: bytes, where: Where, queue: str = DEFAULT) -> Iterator[bytes]:
        store = self.store
        with store.condition:
            if where == "ready":
                there = [*store.line(queue).jobs]
            elif where == "delayed":
                there = [envelope for _, envelope in store.line(queue).delayed]
            else:
                there = [raw for held in (*store.held.values(), *store.running.values()) for raw in held]
        return (envelope for envelope in there if text in envelope)

    def take_out(self, job_id: str, where: Where, queue: str, envelope: bytes, lock: Lock) -> float | None:
        store = self.store
        with store.condition:
            line = store.line(queue)
            removed = line.forget(envelope) if where == "delayed" else envelope in line.jobs
            if where == "ready" and removed:
                line.jobs.remove(envelope)
            if not removed:
                return None
            store.free(lock)
            store.marks.pop(job_id, None)
            return store.now()

    def counts(self, queue: str) -> tuple[int, int]:
        with self.store.condition:
            line = self.store.line(queue)
            return len(line.jobs), len(line.delayed)

    def take_out_many(
        self, where: Where, queue: str, envelopes: Sequence[bytes], locks: Sequence[Lock]
    ) -> tuple[float, list[int]]:
        store, taken = self.store, list[int]()
        with store.condition:
            line = store.line(queue)
            gone = line.forget_delayed(envelopes) if where == "delayed" else line.forget_oldest(envelopes)
            for i, (envelope, lock) in enumerate(zip(envelopes, locks, strict=True)):
                if gone[envelope] > 0:
                    gone[envelope] -= 1
                    taken.append(i)
                    store.free(lock)
            return store.now(), taken

    def holder_of(self, key: str) -> str:
        with self.store.condition:
            return self.store.unique.get(key, "")

    def give_back(self, key: str, job_id: str) -> bool:
        with self.store.condition:
            held = self.store.unique.get(key) == job_id
            self.store.free((key, job_id))
            return held

    def queue_names(self) -> list[str]:
        with self.store.condition:
            return list(self.store.lines())

    def _ends(self, s: Settlement) -> bool:
        """Whether a cancelled job comes to its end with this settlement: it, or its chain. Takes its mark off."""
        if s.move in ("retry", "fail", "return") or (s.move == "done" and s.follow_ups and s.follow_ups[-1].link):
            return self.store.marks.pop(s.job_id, None) is not None
        return False
