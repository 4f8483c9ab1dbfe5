"""Deliveries and their settlings: the attempt's outcome, the settlement to send, the event once it is accepted."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import msgspec

from .. import events
from ..errors import NotAnEnvelope
from ..jobs import envelope
from ..jobs.envelope import Envelope
from ..names import DEFAULT
from ..ports import NO_LOCK, FollowUp, Move, Place, Settlement
from ..stream import EventStream
from . import retry

ERROR_MAX = 10_000


class Delivery(msgspec.Struct, eq=False, gc=False, frozen=True):
    """A claimed job: its exact bytes in the owner's list, and their decoded fields."""

    raw: bytes
    owner: str
    server_at: float
    claim: str
    place: Place
    envelope: Envelope | None
    job_id: str
    type: str
    attempts: int
    suspect: bool
    error: str = ""
    """The reason if the bytes are not an envelope."""
    lease_end: float | None = None
    """If it is another worker's: when its lease ran out, by the server's clock."""
    queue: str = DEFAULT
    """Its queue: the one it was claimed from; where that is not known, the one that the envelope names."""

    @property
    def lost(self) -> int:
        """The envelope's ``lost``: how grave a suspect it is."""
        return self.envelope.lost if self.envelope else 0


def delivery(
    raw: bytes,
    owner: str,
    new_id: Callable[[], str],
    server_at: float,
    claim: str = "exchange",
    place: Place = "held",
    lease_end: float | None = None,
    queue: str | None = None,
) -> Delivery:
    """Decode a claimed job; one without an id gets one. ``queue``: the queue it was claimed from, if that is known."""
    try:
        read = envelope.read(raw)
    except NotAnEnvelope as error:
        why, queue = str(error), queue or DEFAULT
        return Delivery(raw, owner, server_at, claim, place, None, new_id(), "", 0, False, why, lease_end, queue)
    if queue is None:
        queue = envelope.queue_in(read)
    return Delivery(
        raw, owner, server_at, claim, place, read, read.id or new_id(), read.type, read.attempts, read.lost > 0,
        "", lease_end, queue,
    )  # fmt: skip


def _says_its_queue(d: Delivery) -> bool:
    """Whether the envelope names the queue that the job is on."""
    if d.envelope is None or (not d.envelope.queue and d.queue == DEFAULT):
        return True
    return bool(d.envelope.queue) and envelope.queue_in(d.envelope) == d.queue


def _rewritten(d: Delivery, **changes: Any) -> bytes:
    """The envelope with ``changes``. A job that was pushed to another queue than it names says the right one now."""
    if not _says_its_queue(d):
        changes["queue"] = None if d.queue == DEFAULT else d.queue
    return envelope.rewrite(d.raw, d.job_id, **changes)


class TimeLimit(NamedTuple):
    """Of a running attempt. Times are whole microseconds of this process's monotonic clock, as the machine has them."""

    delivery: Delivery
    timeout_s: float
    deadline: int
    thread: int = 0
    """The number of its thread."""
    obey_until: int | None = None
    """Until when the handler may obey, once the keeper has seen that the limit has passed."""
    stuck: bool = False
    """It has not obeyed."""


class Kept(NamedTuple):
    """A follow-up that waits for the end of its attempt."""

    job_id: str
    type: str
    envelope: bytes
    delay_s: float
    """From the end of the attempt; 0: none."""
    queue: str = DEFAULT
    lock: str = ""
    link: bool = False
    """True for the next link of a chain, which is the last of them."""


class Settling(msgspec.Struct, eq=False, gc=False):
    """A settlement to send. Times are this process's monotonic seconds."""

    move: Move
    delivery: Delivery
    ended_at: float
    new: bytes = b""
    attempts: int = 0
    wait_s: float = 0.0
    error: str = ""
    max_attempts: int = 0
    type_limit: int = 0
    """``max_attempts`` if it is the type's own, else 0."""
    backoff: str = ""
    """Whose wait it is, as ``retries.told`` has it."""
    gave_up: bool = False
    """True if the handler, or the type's policy, gave the job up before its limit."""
    undeliverable: bool = False
    suspect: int = 0
    """If returned: how grave a suspect it is now."""
    lost: bool = False
    """True if the attempt died with its process."""
    postponed: bool = False
    """True for a retry without an attempt: this worker does not know the type."""
    snoozed: int = 0
    """If a retry without an attempt that the handler asked for: how often it has by now."""
    traceback: str = ""
    """The traceback of an exhausted job's last attempt."""
    took_s: float | None = None
    """The duration of ``handle()``, if it ended."""
    follow_ups: tuple[Kept, ...] = ()
    """If done: the jobs to send in the same step."""

    @property
    def follow_up_bytes(self) -> int:
        return sum(len(one.envelope) for one in self.follow_ups)

    def sent(self, monotonic: float) -> Settlement:
        """The settlement as sent now, with durations: the server does not know this process's clock."""
        d = self.delivery
        in_s = self.wait_s - (monotonic - self.ended_at)
        sent: tuple[FollowUp, ...] = ()
        if self.follow_ups:
            ago = monotonic - self.ended_at
            sent = tuple(
                FollowUp(k.envelope, k.delay_s and max(k.delay_s - ago, 0.0), k.queue, (k.lock, k.job_id), k.link)
                for k in self.follow_ups
            )
        lock = NO_LOCK
        if d.envelope is not None and d.envelope.unique and self.move != "start":
            lock = (envelope.lock_in(d.envelope), d.job_id)
        return Settlement(
            self.move, d.owner, d.place, d.raw, self.new, in_s, d.lease_end, sent, d.queue, lock, d.job_id
        )  # fmt: skip


