"""The seams: Runtime, Driver, FailureStore. Three short protocols; everything else is ours.

One driver call = one atomic step = one round trip, so that a fault at a call is a fault of the network. (Reading
what the dead hold, and counting, may take several; they change nothing.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Literal, NamedTuple, NoReturn, Protocol, runtime_checkable

from .errors import InvalidSetting

READ_MAX_BYTES = 4 * 1024 * 1024
"""What a driver reads at once ends with the entry that reaches this, however many were asked for."""


def at_once(envelopes: Iterable[bytes]) -> list[bytes]:
    """Those of them that a driver reads at once."""
    read: list[bytes] = []
    size = 0
    for envelope in envelopes:
        read.append(envelope)
        size += len(envelope)
        if size >= READ_MAX_BYTES:
            break
    return read


Place = Literal["held", "running"]
"""Which of a worker's two lists: claimed, or announced as about to start (suspects only)."""

Move = Literal["done", "retry", "fail", "return", "start", "leave"]
"""done: remove. retry: to ``delayed``. fail: to ``unrecorded``. return: to the head of ``jobs``.
start: from held to running. leave: take ``owner`` off the list of workers if it holds nothing."""

NAME_MAX = 200
FIRST_LEASE_S = 30.0
"""How long a worker that waits before its first exchange is taken for alive."""


def worker_name(name: str) -> str:
    """The name, if other programs can read it and it can stand in a key.

    Raises InvalidSetting unless it is 1 to 200 printable ASCII characters, such as a UUID.
    """
    if not (0 < len(name) <= NAME_MAX and name.isascii() and name.isprintable()):
        raise InvalidSetting("a worker's name", name, "1 to 200 printable ASCII characters")
    return name


class Settlement(NamedTuple):
    """One change to one job in ``owner``'s ``place``, refused if the job (or the right to it) is gone."""

    move: Move
    owner: str
    place: Place = "held"
    old: bytes = b""
    """The envelope exactly as it stands in the list."""
    new: bytes = b""
    """The envelope that takes its place elsewhere (retry, fail, return)."""
    in_s: float = 0.0
    """retry: seconds from now until it is due; fail: seconds since it failed, negated."""


class Exchange(NamedTuple):
    """The answer to an exchange."""

    server_at: float
    settled_at: float
    """When exchange ``n`` was carried out: ``server_at``, or earlier if the number is repeated."""
    refused: tuple[int, ...]
    """Indexes of the settlements that were refused."""
    claimed: list[bytes]
    """Newly claimed envelopes, oldest first; they stand in the worker's ``held``."""
    holding: int
    """How many envelopes the worker's two lists hold now."""
    ready: int
    """How many jobs are left on the list."""
    unrecorded: int
    next_due_s: float | None
    """Seconds until the earliest delayed job is due; None: there is none."""
    listing: tuple[list[bytes], list[bytes]] | None = None
    """On a repeated number: all of ``held`` and ``running``, oldest first; nothing was settled or claimed again."""


WAIT_MAX_S = 0.6
"""The longest wait of an idle worker. A driver need not mention a job that becomes due later than that."""
EARLIER_S = 0.001
"""A job that becomes due just as a wait ends needs no word: clocks are not that exact."""


class LostDelivery(NamedTuple):
    """A job in a list of a worker whose lease ran out."""

    owner: str
    place: Place
    envelope: bytes


class Expired(NamedTuple):
    """Leases that ran out: some of what they hold, newest first, and owners gone for good."""

    lost: list[LostDelivery]
    gone: list[str]
    more: bool = False
    """There was too much to read at once."""


def so_many_of(lost: Sequence[LostDelivery], found: Sequence[LostDelivery], limit: int) -> int:
    """How much of what one more worker has ``Driver.expired`` reads: all of ``running``, one of ``held`` at least."""
    if len(lost) >= limit or sum(len(one.envelope) for one in lost) >= READ_MAX_BYTES:
        return 0
    least = sum(one.place == "running" for one in found) + 1
    all_of_it = (*lost, *found)
    read = min(len(at_once(one.envelope for one in all_of_it)), limit) - len(lost)
    return min(max(read, least), len(found))


class Unrecorded(NamedTuple):
    """An exhausted job that the failure table has not yet."""

    envelope: bytes
    failed_at: float


@dataclass(frozen=True, slots=True)
class Stats:
    """How many jobs are where."""

    ready: int
    delayed: int
    held: int
    unrecorded: int
    workers: int


@runtime_checkable
class Checking(Protocol):
    """A driver that can say before workers start whether they could work."""

    def check(self) -> list[str]:
        """What an operator should know, a sentence each. Changes nothing.

        Raises SettingsRefused where no worker could work, as things are set; other DriverErrors may be over soon.
        """


