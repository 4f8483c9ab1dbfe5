"""Deliveries and their settlings: the attempt's outcome, the settlement to send, the event once it is accepted."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from .. import events
from ..errors import NotAnEnvelope
from ..jobs import envelope
from ..jobs.envelope import Envelope
from ..ports import Move, Place, Settlement
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
) -> Delivery:
    """Decode a claimed job; one without an id gets one."""
    try:
        read = envelope.read(raw)
    except NotAnEnvelope as error:
        return Delivery(raw, owner, server_at, claim, place, None, new_id(), "", 0, False, str(error))
    return Delivery(
        raw, owner, server_at, claim, place, read, read.id or new_id(), read.type, read.attempts, read.lost > 0
    )


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
    undeliverable: bool = False
    suspect: int = 0
    """If returned: how grave a suspect it is now."""
    lost: bool = False
    """True if the attempt died with its process."""
    postponed: bool = False
    """True for a retry without an attempt: this worker does not know the type."""
    traceback: str = ""
    """The traceback of an exhausted job's last attempt."""
    took_s: float | None = None
    """The duration of ``handle()``, if it ended."""

    def sent(self, monotonic: float) -> Settlement:
        """The settlement as sent now, with durations: the server does not know this process's clock."""
        d = self.delivery
        return Settlement(self.move, d.owner, d.place, d.raw, self.new, self.wait_s - (monotonic - self.ended_at))


def succeeded(d: Delivery, ended_at: float, took_s: float | None = None) -> Settling:
    return Settling("done", d, ended_at, attempts=d.attempts + 1, took_s=took_s)


def failed(d: Delivery, ended_at: float, error: str, max_attempts: int) -> Settling:
    """An attempt failed, or (see ``lost``) died with its process."""
    return _counted(d, ended_at, error, max_attempts, retry.decide(d.attempts + 1, max_attempts), lost=None)


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
        new = envelope.wrap_garbage(d.raw, d.job_id, error)
    else:
        new = envelope.rewrite(d.raw, d.job_id, error=error, unknown_since=None, traceback=None)
    return Settling("fail", d, ended_at, new=new, attempts=d.attempts, error=error, undeliverable=True)


def unknown(d: Delivery, ended_at: float, error: str, unknown_for_s: float) -> Settling:
    """This worker does not know the type: the job waits for a worker that does, and is recorded in the end."""
    assert d.envelope
    since = min(d.envelope.unknown_since or d.server_at, d.server_at)
    decision = retry.decide_unknown(d.server_at - since, unknown_for_s)
    if not isinstance(decision, retry.RetryAfter):
        return undeliverable(d, ended_at, error)
    new = envelope.rewrite(d.raw, d.job_id, unknown_since=since)
    return Settling("retry", d, ended_at, new, d.attempts, decision.seconds, error, postponed=True)


def returned(d: Delivery, ended_at: float) -> Settling:
    """Handed back unfinished: uncounted and unmarked."""
    new = d.raw if d.envelope is None or d.envelope.id else envelope.rewrite(d.raw, d.job_id)
    return Settling("return", d, ended_at, new=new, suspect=d.lost)


def started(d: Delivery, ended_at: float) -> Settling:
    """A suspect is announced before it starts."""
    return Settling("start", d, ended_at)


def gone(owner: str, ended_at: float) -> Settling:
    """Remove a worker without jobs from the list: this one at its end, a dead one long after its lease."""
    return Settling("leave", Delivery(b"", owner, 0.0, "", "held", None, "", "", 0, False), ended_at)


def lost(d: Delivery, ended_at: float, max_attempts: int, certain: bool, graver: int) -> Settling:
    """The job's process died or was silent for a lease. ``certain``: no other job can have run beside it."""
    if d.envelope is None:
        return undeliverable(d, ended_at, d.error)
    decision = retry.decide_lost(certain, d.attempts, max_attempts)
    suspicion = min(d.lost + graver, envelope.COUNT_MAX)
    if not isinstance(decision, retry.SendBack):
        error = f"the process died during attempt {d.attempts + 1}"
        return _counted(d, ended_at, error, max_attempts, decision, lost=suspicion)
    if not graver:
        return returned(d, ended_at)
    new = envelope.rewrite(d.raw, d.job_id, lost=suspicion)
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
        new = envelope.rewrite(d.raw, d.job_id, attempts=attempts, lost=lost, unknown_since=None)
        return Settling(
            "retry", d, ended_at, new, attempts, decision.seconds, error, max_attempts, lost=lost is not None
        )
    error = error[:ERROR_MAX]
    new = envelope.rewrite(
        d.raw, d.job_id, attempts=attempts, error=error, lost=None, unknown_since=None, traceback=None
    )
    return Settling("fail", d, ended_at, new, attempts, 0.0, error, max_attempts, lost=lost is not None)


def tell(stream: events.EventStream, s: Settling, server_at: float, sent_at: float, refused: bool) -> None:
    """Emit the event for the server's answer to a settlement. ``sent_at``: the monotonic time of sending."""
    if s.move == "leave":
        return
    d = s.delivery
    about = {"job_id": d.job_id, "type": d.type, "server_at": server_at}
    if refused:
        stream.emit(events.SettleRefused, move=s.move, owner=d.owner, **about)
        return
    if s.lost:
        stream.emit(events.AttemptLost, attempt=s.attempts, owner=d.owner, **about)
    if s.move == "done":
        stream.emit(events.JobSucceeded, attempts=s.attempts, **about)
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
        kind = events.JobPostponed if s.postponed else events.RetryScheduled
        stream.emit(kind, attempts=s.attempts, wait_s=s.wait_s, due=due, **about)
    elif s.move == "fail":
        stream.emit(
            events.JobFailed,
            attempts=s.attempts,
            max_attempts=s.max_attempts,
            error=s.error,
            undeliverable=s.undeliverable,
            **about,
        )