def succeeded(d: Delivery, ended_at: float, took_s: float | None = None, follow_ups: tuple[Kept, ...] = ()) -> Settling:
    settling = Settling("done", d, ended_at, attempts=d.attempts + 1, took_s=took_s)
    if follow_ups:
        settling.follow_ups = follow_ups
    return settling


def failed(
    d: Delivery,
    ended_at: float,
    error: str,
    max_attempts: int,
    decision: retry.RetryAfter | retry.GiveUp | None = None,
) -> Settling:
    """An attempt failed. ``decision``: what follows by the type's policy; by default as for types without one."""
    if decision is None:
        decision = retry.decide(d.attempts + 1, max_attempts)
    return _counted(d, ended_at, error, max_attempts, decision, lost=None)


def traced(s: Settling, traceback: str) -> Settling:
    """The settling with the traceback in its envelope, if the job is exhausted."""
    s.traceback = traceback
    if s.delivery.envelope is not None:
        s.new = envelope.rewrite(s.new, s.delivery.job_id, traceback=traceback)
    return s


def undeliverable(d: Delivery, ended_at: float, error: str) -> Settling:
    """No attempt was possible: the job is recorded as failed, uncounted."""
    error = error[:ERROR_MAX]
    if d.envelope is None or not d.type:
        new = envelope.wrap_garbage(d.raw, d.job_id, error, d.queue)
    else:
        new = _rewritten(d, error=error, unknown_since=None, traceback=None)
    return Settling("fail", d, ended_at, new=new, attempts=d.attempts, error=error, undeliverable=True)


def unknown(d: Delivery, ended_at: float, error: str, unknown_for_s: float) -> Settling:
    """This worker does not know the type: the job waits for a worker that does, and is recorded in the end."""
    assert d.envelope
    since = min(d.envelope.unknown_since or d.server_at, d.server_at)
    decision = retry.decide_unknown(d.server_at - since, unknown_for_s)
    if not isinstance(decision, retry.RetryAfter):
        return undeliverable(d, ended_at, error)
    new = _rewritten(d, unknown_since=since)
    return Settling("retry", d, ended_at, new, d.attempts, decision.seconds, error, postponed=True)


def returned(d: Delivery, ended_at: float) -> Settling:
    """Handed back unfinished: uncounted and unmarked."""
    new = d.raw if d.envelope is None or (d.envelope.id and _says_its_queue(d)) else _rewritten(d)
    return Settling("return", d, ended_at, new=new, suspect=d.lost)


def snoozed(d: Delivery, ended_at: float, seconds: float, took_s: float) -> Settling:
    """The handler wants to be called later: no attempt is counted, and as it ended well, the job is no suspect."""
    times = min(_count_in(d, "snoozed") + 1, envelope.COUNT_MAX)
    new = _rewritten(d, snoozed=times, lost=None, unknown_since=None)
    return Settling("retry", d, ended_at, new, d.attempts, seconds, snoozed=times, took_s=took_s)


def limit_in(d: Delivery) -> int:
    """The limit of attempts in the envelope, as the type had it at the dispatch; 0: none, or no whole number from 1."""
    return _count_in(d, "max_attempts")


def _count_in(d: Delivery, name: str) -> int:
    """A number in the envelope; 0 for anything else, which must not make a job undeliverable."""
    found = envelope.fields_of(d.raw).get(name) if d.envelope else None
    try:
        return msgspec.json.decode(found, type=envelope.Count) if found is not None else 0
    except (msgspec.MsgspecError, RecursionError):
        return 0


def started(d: Delivery, ended_at: float) -> Settling:
    """A suspect is announced before it starts."""
    return Settling("start", d, ended_at)


def gone(owner: str, ended_at: float) -> Settling:
    """Remove a worker without jobs from the list: this one at its end, a dead one long after its lease."""
    return Settling("leave", Delivery(b"", owner, 0.0, "", "held", None, "", "", 0, False), ended_at)


