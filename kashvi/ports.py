"""The ports: the protocols Runtime, Driver and FailureStore.

One driver call is one atomic step and one round trip, so a fault at a call is a fault of the network. (``expired``
and ``stats`` may take several round trips; they change nothing.)
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextvars import Context
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from types import FrameType, TracebackType
from typing import Final, Literal, NamedTuple, NoReturn, Protocol, runtime_checkable

from .errors import InvalidSetting
from .names import DEFAULT

READ_MAX_BYTES = 4 * 1024 * 1024
"""A read ends with the entry that reaches this total, whatever the limit in entries."""


def at_once(envelopes: Iterable[bytes], size: int = 0) -> list[bytes]:
    """The first envelopes, up to the one that reaches READ_MAX_BYTES with the ``size`` that was read before."""
    read: list[bytes] = []
    for envelope in envelopes if size < READ_MAX_BYTES else ():
        read.append(envelope)
        size += len(envelope)
        if size >= READ_MAX_BYTES:
            break
    return read


Place = Literal["held", "running"]
"""One of a worker's two lists: claimed jobs, or announced suspects."""

Move = Literal["done", "retry", "fail", "return", "start", "leave"]
"""done: remove. retry: to ``delayed``. fail: to ``unrecorded``. return: to the head of ``jobs``.
start: from held to running. leave: take ``owner`` off the list of workers if it holds nothing."""

NAME_MAX = 200
FIRST_LEASE_S = 30.0
"""The lease of a worker that waits before its first exchange."""


def worker_name(name: str) -> str:
    """The name, checked: other programs must be able to read it, and keys contain it.

    Raises InvalidSetting unless it is 1 to 200 printable ASCII characters, such as a UUID.
    """
    if not (0 < len(name) <= NAME_MAX and name.isascii() and name.isprintable()):
        raise InvalidSetting("a worker's name", name, "1 to 200 printable ASCII characters")
    return name


Lock = tuple[str, str]
"""The key of a unique job, and the job's id. Only given to a driver with ``NamedQueues``."""
NO_LOCK: Lock = ("", "")


class FollowUp(NamedTuple):
    """A job that is added in the step that settles another one as done."""

    envelope: bytes
    in_s: float = 0.0
    """Seconds from now until it is due; 0: it is ready at once."""
    queue: str = DEFAULT
    lock: Lock = NO_LOCK
    """It is not added if another job has the key."""
    link: bool = False
    """True for the next link of a chain, which comes last: it is not added if the job before it is cancelled."""


class Settlement(NamedTuple):
    """One change to one job in ``owner``'s ``place``; refused if the job is gone or ``owner`` is alive."""

    move: Move
    owner: str
    place: Place = "held"
    old: bytes = b""
    """The envelope's exact bytes in the list."""
    new: bytes = b""
    """The envelope to store elsewhere (retry, fail, return)."""
    in_s: float = 0.0
    """retry: seconds from now until it is due; fail: seconds since it failed, negated."""
    lease_end: float | None = None
    """When another worker's lease ended, as ``expired`` read it; refused if that has changed. None: it may have."""
    follow_ups: Sequence[FollowUp] = ()
    """done: the jobs to add, in this order, unless it is refused. Only given to a driver that is ``Following``."""
    queue: str = DEFAULT
    """The job's queue: retry and return put it there."""
    lock: Lock = NO_LOCK
    """done and fail give the key back, after the removal and before follow-ups, if the job has it."""
    job_id: str = ""
    """The job's id. Of a driver that is ``Cancelling``: if the job is marked, retry, fail and return only remove it,
    give its key back and take the mark off."""


class Shares(NamedTuple):
    """How many jobs to claim from several queues."""

    total: int
    queues: tuple[tuple[str, int], ...]
    """In this order, at first no more of each than its number. Then whatever they have, up to the total."""


Want = int | Shares
"""A number: of the default queue alone. ``Shares`` are only given to a driver with ``NamedQueues``."""


