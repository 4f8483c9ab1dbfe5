"""Bugs of leases: not renewed, ignored, by the wrong clock; and of takeovers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

from kashvi_sim.world.network import Line

from kashvi import ports
from kashvi.drivers import memory
from kashvi.drivers.memory import MemoryDriver
from kashvi.ports import Exchange, Expired, LostDelivery, Settlement
from kashvi.worker.keeper import Keeper
from kashvi.worker.machine import tend

from . import Patch, exhibit, value, where


def settling(patch: Patch, when: Callable[[MemoryDriver, str, Settlement], bool], instead: Any) -> None:
    """Settle by ``instead(real, driver, worker, settlement, now)``, if ``when`` holds."""
    where(patch, MemoryDriver, "_settle", lambda self, worker, s, now: when(self, worker, s), instead)


def holds(self: MemoryDriver, s: Settlement) -> bool:
    """True if the job is in the settlement's list."""
    return s.old in (self.store.held if s.place == "held" else self.store.running).get(s.owner, [])


def accept_always(patch: Patch) -> None:
    """Accept every settlement, held or not."""

    def settle(real: Any, self: MemoryDriver, worker: str, s: Settlement, now: float) -> bool:
        (self.store.held if s.place == "held" else self.store.running).setdefault(s.owner, []).append(s.old)
        return bool(real(self, worker, s, now))

    settling(patch, lambda self, worker, s: s.move != "leave" and not holds(self, s), settle)


@exhibit(
    "claim without reserving",
    "a job is nowhere while it runs",
    "DISPATCH-1 DELIVERY-1 DELIVERY-2",
    source="Go kashvi, Sidekiq, Celery, Huey: BRPOP",
    also="DELAY-8 DELAY-10 DELIVERY-3 DELIVERY-5 DELIVERY-6 DELIVERY-7 DELIVERY-8 DELIVERY-10 "
    "DELIVERY-12 DELIVERY-13 DELIVERY-14 DELIVERY-15 DELIVERY-16 DELIVERY-17 DISPATCH-2 "
    "DISPATCH-5 DISPATCH-10 JOBS-2 JOBS-18 MEMORY-3 QUEUES-4 QUEUES-6 QUEUES-8 QUEUES-9 "
    "QUEUES-10 QUEUES-12 REDIS-3 RETRY-8 RETRY-13 WORKERS-3 WORKERS-13 WORKERS-20",
)
def _(patch: Patch) -> None:
    real, real_wait = MemoryDriver.exchange, MemoryDriver.wait

    def exchange(self: MemoryDriver, worker: str, *args: Any) -> Exchange:
        answer = real(self, worker, *args)
        for envelope in answer.claimed:
            self.store.held[worker].remove(envelope)
        return answer._replace(holding=answer.holding - len(answer.claimed))

    def wait(self: MemoryDriver, worker: str, seconds: float, *queues: Any) -> bytes | float | None:
        envelope = real_wait(self, worker, seconds, *queues)
        if isinstance(envelope, bytes):
            self.store.held[worker].remove(envelope)
        return envelope

    accept_always(patch)
    patch.setattr(MemoryDriver, "exchange", exchange)
    patch.setattr(MemoryDriver, "wait", wait)


@exhibit(
    "the dead keep what they announced",
    "only jobs that were not started are taken over",
    "DELIVERY-2 DELIVERY-10",
    source="asynq #1144: active without a lease, never recovered",
    also="DELIVERY-1 DELIVERY-8 DELIVERY-14 DELIVERY-15 DELIVERY-16 DELIVERY-17 DISPATCH-1 RETRY-8",
)
def _(patch: Patch) -> None:
    def expired(real: Any, self: MemoryDriver, limit: int) -> Expired:
        found: Expired = real(self, limit)
        return found._replace(lost=[one for one in found.lost if one.place == "held"])

    where(patch, MemoryDriver, "expired", lambda self, limit: any(self.store.running.values()), expired)


@exhibit("all that is lost at once", "the limit is ignored", "DELIVERY-2")
def _(patch: Patch) -> None:
    where(patch, MemoryDriver, "expired", lambda self, limit: limit == 1, lambda real, self, limit: real(self, 100))


