"""Splits a trace into a story for each job: items with their processes, partly ordered, for the model to walk.

A process emits an event after the server's step, maybe late. So the server's steps are ordered by its clock, if their
times are further apart than the clock was set back; a process's own steps come after its earlier events; and an attempt
ends before it is settled.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, assert_never, cast

from kashvi.events import (
    AnyJobEvent,
    AttemptFailed,
    AttemptLost,
    AttemptSnoozed,
    AttemptStarted,
    AttemptStuck,
    AttemptSucceeded,
    CancelAsked,
    ChainCancelled,
    Event,
    FailureForgotten,
    FailureRecorded,
    FailureRefused,
    FollowUpKept,
    HookFailed,
    JobCancelled,
    JobDispatched,
    JobDuplicate,
    JobEvent,
    JobFailed,
    JobPostponed,
    JobRefused,
    JobReturned,
    JobSnoozed,
    JobStored,
    JobSucceeded,
    PolicyIgnored,
    QueuePaused,
    QueueResumed,
    RetryScheduled,
    SettleRefused,
    WorkerStarted,
    WorkerStopped,
)

from .table import Verdict

What = Literal[
    "dispatched",
    "claimed",
    "started",
    "ended",
    "cut off",
    "void",
    "settled",
    "returned",
    "postponed",
    "refused",
    "recorded",
    "paused",
    "resumed",
    "asked",
    "cancelled",
]
ALONE: frozenset[What] = frozenset({"started", "ended", "cut off", "void"})
"""The steps of a process without the server."""
SETTLED: dict[type[Event], Verdict] = {
    JobSucceeded: "done",
    RetryScheduled: "delayed",
    JobSnoozed: "delayed",
    JobFailed: "unrecorded",
}
NOBODY = -1


_OF_OTHERS = FollowUpKept | JobDuplicate
"""Events about a job that is not on the queue."""


class Item(NamedTuple):
    """One step of a job. Processes are numbers in order of appearance, from 0."""

    what: What
    actor: int = NOBODY
    owner: int = NOBODY
    """The old owner, if another worker's job was settled and the owner is known."""
    number: int = 0
    """The number of the attempt, or of counted attempts."""
    flag: bool = False
    """dispatched: with a delay. started, returned: as a suspect. ended: well. settled: undeliverable."""
    lost: bool = False
    announced: bool = False
    to: Verdict | None = None
    wait_s: float | None = 0.0
    """None: by another rule than the model's, the type's own or the handler's."""
    how: Literal["", "gave up", "snoozed"] = ""
    """settled: what the handler, or the type's policy, made of the attempt."""
    queue: int = 0
    """dispatched, claimed, started, paused, resumed: the queue, a number in order of appearance, from 0."""
    move: str = ""
    """cancelled: what its worker wanted to settle; empty if it was taken off its queue."""
    after: int = 0
    """The items before it, as bits."""


class Story(NamedTuple):
    """One job's."""

    items: tuple[Item, ...]
    silent: tuple[bool, ...]
    """By process: True if it may have taken steps without events, since it was killed or got no answer."""
    ghosts: bool
    """True if such a process may have had the job without any event of it, or under another id."""
    queues: int = 1


class Pause(NamedTuple):
    """A pause of a queue, by the events of the process that made it."""

    began: QueuePaused
    ended: QueueResumed | None


class Told(NamedTuple):
    """A story, and its events in the order of its items."""

    job_id: str
    story: Story
    events: tuple[Event, ...]


def stories(trace: Sequence[Event], set_back_s: float = 0.0, pauses: bool = True) -> Iterable[Told]:
    """The story of each job. Two times of the server at most ``set_back_s`` apart have no order.

    ``pauses``: False if the server may have lost one.
    """
    process_of = {event.worker: event.process for event in trace if isinstance(event, WorkerStarted | AttemptStarted)}
    silent = silent_processes(trace)
    of_job: dict[str, list[JobEvent]] = {}
    for event in trace:
        if isinstance(event, JobEvent) and not isinstance(event, FollowUpKept):  # it may never be sent
            of_job.setdefault(event.job_id, []).append(event)
    of_queue = _pauses(trace) if pauses else {}
    for job_id, events in of_job.items():
        yield _Teller(process_of, silent, set_back_s).tell(job_id, events, of_queue)


def _pauses(trace: Sequence[Event]) -> dict[str, list[Pause]]:
    """The pauses of each queue."""
    found: dict[str, list[Pause]] = {}
    for event in trace:
        if isinstance(event, QueuePaused | QueueResumed) and not event.worker:
            of_queue = found.setdefault(event.queue, [])
            under_way = bool(of_queue) and of_queue[-1].ended is None
            if isinstance(event, QueuePaused) and not under_way:
                of_queue.append(Pause(event, None))
            elif isinstance(event, QueueResumed) and under_way:
                of_queue[-1] = Pause(of_queue[-1].began, event)
    return found


