"""Bugs of a worker's end: jobs dropped or forgotten, ends too early or never, interrupts that go astray."""

from __future__ import annotations

from typing import Any

from kashvi.drivers.memory import MemoryDriver
from kashvi.ports import Exchange
from kashvi.queues import Queue
from kashvi.worker import settle
from kashvi.worker.attempt import Attempts
from kashvi.worker.keeper import Keeper
from kashvi.worker.machine import Machine, choose, stop, tend
from kashvi.worker.machine.state import State
from kashvi.worker.machine.steps import SECOND, Until
from kashvi.worker.pool import Workers

from . import Patch, exhibit, where


def stopping(state: State, *args: Any) -> bool:
    return state.stopping_at is not None


@exhibit(
    "claims while it stops",
    "a worker that was told to stop claims jobs until the queue is empty",
    "WORKERS-3",
    also="QUEUES-4 COMMANDS-13 WORKERS-15 WORKERS-17 WORKERS-20",
)
def _(patch: Patch) -> None:
    def deaf(real: Any, state: State, *args: Any) -> Any:
        at, state.stopping_at = state.stopping_at, None
        try:
            return real(state, *args)
        finally:
            state.stopping_at = at

    def choose_(real: Any, state: State, now: int) -> Any:
        what = deaf(real, state, now)
        return what if what in ("run", "exchange") else real(state, now)

    where(patch, Machine, "_sending", stopping, deaf)
    where(patch, choose, "choose", stopping, choose_)
    where(patch, Machine, "_release_if_stopping", stopping, lambda real, self, now: None)


@exhibit(
    "jobs that have not started are dropped at the stop",
    "a worker that stops drops jobs that it had claimed ahead",
    "WORKERS-3",
    also="DELIVERY-1 DELIVERY-14 DISPATCH-1",
)
def _(patch: Patch) -> None:
    def release(real: Any, self: Machine, now: int, *queues: Any) -> None:
        self.ready.clear()
        self.suspects.clear()

    where(
        patch, Machine, "_release", lambda self, now, *queues: not queues and bool(self.ready or self.suspects), release
    )


@exhibit(
    "running jobs are dropped at the stop",
    "a stop does not wait for them",
    "WORKERS-3",
    source="Go kashvi: gone 7 ms after SIGTERM",
    also="QUEUES-11 QUEUES-4 COMMANDS-9 COMMANDS-13 DELIVERY-1 DISPATCH-1 FAILURES-1 WORKERS-5 WORKERS-17 WORKERS-20",
)
def _(patch: Patch) -> None:
    def stop_(real: Any, self: Machine, now: int) -> None:
        real(self, now)
        self._owe(now, [settle.returned(d, now / SECOND) for d in self.running.values()])

    where(patch, Machine, "_stop", lambda self, now: bool(self.running), stop_)


@exhibit("a leaving worker is forgotten at once", "with all that it held", "WORKERS-3", also="DELIVERY-1")
def _(patch: Patch) -> None:
    def leave(real: Any, self: MemoryDriver, worker: str, owner: str, now: float) -> bool:
        for places in (self.store.held, self.store.running, self.store.answers, self.store.workers):
            places.pop(owner, None)
        return True

    where(patch, MemoryDriver, "_leave", lambda self, worker, owner, now: bool(self.store.held.get(owner)), leave)


def giving_up(patch: Patch, answer: bool) -> None:
    """Fix the decision of a stopping worker without its server: give up, or not."""
    where(patch, stop, "tired", stopping, lambda real, state, now: answer)


@exhibit("it never gives up", "its end waits for the server", "WORKERS-11", also="WORKERS-13 WORKERS-20")
def _(patch: Patch) -> None:
    giving_up(patch, False)


@exhibit(
    "it gives up at once",
    "one try, and its jobs wait for their lease to end",
    "WORKERS-11",
    also="DELIVERY-1 DISPATCH-1 WORKERS-20",
)
def _(patch: Patch) -> None:
    giving_up(patch, True)


@exhibit(
    "with nothing in hand it waits for its server",
    "for a lease, after it was told to stop",
    "WORKERS-11",
    source="ours, until now",
    also="WORKERS-12",
)
def _(patch: Patch) -> None:
    patch.setattr(stop, "gives_up", stop.tired)


@exhibit(
    "it waits for an empty queue without a server",
    "for as long as the server is away",
    "WORKERS-12",
    source="ours, until now; Celery's and RQ's burst mode",
)
def _(patch: Patch) -> None:
    patch.setattr(stop, "unheard", lambda state, now: False)