@exhibit(
    "known from the first exchange on",
    "a job claimed by an earlier wait is lost with its process",
    "DELIVERY-2",
    source="ours, once; a worker in another language that waits first",
)
def _(patch: Patch) -> None:
    def wait(real: Any, self: MemoryDriver, worker: str, seconds: float, *queues: Any) -> bytes | None:
        envelope: bytes | None = real(self, worker, seconds, *queues)
        del self.store.workers[worker]
        return envelope

    where(patch, MemoryDriver, "wait", lambda self, worker, seconds, *queues: worker not in self.store.workers, wait)


@exhibit("any name will do", "a name may be unreadable for other programs", "DELIVERY-2")
def _(patch: Patch) -> None:
    where(
        patch, memory, "worker_name",
        lambda name: name.strip() != name or not name.isascii(),
        lambda real, name: name,
    )  # fmt: skip


@exhibit(
    "no worker reclaims",
    "jobs of a dead process stay in its list",
    "DELIVERY-1 DELIVERY-2",
    source="AsyncTasQ: no reaper; taskiq-redis #131",
    also="DELAY-10 DELIVERY-3 DELIVERY-5 DELIVERY-8 DELIVERY-10 DELIVERY-12 DELIVERY-14 "
    "DELIVERY-15 DELIVERY-16 DELIVERY-17 DISPATCH-1 FAILURES-4 QUEUES-4 QUEUES-6 QUEUES-9 "
    "REDIS-4 REDIS-5 RETRY-8 RETRY-13 WORKERS-13 WORKERS-20",
)
def _(patch: Patch) -> None:
    patch.setattr(Keeper, "reaped", lambda self, found: None)


@exhibit(
    "reclaim moves instead of settling in place",
    "a reclaimer that dies takes the jobs along",
    "DELIVERY-2",
    also="QUEUES-4 DELIVERY-1 DELIVERY-13 DISPATCH-1 REDIS-8 DELAY-10",
)
def _(patch: Patch) -> None:
    def expired(real: Any, self: MemoryDriver, limit: int) -> Expired:
        found: Expired = real(self, limit)
        for lost in found.lost:
            (self.store.held if lost.place == "held" else self.store.running)[lost.owner].remove(lost.envelope)
        vars(self.store).setdefault("taken", []).extend(found.lost)
        return found

    def settle(real: Any, self: MemoryDriver, worker: str, s: Settlement, now: float) -> bool:
        taken: list[LostDelivery] = vars(self.store).get("taken", [])
        mine = [one for one in taken if one.envelope == s.old and one.owner == s.owner]
        if mine and worker != s.owner:
            taken.remove(mine[0])
            (self.store.held if s.place == "held" else self.store.running).setdefault(s.owner, []).append(s.old)
        return bool(real(self, worker, s, now))

    def some(self: MemoryDriver, limit: int) -> bool:
        now = self.store.now()
        return any(deadline <= now for deadline in self.store.workers.values())

    where(patch, MemoryDriver, "expired", some, expired)
    settling(patch, lambda self, worker, s: bool(vars(self.store).get("taken")), settle)


@exhibit(
    "the dead are forgotten with their jobs", "a dead worker is removed without a check of its lists", "DELIVERY-1"
)
def _(patch: Patch) -> None:
    def leave(real: Any, self: MemoryDriver, worker: str, owner: str, now: float) -> bool:
        if self.store.workers.get(owner, now) <= now - 3600:
            self.store.held.pop(owner, None)
        return bool(real(self, worker, owner, now))

    where(patch, MemoryDriver, "_leave", lambda self, worker, owner, now: owner != worker, leave)


@exhibit(
    "live workers are robbed",
    "any worker may settle any job: leases are not checked",
    "DELIVERY-3",
    source="Oban, River: rescue by elapsed time",
    also="DELIVERY-16",
)
def _(patch: Patch) -> None:
    def settle(real: Any, self: MemoryDriver, worker: str, s: Settlement, now: float) -> bool:
        return bool(real(self, s.owner if s.move != "leave" else worker, s, now))

    settling(patch, lambda self, worker, s: s.owner != worker, settle)


