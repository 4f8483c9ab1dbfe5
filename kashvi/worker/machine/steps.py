"""The steps that the machine gives to its callers, and the limits of a worker. Times are whole microseconds."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Literal, NamedTuple

from ...ports import WAIT_MAX_S, Want
from ..settle import Delivery, Settling, TimeLimit

SECOND = 1_000_000
"""In whole microseconds, unlike in floats, a time that is over is over in every comparison."""

Until = Literal["stopped", "empty", "drained"]


class Limits(NamedTuple):
    """When a worker ends by itself."""

    until: Until = "stopped"
    max_jobs: int | None = None
    max_time_s: float | None = None
    patience_s: float | None = None
    """How long other attempts may go on when one is stuck; then the worker ends, and its process must be replaced.
    None: the process is the app's, and the worker goes on."""


class Request(NamedTuple):
    """Send this exchange; then ``answered``, or ``lost``."""

    n: int
    settlings: Sequence[Settling]
    want: Want
    reconciles: bool = False
    """True if it repeats the last number to get a listing; it changes nothing on the server."""
    by_thread: bool = False
    """True if a thread sends it, which then asks for the jobs that it brought."""
    waits: int = -1
    """The number of waits so far, if none was under way: until the next one, the server's count is comparable."""


class Again(NamedTuple):
    """Pause (times a half to one, by chance), then send the request again."""

    request: Request
    pause: int


class AskDue(NamedTuple):
    """Ask the server when the next delayed job is due; then ``due``."""


class Wait(NamedTuple):
    """Wait on the server for one job; then ``waited``, or ``wait_lost``."""

    time: int
    began: int
    queues: tuple[str, ...] = ()
    """Of the first; empty: of the default queue, which is the only one it serves."""


class Idle(NamedTuple):
    """Sleep until another thread wakes this one, at most until then; then ``woken``."""

    until: int | None = None


class Rest(NamedTuple):
    """The keeper sleeps until then, or until a thread calls it; ``deaf``: no call wakes it. Then ``keep``."""

    until: int
    deaf: bool = False


class Reap(NamedTuple):
    """Read what the dead hold; then ``reaped``."""


class AskMarks(NamedTuple):
    """Ask the server which of these jobs are cancelled; then ``told_marks`` or ``not_told``."""

    job_ids: Sequence[str]


class Record(NamedTuple):
    """Start the recorder, for ``waiting`` failures; ``recorded`` when it has ended. ``keep`` at once."""

    waiting: int


class Stuck(NamedTuple):
    """Tell that an attempt is stuck, and open a thread in its place if it ``opens`` one. Then ``keep``."""

    limit: TimeLimit
    took: int
    opens: bool


class Abandon(NamedTuple):
    """Ask the policies what follows the stuck attempts, which have failed; then ``abandoned``."""

    limits: Sequence[TimeLimit]


ASK_DUE, REAP = AskDue(), Reap()
WAIT_MAX = int(WAIT_MAX_S * SECOND)
ThreadStep = Delivery | Request | AskDue | Wait | Idle | None
KeeperStep = Request | Reap | AskMarks | Record | Rest | Stuck | Abandon | None


def micros(seconds: float) -> int:
    """To the nearest."""
    return int(seconds * 1e6 + 0.5)


def not_before(seconds: float) -> int:
    """Rounded up, for what is due: or we would ask for it too early, and again in no time.

    A time of today in a float is exact to a quarter of a microsecond.
    """
    return max(ceil(seconds * 1e6 - 0.25), 1) if seconds > 0 else 0
