"""All events.

Logs, the command line, trace files, the simulator and the predicates all read one stream of them (``stream.py``). An
event carries its process, its number in that process, that process's wall clock (``at``) and, if the server was asked,
the server's clock (``server_at``). Only the server's clock may be compared across hosts.
Times are Unix seconds, durations seconds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Literal

import msgspec

from .names import DEFAULT

log = logging.getLogger("kashvi")


def warn(text: str, error: BaseException | None = None) -> None:
    """Log a warning, with the traceback of an error, that must not change what becomes of a job: the app wrote its
    logging handlers, which may raise."""
    try:
        log.warning("%s", text, exc_info=error)
    except KeyboardInterrupt:  # Ctrl-C is for the caller of work()
        raise
    except BaseException:
        """The job goes on."""


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag=True, omit_defaults=True):
    """The fields of all events."""

    process: str = ""
    seq: int = 0
    at: float = 0.0
    server_at: float | None = None


class JobEvent(Event, frozen=True, kw_only=True):
    """An event about one job. ``type`` is empty for bytes that are not an envelope."""

    job_id: str
    type: str


class JobDispatched(JobEvent, frozen=True, kw_only=True):
    """The server took the job. ``due``: server time before which it must not start; None: no delay."""

    due: float | None = None
    parent: str = ""
    """The id of the job whose follow-up it is, if it is one, or whose chain it continues."""
    queue: str = DEFAULT
    unique: str = ""
    """The key of a unique job."""
    chain: tuple[str, ...] = ()
    """The ids of the links that come after it, in order, if it is the first of a chain."""
    cron: str = ""
    """The name of the cron entry that dispatched it, if one did; then ``server_at`` is when."""
    tick: float = 0.0
    """The tick of that entry, in Unix seconds of the server's clock."""


class JobDuplicate(JobEvent, frozen=True, kw_only=True):
    """The job was not added: ``holder``, on a queue, has its key. Empty for a follow-up: its exchange does not say."""

    holder: str
    queue: str = DEFAULT
    parent: str = ""
    cron: str = ""
    """As of ``JobDispatched``."""
    tick: float = 0.0


class JobStored(JobEvent, frozen=True, kw_only=True):
    """The job is a row of the outbox in the caller's transaction, which may still be rolled back."""

    queue: str = DEFAULT
    delay_s: float = 0.0
    unique: str = ""
    chain: tuple[str, ...] = ()
    """As of ``JobDispatched``."""


class JobRefused(JobEvent, frozen=True, kw_only=True):
    """The server refuses the job for its content; its row stays in the outbox, and others pass it."""

    queue: str
    error: str


class FollowUpKept(JobEvent, frozen=True, kw_only=True):
    """A handler dispatched a follow-up: it is sent when attempt number ``attempt`` of ``parent`` is settled as done."""

    parent: str
    attempt: int
    unique: str = ""
    """The key of a unique job."""


class AttemptStarted(JobEvent, frozen=True, kw_only=True):
    """``handle()`` is about to be called. ``server_at`` is when the job was claimed.

    ``claim``: by an exchange (``server_at`` is exact) or by a wait (``server_at`` is an upper bound).
    """

    attempt: int
    worker: str
    claim: Literal["exchange", "wait"]
    suspect: bool = False
    lost: int = 0
    """The envelope's ``lost``: how grave a suspect it is."""
    type_limit: int = 0
    """The type's own limit of attempts; 0: none, so the worker's applies."""
    queue: str = DEFAULT
    timeout_s: float = 0.0
    """The type's time limit, from now on; 0: none."""
    next: str = ""
    """The id of the next link, if the job is in a chain and not its last."""


class AttemptSucceeded(JobEvent, frozen=True, kw_only=True):
    """``handle()`` returned; the job is not settled yet. ``late``: after its time limit. ``follow_ups``: how many are
    sent when it is settled as done."""

    attempt: int
    duration_s: float
    late: bool = False
    follow_ups: int = 0


class AttemptFailed(JobEvent, frozen=True, kw_only=True, dict=True):
    """``handle()`` raised, or could not be called (``attempt`` is 0 then); not settled yet."""

    attempt: int
    duration_s: float
    error: str
    gave_up: bool = False
    """True if the handler, or the type's policy, gives the job up: no further attempt follows."""
    timed_out: Literal["", "obeyed", "late", "stuck"] = ""
    """If its time limit had passed: whether the handler obeyed, raised something else, or did not end."""
    unsent: bool = False
    """True if the handler had succeeded, and the server can't add a follow-up."""

    @property
    def exception(self) -> BaseException | None:
        """The exception of ``handle()`` while observers are called; None later, and in traces."""
        raised: BaseException | None = self.__dict__.get("raised")
        return raised


