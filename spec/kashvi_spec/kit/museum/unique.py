"""Bugs of unique jobs: keys that are taken too late, given back too early, or never."""

from __future__ import annotations

from typing import Any

from kashvi.drivers.lines import MemoryStore
from kashvi.drivers.memory import MemoryDriver
from kashvi.ports import Settlement

from . import Patch, exhibit, where


@exhibit(
    "of two dispatches at once both are added",
    "the look and the push are two steps",
    "QUEUES-7",
    source="Oban: uniqueness is a query, then an insert",
)
def _(patch: Patch) -> None:
    def push_unique(real: Any, self: MemoryDriver, envelopes: Any, delay_s: float, queues: Any, locks: Any) -> Any:
        seen = [self.store.unique.get(key, "") for key, _ in locks]
        now, due, holders = real(self, envelopes, delay_s, queues, locks)
        late = [n for n, holder in enumerate(holders) if holder and not seen[n]]
        if late:
            self.push([envelopes[n] for n in late], delay_s, [queues[n] for n in late])
        return now, due, [holder if n not in late else "" for n, holder in enumerate(holders)]

    where(patch, MemoryDriver, "push_unique", lambda self, envelopes, *rest: len(envelopes) > 1, push_unique)


@exhibit(
    "a delayed job has no key until it is due",
    "so a second one is delayed beside it",
    "QUEUES-7",
    also="QUEUES-12 QUEUES-10",
)
def _(patch: Patch) -> None:
    def push_unique(real: Any, self: MemoryDriver, envelopes: Any, delay_s: float, queues: Any, locks: Any) -> Any:
        due = self.push(envelopes, delay_s, queues)
        return self.store.now(), due, [""] * len(envelopes)

    where(patch, MemoryDriver, "push_unique", lambda self, envelopes, delay_s, *rest: delay_s > 0, push_unique)


@exhibit(
    "a retry gives the key back",
    "a second job with it runs beside the next attempt",
    "QUEUES-8",
    source="Laravel #59567: a retry frees a lock that it does not own",
)
def _(patch: Patch) -> None:
    def settle_(real: Any, self: MemoryDriver, worker: str, s: Settlement, now: float) -> bool:
        settled = bool(real(self, worker, s, now))
        for key in [key for key, job_id in self.store.unique.items() if settled and job_id.encode() in s.old]:
            del self.store.unique[key]
        return settled

    where(patch, MemoryDriver, "_settle", lambda self, worker, s, now: s.move == "retry", settle_)


@exhibit(
    "any job gives a key back",
    "a stale one frees the key of a newer one",
    "QUEUES-8",
    source="solid_queue #761, Laravel #59567",
)
def _(patch: Patch) -> None:
    def free(real: Any, self: MemoryStore, lock: Any) -> None:
        self.unique.pop(lock[0], None)

    where(patch, MemoryStore, "free", lambda self, lock: bool(lock[0]), free)


@exhibit(
    "a key stays when its job has failed",
    "every later dispatch is a duplicate, and the work is never done",
    "QUEUES-8",
    source="sidekiq-unique-jobs #339, #560, #592, #691",
    also="QUEUES-9",
)
def _(patch: Patch) -> None:
    def settle_(real: Any, self: MemoryDriver, worker: str, s: Settlement, now: float) -> bool:
        return bool(real(self, worker, s._replace(lock=("", "")), now))

    where(patch, MemoryDriver, "_settle", lambda self, worker, s, now: s.move == "fail", settle_)


@exhibit(
    "follow-ups come before the key is given back",
    "a job that dispatches itself again stops for ever",
    "QUEUES-8",
    also="DELIVERY-1 DISPATCH-1 QUEUES-9",
)
def _(patch: Patch) -> None:
    def settle_(real: Any, self: MemoryDriver, worker: str, s: Settlement, now: float) -> bool:
        taken = [one for one in s.follow_ups if self.store.unique.get(one.lock[0])]
        kept = tuple(one for one in s.follow_ups if one not in taken)
        return bool(real(self, worker, s._replace(follow_ups=kept), now))

    where(patch, MemoryDriver, "_settle", lambda self, worker, s, now: bool(s.follow_ups), settle_)