@exhibit(
    "who has only waited so far is dead",
    "any worker may settle its jobs",
    "DELIVERY-3",
    source="SAQ #277: swept 0.1 s after the start",
    also="DELIVERY-2",
)
def _(patch: Patch) -> None:
    def unknown(self: MemoryDriver, worker: str, seconds: float, *queues: Any) -> bool:
        return worker not in self.store.workers

    value(patch, memory, "FIRST_LEASE_S", 0.0, MemoryDriver, "wait", unknown)


def renewing(patch: Patch, when: Callable[[MemoryDriver, str], bool]) -> None:
    """Skip the renewal in exchanges, if ``when(driver, worker)`` holds."""

    def exchange(real: Any, self: MemoryDriver, worker: str, *args: Any) -> Exchange:
        before = self.store.workers[worker]
        answer: Exchange = real(self, worker, *args)
        if worker in self.store.workers:
            self.store.workers[worker] = before
        return answer

    where(
        patch,
        MemoryDriver,
        "exchange",
        lambda self, worker, *args: worker in self.store.workers and when(self, worker),
        exchange,
    )


@exhibit(
    "a heartbeat renews nothing",
    "an exchange without settlements and claims",
    "DELIVERY-3 DELIVERY-4",
    source="Celery #5935: visibility timeout",
    also="DELAY-10 DELIVERY-1 DELIVERY-5 DELIVERY-11 DELIVERY-14 DELIVERY-15 DELIVERY-16 "
    "DISPATCH-1 WORKERS-5 WORKERS-13 WORKERS-14",
)
def _(patch: Patch) -> None:
    def exchange(real: Any, self: MemoryDriver, worker: str, *args: Any) -> Exchange:
        before = self.store.workers[worker]
        answer: Exchange = real(self, worker, *args)
        self.store.workers[worker] = before
        return answer

    def idle(self: MemoryDriver, worker: str, n: int, lease_s: float, settlements: Any, want: Any) -> bool:
        return worker in self.store.workers and not settlements and want == 0

    where(patch, MemoryDriver, "exchange", idle, exchange)


@exhibit(
    "a lease is renewed for a minute",
    "a longer job runs twice",
    "DELIVERY-4",
    source="arq: in-progress for the longest timeout; Laravel: retry_after",
    also="DELIVERY-1 DISPATCH-1",
)
def _(patch: Patch) -> None:
    def old(self: MemoryDriver, worker: str) -> bool:
        known: dict[str, tuple[Any, float]] = vars(self.store).setdefault("known", {})
        held, now = self.store.held.get(worker, [])[:1], self.store.now()
        if known.get(worker, (None, 0.0))[0] != held:
            known[worker] = held, now
        return bool(held) and now - known[worker][1] > 60

    renewing(patch, old)


@exhibit(
    "heartbeat forgotten",
    "a lease is renewed only when a job ends",
    "DELIVERY-4",
    source="Laravel: fixed retry_after, no heartbeat",
    also="QUEUES-4 DELIVERY-1 DELIVERY-5 DELIVERY-11 DELIVERY-14 DELIVERY-15 DISPATCH-1 WORKERS-5 WORKERS-13 "
    "WORKERS-14 DELAY-10",
)
def _(patch: Patch) -> None:
    patch.setattr(tend, "exchanges", lambda state, now: False)


@exhibit(
    "settle not fenced",
    "a worker that was taken for dead still settles",
    "DELIVERY-5",
    source="asynq: Done deletes the task a second worker runs",
    also="DELAY-10 DELIVERY-6 DELIVERY-7 DELIVERY-14 DISPATCH-5 JOBS-18 JOBS-21 QUEUES-8 QUEUES-9 WORKERS-13",
)
def _(patch: Patch) -> None:
    accept_always(patch)


@exhibit(
    "a late retry is added",
    "although the job is gone",
    "DELIVERY-5",
    source="Laravel: release after the lease makes two of one job",
    also="QUEUES-9",
)
def _(patch: Patch) -> None:
    def settle(real: Any, self: MemoryDriver, worker: str, s: Settlement, now: float) -> bool:
        self.store.delayed = sorted([*self.store.delayed, (now + s.in_s, s.new)])
        return False

    settling(patch, lambda self, worker, s: s.move == "retry" and not holds(self, s), settle)


