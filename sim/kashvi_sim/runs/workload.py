"""A workload: its jobs with their arrivals, durations and failures, and its workers. Read from TOML.

``sim/README.md`` describes the format. Every random number is a fraction from the tape, so that shrinking a
run makes its jobs few, short and successful.
"""

from __future__ import annotations

import csv
import math
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, NamedTuple, Protocol

import msgspec

from kashvi.errors import InvalidSetting, UnusableSetting
from kashvi.retries import Retry
from kashvi.settings import OBEY_S

from ..world.faults import PlannedFault
from ..world.tape import AttemptStream, Stream
from .policy import Policy

Count = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A misspelt field is an error, not a default."""


class Fixed(_Strict, frozen=True, tag_field="kind", tag="fixed"):
    """Always the same duration."""

    seconds: Seconds

    def draw(self, chance: Stream) -> float:
        return self.seconds


class Uniform(_Strict, frozen=True, tag_field="kind", tag="uniform"):
    """Uniformly distributed."""

    least_s: Seconds
    most_s: Seconds

    def draw(self, chance: Stream) -> float:
        return self.least_s + (self.most_s - self.least_s) * chance.fraction()


class Exponential(_Strict, frozen=True, tag_field="kind", tag="exponential"):
    """Exponentially distributed: mostly short, memoryless."""

    mean_s: Positive

    def draw(self, chance: Stream) -> float:
        return -self.mean_s * math.log1p(-chance.fraction())


class LogNormal(_Strict, frozen=True, tag_field="kind", tag="lognormal"):
    """Log-normally distributed, as many real services: half take up to ``median_s``, a few take very long."""

    median_s: Positive
    sigma: Positive

    def draw(self, chance: Stream) -> float:
        radius = math.sqrt(-2.0 * math.log1p(-chance.fraction()))
        return self.median_s * math.exp(self.sigma * radius * math.cos(2 * math.pi * chance.fraction()))


class OneOf(_Strict, frozen=True, tag_field="kind", tag="one_of"):
    """One of these, equally likely."""

    seconds: tuple[Seconds, ...]

    def draw(self, chance: Stream) -> float:
        return self.seconds[chance.choose(len(self.seconds))]


Duration = Fixed | Uniform | Exponential | LogNormal | OneOf


class Coming(NamedTuple):
    """A job to dispatch. ``delay_s``: for dispatch_after."""

    type: str
    delay_s: float | None


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


class FollowUps(_Strict, frozen=True):
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

    def coming(self, chance: Stream) -> Iterator[tuple[float, Callable[[], Coming]]]:
        """Gaps before jobs, each with a function that returns the job after the gap."""

    def acts(self, job_type: str, attempts: AttemptStream) -> Acts:
        """The outcomes of a type's jobs."""


class AtOnce(_Strict, frozen=True, tag_field="process", tag="at_once"):
    """All jobs at the start."""

    jobs: Count

    def gaps(self, chance: Stream) -> Iterator[float]:
        yield from (0.0 for _ in range(self.jobs))


class Poisson(_Strict, frozen=True, tag_field="process", tag="poisson"):
    """Independent arrivals, ``rate`` a second on average."""

    jobs: Count
    rate: Positive

    def gaps(self, chance: Stream) -> Iterator[float]:
        for _ in range(self.jobs):
            yield -math.log1p(-chance.fraction()) / self.rate


class Regular(_Strict, frozen=True, tag_field="process", tag="regular"):
    """One every ``every_s``."""

    jobs: Count
    every_s: Positive

    def gaps(self, chance: Stream) -> Iterator[float]:
        yield from (self.every_s for _ in range(self.jobs))


class Bursts(_Strict, frozen=True, tag_field="process", tag="bursts"):
    """``size`` at once, every ``every_s``."""

    bursts: Count
    size: Count
    every_s: Positive

    def gaps(self, chance: Stream) -> Iterator[float]:
        for _ in range(self.bursts):
            yield self.every_s
            yield from (0.0 for _ in range(self.size - 1))


class Daily(_Strict, frozen=True, tag_field="process", tag="daily"):
    """Independent arrivals, more by day than by night: ``per_day`` on average, by the hours' weights.

    Begins at midnight, and goes on into the next day until all jobs have come.
    """

    jobs: Count
    per_day: Positive
    hours: Annotated[tuple[Seconds, ...], msgspec.Meta(min_length=24, max_length=24)]

    def gaps(self, chance: Stream) -> Iterator[float]:
        total = sum(self.hours)
        if total <= 0:
            raise InvalidSetting("the daily curve's hours", self.hours, "24 weights, some above 0")
        rates = [weight / total * self.per_day / 3600 for weight in self.hours]
        now, hour, left_s = 0.0, 0, 3600.0
        for _ in range(self.jobs):
            came, wanted = now, -math.log1p(-chance.fraction())
            while wanted > rates[hour] * left_s:
                wanted -= rates[hour] * left_s
                now, hour, left_s = now + left_s, (hour + 1) % 24, 3600.0
            step = wanted / rates[hour] if wanted else 0.0
            now, left_s = now + step, left_s - step
            yield now - came