class Exchange(NamedTuple):
    """The answer to an exchange."""

    server_at: float
    settled_at: float
    """When exchange ``n`` was carried out: ``server_at``, or earlier on a repeated number."""
    refused: tuple[int, ...]
    """Indexes of the settlements that were refused."""
    claimed: list[bytes]
    """Newly claimed envelopes, oldest first; they are in the worker's ``held`` now."""
    holding: int
    """How many envelopes the worker's two lists hold now."""
    ready: int
    """How many jobs are left on the list; of several queues: on the lists of those that are not paused."""
    unrecorded: int
    next_due_s: float | None
    """Seconds until the earliest delayed job is due, of several queues those that are not paused; None: none is."""
    listing: tuple[list[bytes], list[bytes]] | None = None
    """On a repeated number: all of ``held`` and ``running``, oldest first; nothing was settled or claimed again."""
    paused: bool = False
    """True if the queue is paused, or all that it serves: nothing was claimed, whatever is ready."""
    claimed_of: tuple[tuple[str, int], ...] = ()
    """The queues of what was claimed, in its order, each with a number of jobs. Empty: all are of the default queue."""
    paused_queues: tuple[str, ...] = ()
    """Of several queues, those that are paused."""
    duplicates: tuple[tuple[int, int], ...] = ()
    """Follow-ups that were not added, as their keys were taken: indexes of the settlement and of its follow-up."""
    cancelled: tuple[int, ...] = ()
    """Indexes of the settlements whose job was marked: it was removed instead, or its chain ended."""
    marked_at: float | None = None
    """The time of the newest mark on the server; None: there is none."""
    unsendable: tuple[tuple[int, int], ...] = ()
    """Refused settlements whose jobs are where they were: a follow-up can't be added, as another program made a key of
    its queue something else. Indexes of the settlement and of its first such follow-up."""


WAIT_MAX_S = 0.6
"""The longest wait of an idle worker. A driver need not wake it for a job that becomes due later."""
GONE_AFTER_S = 3600.0
"""How long after its lease a worker without jobs stays on the list of workers."""
PROMOTE_MAX = 500
"""The most delayed jobs that an exchange promotes, so that it does not block the server for long."""
EARLIER_S = 0.001
"""A wait is not ended early for a job that becomes due this close to its end: clocks are not that exact."""


class LostDelivery(NamedTuple):
    """A job in a list of a worker whose lease ran out."""

    owner: str
    place: Place
    envelope: bytes
    lease_end: float | None = None
    """When the lease ran out, by the server's clock."""


class Expired(NamedTuple):
    """Jobs of workers whose lease ran out, newest first, and the workers gone for good."""

    lost: list[LostDelivery]
    gone: list[str]
    more: bool = False
    """True if there are more such jobs than were read."""


def so_many_of(lost: Sequence[LostDelivery], found: Sequence[LostDelivery], limit: int) -> int:
    """How many of one more worker's jobs ``Driver.expired`` reads: all of ``running``, at least one of ``held``."""
    if len(lost) >= limit or sum(len(one.envelope) for one in lost) >= READ_MAX_BYTES:
        return 0
    least = sum(one.place == "running" for one in found) + 1
    all_of_it = (*lost, *found)
    read = min(len(at_once(one.envelope for one in all_of_it)), limit) - len(lost)
    return min(max(read, least), len(found))


class Unrecorded(NamedTuple):
    """An exhausted job that is not in the failure table yet."""

    envelope: bytes
    failed_at: float


@dataclass(frozen=True, slots=True)
class Stats:
    """The number of jobs in each place, of all queues together."""

    ready: int
    delayed: int
    held: int
    unrecorded: int
    workers: int


class Paused(Enum):
    """The type of ``PAUSED``, the answer of ``next_due`` while the queue is paused."""

    PAUSED = "paused"


PAUSED: Final = Paused.PAUSED
Where = Literal["ready", "delayed", "running"]
WHERE: tuple[Where, ...] = ("ready", "delayed", "running")


class Shown(NamedTuple):
    """A job on the queue, as a driver shows it."""

    envelope: bytes
    due: float | None = None
    """Of a delayed job: Unix seconds of the server's clock."""
    worker: str = ""
    """Of a job on a worker's lists: the worker."""


