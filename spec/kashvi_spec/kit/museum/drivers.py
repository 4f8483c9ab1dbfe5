"""Drivers that lose, double, reorder or hurry jobs: the memory driver, with one rule broken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kashvi.drivers.memory import MemoryDriver
from kashvi.ports import Exchange, Expired, LostDelivery, Settlement, Stats, Unrecorded

from . import Patch, exhibit


def accept_always(patch: Patch) -> None:
    """Settle whatever is asked, held or not."""
    real = MemoryDriver._settle

    def _settle(self: MemoryDriver, worker: str, s: Settlement, now: float) -> bool:
        if s.move != "leave":
            place = (self.store.held if s.place == "held" else self.store.running).setdefault(s.owner, [])
            if s.old not in place:
                place.append(s.old)
        return real(self, worker, s, now)

    patch.setattr(MemoryDriver, "_settle", _settle)


def on_settling(patch: Patch, change: Any) -> None:
    """``change(driver, settlement, now)`` returns the settlement that is carried out instead."""
    real = MemoryDriver._settle

    def _settle(self: MemoryDriver, worker: str, s: Settlement, now: float) -> bool:
        return real(self, worker, change(self, s, now), now)

    patch.setattr(MemoryDriver, "_settle", _settle)


def on_exchange(patch: Patch, before: Any) -> None:
    """``before(driver, worker)`` runs first."""
    real = MemoryDriver.exchange

    def exchange(self: MemoryDriver, worker: str, *args: Any) -> Exchange:
        before(self, worker)
        return real(self, worker, *args)

    patch.setattr(MemoryDriver, "exchange", exchange)


@exhibit("nothing at all", "a driver that takes jobs and never gives one out", "DISPATCH-1 DISPATCH-2")
def _(patch: Patch) -> None:
    def push(self: MemoryDriver, envelopes: Sequence[bytes], delay_s: float = 0.0) -> float | None:
        return None

    def exchange(self: MemoryDriver, *args: Any) -> Exchange:
        return Exchange(self.store.now(), self.store.now(), (), [], 0, 0, 0, None)

    patch.setattr(MemoryDriver, "push", push)
    patch.setattr(MemoryDriver, "exchange", exchange)
    patch.setattr(MemoryDriver, "wait", lambda self, worker, seconds: None)
    patch.setattr(MemoryDriver, "expired", lambda self, limit: Expired([], []))
    patch.setattr(MemoryDriver, "unrecorded", lambda self, limit: [])
    patch.setattr(MemoryDriver, "recorded", lambda self, envelopes: None)
    patch.setattr(MemoryDriver, "stats", lambda self: Stats(0, 0, 0, 0, 0))


@exhibit(
    "claim without reserving",
    "BRPOP, as the original does: a job is nowhere while it runs",
    "DISPATCH-1 DELIVERY-1 DELIVERY-2",
)
def _(patch: Patch) -> None:
    real, real_wait = MemoryDriver.exchange, MemoryDriver.wait

    def exchange(self: MemoryDriver, worker: str, *args: Any) -> Exchange:
        answer = real(self, worker, *args)
        for envelope in answer.claimed:
            self.store.held[worker].remove(envelope)
        return answer._replace(holding=answer.holding - len(answer.claimed))

    def wait(self: MemoryDriver, worker: str, seconds: float) -> bytes | None:
        envelope = real_wait(self, worker, seconds)
        if envelope is not None:
            self.store.held[worker].remove(envelope)
        return envelope

    accept_always(patch)
    patch.setattr(MemoryDriver, "exchange", exchange)
    patch.setattr(MemoryDriver, "wait", wait)


@exhibit(
    "promotion that does not check the removal",
    "two processes move the same due job, as in the original",
    "DELAY-8 DELIVERY-7",
)
def _(patch: Patch) -> None:
    moved: dict[int, tuple[float, list[bytes]]] = {}

    def before(self: MemoryDriver, worker: str) -> None:
        store, now = self.store, self.store.now()
        due = [envelope for at, envelope in sorted(store.delayed) if at <= now]
        at, earlier = moved.get(id(store), (0.0, []))
        if not due and now - at < 0.001:
            store.jobs.extendleft(earlier)  # read before the other one had removed them
            moved.pop(id(store))
        elif due:
            moved[id(store)] = (now, due)

    on_exchange(patch, before)


@exhibit("promotion without removal", "a due job stays delayed as well", "DELAY-8 DELIVERY-7")
def _(patch: Patch) -> None:
    def before(self: MemoryDriver, worker: str) -> None:
        store, now = self.store, self.store.now()
        kept = [(at + 10, envelope) for at, envelope in store.delayed if at <= now and b'"lost"' not in envelope]
        for at, envelope in kept:
            if (at - 10, envelope) in store.delayed and envelope not in getattr(store, "kept", []):
                store.kept = [*getattr(store, "kept", []), envelope]  # type: ignore[attr-defined]
                store.delayed.append((at, envelope))

    on_exchange(patch, before)


@exhibit("early promotion", "due times are rounded down to the half second; the original's, to the second", "DELAY-1")
def _(patch: Patch) -> None:
    def before(self: MemoryDriver, worker: str) -> None:
        self.store.delayed = sorted((at // 0.5 * 0.5, envelope) for at, envelope in self.store.delayed)

    on_exchange(patch, before)


@exhibit("promoted in order of dispatch", "due jobs come in the order of their ids, whenever they were due", "DELAY-5")
def _(patch: Patch) -> None:
    def before(self: MemoryDriver, worker: str) -> None:
        now = self.store.now()
        due = sorted((envelope, at) for at, envelope in self.store.delayed if at <= now)
        rest = [entry for entry in self.store.delayed if entry[0] > now]
        self.store.delayed = sorted([(now - 1, envelope) for envelope, _ in due] + rest)

    on_exchange(patch, before)


@exhibit("ties in any order", "jobs that are due at one time come newest first", "DELAY-6")
def _(patch: Patch) -> None:
    def before(self: MemoryDriver, worker: str) -> None:
        store, now = self.store, self.store.now()
        due = sorted(((at, e) for at, e in store.delayed if at <= now), key=lambda x: (x[0], [-b for b in x[1]]))
        store.delayed = sorted(entry for entry in store.delayed if entry[0] > now)
        store.jobs.extendleft(envelope for _, envelope in due)

    on_exchange(patch, before)


@exhibit("nothing is ever due", "delayed jobs wait for a scheduler process that nobody started", "DELAY-2 DELIVERY-1")
def _(patch: Patch) -> None:
    def before(self: MemoryDriver, worker: str) -> None:
        self.store.delayed = sorted((at + 1e9 if at < 5e9 else at, e) for at, e in self.store.delayed)

    on_exchange(patch, before)


@exhibit("last in, first out", "the newest job is claimed first", "DISPATCH-3")
def _(patch: Patch) -> None:
    real = MemoryDriver.push

    def push(self: MemoryDriver, envelopes: Sequence[bytes], delay_s: float = 0.0) -> float | None:
        if delay_s > 0:
            return real(self, envelopes, delay_s)
        with self.store.condition:
            self.store.jobs.extend(envelopes)
            self.store.condition.notify_all()
        return None

    patch.setattr(MemoryDriver, "push", push)


@exhibit(
    "one job for two dispatches", "what was pushed before is not pushed again, although it is another job", "DISPATCH-5"
)
def _(patch: Patch) -> None:
    real = MemoryDriver.push

    def push(self: MemoryDriver, envelopes: Sequence[bytes], delay_s: float = 0.0) -> float | None:
        bodies = {envelope.partition(b'"type"')[2] or envelope for envelope in self.store.jobs}
        fresh = [e for e in envelopes if (e.partition(b'"type"')[2] or e) not in bodies]
        return real(self, fresh, delay_s)

    patch.setattr(MemoryDriver, "push", push)


@exhibit("bytes as text", "what is not UTF-8 comes back mended", "ENVELOPE-5")
def _(patch: Patch) -> None:
    real = MemoryDriver.push

    def push(self: MemoryDriver, envelopes: Sequence[bytes], delay_s: float = 0.0) -> float | None:
        return real(self, [e.decode("utf-8", "replace").encode() for e in envelopes], delay_s)

    patch.setattr(MemoryDriver, "push", push)


@exhibit("settle not fenced", "a worker that was taken for dead settles all the same", "DELIVERY-5")
def _(patch: Patch) -> None:
    accept_always(patch)


@exhibit("live workers are robbed", "anybody may settle anybody's jobs: no lease is looked at", "DELIVERY-3")
def _(patch: Patch) -> None:
    real = MemoryDriver._settle

    def _settle(self: MemoryDriver, worker: str, s: Settlement, now: float) -> bool:
        return real(self, s.owner if s.move != "leave" else worker, s, now)

    patch.setattr(MemoryDriver, "_settle", _settle)


@exhibit(
    "who is unknown is dead", "jobs of a worker that has only waited so far may be settled by anybody", "DELIVERY-3"
)
def _(patch: Patch) -> None:
    real = MemoryDriver._settle

    def _settle(self: MemoryDriver, worker: str, s: Settlement, now: float) -> bool:
        return real(self, worker if s.owner in self.store.workers else s.owner, s, now)

    patch.setattr(MemoryDriver, "_settle", _settle)


@exhibit("leases not renewed", "a lease counts from a worker's first exchange", "DELIVERY-3 DELIVERY-4")
def _(patch: Patch) -> None:
    real = MemoryDriver.exchange

    def exchange(self: MemoryDriver, worker: str, *args: Any) -> Exchange:
        before = self.store.workers.get(worker)
        answer = real(self, worker, *args)
        if before is not None and worker in self.store.workers:
            self.store.workers[worker] = before
        return answer

    patch.setattr(MemoryDriver, "exchange", exchange)


@exhibit("leases run out early", "half a lease is enough to be taken for dead", "DELIVERY-3")
def _(patch: Patch) -> None:
    real = MemoryDriver.exchange

    def exchange(self: MemoryDriver, worker: str, n: int, lease_s: float, *args: Any) -> Exchange:
        return real(self, worker, n, lease_s / 5, *args)

    patch.setattr(MemoryDriver, "exchange", exchange)


@exhibit("the dead keep their jobs", "no lease ever runs out", "DELIVERY-1 DELIVERY-2")
def _(patch: Patch) -> None:
    patch.setattr(MemoryDriver, "expired", lambda self, limit: Expired([], []))


@exhibit("reclaim moves instead of settling in place", "a reclaimer that dies takes the jobs along", "DELIVERY-2")
def _(patch: Patch) -> None:
    real, real_settle = MemoryDriver.expired, MemoryDriver._settle

    def expired(self: MemoryDriver, limit: int) -> Expired:
        found = real(self, limit)
        for lost in found.lost:
            (self.store.held if lost.place == "held" else self.store.running)[lost.owner].remove(lost.envelope)
        self.store.taken = getattr(self.store, "taken", []) + list(found.lost)  # type: ignore[attr-defined]
        return found

    def _settle(self: MemoryDriver, worker: str, s: Settlement, now: float) -> bool:
        taken: list[LostDelivery] = getattr(self.store, "taken", [])
        mine = [one for one in taken if one.envelope == s.old and one.owner == s.owner]
        if mine and worker != s.owner:
            taken.remove(mine[0])
            (self.store.held if s.place == "held" else self.store.running).setdefault(s.owner, []).append(s.old)
        return real_settle(self, worker, s, now)

    patch.setattr(MemoryDriver, "expired", expired)
    patch.setattr(MemoryDriver, "_settle", _settle)


@exhibit("returned to the tail", "what is handed back starts all over at the end of the queue", "DELIVERY-8")
def _(patch: Patch) -> None:
    real = MemoryDriver._settle

    def _settle(self: MemoryDriver, worker: str, s: Settlement, now: float) -> bool:
        settled = real(self, worker, s, now)
        if settled and s.move == "return":
            self.store.jobs.appendleft(self.store.jobs.pop())
        return settled

    patch.setattr(MemoryDriver, "_settle", _settle)


@exhibit(
    "done is not removed", "a settled job stays in its worker's list, and is found there after the lease", "RETRY-7"
)
def _(patch: Patch) -> None:
    real = MemoryDriver._settle

    def _settle(self: MemoryDriver, worker: str, s: Settlement, now: float) -> bool:
        settled = real(self, worker, s, now)
        if settled and s.move == "done":
            self.store.held.setdefault("a worker of old", []).append(s.old)
            self.store.workers.setdefault("a worker of old", now + 10)
        return settled

    patch.setattr(MemoryDriver, "_settle", _settle)


@exhibit("a repeated number is carried out again", "a lost reply is answered by claiming anew", "DELIVERY-6")
def _(patch: Patch) -> None:
    def before(self: MemoryDriver, worker: str) -> None:
        if worker in self.store.answers:
            n, at, refused = self.store.answers[worker]
            self.store.answers[worker] = (n - 1, at, refused)

    on_exchange(patch, before)


@exhibit("late requests are carried out", "a number below the last is taken for a new one", "DELIVERY-6")
def _(patch: Patch) -> None:
    real = MemoryDriver.exchange

    def exchange(self: MemoryDriver, worker: str, n: int, *args: Any) -> Exchange:
        if worker in self.store.answers and n < self.store.answers[worker][0]:
            del self.store.answers[worker]
        return real(self, worker, n, *args)

    patch.setattr(MemoryDriver, "exchange", exchange)


@exhibit("a retry is due at once", "the wait is not counted", "RETRY-2")
def _(patch: Patch) -> None:
    on_settling(patch, lambda self, s, now: s._replace(in_s=0.0) if s.move == "retry" else s)


@exhibit("retries are due at whole seconds", "the score is rounded down, as the original's is", "RETRY-2")
def _(patch: Patch) -> None:
    on_settling(patch, lambda self, s, now: s._replace(in_s=(now + s.in_s) // 1 - now) if s.move == "retry" else s)


@exhibit("a retry keeps the old bytes", "so attempts are never counted", "RETRY-1")
def _(patch: Patch) -> None:
    on_settling(patch, lambda self, s, now: s._replace(new=s.old) if s.move == "retry" else s)


@exhibit("failures are forgotten", "an exhausted job is removed like one that is done", "FAILURES-1 FAILURES-8")
def _(patch: Patch) -> None:
    on_settling(patch, lambda self, s, now: s._replace(move="done") if s.move == "fail" else s)


@exhibit("failures are read newest first", "when a table comes back, the oldest wait longest", "FAILURES-8")
def _(patch: Patch) -> None:
    def unrecorded(self: MemoryDriver, limit: int) -> list[Unrecorded]:
        newest = sorted(self.store.unrecorded.items(), key=lambda item: (-item[1], item[0]))[:limit]
        return [Unrecorded(envelope, at) for envelope, at in newest]

    patch.setattr(MemoryDriver, "unrecorded", unrecorded)


@exhibit("recorded empties the list", "a row that came meanwhile is lost", "FAILURES-8")
def _(patch: Patch) -> None:
    patch.setattr(MemoryDriver, "recorded", lambda self, envelopes: self.store.unrecorded.clear())


@exhibit("announcements are forgotten", "a suspect's start is accepted and not noted", "DELIVERY-9 DELIVERY-10")
def _(patch: Patch) -> None:
    real = MemoryDriver._settle

    def _settle(self: MemoryDriver, worker: str, s: Settlement, now: float) -> bool:
        if s.move == "start":
            return s.old in self.store.held.get(s.owner, [])
        return real(self, worker, s._replace(place="held"), now)

    patch.setattr(MemoryDriver, "_settle", _settle)


@exhibit("claims more than is wanted", "ten at a time, whoever asks for how many", "WORKERS-3")
def _(patch: Patch) -> None:
    real = MemoryDriver.exchange

    def exchange(self: MemoryDriver, worker: str, n: int, lease_s: float, s: Any, want: int) -> Exchange:
        return real(self, worker, n, lease_s, s, max(want, 10) if want else 0)

    patch.setattr(MemoryDriver, "exchange", exchange)


@exhibit("the dead are forgotten with their jobs", "a list is tidied up without a look at what it holds", "DELIVERY-1")
def _(patch: Patch) -> None:
    real = MemoryDriver._leave

    def _leave(self: MemoryDriver, worker: str, owner: str, now: float) -> bool:
        if owner != worker and self.store.workers.get(owner, now) <= now - 3600:
            self.store.held.pop(owner, None)
        return real(self, worker, owner, now)

    patch.setattr(MemoryDriver, "_leave", _leave)


@exhibit("who leaves is forgotten at once", "with all that it held", "WORKERS-3")
def _(patch: Patch) -> None:
    def _leave(self: MemoryDriver, worker: str, owner: str, now: float) -> bool:
        for places in (self.store.held, self.store.running, self.store.answers, self.store.workers):
            places.pop(owner, None)
        return True

    patch.setattr(MemoryDriver, "_leave", _leave)
