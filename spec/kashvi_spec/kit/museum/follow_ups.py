"""Bugs of follow-ups: sent too early, twice, in part, or never."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kashvi.drivers.memory import MemoryDriver
from kashvi.ports import Exchange, Settlement
from kashvi.worker import attempt, hooks, running, settle
from kashvi.worker.running import FollowUps, Running
from kashvi.worker.settle import Settling
from kashvi.worker.shell import Worker

from . import Patch, exhibit, value, where


@exhibit(
    "follow-ups are sent at once",
    "each attempt that fails later has sent them",
    "JOBS-18",
    source="Celery, RQ, Dramatiq: delay() in a task sends at once",
    also="JOBS-23 QUEUES-4 QUEUES-8",
)
def _(patch: Patch) -> None:
    def keep(self: FollowUps, running: Running, jobs: Iterable[object], delay_s: float, *queue: Any) -> list[str]:
        before = len(running.kept or ())
        ids: list[str] = real(self, running, jobs, delay_s, *queue)
        for one in (running.kept or [])[before:]:
            self._driver.push([one.envelope], one.delay_s)
        return ids

    real = FollowUps.keep
    patch.setattr(FollowUps, "keep", keep)
    patch.setattr(FollowUps, "taken", lambda self, running: ())


@exhibit(
    "a repeated request sends follow-ups again",
    "a lost reply makes two of each",
    "JOBS-18 JOBS-21",
    source="Sidekiq #5740: a batch's callback runs twice",
    also="DELIVERY-5 DELIVERY-7 DISPATCH-5",
)
def _(patch: Patch) -> None:
    def exchange(real: Any, self: MemoryDriver, worker: str, n: int, lease_s: float, s: Any, want: int) -> Exchange:
        answer: Exchange = real(self, worker, n, lease_s, s, want)
        for one in s:
            self._follow(one.follow_ups, self.store.now())
        return answer

    def repeated(self: MemoryDriver, worker: str, n: int, lease_s: float, s: Any, want: int) -> bool:
        return bool(n == self.store.answers.get(worker, (0,))[0]) and any(one.follow_ups for one in s)

    where(patch, MemoryDriver, "exchange", repeated, exchange)


@exhibit(
    "follow-ups come before the fence",
    "a worker that was taken for dead sends them, too",
    "JOBS-18 JOBS-21",
    also="DELIVERY-5 DELIVERY-7 QUEUES-8 QUEUES-9 QUEUES-10",
)
def _(patch: Patch) -> None:
    def settle(real: Any, self: MemoryDriver, worker: str, s: Settlement, now: float) -> bool:
        self._follow(s.follow_ups, now)
        return bool(real(self, worker, s._replace(follow_ups=()), now))

    where(patch, MemoryDriver, "_settle", lambda self, worker, s, now: bool(s.follow_ups), settle)


@exhibit(
    "a second try sends no follow-ups",
    "the server was away, and the job is done without them",
    "JOBS-18",
    also="DELIVERY-1 DISPATCH-1",
)
def _(patch: Patch) -> None:
    real = Settling.sent

    def sent(self: Settling, monotonic: float) -> Settlement:
        settlement = real(self, monotonic)
        if self in tried:
            return settlement._replace(follow_ups=())
        tried.add(self)
        return settlement

    tried = set[Settling]()
    patch.setattr(Settling, "sent", sent)


@exhibit("a delayed follow-up is ready at once", "its delay is over when it is sent", "JOBS-18", also="DELAY-1")
def _(patch: Patch) -> None:
    def follow(real: Any, self: MemoryDriver, sent: Any, now: float) -> None:
        real(self, [one._replace(in_s=0.0) for one in sent], now)

    where(patch, MemoryDriver, "_follow", lambda self, sent, now: any(one.in_s for one in sent), follow)


@exhibit("an attempt that is over still takes follow-ups", "and never sends them", "JOBS-19")
def _(patch: Patch) -> None:
    def keep(self: FollowUps, running: Running, jobs: Iterable[object], delay_s: float, *queue: Any) -> list[str]:
        over, running.over = running.over, False
        try:
            ids: list[str] = real(self, running, jobs, delay_s, *queue)
        finally:
            running.over = over
        return ids

    real = FollowUps.keep
    patch.setattr(FollowUps, "keep", keep)


@exhibit(
    "any number of follow-ups",
    "one request carries them, and the server refuses it for ever",
    "JOBS-19",
    source="Celery #3021: a group of any size is made first",
)
def _(patch: Patch) -> None:
    value(patch, running, "MANY_MAX", 1_000_000, FollowUps, "keep", lambda *call: True)


@exhibit("follow-ups of any size", "as if only their number counted", "JOBS-19")
def _(patch: Patch) -> None:
    value(patch, running, "BYTES_MAX", 1 << 40, FollowUps, "keep", lambda *call: True)


@exhibit("a driver without follow-ups drops them", "the handler is told nothing", "JOBS-19")
def _(patch: Patch) -> None:
    def keep(
        real: Any, self: FollowUps, running: Running, jobs: Iterable[object], delay_s: float, *queue: Any
    ) -> list[str]:
        return ["" for _ in jobs]

    where(patch, FollowUps, "keep", lambda self, *rest: not getattr(self._driver, "follows_up", False), keep)


@exhibit("the first half of many is kept", "before the one that can't be dispatched", "JOBS-19")
def _(patch: Patch) -> None:
    def keep(self: FollowUps, running: Running, jobs: Iterable[object], delay_s: float, *queue: Any) -> list[str]:
        return [job_id for job in jobs for job_id in real(self, running, [job], delay_s, *queue)]

    real = FollowUps.keep
    patch.setattr(FollowUps, "keep", keep)


@exhibit("what fails has follow-ups, too", "it is only done with them that counts", "JOBS-18")
def _(patch: Patch) -> None:
    def failed(self: Any, d: Any, began: float, error: BaseException) -> Any:
        settling = real(self, d, began, error)
        kept = hooks.RUNNING.get()
        if kept is not None and kept.kept:
            self.follow_ups._driver.push([one.envelope for one in kept.kept])
        return settling

    real = attempt.Attempts.failed
    patch.setattr(attempt.Attempts, "failed", failed)


@exhibit(
    "a done that the server can't take is run again",
    "as if another worker had taken the job over, so it goes on for ever",
    "JOBS-23",
    source="kashvi, before it had this clause",
)
def _(patch: Patch) -> None:
    patch.setattr(Worker, "unsent", lambda self, request, answer: ())


@exhibit(
    "follow-ups that can't be added are left out",
    "the job is done without them, and no one hears of it",
    "JOBS-23",
    source="design review: the rest of a chain vanishes",
)
def _(patch: Patch) -> None:
    def unsent(self: attempt.Attempts, done: Settling, number: int, prefix: str) -> Settling:
        return settle.succeeded(done.delivery, done.ended_at, done.took_s)

    patch.setattr(attempt.Attempts, "unsent", unsent)
