"""What the death of a process costs its jobs: too much, nothing ever, or the neighbours' attempts."""

from __future__ import annotations

from typing import Any

from kashvi import retry, settle
from kashvi.books import Books
from kashvi.drivers.memory import MemoryDriver
from kashvi.ports import LostDelivery, Settlement
from kashvi.settle import Delivery, Settling

from . import Patch, exhibit, where


@exhibit(
    "returned to the tail",
    "what is handed back starts all over at the end of the queue",
    "DELIVERY-8",
    also="DELIVERY-9 MEMORY-3 WORKERS-3 WORKERS-6",
)
def _(patch: Patch) -> None:
    def _settle(real: Any, self: MemoryDriver, worker: str, s: Settlement, now: float) -> bool:
        settled: bool = real(self, worker, s, now)
        if settled:
            self.store.jobs.appendleft(self.store.jobs.pop())
        return settled

    where(patch, MemoryDriver, "_settle", lambda self, worker, s, now: s.move == "return", _settle)


@exhibit(
    "every lost job is counted",
    "a poison job takes its neighbours along",
    "DELIVERY-8",
    source="RQ: an abandoned job has failed; asynq: a lease that expired is a retry",
    also="DELIVERY-9 DELIVERY-10",
)
def _(patch: Patch) -> None:
    patch.setattr(retry, "decide_lost", lambda announced, attempts, most: retry.decide(attempts + 1, most))


@exhibit("suspects run together", "so the next death has many suspects", "DELIVERY-9")
def _(patch: Patch) -> None:
    def may_start(real: Any, self: Books) -> bool:
        self._suspect_at = None
        return bool(real(self))

    where(patch, Books, "_may_start_suspect", lambda self: bool(self._suspects), may_start)


@exhibit(
    "suspects are not announced",
    "they start like any other job",
    "DELIVERY-9",
    also="DELIVERY-1 DELIVERY-8 DELIVERY-10 DISPATCH-1",
)
def _(patch: Patch) -> None:
    def admit(real: Any, self: Books, d: Delivery) -> None:
        d.place = "running"
        real(self, d)
        d.place = "held"

    where(patch, Books, "admit", lambda self, d: d.suspect and d.place == "held", admit)


@exhibit(
    "who dies alone is dropped",
    "a suspect that was announced is the culprit",
    "DISPATCH-1 DELIVERY-10",
    also="DELIVERY-8 JOBS-2",
)
def _(patch: Patch) -> None:
    def lost(real: Any, found: LostDelivery, ended_at: float, *rest: Any) -> Settling:
        settling: Settling = real(found, ended_at, *rest)
        settling.move = "done"
        return settling

    where(patch, settle, "lost", lambda found, *rest: found.place == "running", lost)


@exhibit(
    "a lost attempt is never counted",
    "a poison job runs for ever",
    "DELIVERY-10",
    source="Dramatiq: redelivered with retries 0; ArdiQ; Sidekiq #4069",
    also="DELIVERY-1 DELIVERY-8 DISPATCH-1",
)
def _(patch: Patch) -> None:
    patch.setattr(retry, "decide_lost", lambda announced, attempts, most: retry.SendBack())


@exhibit(
    "announcements are forgotten",
    "a suspect's start is accepted and not noted",
    "DELIVERY-9 DELIVERY-10",
    also="DELIVERY-1 DELIVERY-2 DELIVERY-8 DISPATCH-1",
)
def _(patch: Patch) -> None:
    def _settle(real: Any, self: MemoryDriver, worker: str, s: Settlement, now: float) -> bool:
        if s.move == "start":
            return s.old in self.store.held.get(s.owner, [])
        return bool(real(self, worker, s._replace(place="held"), now))

    def announced(self: MemoryDriver, worker: str, s: Settlement, now: float) -> bool:
        return s.move == "start" or s.place == "running"

    where(patch, MemoryDriver, "_settle", announced, _settle)


@exhibit(
    "suspects that wait fill the threads",
    "they count as claimed ahead, and nothing else is taken",
    "DELIVERY-12",
    source="ours, until 0.2: four long jobs of a dead process held up a hundred short ones for six minutes",
)
def _(patch: Patch) -> None:
    where(patch, Books, "_want", lambda self: bool(self._suspects), lambda real, self: real(self) - len(self._suspects))


@exhibit("a process with suspects is theirs alone", "nothing else is taken until the last has ended", "DELIVERY-12")
def _(patch: Patch) -> None:
    where(patch, Books, "_want", lambda self: bool(self._suspects), lambda real, self: 0)
