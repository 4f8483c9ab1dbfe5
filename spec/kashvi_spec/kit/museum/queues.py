"""Bugs of named queues: jobs that change their queue, orders that are none, and pauses of too much or too little."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kashvi import dispatch
from kashvi.drivers.lines import Line
from kashvi.drivers.memory import MemoryDriver
from kashvi.errors import NotAnEnvelope
from kashvi.jobs import envelope
from kashvi.names import DEFAULT, is_queue
from kashvi.ports import Exchange, Settlement, Shares, Want
from kashvi.worker import settle
from kashvi.worker.machine import shares
from kashvi.worker.machine.state import State
from kashvi.worker.running import FollowUps, Running
from kashvi.worker.settle import Delivery

from . import Patch, exhibit, where


def weighted(state: State, want: int) -> bool:
    return want > 0 and len(state.queues) > 1 and state.queues[0].weight > 0


def strict(state: State, want: int) -> bool:
    return want > 0 and len(state.queues) > 1 and not state.queues[0].weight


# -- where a job goes --------------------------------------------------------------------------------


@exhibit(
    "a dispatch to another queue than the type's is ignored",
    "the type's queue is all that counts",
    "QUEUES-1",
    also="DELIVERY-1 DISPATCH-1 JOBS-21 JOBS-22 QUEUES-2 QUEUES-3 QUEUES-4 QUEUES-5 QUEUES-7 QUEUES-8 QUEUES-10",
)
def _(patch: Patch) -> None:
    real = dispatch.seal_job

    def seal_job(*args: Any) -> Any:
        return real(*(*args[:4], None, *args[5:]))

    patch.setattr(dispatch, "seal_job", seal_job)


@exhibit(
    "a job goes to the default queue, and only says its own",
    "workers of its queue never see it",
    "QUEUES-1",
    also="DELIVERY-1 DISPATCH-1 JOBS-21 JOBS-22 QUEUES-2 QUEUES-3 QUEUES-4 QUEUES-5 QUEUES-10",
)
def _(patch: Patch) -> None:
    where(
        patch, MemoryDriver, "push",
        lambda self, envelopes, delay_s=0.0, queues=(): bool(queues),
        lambda real, self, envelopes, delay_s=0.0, queues=(): real(self, envelopes, delay_s),
    )  # fmt: skip


@exhibit(
    "a worker takes of all queues",
    "whatever it was told to serve",
    "QUEUES-1",
    source="Celery: workers without -Q",
    also="QUEUES-4 QUEUES-5",
)
def _(patch: Patch) -> None:
    def claim(real: Any, self: MemoryDriver, want: Shares, now: float) -> Any:
        more = [(name, want.total) for name in self.store.lines() if name not in dict(want.queues)]
        return real(self, Shares(want.total, (*want.queues, *more)), now)

    where(patch, MemoryDriver, "_claim_shares", lambda self, want, now: bool(self.store.named), claim)


# -- order and shares --------------------------------------------------------------------------------


def instead(patch: Patch, condition: Any, change: Any) -> None:
    """Change what a worker wants of its queues."""
    where(patch, shares, "divided", condition, change)


@exhibit("the last queue comes first", "strict order, from the wrong end", "QUEUES-2", also="COMMANDS-24")
def _(patch: Patch) -> None:
    def backwards(real: Any, state: State, want: int) -> Any:
        wanted, after = real(state, want)
        return wanted._replace(queues=wanted.queues[::-1]), after

    instead(patch, strict, backwards)


@exhibit(
    "strict queues take turns",
    "every other claim is of a later one",
    "QUEUES-2",
    source="Sidekiq #3709: one weight makes all queues weighted",
    also="COMMANDS-24",
)
def _(patch: Patch) -> None:
    def by_turns(real: Any, state: State, want: int) -> Any:
        names = [one.name for one in state.queues]
        first = state.n % len(names)
        return Shares(want, tuple((name, want) for name in (*names[first:], *names[:first]))), state.credits

    instead(patch, strict, by_turns)


@exhibit(
    "a due job of the first queue waits until another worker looks",
    "only what is ready has an order",
    "QUEUES-2",
    also="QUEUES-1 QUEUES-4",
)
def _(patch: Patch) -> None:
    def promote(real: Any, self: Line, now: float) -> None:
        if not self.jobs:
            return
        real(self, now)

    def claim(self: MemoryDriver, want: Shares, now: float) -> Any:
        found = real_claim(self, want, now)
        for name, _ in want.queues:
            real_promote(self.store.line(name), now)
        return found

    real_claim, real_promote = MemoryDriver._claim_shares, Line.promote
    where(patch, Line, "promote", lambda self, now: bool(self.delayed) and not hasattr(self, "named"), promote)
    patch.setattr(MemoryDriver, "_claim_shares", claim)


@exhibit(
    "weights empty the first queue",
    "the heaviest takes all that is wanted",
    "QUEUES-3",
    source="asynq: StrictPriority over weights",
    also="COMMANDS-24",
)
def _(patch: Patch) -> None:
    def all_of_one(real: Any, state: State, want: int) -> Any:
        heaviest = sorted(state.queues, key=lambda one: -one.weight)
        return Shares(want, tuple((one.name, want) for one in heaviest)), state.credits

    instead(patch, weighted, all_of_one)


@exhibit(
    "shares begin anew at every exchange",
    "a worker that claims one job at a time takes it of the heaviest queue",
    "QUEUES-3",
    source="procrastinate: a job of low priority could take months",
)
def _(patch: Patch) -> None:
    instead(patch, weighted, lambda real, state, want: (real(state, want)[0], ()))


@exhibit(
    "what one queue can't give is not taken of others",
    "threads idle beside ready jobs",
    "QUEUES-3",
)
def _(patch: Patch) -> None:
    def claim(real: Any, self: MemoryDriver, want: Shares, now: float) -> Any:
        wanted = dict(want.queues)
        for name, most in wanted.items():
            wanted[name] = min(most, len(self.store.line(name).jobs))
        return real(self, Shares(sum(wanted.values()), tuple(wanted.items())), now)

    def shared(self: MemoryDriver, want: Shares, now: float) -> bool:
        return sum(most for _, most in want.queues) == want.total > 0 and len(want.queues) > 1

    where(patch, MemoryDriver, "_claim_shares", shared, claim)


# -- the way back ------------------------------------------------------------------------------------


def of_named(self: MemoryDriver, worker: str, s: Settlement, now: float) -> bool:
    return s.queue != DEFAULT


def settled_to(patch: Patch, move: str, queue: Any) -> None:
    """Put what makes this move on another queue: ``queue(driver, worker, settlement)``."""

    def settle(real: Any, self: MemoryDriver, worker: str, s: Settlement, now: float) -> bool:
        return bool(real(self, worker, s._replace(queue=queue(self, worker, s)) if s.move == move else s, now))

    where(patch, MemoryDriver, "_settle", of_named, settle)


def first_served(self: MemoryDriver, worker: str, s: Settlement) -> str:
    return self.store.serves.get(worker, (DEFAULT,))[0]


@exhibit(
    "a retry goes to the default queue",
    "its own workers never see it again",
    "QUEUES-4",
    source="django-rq: a requeued job goes to the default queue",
    also="DELIVERY-1 DISPATCH-1 JOBS-21 QUEUES-1 QUEUES-8",
)
def _(patch: Patch) -> None:
    settled_to(patch, "retry", lambda self, worker, s: DEFAULT)


@exhibit(
    "a job comes back to the first queue of its worker",
    "when that hands it back unstarted",
    "QUEUES-4",
    also="QUEUES-1",
)
def _(patch: Patch) -> None:
    settled_to(patch, "return", lambda self, worker, s: first_served(self, worker, s) if s.owner == worker else s.queue)


@exhibit(
    "a job of a dead worker goes to the first queue of its reclaimer",
    "which may serve none of its queues",
    "QUEUES-4",
    also="DELIVERY-1 DISPATCH-1 QUEUES-1 QUEUES-8",
)
def _(patch: Patch) -> None:
    settled_to(patch, "return", lambda self, worker, s: s.queue if s.owner == worker else first_served(self, worker, s))


@exhibit("a follow-up goes to the queue of its parent", "whatever its dispatch says", "QUEUES-4")
def _(patch: Patch) -> None:
    def keep(
        real: Any, self: FollowUps, running: Running, jobs: Iterable[object], delay_s: float, queue: Any = None
    ) -> list[str]:
        kept: list[str] = real(self, running, jobs, delay_s, running.delivery.queue)
        return kept

    where(
        patch, FollowUps, "keep",
        lambda self, running, jobs, delay_s, queue=None: (queue or DEFAULT) != running.delivery.queue, keep,
    )  # fmt: skip


@exhibit(
    "the envelope wins over the list",
    "a job that was pushed by hand changes its queue",
    "QUEUES-4",
    also="DELIVERY-1 QUEUES-1",
)
def _(patch: Patch) -> None:
    def read(real: Any, *args: Any, **named: Any) -> Delivery:
        return real(*args[:7])  # type: ignore[no-any-return]

    def knows(*args: Any, queue: str | None = None, **named: Any) -> bool:
        found = queue if len(args) < 8 else args[7]
        return found is not None and b'"queue":' in args[0]

    where(patch, settle, "delivery", knows, read)


@exhibit(
    "of two queues, jobs are popped and not held",
    "a death loses them: only one queue has a list to move them to",
    "QUEUES-4",
    source="RQ Queue.dequeue_any: two queues are read by BLPOP",
    also="DELIVERY-1 DISPATCH-1",
)
def _(patch: Patch) -> None:
    def exchange(real: Any, self: MemoryDriver, worker: str, *rest: Any) -> Exchange:
        popped: dict[str, list[bytes]] = vars(self.store).setdefault("popped", {})
        self.store.held[worker] = popped.pop(worker, []) + self.store.held.get(worker, [])
        answer: Exchange = real(self, worker, *rest)
        if held := self.store.held.get(worker):
            popped[worker] = held[:]
            held.clear()
        return answer

    def of_two(self: MemoryDriver, worker: str, n: int, lease_s: float, s: Any, want: Want) -> bool:
        return not isinstance(want, int) and len(want.queues) > 1

    where(patch, MemoryDriver, "exchange", of_two, exchange)


# -- pauses ------------------------------------------------------------------------------------------


def of_a_named_queue(self: MemoryDriver, queue: str = DEFAULT) -> bool:
    return bool(self.store.named)


@exhibit(
    "a pause of one queue pauses all",
    "one key for all workers",
    "QUEUES-5",
    source="RQ rq:suspended: one key for all workers",
)
def _(patch: Patch) -> None:
    def pause(real: Any, self: MemoryDriver, queue: str = DEFAULT) -> float:
        for name in self.store.lines():
            real(self, name)
        return float(real(self, queue))

    def resume(real: Any, self: MemoryDriver, queue: str = DEFAULT) -> float:
        for name in self.store.lines():
            real(self, name)
        return float(real(self, queue))

    where(patch, MemoryDriver, "pause", of_a_named_queue, pause)
    where(patch, MemoryDriver, "resume", of_a_named_queue, resume)


@exhibit(
    "only the default queue can be paused",
    "a pause of another one is noted, and no claim asks",
    "QUEUES-5",
    also="WORKERS-21",
)
def _(patch: Patch) -> None:
    def exchange(real: Any, self: MemoryDriver, *rest: Any) -> Exchange:
        lines = list(self.store.named.values())
        since = [line.paused_at for line in lines]
        for line in lines:
            line.paused_at = None
        try:
            answer: Exchange = real(self, *rest)
            return answer
        finally:
            for line, at in zip(lines, since, strict=True):
                line.paused_at = at

    def paused(self: MemoryDriver, *rest: Any) -> bool:
        return any(line.paused_at is not None for line in self.store.named.values())

    where(patch, MemoryDriver, "exchange", paused, exchange)


@exhibit(
    "a wait for a paused queue takes its jobs",
    "only exchanges heed the pause of one of several",
    "QUEUES-5",
    also="DELIVERY-1 DISPATCH-1",
)
def _(patch: Patch) -> None:
    def waited_for(real: Any, state: State) -> tuple[str, ...]:
        return tuple(one.name for one in state.queues)

    where(patch, shares, "waited_for", lambda state: bool(state.paused_queues), waited_for)


# -- the field ---------------------------------------------------------------------------------------


@exhibit("a queue of the wrong type makes a job undeliverable", "an envelope is read strictly", "QUEUES-6")
def _(patch: Patch) -> None:
    def read(real: Any, raw: bytes) -> Any:
        found = real(raw)
        if found.queue and not bytes(found.queue).startswith(b'"'):
            raise NotAnEnvelope("queue: expected str")
        return found

    where(patch, envelope, "read", lambda raw: b'"queue":' in raw, read)


@exhibit("a name in an envelope is taken as it is", "and becomes part of a key", "QUEUES-6")
def _(patch: Patch) -> None:
    def strange(name: object) -> bool:
        return isinstance(name, str) and not is_queue(name)

    where(patch, envelope, "is_queue", strange, lambda real, name: True)