@exhibit(
    "a late end is accepted",
    "although another worker has the job",
    "DELIVERY-5",
    source="streams: XACK of a consumer that lost the entry",
    also="DELAY-10 DELIVERY-1 DELIVERY-6 DELIVERY-14 DISPATCH-1 DISPATCH-5 JOBS-18 JOBS-21 QUEUES-8 WORKERS-13",
)
def _(patch: Patch) -> None:
    settling(patch, lambda self, worker, s: s.move == "done" and not holds(self, s), lambda real, *args: True)


def skewed(patch: Patch, call: str, instead: Any) -> None:
    """Replace a call of processes whose clock is wrong."""
    where(patch, Line, call, lambda self, *args: abs(self._process.now() - self._kernel.time) > 1, instead)


@exhibit(
    "a lease ends by its worker's clock",
    "a worker whose clock is behind has no lease",
    "DELIVERY-11",
    source="asynq: rdb.clock and time.Now() are mixed",
    also="DELIVERY-1 DISPATCH-1",
)
def _(patch: Patch) -> None:
    def exchange(real: Any, self: Line, worker: str, n: int, lease_s: float, *args: Any) -> Exchange:
        answer: Exchange = real(self, worker, n, lease_s + self._process.now() - self._kernel.time, *args)
        return answer

    skewed(patch, "exchange", exchange)


@exhibit(
    "who is ahead thinks others dead", "it takes over their running jobs", "DELIVERY-11", also="DELIVERY-1 DISPATCH-1"
)
def _(patch: Patch) -> None:
    def expired(real: Any, self: Line, limit: int) -> Expired:
        store = self._world.server.driver.store  # type: ignore[attr-defined]
        behind = self._process.now() - self._kernel.time
        for owner in store.workers:
            store.workers[owner] -= max(behind, 0.0)
        found: Expired = real(self, limit)
        return found

    skewed(patch, "expired", expired)


@exhibit(
    "large jobs are claimed by number alone",
    "three hundred of a megabyte at once",
    "DELIVERY-13",
    source="kashvi, before",
)
def _(patch: Patch) -> None:
    by_number(patch, "exchange", lambda store: store.jobs)


@exhibit(
    "large failures are read by number alone",
    "every process that records them runs out of memory",
    "DELIVERY-13",
    source="kashvi, before",
)
def _(patch: Patch) -> None:
    by_number(patch, "unrecorded", lambda store: store.unrecorded)


def by_number(patch: Patch, name: str, of: Any) -> None:
    """Remove the limit in bytes from what this method reads."""

    def unbounded(real: Any, *asked: Any) -> Any:
        with mock.patch.object(ports, "READ_MAX_BYTES", 2**40):
            return real(*asked)

    def large(self: MemoryDriver, *asked: Any) -> bool:
        return sum(map(len, of(self.store))) > ports.READ_MAX_BYTES

    where(patch, MemoryDriver, name, large, unbounded)


@exhibit("one dead worker is looked at", "the others of that day wait for ever", "DELIVERY-2")
def _(patch: Patch) -> None:
    def expired(real: Any, self: MemoryDriver, limit: int) -> Expired:
        found: Expired = real(self, limit)
        first = found.lost[0].owner
        return found._replace(lost=[one for one in found.lost if one.owner == first])

    def many(self: MemoryDriver, limit: int) -> bool:
        return sum(map(bool, self.store.held.values())) > 40

    where(patch, MemoryDriver, "expired", many, expired)


@exhibit(
    "an old look at the dead is good enough",
    "they came back, and died of another job",
    "DELIVERY-16",
    source="ours, once: a job was charged for a death beside a fresh one",
)
def _(patch: Patch) -> None:
    def settle(real: Any, self: MemoryDriver, worker: str, s: Settlement, now: float) -> bool:
        return bool(real(self, worker, s._replace(lease_end=None), now))

    settling(patch, lambda self, worker, s: s.lease_end not in (None, self.store.workers.get(s.owner)), settle)


@exhibit("a look at the dead has no date", "so the server can't tell an old one", "DELIVERY-16")
def _(patch: Patch) -> None:
    def expired(real: Any, self: MemoryDriver, limit: int) -> Expired:
        found: Expired = real(self, limit)
        return found._replace(lost=[one._replace(lease_end=None) for one in found.lost])

    where(patch, MemoryDriver, "expired", lambda self, limit: any(self.store.held.values()), expired)