class Driver(Protocol):
    """A queue's storage, and the delivery contract: at least once, fenced.

    Every method raises DriverUnavailable, ReplyLost or CommandRefused (``kashvi.errors``), and nothing else; save that
    ``exchange`` and ``wait`` raise InvalidSetting for a worker's name that other programs could not read.

    What ``exchange``, ``expired`` and ``unrecorded`` read ends with the entry that reaches READ_MAX_BYTES, so that
    no number of large jobs fills a process (DELIVERY-13).
    """

    def push(self, envelopes: Sequence[bytes], delay_s: float = 0.0) -> float | None:
        """Add jobs; with a delay they become due ``delay_s`` from the server's now, which is returned."""

    def exchange(self, worker: str, n: int, lease_s: float, settlements: Sequence[Settlement], want: int) -> Exchange:
        """Renew the lease, settle, promote what is due, claim up to ``want`` jobs: one step.

        ``n`` grows by one from call to call of a worker. A repeated number changes nothing, the lease neither, and
        answers with the stored refusals and a ``listing``; a lower one is refused (CommandRefused). Who settles for
        another needs that one's lease to be over; to take it off the list (``leave``), for an hour.

        Jobs due at one time are promoted in the order of their bytes. In which order an exchange settles and promotes,
        and whether two delayed entries of the same bytes are one or two, is free.
        """

    def wait(self, worker: str, seconds: float) -> bytes | float | None:
        """Claim one job that is ready into ``held``, waiting for it up to ``seconds``; with 0, look once.

        Promotes nothing and renews no lease: exchanges do. It may return earlier: with None, or, where the driver
        can, with the time (Unix seconds of the server's clock) at which a delayed job becomes due before the wait
        would end. The worker then promotes that job on time, although another process has delayed it meanwhile.

        A worker that has made no exchange yet is known from here on, under a lease of 30 s, so that what it claims is
        found when it dies.
        """

    def next_due(self) -> float | None:
        """When the earliest delayed job is due, in Unix seconds of the server's clock; None: there is none. Changes
        nothing."""

    def wake(self, worker: str) -> None:
        """End a wait of this worker early, where the driver can."""

    def expired(self, limit: int) -> Expired:
        """Read what workers with an expired lease hold; and, as ``gone``, those that have held nothing since an hour
        after theirs. Changes nothing.

        One worker after another, until there are ``limit`` jobs or as many bytes as are read at once: all of its
        ``running``, then its ``held``, one of these at least, each list newest first. ``more``: the last of them, or
        others, have more.
        """

    def unrecorded(self, limit: int, skip: int = 0) -> list[Unrecorded]:
        """Read the oldest exhausted jobs that no table has yet, but for the ``skip`` oldest."""

    def recorded(self, envelopes: Sequence[bytes]) -> None:
        """Remove these from ``unrecorded``."""

    def stats(self) -> Stats:
        """Count."""


PREFIX = "kashvi:queue"
"""What the keys of a queue begin with, unless it is told otherwise."""


class Failure(NamedTuple):
    """One row for the failure table."""

    job_id: str
    job_type: str
    payload: bytes
    error: str
    attempts: int
    failed_at: datetime
    traceback: str = ""
    """Of the last attempt; empty if none was made, or if it died with its process."""
    queue: str = ""
    """Empty for the default queue."""
    extra: str = ""
    """JSON: what of the envelope has no column; see ``kashvi.row``."""


class Refusal(NamedTuple):
    """Why the database did not take a row."""

    why: str
    passing: bool = False
    """For the moment (a full disk, a lock), rather than for its content."""


class FailureStore(Protocol):
    """The table of failed jobs."""

    def record(self, failures: Sequence[Failure]) -> dict[str, Refusal]:
        """Insert what is not there yet (by ``job_id``). Repeating is harmless.

        Returns the rows the database refused, by job id; all others are in.
        Raises StoreUnavailable if the database can't be used; then nothing may be assumed.
        """


class Condition(Protocol):
    """A lock with a waiting room."""

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
    """Time, waiting, concurrency and chance. No other module may touch them."""

    def now(self) -> float:
        """Wall clock, Unix seconds."""

    def monotonic(self) -> float:
        """Seconds that only go forward."""

    def sleep(self, seconds: float) -> None: ...

    def condition(self) -> Condition: ...

    def spawn(self, run: Callable[[], None], name: str) -> Task: ...

    def new_id(self) -> str:
        """A UUIDv7 as text, ascending within a process, distinct after a fork."""

    def random(self) -> float:
        """From 0 to below 1."""

    def process(self) -> int:
        """This process's number."""

    def interruptible(self) -> bool:
        """Whether this thread is the one that Ctrl-C interrupts."""

    def exit(self, error: BaseException | None) -> NoReturn:
        """End this process at once, without cleaning up."""

    def closing(self) -> bool:
        """Whether the interpreter goes down: executors and threads refuse work then."""

    def at_closing(self, run: Callable[[], object]) -> Callable[[], None]:
        """Call ``run`` when the interpreter begins to go down; returns a function that takes that back."""

    def at_fork(self, run: Callable[[], None]) -> None:
        """Call ``run``, a method, in the child after a fork, as long as its object is there."""

    async def aside(self, run: Callable[[], None], timeout_s: float | None) -> None:
        """Call ``run`` in a thread while the event loop goes on. Raises TimeoutError after ``timeout_s``; the thread,
        which nobody can end, goes on."""

    def at_exit(self, run: Callable[[], object]) -> Callable[[], None]:
        """Call ``run`` when the process exits in good order; returns a function that takes that back."""