@runtime_checkable
class Showing(Protocol):
    """A driver that can show its jobs."""

    def show(self, where: Where, limit: int) -> Iterator[Shown]:
        """Up to ``limit`` jobs: ready ones in their order, delayed ones by due time, running ones worker by worker.

        Changes nothing. A job that moves meanwhile may be shown twice, or not at all. Raises DriverError.
        """


@runtime_checkable
class Pausing(Protocol):
    """A driver whose queue can be paused: for all workers, until it is resumed."""

    def pause(self) -> float:
        """From now on no exchange claims; returns the server's time, or that of the pause that holds already."""

    def resume(self) -> float:
        """Exchanges claim again; returns the server's time."""

    def paused_since(self) -> float | None:
        """The server's time of the pause; None if there is none."""


@runtime_checkable
class Checking(Protocol):
    """A driver that can check the server before workers start."""

    def check(self, relays: bool = False) -> list[str]:
        """Warnings for the operator, a sentence each. Changes nothing.

        relays: outboxes are to be relayed to it, too.

        Raises SettingsRefused if no worker can work with these settings; any other DriverError may pass.
        """


@runtime_checkable
class Retrying(Protocol):
    """A driver to which ``queue:retry`` can send failed jobs back."""

    @property
    def prefix(self) -> str:
        """The queue's prefix: rows of another queue are not sent back."""

    def push_retried(self, failure: str, envelope: bytes) -> bool | str:
        """Send a failed job back once for each ``failure``, a text that names it; False if it was sent before."""


@runtime_checkable
class Following(Protocol):
    """A driver whose ``exchange`` adds the ``follow_ups`` of a settlement. To any other driver none is given."""

    @property
    def follows_up(self) -> bool:
        """True if it does."""


class Driver(Protocol):
    """A queue's storage, and the delivery contract: at least once, fenced.

    Every method raises DriverUnavailable, ReplyLost or CommandRefused (``kashvi.errors``), and nothing else;
    ``exchange`` and ``wait`` also raise InvalidSetting for a name that ``worker_name`` rejects.

    ``exchange``, ``expired`` and ``unrecorded`` stop reading at the entry that reaches READ_MAX_BYTES: large jobs
    must not fill a process's memory (DELIVERY-13).
    """

    def push(self, envelopes: Sequence[bytes], delay_s: float = 0.0) -> float | None:
        """Add jobs. With a delay they become due ``delay_s`` after the server's now; returns that due time."""

    def exchange(self, worker: str, n: int, lease_s: float, settlements: Sequence[Settlement], want: int) -> Exchange:
        """Renew the lease, settle, promote due jobs, claim up to ``want`` jobs: one step.

        ``n`` grows by one from call to call of a worker. A repeated number changes nothing, not even the lease, and
        answers with the stored refusals and a ``listing``; a lower one is refused (CommandRefused). Another worker's
        job may be settled only after its lease ran out, and only if that lease still ends at the settlement's
        ``lease_end``; its entry may be removed (``leave``) an hour later.

        Jobs due at one time are promoted in the order of their bytes. A driver may settle before or after it
        promotes, and may merge delayed entries of the same bytes.
        """

    def wait(self, worker: str, seconds: float) -> bytes | float | None:
        """Claim one ready job into ``held``, waiting up to ``seconds`` for it; with 0, look once.

        Promotes no job and renews no lease: exchanges do. It may return earlier: with None, or with the due time
        (Unix seconds of the server's clock) of a delayed job that becomes due before the wait would end. The worker
        then promotes that job on time, even if another process delayed it during the wait.

        A worker without an exchange gets a lease of 30 s here, so that its job is found if it dies.
        """

    def next_due(self) -> float | Paused | None:
        """When the earliest delayed job is due, in Unix seconds of the server's clock; None if there is none.

        ``PAUSED`` while the queue is paused. A worker asks before it waits.
        """

    def wake(self, worker: str) -> None:
        """End a wait of this worker early, if the driver can."""

    def expired(self, limit: int) -> Expired:
        """Read the jobs of workers whose lease ran out, and as ``gone`` the workers that hold nothing and whose lease
        ran out an hour ago. Changes nothing.

        Reads one worker after another, up to ``limit`` jobs or READ_MAX_BYTES: all of ``running``, then at least one
        of ``held``, each list newest first. ``more``: the last worker read, or others, hold more.
        """

    def unrecorded(self, limit: int, skip: int = 0) -> list[Unrecorded]:
        """Read the oldest exhausted jobs that are not in the table yet, after skipping ``skip``."""

    def recorded(self, envelopes: Sequence[bytes]) -> None:
        """Remove these from ``unrecorded``."""

    def stats(self) -> Stats:
        """Count."""