def lost(d: Delivery, ended_at: float, max_attempts: int, certain: bool, graver: int, type_limit: int = 0) -> Settling:
    """The job's process died or was silent for a lease. ``certain``: no other job can have run beside it.

    ``type_limit``: the type's own limit, as far as it is known here; 0: none.
    """
    if d.envelope is None:
        return undeliverable(d, ended_at, d.error)
    max_attempts = type_limit or max_attempts
    decision = retry.decide_lost(certain, d.attempts, max_attempts)
    suspicion = min(d.lost + graver, envelope.COUNT_MAX)
    if not isinstance(decision, retry.SendBack):
        error = f"the process died during attempt {d.attempts + 1}"
        settling = _counted(d, ended_at, error, max_attempts, decision, lost=suspicion)
        settling.type_limit = type_limit
        return settling
    if not graver:
        return returned(d, ended_at)
    new = _rewritten(d, lost=suspicion)
    return Settling("return", d, ended_at, new=new, suspect=suspicion)


def _counted(
    d: Delivery,
    ended_at: float,
    error: str,
    max_attempts: int,
    decision: retry.RetryAfter | retry.GiveUp,
    lost: int | None,
) -> Settling:
    attempts = min(d.attempts + 1, envelope.COUNT_MAX)
    if isinstance(decision, retry.RetryAfter):
        new = _rewritten(d, attempts=attempts, lost=lost, unknown_since=None)
        return Settling(
            "retry", d, ended_at, new, attempts, decision.seconds, error, max_attempts,
            backoff=decision.backoff, lost=lost is not None,
        )  # fmt: skip
    error = error[:ERROR_MAX]
    new = _rewritten(d, attempts=attempts, error=error, lost=None, unknown_since=None, traceback=None)
    return Settling(
        "fail", d, ended_at, new, attempts, 0.0, error, max_attempts,
        gave_up=decision.early, lost=lost is not None,
    )  # fmt: skip


def tell(
    stream: EventStream,
    s: Settling,
    server_at: float,
    sent_at: float,
    refused: bool,
    duplicates: Collection[int] = (),
    cancelled: bool = False,
) -> None:
    """Emit the event for the server's answer to a settlement. ``sent_at``: the monotonic time of sending.

    ``duplicates``: the numbers of its follow-ups that were not added. ``cancelled``: it met the job's mark.
    """
    if s.move == "leave":
        return
    d = s.delivery
    about: dict[str, Any] = {"job_id": d.job_id, "type": d.type, "server_at": server_at}
    if refused:
        stream.emit(events.SettleRefused, move=s.move, owner=d.owner, **about)
        return
    if s.lost:
        stream.emit(events.AttemptLost, attempt=s.attempts, owner=d.owner, **about)
    about["queue"] = d.queue
    if cancelled and s.move != "done":
        stream.emit(events.JobCancelled, move=s.move, owner=d.owner, attempts=s.attempts, **about)
        return
    if s.move == "done":
        stream.emit(events.JobSucceeded, attempts=s.attempts, **about)
        for n, one in enumerate(s.follow_ups):
            if cancelled and one.link:
                stream.emit(events.ChainCancelled, next=one.job_id, next_type=one.type, **about)
                continue
            if n in duplicates:
                stream.emit(
                    events.JobDuplicate, job_id=one.job_id, type=one.type, holder="", queue=one.queue, parent=d.job_id,
                    server_at=server_at,
                )  # fmt: skip
                continue
            due = server_at + max(one.delay_s - (sent_at - s.ended_at), 0.0) if one.delay_s else None
            stream.emit(
                events.JobDispatched,
                job_id=one.job_id,
                type=one.type,
                due=due,
                parent=d.job_id,
                server_at=server_at,
                queue=one.queue,
                unique=one.lock,
            )
    elif s.move == "return":
        stream.emit(
            events.JobReturned,
            owner=d.owner,
            suspect=s.suspect > 0,
            lost=s.suspect,
            lost_before=d.lost,
            announced=d.place == "running",
            **about,
        )
    elif s.move == "retry":
        due = server_at + s.wait_s - (sent_at - s.ended_at)
        if s.snoozed:
            stream.emit(events.JobSnoozed, attempts=s.attempts, wait_s=s.wait_s, due=due, snoozed=s.snoozed, **about)
        elif s.postponed:
            stream.emit(events.JobPostponed, attempts=s.attempts, wait_s=s.wait_s, due=due, **about)
        else:
            stream.emit(
                events.RetryScheduled, attempts=s.attempts, wait_s=s.wait_s, due=due,
                backoff=s.backoff, type_limit=s.type_limit, **about,
            )  # fmt: skip
    elif s.move == "fail":
        stream.emit(
            events.JobFailed,
            attempts=s.attempts,
            max_attempts=s.max_attempts,
            error=s.error,
            undeliverable=s.undeliverable,
            gave_up=s.gave_up,
            type_limit=s.type_limit,
            **about,
        )
