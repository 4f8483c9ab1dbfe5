"""A workload: its jobs with their arrivals, durations and failures, and its workers. Read from TOML.

``sim/README.md`` describes the format. Every random number is a fraction from the tape, so that shrinking a
run makes its jobs few, short and successful.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, NamedTuple, Protocol

import msgspec

from kashvi.cron.entry import Missed
from kashvi.errors import InvalidSetting, UnusableSetting
from kashvi.names import DEFAULT, queue_name, served
from kashvi.retries import Retry
from kashvi.settings import OBEY_S

from ..world.faults import PlannedFault
from ..world.tape import AttemptStream, Stream
from .arrivals import Arrivals, Times
from .durations import Duration, Fixed
from .fields import Count, Positive, Seconds, Share, Strict
from .policy import Policy


class Coming(NamedTuple):
    """A job to dispatch. ``delay_s``: for dispatch_after."""

    type: str
    delay_s: float | None
    chain: tuple[str, ...] = ()
    """The types of the links after it, if it is the first of a chain."""
    cancel_s: float | None = None
    """It is cancelled so long after its dispatch."""
    queue: str | None = None
    """In place of its type's."""


class Attempt(NamedTuple):
    """The duration of ``handle()``, and its error; empty for a success."""

    takes_s: float
    error: str = ""
    kills: bool = False
    """True if it kills its process at its end."""
    snooze_s: float | None = None
    """The wait that it asks for in place of an end."""
    gives_up: bool = False
    """True if its error says that no further attempt helps."""
    sends: FollowUps | None = None
    """The follow-ups that it dispatches at its end, before any error."""
    obeys_s: float | None = None
    """The time limit that it obeys, if it is over then."""


class FollowUps(Strict, frozen=True):
    """What each attempt dispatches at its end; they are sent if it is done."""

    type: str
    jobs: Count = 1
    delay_s: Seconds = 0.0


Acts = Callable[[int, int], Attempt]
"""The outcome of an attempt, by the number of its job (in the order of dispatch) and of the attempt."""


class Script(Protocol):
    """The input of a run: a workload, or a recording."""

    @property
    def name(self) -> str: ...
    @property
    def about(self) -> str: ...
    @property
    def workers(self) -> Crew: ...
    @property
    def schedule(self) -> tuple[Change, ...]: ...
    @property
    def pauses(self) -> tuple[Pause, ...]: ...
    @property
    def transactions(self) -> Transactions | None: ...
    @property
    def cron(self) -> tuple[CronEntry, ...]: ...
    @property
    def faults(self) -> tuple[PlannedFault, ...]: ...
    @property
    def fault_time_s(self) -> float: ...
    @property
    def types(self) -> tuple[str, ...]:
        """The job types."""

    def policy(self, job_type: str) -> Retry | None:
        """The retry policy of a type."""

    def time_limit(self, job_type: str) -> float | None:
        """The time limit of a type, in seconds."""

    def queue_of(self, job_type: str) -> str:
        """The queue of a type."""

    def keys_of(self, job_type: str) -> int:
        """The number of keys of a unique type; 0: it is not unique."""

    @property
    def cancels(self) -> bool:
        """True if jobs of some type are cancelled."""

    def coming(self, chance: Stream) -> Iterator[tuple[float, Callable[[], Coming]]]:
        """Gaps before jobs, each with a function that returns the job after the gap."""

    def acts(self, job_type: str, attempts: AttemptStream) -> Acts:
        """The outcomes of a type's jobs."""


class JobKind(Strict, frozen=True):
    """One type of job and its share of all."""

    type: str
    share: Positive = 1.0
    takes: Duration = Fixed(seconds=0.0)
    fails: Share = 0.0
    """The share of attempts that raise."""
    fails_first: int = 0
    """The number of first attempts that always raise."""
    kills: bool = False
    """True if each attempt kills its process, at its end."""
    delay: Duration | None = None
    """For dispatch_after; None: dispatched at once."""
    retry: Policy | None = None
    gives_up: Share = 0.0
    """The share of attempts that raise GiveUp."""
    snoozes: Share = 0.0
    """The share of attempts that raise Snooze, for ``snooze_s``."""
    snooze_s: Seconds = 1.0
    follow_ups: FollowUps | None = None
    chain: tuple[str, ...] = ()
    """The types of the links after it, if it is the first of a chain."""
    timeout_s: Positive | None = None
    """The type's time limit."""
    ignores: Share = 0.0
    """The share of attempts that take longer than that, and do not obey it: they end when they end."""
    queue: str = DEFAULT
    cancel: Duration | None = None
    """Each is cancelled so long after its dispatch, if it is still there."""
    keys: int = 0
    """If above 0, the type is unique: job n has the key n modulo ``keys``."""