class Times(_Strict, frozen=True, tag_field="process", tag="times"):
    """Arrivals from a CSV file: seconds from the start in its first column; the first line may be a heading.

    ``file`` is relative to the workload's file. It is read when the run begins.
    """

    file: str

    def gaps(self, chance: Stream) -> Iterator[float]:
        before = 0.0
        for at in sorted(self._times()):
            yield at - before
            before = at

    def _times(self) -> Iterator[float]:
        with Path(self.file).open(newline="", encoding="utf-8") as lines:
            for number, row in enumerate(csv.reader(lines), 1):
                try:
                    at = float(row[0]) if row else -1.0
                except ValueError:
                    at = -1.0
                if 0 <= at < math.inf:
                    yield at
                elif row and number > 1:
                    wanted = "seconds, 0 or more, in its first column"
                    raise InvalidSetting(f"line {number} of {self.file}", ",".join(row), wanted)


class Handful(_Strict, frozen=True, tag_field="process", tag="handful"):
    """From ``least`` to ``most`` jobs, some together and some apart, to find bugs."""

    least: Count
    most: Count
    gap_s: tuple[Seconds, ...] = (0.0, 0.01, 1.0)

    def gaps(self, chance: Stream) -> Iterator[float]:
        for _ in range(self.least + chance.choose(self.most - self.least + 1)):
            yield self.gap_s[chance.choose(len(self.gap_s))]


Arrivals = AtOnce | Poisson | Regular | Bursts | Daily | Times | Handful


class JobKind(_Strict, frozen=True):
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
    timeout_s: Positive | None = None
    """The type's time limit."""
    ignores: Share = 0.0
    """The share of attempts that take longer than that, and do not obey it: they end when they end."""


class Crew(_Strict, frozen=True):
    """The workers: ``processes`` of ``threads`` each. A dead process is replaced after ``restart_s``.

    ``patience_s``: other attempts may go on for so long when one is stuck, and then the process is replaced; none: it
    is the app's own, and goes on.
    """

    processes: Count = 1
    threads: Count = 4
    lease_s: Positive = 30.0
    max_attempts: Count = 3
    restart_s: Seconds = 1.0
    obey_s: Seconds = OBEY_S
    patience_s: Seconds | None = None


class Change(_Strict, frozen=True):
    """From ``at_s`` on, there are ``processes`` processes."""

    at_s: Seconds
    processes: Annotated[int, msgspec.Meta(ge=0)]


class Pause(_Strict, frozen=True):
    """The queue is paused, for so long."""

    at_s: Seconds
    for_s: Seconds


class Workload(_Strict, frozen=True):
    """The contents of a workload's file."""

    name: str
    about: str
    arrivals: Arrivals
    job: tuple[JobKind, ...]
    workers: Crew = Crew()
    schedule: tuple[Change, ...] = ()
    pauses: tuple[Pause, ...] = ()
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
            return Coming(kind.type, None if kind.delay is None else kind.delay.draw(chance))

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
            "pauses kept": bool(self.pauses),
        }
        return frozenset(name for name, there in reached.items() if not there)

    def time_limit(self, job_type: str) -> float | None:
        return next(kind.timeout_s for kind in self.job if kind.type == job_type)

    def policy(self, job_type: str) -> Retry | None:
        kind = next(kind for kind in self.job if kind.type == job_type)
        return kind.retry.made() if kind.retry else None

    def _kinds(self, chance: Stream) -> Callable[[], JobKind]:
        """A function that draws the kind of the next job, by share, of those that are no follow-ups."""
        follow_ups = {kind.follow_ups.type for kind in self.job if kind.follow_ups}
        coming = [kind for kind in self.job if kind.type not in follow_ups]
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
    for kind in workload.job:
        if kind.follow_ups and (kind.follow_ups.type not in kinds or kinds[kind.follow_ups.type].follow_ups):
            why = f"the follow-ups of {kind.type} need a type of their own, without follow-ups"
            raise UnusableSetting(f"the workload {path}", why)
    return workload