@exhibit("away is taken for empty", "the caller gets no error", "WORKERS-12")
def _(patch: Patch) -> None:
    def ends(real: Any, self: Keeper) -> None:
        real(self)
        self._worker.error = None

    where(patch, Keeper, "ends", lambda self: self._worker.machine.away, ends)


@exhibit(
    "a stop that times out hands back",
    "while the job's thread goes on",
    "WORKERS-5",
    source="Sidekiq: pushed back before the threads are killed",
)
def _(patch: Patch) -> None:
    def stop(real: Any, self: Workers, timeout: float | None = None) -> bool:
        if not (ended := bool(real(self, timeout))):
            self.hand_back()
        return ended

    where(patch, Workers, "stop", lambda self, timeout=None: timeout is not None, stop)


@exhibit("a lease ends with the stop", "it is not renewed while the last job runs", "WORKERS-5", source="Celery #3802")
def _(patch: Patch) -> None:
    where(patch, tend, "exchanges", stopping, lambda real, state, now: False)


@exhibit("Ctrl-C is a failed attempt", "in work(), too, which can't be interrupted then", "WORKERS-6")
def _(patch: Patch) -> None:
    interrupted(patch, interruptible=False)


@exhibit("Ctrl-C is kept to itself", "work() returns as if all had been done", "WORKERS-6")
def _(patch: Patch) -> None:
    interrupted(patch, interruptible=True)


@exhibit("Ctrl-C costs the job", "it is neither settled nor handed back", "WORKERS-6", source="Huey, RQ #2236")
def _(patch: Patch) -> None:
    def interrupted(real: Any, self: Machine, *args: Any) -> None:
        real(self, *args)
        self.outbox = [one for one in self.outbox if one.move != "return"]

    where(patch, Machine, "interrupted", lambda *_: True, interrupted)


def interrupted(patch: Patch, interruptible: bool) -> None:
    """Change the effect of KeyboardInterrupt on ``work()``."""
    real = Queue.work

    def work(self: Queue, **named: Any) -> None:
        try:
            real(self, **named)
        except KeyboardInterrupt:
            return

    def init(real: Any, self: Attempts, *args: Any, **named: Any) -> None:
        real(self, *args, **named | {"interruptible": False})

    if interruptible:
        patch.setattr(Queue, "work", work)
    else:
        where(patch, Attempts, "__init__", lambda self, *_, **named: named["interruptible"], init)


def taken_for(patch: Patch, until: Until, other: Until) -> None:
    """Have ``work()`` end as one that works until ``other``, when only delayed jobs are left."""

    def delayed_alone(state: State) -> bool:
        due = state.next_due_at
        return state.limits.until == until and due is not None and due < state.renewed_at + 60 * SECOND

    def finished(real: Any, state: State) -> bool:
        state.limits = state.limits._replace(until=other)
        return bool(real(state))

    where(patch, choose, "finished", delayed_alone, finished)


@exhibit(
    "empty means drained",
    "work() waits for a job that is due in a year",
    "WORKERS-7",
    source="Laravel, RQ: burst and empty differ",
    also="COMMANDS-30 ENVELOPE-5 QUEUES-8",
)
def _(patch: Patch) -> None:
    taken_for(patch, "empty", "drained")


@exhibit(
    "drained means empty",
    "work() leaves delayed jobs",
    "WORKERS-7",
    also="DISPATCH-4 FAILURES-13 JOBS-7 JOBS-23 REDIS-3 RETRY-11 TABLE-2",
)
def _(patch: Patch) -> None:
    taken_for(patch, "drained", "empty")


@exhibit(
    "claims more than is wanted",
    "ten at a time, though it asked for fewer",
    "WORKERS-3",
    source="Celery: prefetch",
    also="DELIVERY-1 DELIVERY-2 DELIVERY-3 DELIVERY-5 DELIVERY-6 DELIVERY-8 DELIVERY-17 "
    "DISPATCH-3 MEMORY-3 QUEUES-9 WORKERS-6 WORKERS-17 WORKERS-21",
)
def _(patch: Patch) -> None:
    def exchange(real: Any, self: MemoryDriver, worker: str, n: int, lease_s: float, s: Any, want: int) -> Exchange:
        answer: Exchange = real(self, worker, n, lease_s, s, 10)
        return answer

    def some(self: MemoryDriver, worker: str, n: int, lease_s: float, s: Any, want: int) -> bool:
        return isinstance(want, int) and 0 < want < 10 and len(self.store.jobs) > want

    where(patch, MemoryDriver, "exchange", some, exchange)