class Crew(Strict, frozen=True):
    """The workers: ``processes`` of ``threads`` each. A dead process is replaced after ``restart_s``.

    ``patience_s``: other attempts may go on for so long when one is stuck, and then the process is replaced; none: it
    is the app's own, and goes on. ``queues``: what each process serves, as for ``queue:work --queue``: processes take
    these texts in turn.
    """

    processes: Count = 1
    threads: Count = 4
    lease_s: Positive = 30.0
    max_attempts: Count = 3
    restart_s: Seconds = 1.0
    obey_s: Seconds = OBEY_S
    patience_s: Seconds | None = None
    queues: tuple[str, ...] = (DEFAULT,)


class Change(Strict, frozen=True):
    """From ``at_s`` on, there are ``processes`` processes."""

    at_s: Seconds
    processes: Annotated[int, msgspec.Meta(ge=0)]


class Pause(Strict, frozen=True):
    """A queue is paused, for so long."""

    at_s: Seconds
    for_s: Seconds
    queue: str = DEFAULT


class Transactions(Strict, frozen=True):
    """The app dispatches in transactions, of up to ``jobs`` jobs; each lasts for ``takes`` after its last dispatch.

    ``rolls_back``: the share of transactions that are rolled back. ``hold_s``: how long relays keep a row: a run takes
    one of these times.
    """

    jobs: Count = 3
    takes: Duration = Fixed(seconds=0.0)
    rolls_back: Share = 0.0
    hold_s: tuple[Seconds, ...] = (0.0,)


class CronEntry(Strict, frozen=True):
    """Of all workers; its jobs are of this type, which no other job has."""

    name: str
    type: str
    expression: str = "* * * * *"
    missed: Missed = "once"


class Workload(Strict, frozen=True):
    """The contents of a workload's file."""

    name: str
    about: str
    arrivals: Arrivals
    job: tuple[JobKind, ...]
    workers: Crew = Crew()
    schedule: tuple[Change, ...] = ()
    pauses: tuple[Pause, ...] = ()
    transactions: Transactions | None = None
    cron: tuple[CronEntry, ...] = ()
    faults: tuple[PlannedFault, ...] = ()
    fault_time_s: Positive = 30.0
    """Random faults strike for this long; then there is quiet."""

    @property
    def types(self) -> tuple[str, ...]:
        return tuple(kind.type for kind in self.job)

    def coming(self, chance: Stream) -> Iterator[tuple[float, Callable[[], Coming]]]:
        next_kind = self._kinds(chance)

        def draw() -> Coming:
            kind = next_kind()
            delay_s = None if kind.delay is None else kind.delay.draw(chance)
            return Coming(kind.type, delay_s, kind.chain, None if kind.cancel is None else kind.cancel.draw(chance))

        for gap in self.arrivals.gaps(chance):
            yield gap, draw

    def acts(self, job_type: str, attempts: AttemptStream) -> Acts:
        kind = next(kind for kind in self.job if kind.type == job_type)

        def act(n: int, number: int) -> Attempt:
            chance = attempts.begin(n, number)
            takes_s, sends = kind.takes.draw(chance), kind.follow_ups
            if kind.timeout_s is not None and takes_s >= kind.timeout_s and chance.fraction() <= 1.0 - kind.ignores:
                return Attempt(kind.timeout_s, obeys_s=kind.timeout_s)
            if number <= kind.fails_first:
                return Attempt(takes_s, f"{job_type} fails at first", sends=sends)
            if kind.snoozes and chance.fraction() > 1.0 - kind.snoozes:
                return Attempt(takes_s, snooze_s=kind.snooze_s, sends=sends)
            if kind.gives_up and chance.fraction() > 1.0 - kind.gives_up:
                return Attempt(takes_s, f"{job_type} gives up", gives_up=True, sends=sends)
            if kind.fails and (kind.fails >= 1.0 or chance.fraction() > 1.0 - kind.fails):
                return Attempt(takes_s, f"{job_type} failed", sends=sends)
            return Attempt(takes_s, kills=kind.kills, sends=sends)

        return act

    @property
    def beyond(self) -> frozenset[str]:
        """The predicates that no run of it can reach: of hooks, and of what no type has or does."""
        backoff = any(kind.retry and kind.retry.backoff for kind in self.job)
        snoozes = any(kind.snoozes for kind in self.job)
        follow_ups = any(kind.follow_ups for kind in self.job)
        limits = any(kind.timeout_s for kind in self.job)
        reached = {
            "hooks save nothing": False,
            "time limits kept": limits,
            "own backoff kept": backoff,
            "snooze uncounted": snoozes,
            "follow-ups all or none": follow_ups,
            "chains in order": any(kind.chain for kind in self.job),
            "pauses kept": bool(self.pauses),
            "cancelled stays": self.cancels,
            "one job a key": any(kind.keys for kind in self.job),
            "each tick once": bool(self.cron),
        }
        return frozenset(name for name, there in reached.items() if not there)

    @property
    def cancels(self) -> bool:
        return any(kind.cancel for kind in self.job)

    def time_limit(self, job_type: str) -> float | None:
        return next(kind.timeout_s for kind in self.job if kind.type == job_type)

    def queue_of(self, job_type: str) -> str:
        return next(kind.queue for kind in self.job if kind.type == job_type)

    def keys_of(self, job_type: str) -> int:
        return next(kind.keys for kind in self.job if kind.type == job_type)

    def policy(self, job_type: str) -> Retry | None:
        kind = next(kind for kind in self.job if kind.type == job_type)
        return kind.retry.made() if kind.retry else None

    def _kinds(self, chance: Stream) -> Callable[[], JobKind]:
        """A function that draws the kind of the next job, by share, of those that are no follow-ups or later links."""
        later = {kind.follow_ups.type for kind in self.job if kind.follow_ups}
        later.update(name for kind in self.job for name in kind.chain)
        later.update(entry.type for entry in self.cron)
        coming = [kind for kind in self.job if kind.type not in later]
        total = sum(kind.share for kind in coming)
        edges: list[tuple[float, JobKind]] = []
        edge = 0.0
        for kind in coming:
            edge += kind.share / total
            edges.append((edge, kind))

        def draw() -> JobKind:
            at = chance.fraction()
            return next((kind for edge, kind in edges if at < edge), coming[-1])

        return draw