def silent_processes(trace: Sequence[Event]) -> frozenset[str]:
    """The processes with a worker that has no event of its end with all jobs settled."""
    working: dict[str, set[str]] = {}
    for event in trace:
        if isinstance(event, WorkerStarted | AttemptStarted):
            working.setdefault(event.process, set()).add(event.worker)
    for event in trace:
        if isinstance(event, WorkerStopped) and not event.unsettled:
            working.get(event.process, set()).discard(event.worker)
    return frozenset(process for process, workers in working.items() if workers)


def _may_lack_id(event: JobEvent) -> bool:
    """True for an undeliverable job: without an id, it gets another one from each worker that reads it."""
    return (isinstance(event, AttemptFailed) and not event.attempt) or (
        isinstance(event, JobFailed) and event.undeliverable
    )


def _wait_of(event: Event) -> float | None:
    if isinstance(event, RetryScheduled):
        return None if event.backoff else event.wait_s
    return None if isinstance(event, JobSnoozed) else 0.0


def _how(event: Event) -> Literal["", "gave up", "snoozed"]:
    if isinstance(event, JobSnoozed):
        return "snoozed"
    return "gave up" if isinstance(event, JobFailed) and event.gave_up else ""


class _Teller:
    """Makes one job's story."""

    def __init__(self, process_of: dict[str, str], silent: frozenset[str], set_back_s: float) -> None:
        self._process_of = process_of
        self._silent = silent
        self._set_back_s = set_back_s
        self._numbers: dict[str, int] = {}
        self._queues: dict[str, int] = {}
        self._items: list[tuple[Item, Event, float | None]] = []
        """Items with exact times of the server."""
        self._told: dict[str, int] = {}
        """By process, its items so far, as bits."""

    def tell(self, job_id: str, events: Sequence[JobEvent], pauses: Mapping[str, Sequence[Pause]]) -> Told:
        dying: dict[str, AttemptLost] = {}
        for event in events:
            if isinstance(event, AttemptLost):
                dying[event.process] = event
            else:
                self._add(event, dying)
        self._pause(pauses)
        exact = [(at, i) for i, (_, _, at) in enumerate(self._items) if at is not None]
        items = tuple(
            item._replace(
                after=item.after
                | sum(1 << j for earlier, j in exact if at is not None and self._before(earlier, at))
                | self._end_of(item, i)
            )
            for i, (item, _, at) in enumerate(self._items)
        )
        silent = tuple(name in self._silent or name not in self._process_of.values() for name in self._numbers)
        ghosts = bool(self._silent - self._numbers.keys()) or any(map(_may_lack_id, events))
        story = Story(items, silent, ghosts, max(len(self._queues), 1))
        return Told(job_id, story, tuple(event for _, event, _ in self._items))

    def _pause(self, pauses: Mapping[str, Sequence[Pause]]) -> None:
        """Add the pauses of the job's queues that overlap the time from its first step to its last claim."""
        times = [at for _, _, at in self._items if at is not None]
        claims = [at for item, _, at in self._items if item.what == "claimed" and at is not None]
        for queue, number in self._queues.items() if claims else ():
            for began, ended in pauses.get(queue, ()):
                if began.server_at < max(claims) and (ended is None or ended.server_at > min(times)):
                    bit = 1 << self._note(Item("paused", queue=number), began, began.server_at)
                    if ended is not None:
                        self._note(Item("resumed", queue=number, after=bit), ended, ended.server_at)

    def _queue(self, name: str) -> int:
        return self._queues.setdefault(name, len(self._queues))

    def _before(self, one: float, other: float) -> bool:
        return one < other if not self._set_back_s else round(other - one - self._set_back_s, 6) > 0

    def _add(self, known: JobEvent, dying: dict[str, AttemptLost]) -> None:
        event = cast("AnyJobEvent", known)
        if isinstance(event, JobDispatched):
            self._note(Item("dispatched", flag=event.due is not None, queue=self._queue(event.queue)), event)
        elif isinstance(event, AttemptStarted):
            actor, queue, claimed = self._actor(event.process), self._queue(event.queue), 0
            if event.claim == "exchange":
                claimed = 1 << self._note(Item("claimed", actor, queue=queue), event, event.server_at)
            item = Item("started", actor, number=event.attempt, flag=event.suspect, queue=queue, after=claimed)
            self._by_itself(item, event)
        elif isinstance(event, AttemptSucceeded):
            self._by_itself(Item("ended", self._actor(event.process), number=event.attempt, flag=True), event)
        elif isinstance(event, AttemptFailed) and event.unsent:
            self._fails_after_all(event)
        elif isinstance(event, AttemptFailed):
            what: What = "ended" if event.attempt else "void"
            self._by_itself(Item(what, self._actor(event.process), number=event.attempt), event)
        elif isinstance(event, AttemptSnoozed):
            self._by_itself(Item("ended", self._actor(event.process), number=event.attempt), event)
        elif isinstance(event, JobSucceeded | RetryScheduled | JobSnoozed | JobFailed):
            lost = dying.pop(event.process, None)
            self._note(
                Item(
                    "settled",
                    self._actor(event.process),
                    owner=self._owner(lost.owner) if lost else NOBODY,
                    number=event.attempts,
                    flag=isinstance(event, JobFailed) and event.undeliverable,
                    lost=lost is not None,
                    to=SETTLED[type(event)],
                    wait_s=_wait_of(event),
                    how=_how(event),
                ),
                event,
                event.server_at,
            )
        elif isinstance(event, JobReturned):
            actor, owner = self._actor(event.process), self._owner(event.owner)
            before = (
                self._told.get(event.process, 0) if owner == actor else 0
            )  # a worker does not start a job that it hands back
            item = Item("returned", actor, owner, flag=event.suspect, announced=event.announced, after=before)
            self._note(item, event, event.server_at)
        elif isinstance(event, SettleRefused):
            if self._owner(event.owner) == (actor := self._actor(event.process)):  # else two tried to take it over
                self._note(Item("refused", actor, after=self._cut_off(event, actor)), event, event.server_at)
        elif isinstance(event, FailureRecorded):
            if not any(
                item.what == "recorded" for item, _, _ in self._items
            ):  # emitted by every process that recorded it
                self._note(Item("recorded"), event)
        elif isinstance(event, CancelAsked):
            self._note(Item("asked"), event, event.server_at)
        elif isinstance(event, JobCancelled):
            dying.pop(event.process, None)
            actor = self._actor(event.process) if event.move else NOBODY
            owner = self._owner(event.owner) if event.move else NOBODY
            self._note(Item("cancelled", actor, owner, move=event.move), event, event.server_at)
        elif isinstance(event, JobPostponed):
            before = self._told.get(event.process, 0)  # a worker does not start a job of an unknown type
            item = Item("postponed", self._actor(event.process), number=event.attempts, after=before)
            self._note(item, event, event.server_at)
        elif not isinstance(
            event,
            AttemptLost
            | AttemptStuck
            | FailureForgotten
            | FailureRefused
            | FollowUpKept
            | HookFailed
            | JobDuplicate
            | JobRefused
            | JobStored
            | PolicyIgnored
            | ChainCancelled,
        ):
            assert_never(event)

    def _cut_off(self, event: SettleRefused, actor: int) -> int:
        """As a bit: the end, without an event, of an attempt whose job was to be handed back during it."""
        mine = [item for item, _, _ in self._items if item.actor == actor and item.what in ("started", "ended")]
        if event.move != "return" or not mine or mine[-1].what != "started":
            return 0
        self._by_itself(Item("cut off", actor, number=mine[-1].number), event)
        return 1 << len(self._items) - 1

    def _fails_after_all(self, event: AttemptFailed) -> None:
        """The attempt had ended well, and its follow-ups can't be added."""
        actor = self._actor(event.process)
        for i, (item, _, at) in reversed(list(enumerate(self._items))):
            if (item.what, item.actor, item.number, item.flag) == ("ended", actor, event.attempt, True):
                self._items[i] = item._replace(flag=False), event, at
                return

    def _by_itself(self, item: Item, event: Event) -> None:
        """Add a process's own step after its earlier items."""
        self._note(item._replace(after=item.after | self._told.get(event.process, 0)), event)

    def _end_of(self, item: Item, i: int) -> int:
        """The end of the settled attempt, as a bit: the last one before, or else the first one after."""
        if item.what != "settled" or item.lost or item.flag:
            return 0
        ends = [
            j
            for j, (other, _, _) in enumerate(self._items)
            if other.what == "ended"
            and (other.actor, other.number) == (item.actor, item.number + (item.how == "snoozed"))
        ]
        before = [j for j in ends if j < i]
        return 1 << (before[-1] if before else ends[0]) if ends else 0

    def _note(self, item: Item, event: Event, at: float | None = None) -> int:
        n = len(self._items)
        self._items.append((item, event, at))
        self._told[event.process] = self._told.get(event.process, 0) | 1 << n
        return n

    def _actor(self, process: str) -> int:
        return self._numbers.setdefault(process, len(self._numbers))

    def _owner(self, worker: str) -> int:
        return self._actor(self._process_of.get(worker, worker))
