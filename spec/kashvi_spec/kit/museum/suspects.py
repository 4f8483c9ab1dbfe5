"""Bugs of suspects: a death costs too much, nothing, or the neighbours' attempts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kashvi.drivers.memory import MemoryDriver
from kashvi.ports import LostDelivery, Settlement
from kashvi.worker import retry, settle
from kashvi.worker.machine import Machine, choose, suspects
from kashvi.worker.machine.state import State
from kashvi.worker.settle import Delivery, Settling

from . import Patch, exhibit, value, where


@exhibit(
    "returned to the tail",
    "a job that is handed back goes to the end of the queue",
    "DELIVERY-8",
    also="DELIVERY-1 DELIVERY-14 DELIVERY-15 DELIVERY-17 DISPATCH-1 MEMORY-3 QUEUES-9 WORKERS-3 WORKERS-6",
)
def _(patch: Patch) -> None:
    def _settle(real: Any, self: MemoryDriver, worker: str, s: Settlement, now: float) -> bool:
        settled: bool = real(self, worker, s, now)
        if settled:
            jobs = self.store.line(s.queue).jobs
            jobs.appendleft(jobs.pop())
        return settled

    where(patch, MemoryDriver, "_settle", lambda self, worker, s, now: s.move == "return", _settle)


@exhibit(
    "every lost job is counted",
    "a poison job takes its neighbours along",
    "DELIVERY-8",
    source="RQ: an abandoned job has failed; asynq: a lease that expired is a retry",
    also="DELIVERY-10 DELIVERY-14 DELIVERY-15 DELIVERY-16 DELIVERY-17 REDIS-4 REDIS-5 RETRY-1 "
    "RETRY-8 RETRY-13 WORKERS-20",
)
def _(patch: Patch) -> None:
    patch.setattr(retry, "decide_lost", lambda certain, attempts, most: retry.decide(attempts + 1, most))


@exhibit(
    "suspects run together",
    "the next death has many suspects",
    "DELIVERY-14",
    also="DELIVERY-1 DELIVERY-2 DELIVERY-10 DELIVERY-12 DELIVERY-15 DELIVERY-17 DISPATCH-1",
)
def _(patch: Patch) -> None:
    def may_start(real: Any, state: State, now: int) -> bool:
        state.suspect = None
        return bool(real(state, now))

    where(patch, suspects, "may_start", lambda state, now: bool(state.suspects), may_start)


@exhibit(
    "suspects have a lease to themselves",
    "then the next starts beside them",
    "DELIVERY-14",
    source="ours, until 0.2: a good job that took longer than the lease was recorded, beside one that kills",
    also="DELIVERY-10 DELIVERY-15 DELIVERY-16 DELIVERY-17",
)
def _(patch: Patch) -> None:
    patch.setattr(suspects, "window", lambda state, d: state.lease)


@exhibit("no suspect is given more time than another", "the number of its deaths is ignored", "DELIVERY-14")
def _(patch: Patch) -> None:
    where(
        patch, suspects, "window",
        lambda state, d: d.lost > 1,
        lambda real, state, d: state.lease * suspects.WINDOW_LEASES,
    )  # fmt: skip


@exhibit(
    "suspects are not announced",
    "they start as fresh jobs do",
    "DELIVERY-14",
    also="DELIVERY-1 DELIVERY-2 DELIVERY-8 DELIVERY-10 DELIVERY-12 DELIVERY-15 DELIVERY-16 "
    "DELIVERY-17 DISPATCH-1 REDIS-4 REDIS-5 RETRY-8",
)
def _(patch: Patch) -> None:
    def admit(real: Any, self: Machine, now: int, claimed: Sequence[Delivery]) -> None:
        for d in claimed:
            if d.suspect and d.place == "held":
                self.ready.appendleft(d)
            else:
                real(self, now, [d])

    where(patch, Machine, "_admit", lambda self, now, claimed: any(d.suspect for d in claimed), admit)


@exhibit(
    "who dies alone is dropped",
    "a suspect that was announced is the culprit",
    "DISPATCH-1 DELIVERY-10",
    also="DELIVERY-8 DELIVERY-16 DELIVERY-17 FAILURES-4 JOBS-2 RETRY-8 WORKERS-13",
)
def _(patch: Patch) -> None:
    def lost(real: Any, *args: Any) -> Settling:
        settling: Settling = real(*args)
        settling.move = "done"
        return settling

    where(patch, settle, "lost", lambda d, ended_at, most, certain, *rest: certain, lost)


@exhibit(
    "a lost attempt is never counted",
    "a poison job runs for ever",
    "DELIVERY-10 DELIVERY-17",
    source="Dramatiq: redelivered with retries 0; ArdiQ; Sidekiq #4069",
    also="DELIVERY-1 DELIVERY-8 DELIVERY-16 DISPATCH-1 FAILURES-4 RETRY-8",
)
def _(patch: Patch) -> None:
    patch.setattr(retry, "decide_lost", lambda certain, attempts, most: retry.SendBack())


@exhibit(
    "announcements are forgotten",
    "a suspect's start is accepted and not noted",
    "DELIVERY-14 DELIVERY-10",
    also="DELIVERY-1 DELIVERY-2 DELIVERY-8 DELIVERY-15 DELIVERY-16 DELIVERY-17 DISPATCH-1 RETRY-8",
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
    "they count as claimed ahead, and no other job is claimed",
    "DELIVERY-12",
    source="ours, until 0.2: four long jobs of a dead process held up a hundred short ones for six minutes",
    also="DELIVERY-17",
)
def _(patch: Patch) -> None:
    def want(real: Any, state: State, now: int) -> int:
        return int(real(state, now)) - len(state.suspects)

    where(patch, choose, "want", lambda state, now: bool(state.suspects), want)


@exhibit(
    "a process with suspects is theirs alone",
    "no other job is claimed until the last has ended",
    "DELIVERY-12",
    also="DELIVERY-17",
)
def _(patch: Patch) -> None:
    where(patch, choose, "want", lambda state, now: bool(state.suspects), lambda real, state, now: 0)


@exhibit(
    "all suspects keep fresh jobs out",
    "those of one death, too",
    "DELIVERY-12",
    also="DELIVERY-14 DELIVERY-15 DELIVERY-16 DELIVERY-17",
)
def _(patch: Patch) -> None:
    def any_is_there(state: State, now: int) -> bool:
        return bool(state.suspects or state.suspect)

    value(patch, suspects, "GRAVE", 1, suspects, "keep_fresh_out", any_is_there)


@exhibit(
    "no suspect keeps fresh jobs out",
    "again and again, many jobs may have caused a death",
    "DELIVERY-15",
    also="DELIVERY-1 DELIVERY-17 DISPATCH-1",
)
def _(patch: Patch) -> None:
    where(
        patch,
        suspects,
        "keep_fresh_out",
        lambda state, now: any(d.lost > 1 for d in (*state.suspects, *filter(None, [state.suspect]))),
        lambda real, state, now: False,
    )


@exhibit("a grave suspect waits for ever", "until no job runs any more", "DELIVERY-15")
def _(patch: Patch) -> None:
    patch.setattr(suspects, "patience", lambda state, d: 10**15)


@exhibit("a grave suspect does not wait", "it starts beside jobs that have just begun", "DELIVERY-15")
def _(patch: Patch) -> None:
    patch.setattr(suspects, "patience", lambda state, d: 0)


@exhibit(
    "each that was announced is charged",
    "although others ran beside it",
    "DELIVERY-16",
    source="ours, until 0.2: a good job was recorded as failed, with the poison job that it ran beside",
    also="DELIVERY-14 DELIVERY-15 DELIVERY-17",
)
def _(patch: Patch) -> None:
    def lost(real: Any, d: Delivery, ended_at: float, most: int, certain: bool, *rest: Any) -> Settling:
        charged: Settling = real(d, ended_at, most, True, *rest)
        return charged

    where(patch, settle, "lost", lambda d, ended_at, most, certain, *rest: d.place == "running" and not certain, lost)


@exhibit(
    "who is fresh is never to blame",
    "a suspect is charged for a fresh job beside it",
    "DELIVERY-16",
    also="DELIVERY-15 DELIVERY-17",
)
def _(patch: Patch) -> None:
    def after_death(real: Any, theirs: Sequence[LostDelivery], whole: bool, *rest: Any) -> list[Settling]:
        announced = [one for one in theirs if one.place == "running"]
        return [*real([one for one in theirs if one.place == "held"], whole, *rest), *real(announced, True, *rest)]

    where(patch, suspects, "after_death", lambda theirs, *rest: any(one.place == "held" for one in theirs), after_death)


@exhibit(
    "the dead are judged one job at a time",
    "each as if it had been alone",
    "DELIVERY-16",
    also="DELIVERY-1 DELIVERY-2 DELIVERY-14 DELIVERY-15 DELIVERY-17 DISPATCH-1",
)
def _(patch: Patch) -> None:
    def after_death(real: Any, theirs: Sequence[LostDelivery], *rest: Any) -> list[Settling]:
        found: list[Settling] = real(theirs[:1], *rest)
        return found

    where(patch, suspects, "after_death", lambda theirs, *rest: len(theirs) > 1, after_death)


@exhibit(
    "no suspect is graver than another",
    "the cause of the next death is as open",
    "DELIVERY-17",
    also="DELIVERY-1 DELIVERY-14 DELIVERY-15 DISPATCH-1",
)
def _(patch: Patch) -> None:
    def lost(real: Any, d: Delivery, ended_at: float, most: int, certain: bool, graver: int, *rest: Any) -> Settling:
        excused: Settling = real(d, ended_at, most, certain, 0, *rest)
        return excused

    where(patch, settle, "lost", lambda d, ended_at, most, certain, *rest: d.suspect and not certain, lost)


@exhibit(
    "what is kept out stays in hand", "a fresh job claimed beside a suspect may have caused the death", "DELIVERY-17"
)
def _(patch: Patch) -> None:
    where(patch, suspects, "kept_out", lambda state, now: bool(state.ready), lambda real, state, now: [])