PREFIX = "kashvi:queue"
"""The default prefix of a queue's keys."""


class Failure(NamedTuple):
    """One row for the failure table."""

    job_id: str
    job_type: str
    payload: bytes
    error: str
    attempts: int
    failed_at: datetime
    traceback: str = ""
    """The last attempt's traceback; empty if there was no attempt, or if its process died."""
    queue: str = ""
    """Empty for the default queue."""
    extra: str = ""
    """JSON: the envelope's fields without a column; see ``kashvi.worker.row``."""


class Refusal(NamedTuple):
    """Why the database did not take a row."""

    why: str
    passing: bool = False
    """True if the reason may pass (a full disk, a lock); False if it is the row's content."""


class FailureStore(Protocol):
    """The table of failed jobs."""

    def record(self, failures: Sequence[Failure]) -> dict[str, Refusal]:
        """Insert the rows that are not there yet (by ``job_id``). Idempotent.

        Returns the refusals by job id; all other rows are in the table.
        Raises StoreUnavailable if the database can't be used; some rows may be in the table then.
        """


class Condition(Protocol):
    """A condition variable, as ``threading.Condition``."""

    def acquire(self) -> bool: ...
    def release(self) -> None: ...
    def __enter__(self) -> bool: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...
    def wait(self, timeout: float | None = None, /) -> bool: ...
    def notify(self, n: int = 1, /) -> None: ...
    def notify_all(self) -> None: ...


class Task(Protocol):
    """Something spawned."""

    def join(self, timeout: float | None = None, /) -> None: ...
    def is_alive(self) -> bool: ...


class Runtime(Protocol):
    """Time, waiting, concurrency and chance. No module gets them elsewhere."""

    def now(self) -> float:
        """Wall clock, Unix seconds."""

    def monotonic(self) -> float:
        """Seconds of a clock that only goes forward."""

    def sleep(self, seconds: float) -> None: ...

    def condition(self) -> Condition: ...

    def spawn(self, run: Callable[[], None], name: str) -> Task: ...

    def new_id(self) -> str:
        """A UUIDv7 as text, ascending within a process, distinct after a fork."""

    def random(self) -> float:
        """A random number from 0 to below 1."""

    def process(self) -> int:
        """This process's number."""

    def host(self) -> str:
        """The name of this host, for people."""

    def thread(self) -> int:
        """The number of the current thread."""

    def frame(self, thread: int) -> FrameType | None:
        """What that thread runs now; None if it has ended, or if it can't be said."""

    def interruptible(self) -> bool:
        """True in the thread that Ctrl-C interrupts."""

    def exit(self, error: BaseException | None) -> NoReturn:
        """End this process at once, without cleaning up."""

    def closing(self) -> bool:
        """True if the interpreter is shutting down: executors and threads refuse work then."""

    def at_closing(self, run: Callable[[], object]) -> Callable[[], None]:
        """Call ``run`` when the interpreter begins to shut down; returns a function that cancels that."""

    def at_fork(self, run: Callable[[], None]) -> None:
        """Call ``run``, a method, in the child after a fork, as long as its object exists."""

    async def aside(self, run: Callable[[], None], timeout_s: float | None) -> None:
        """Call ``run`` in a thread without blocking the event loop. Raises TimeoutError after ``timeout_s``; the
        thread can't be ended and continues."""

    def run_async(self, awaitable: Awaitable[object], context: Context) -> object:
        """Await it on an event loop of this thread, in this context; returns or raises what it does.

        Tasks that it leaves behind are cancelled. The loop may be used for the thread's next attempt.
        """

    def end_thread(self) -> None:
        """Close this thread's event loop: the thread makes no more attempts."""

    def at_exit(self, run: Callable[[], object]) -> Callable[[], None]:
        """Call ``run`` at a normal exit of the process; returns a function that cancels that."""