class AttemptStuck(JobEvent, frozen=True, kw_only=True):
    """The time limit has passed, and the handler has not obeyed in time. ``duration_s``: so far.

    The attempt goes on and stays this worker's. ``replaced``: another thread was opened in place of its thread.
    """

    attempt: int
    worker: str
    timeout_s: float
    duration_s: float
    replaced: bool = False


class HookFailed(JobEvent, frozen=True, kw_only=True):
    """A hook raised after the handler had raised: the handler's error decides, and this one has no other trace."""

    attempt: int
    hook: str
    error: str


class AttemptSnoozed(JobEvent, frozen=True, kw_only=True):
    """``handle()`` raised Snooze; not settled yet. The attempt is not counted, so its number will be used again."""

    attempt: int
    duration_s: float
    wait_s: float


class AttemptLost(JobEvent, frozen=True, kw_only=True):
    """A process died during this job's announced attempt, and another process took the job over."""

    attempt: int
    owner: str


class JobSucceeded(JobEvent, frozen=True, kw_only=True):
    """Settled: done, and off the queue."""

    attempts: int
    queue: str = DEFAULT


class RetryScheduled(JobEvent, frozen=True, kw_only=True):
    """Settled: attempt number ``attempts`` failed; the next one starts at ``due`` (server time) or later."""

    attempts: int
    wait_s: float
    due: float
    backoff: str = ""
    """Whose wait it is: empty for n seconds after attempt n, ``own`` for a function of the app, else a backoff of the
    library with its values, as ``Fixed(seconds=5.0, jitter=False)``."""
    type_limit: int = 0
    queue: str = DEFAULT


class JobSnoozed(JobEvent, frozen=True, kw_only=True):
    """Settled: the handler wants to be called again at ``due`` (server time) or later. ``attempts`` is unchanged.

    ``snoozed``: how often it has done so; a job that never ends is seen by it.
    """

    attempts: int
    wait_s: float
    due: float
    snoozed: int
    queue: str = DEFAULT


class CancelAsked(JobEvent, frozen=True, kw_only=True):
    """This process has cancelled a job that a worker has: it may end this attempt, and no other starts (QUEUES-9)."""

    server_at: float
    """No claim of it comes later."""
    queue: str = DEFAULT


class JobCancelled(JobEvent, frozen=True, kw_only=True):
    """A cancelled job is gone, or one of a queue that was cleared: a cancel or ``clear`` took it off its queue, or the
    server removed it when a worker settled it. It has not failed."""

    server_at: float
    move: str = ""
    """What its worker wanted to settle: retry, fail or return; empty if it was taken off its queue."""
    owner: str = ""
    """The worker that had it."""
    attempts: int = 0
    queue: str = DEFAULT


class ChainCancelled(JobEvent, frozen=True, kw_only=True):
    """A cancelled link of a chain has succeeded: the links after it are not sent."""

    server_at: float
    next: str
    """The id of the next link."""
    next_type: str
    queue: str = DEFAULT


class PolicyIgnored(JobEvent, frozen=True, kw_only=True):
    """The type's policy failed, or gave no wait from 0 to 100 years: the attempt is followed as if it had none."""

    attempt: int
    why: str


class JobPostponed(JobEvent, frozen=True, kw_only=True):
    """Settled: this worker does not know the type. ``attempts`` is unchanged; any worker that knows the type may start
    the job at ``due`` (server time) or later."""

    attempts: int
    wait_s: float
    due: float
    queue: str = DEFAULT


class JobFailed(JobEvent, frozen=True, kw_only=True):
    """Settled: exhausted, given up before that, or undeliverable."""

    attempts: int
    max_attempts: int
    error: str
    undeliverable: bool = False
    gave_up: bool = False
    type_limit: int = 0
    queue: str = DEFAULT


class JobReturned(JobEvent, frozen=True, kw_only=True):
    """Settled: back at the head of the queue, no attempt counted. ``owner`` held it."""

    owner: str
    suspect: bool
    lost: int = 0
    """The envelope's ``lost`` now: how grave a suspect it is."""
    lost_before: int = 0
    announced: bool = False
    """True if the job was announced."""
    queue: str = DEFAULT


class SettleRefused(JobEvent, frozen=True, kw_only=True):
    """Fenced: this worker no longer held the job; nothing changed."""

    move: str
    owner: str


class FailureRecorded(JobEvent, frozen=True, kw_only=True):
    """The job is in the failure table. Every process that recorded it emits this."""