def load(path: Path) -> Workload:
    """Raises InvalidSetting, naming the field that is wrong."""
    try:
        workload = msgspec.convert(tomllib.loads(path.read_text("utf-8")), Workload)
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UnusableSetting(f"the workload {path}", str(why)) from None
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, RecursionError) as error:
        raise UnusableSetting(f"the workload {path}", f"{error} (sim/README.md has the format)") from None
    if isinstance(workload.arrivals, Times):
        beside = path.parent / workload.arrivals.file
        if not beside.is_file():
            raise UnusableSetting(f"the file of arrivals {beside}", "there is none")
        workload = msgspec.structs.replace(workload, arrivals=Times(file=str(beside)))
    for job in workload.job:
        if job.retry:
            job.retry.made()
    kinds = {kind.type: kind for kind in workload.job}
    if not kinds or len(kinds) != len(workload.job):
        raise UnusableSetting(f"the workload {path}", "it needs at least one [[job]], and each type once")
    _check_queues(path, workload)
    if any(entry.type not in kinds for entry in workload.cron):
        raise UnusableSetting(f"the workload {path}", "each cron entry needs a type of this workload")
    for kind in workload.job:
        if kind.follow_ups and (kind.follow_ups.type not in kinds or kinds[kind.follow_ups.type].follow_ups):
            why = f"the follow-ups of {kind.type} need a type of their own, without follow-ups"
            raise UnusableSetting(f"the workload {path}", why)
        if kind.chain and any(name not in kinds or kinds[name].chain for name in kind.chain):
            why = f"the chain of {kind.type} needs types of this workload without chains"
            raise UnusableSetting(f"the workload {path}", why)
        if kind.chain and (kind.delay or DEFAULT in map(workload.queue_of, (kind.type, *kind.chain))):
            why = f"the chain of {kind.type} needs named queues for its types, and no delay"
            raise UnusableSetting(f"the workload {path}", why)
    return workload


def _check_queues(path: Path, workload: Workload) -> None:
    crew = workload.workers
    try:
        queues = {*(queue_name(one.queue) for one in workload.job), *(queue_name(one.queue) for one in workload.pauses)}
        serves = {one.name for text in crew.queues[: crew.processes] for one in served(text)}
    except InvalidSetting as error:
        raise UnusableSetting(f"the workload {path}", str(error)) from None
    if queues - serves:
        why = f"its processes do not serve the queue {min(queues - serves)!r}"
        raise UnusableSetting(f"the workload {path}", why)
