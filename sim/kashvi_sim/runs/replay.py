"""Replays the jobs of a recording through the real worker in virtual time, with the recorded or with other processes.

Jobs have their recorded arrivals, and attempts their recorded durations and outcomes. An unrecorded attempt ends as the
one before it; the recording's notes list all assumptions. A real worker needs time between two jobs and a simulated one
does not, so each attempt gets a thread's measured overhead added.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median

from kashvi import events
from kashvi.names import DEFAULT, served

from ..world.faults import PlannedFault, rules_named
from ..world.tape import AttemptStream, Stream, Tape
from .figures import Figures, figures_of
from .play import Played, Swarm, may_be_direct, perform
from .recording import Recording
from .workload import Acts, Attempt, Change, Coming, Crew, CronEntry, Pause

ABOUT = "What was recorded, replayed."


@dataclass(frozen=True)
class Row:
    """The result with these workers. ``played`` is None for the recording itself."""

    name: str
    figures: Figures
    played: Played | None = None


@dataclass(frozen=True)
class _Replay:
    """A recording as a script."""

    recording: Recording
    workers: Crew
    overhead_s: float
    name: str = "replay"
    about: str = ABOUT
    schedule: tuple[Change, ...] = ()
    pauses: tuple[Pause, ...] = ()
    transactions: None = None
    cron: tuple[CronEntry, ...] = ()
    faults: tuple[PlannedFault, ...] = ()

    @property
    def fault_time_s(self) -> float:
        """Random faults strike during the whole recording."""
        return max(self.recording.seconds, 1.0)

    @property
    def types(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(job.type for job in self.recording.jobs))

    def coming(self, chance: Stream) -> Iterator[tuple[float, Callable[[], Coming]]]:
        before = 0.0
        for job in self.recording.jobs:
            yield job.at_s - before, lambda job=job: Coming(job.type, job.delay_s, queue=job.queue)  # type: ignore[misc]
            before = job.at_s

    def time_limit(self, job_type: str) -> None:
        """None: a recorded attempt ends as it did."""

    def queue_of(self, job_type: str) -> str:
        """The default one: each job names its own."""
        return DEFAULT

    def keys_of(self, job_type: str) -> int:
        return 0

    @property
    def cancels(self) -> bool:
        """False: a job that was cancelled has no end in the recording, and is run."""
        return False

    def policy(self, job_type: str) -> None:
        """None: a trace has the waits of a policy, not the policy."""

    def acts(self, job_type: str, attempts: AttemptStream) -> Acts:
        jobs, overhead_s = self.recording.jobs, self.overhead_s

        def act(n: int, number: int) -> Attempt:
            made = jobs[n].attempts
            takes_s, error, *_ = made[min(number, len(made)) - 1]
            return Attempt(takes_s + overhead_s, error)

        return act


def recorded(recording: Recording) -> Row:
    """The row of the recording itself."""
    return Row("recorded", figures_of(recording.times, recording.events, recording.seconds))


def replay(
    recording: Recording,
    workers: int | None = None,
    *,
    threads: int | None = None,
    max_attempts: int | None = None,
    lease_s: float | None = None,
    faults: str = "none",
    seed: int = 0,
    direct: bool = False,
) -> Row:
    """Replay with ``workers`` threads, in processes of ``threads`` each; None: with the recorded processes.

    ``direct``: see ``play``. Other arguments default to the recorded values. Raises InvalidSetting.
    """
    threads = threads or recording.threads
    posts = [] if workers is None else _posts(workers, threads)
    script = _Replay(
        recording,
        Crew(
            threads=threads,
            lease_s=lease_s or recording.lease_s,
            max_attempts=max_attempts or recording.max_attempts,
            queues=_queues(recording, len(posts)),
        ),
        overhead_of(recording),
    )
    rules = rules_named(faults)
    swarm = Swarm.of(seed, rules) if rules else Swarm((), 0.0, 0.0)
    tape = Tape(seed, often=swarm.often)
    shifts = recording.shifts if workers is None else ()
    played = perform(script, tape, swarm, posts=posts, shifts=shifts, direct=direct and may_be_direct(script, rules))
    return Row("as it was" if workers is None else str(workers), played.figures, played)


def _queues(recording: Recording, processes: int) -> tuple[str, ...]:
    """What processes serve in turn: as recorded, or all of them all queues, if there are too few of them."""
    texts = tuple(dict.fromkeys(shift.queues for shift in recording.shifts))
    if processes >= len(texts):
        return texts
    return (",".join(dict.fromkeys(one.name for text in texts for one in served(text))),)


def _posts(workers: int, threads: int) -> list[int]:
    full, rest = divmod(workers, threads)
    return [threads] * full + [rest] * bool(rest)


def overhead_of(recording: Recording) -> float:
    """Seconds between an attempt's end and the next one's start on a thread while jobs waited."""
    gaps: list[float] = []
    free: defaultdict[str, list[float]] = defaultdict(list)
    waiting_since: dict[str, float] = {}
    for at, event in zip(recording.times, recording.events, strict=True):
        if isinstance(event, events.JobDispatched):
            waiting_since[event.job_id] = at if event.due is None else event.due
        elif isinstance(event, events.AttemptSucceeded | events.AttemptFailed | events.AttemptSnoozed):
            free[event.process].append(at)
        elif isinstance(event, events.AttemptStarted) and free[event.process]:
            since = free[event.process].pop(0)
            if waiting_since.get(event.job_id, at) < since:
                gaps.append(at - since)
    return median(gaps) if gaps else 0.0