class FailureRefused(JobEvent, frozen=True, kw_only=True):
    """The database refused this row for its content; the job stays in ``unrecorded``."""

    error: str


class FailureForgotten(JobEvent, frozen=True, kw_only=True):
    """The dashboard deleted the job's row from the failure table: the job can't be sent back any more."""

    queue: str = DEFAULT


class WorkerStarted(Event, frozen=True, kw_only=True):
    worker: str
    threads: int
    lease_s: float
    driver: str
    queues: tuple[str, ...] = (DEFAULT,)
    """The queues that it serves, in their order; by weight as ``payments:3``."""


class WorkerStopping(Event, frozen=True, kw_only=True):
    """The worker claims no more jobs; running ones may end."""

    worker: str


class WorkerStopped(Event, frozen=True, kw_only=True):
    """``unsettled``: jobs whose settling the server did not confirm; they are taken over when the lease runs out."""

    worker: str
    unsettled: int = 0


class ServerLost(Event, frozen=True, kw_only=True):
    """The queue's server can't be reached; the worker keeps trying."""

    error: str


class ServerBack(Event, frozen=True, kw_only=True):
    """The server answers again."""


class QueuePaused(Event, frozen=True, kw_only=True):
    """This process has paused the queue, or its worker has heard that it is paused."""

    server_at: float
    """The server's time of the pause that holds now, perhaps an earlier one; of a worker: when it heard of it."""
    worker: str = ""
    """The worker that has heard of it; empty for the process that paused it."""
    queue: str = DEFAULT


class QueueResumed(Event, frozen=True, kw_only=True):
    """This process has ended the pause of the queue, or its worker has heard of the end."""

    server_at: float
    worker: str = ""
    queue: str = DEFAULT


class TicksMissed(Event, frozen=True, kw_only=True):
    """Ticks of a cron entry were left out, as ``missed`` and ``max_late`` say. The process that did so emits this."""

    name: str
    count: int
    """1,001 at most."""
    newest: float
    """The newest of them, in Unix seconds of the server's clock."""
    more: bool = False
    """True if there were more, from before those counted."""


class TickRefused(Event, frozen=True, kw_only=True):
    """The job of a tick can't be made, or the server refused it; this worker tries again. Emitted once a tick."""

    name: str
    tick: float
    """0: the worker had no job to fire, and only asked."""
    error: str


class ScheduleReset(Event, frozen=True, kw_only=True):
    """The server's clock was ahead when the entry last ticked, and was set back: the entry starts afresh, from now."""

    name: str
    before: float
    """The last tick that this worker knew; 0: it knew none."""


class StoreLost(Event, frozen=True, kw_only=True):
    """The failure table can't be written; rows wait in ``unrecorded``."""

    error: str


class StoreBack(Event, frozen=True, kw_only=True):
    """The failure table can be written again."""


class RelayLost(Event, frozen=True, kw_only=True):
    """The outbox can't be relayed, for its database or the server; committed jobs wait in it."""

    outbox: str
    """The URL of its database, without a password and options."""
    error: str


class RelayBack(Event, frozen=True, kw_only=True):
    """The outbox is relayed again."""

    outbox: str
    """As of ``RelayLost``."""


AnyJobEvent = (
    JobDispatched
    | FollowUpKept
    | JobDuplicate
    | JobStored
    | JobRefused
    | AttemptStarted
    | AttemptSucceeded
    | AttemptFailed
    | AttemptStuck
    | HookFailed
    | AttemptSnoozed
    | AttemptLost
    | JobSucceeded
    | RetryScheduled
    | JobSnoozed
    | PolicyIgnored
    | JobPostponed
    | JobFailed
    | JobReturned
    | CancelAsked
    | JobCancelled
    | ChainCancelled
    | SettleRefused
    | FailureRecorded
    | FailureRefused
    | FailureForgotten
)
AnyEvent = (
    AnyJobEvent
    | WorkerStarted
    | WorkerStopping
    | WorkerStopped
    | ServerLost
    | ServerBack
    | StoreLost
    | StoreBack
    | RelayLost
    | RelayBack
    | QueuePaused
    | QueueResumed
    | TicksMissed
    | TickRefused
    | ScheduleReset
)
"""All events. Code that handles each of them ends with ``assert_never``, so that mypy finds a missing one."""

Observer = Callable[[AnyEvent], None]

OUTCOMES: dict[type[AnyEvent], str] = {
    JobSucceeded: "done",
    JobFailed: "failed",
    RetryScheduled: "retried",
    JobSnoozed: "snoozed",
    JobPostponed: "postponed",
    JobReturned: "returned",
    JobCancelled: "cancelled",
}
"""The settlements that the server took, as metrics and traces call them."""
