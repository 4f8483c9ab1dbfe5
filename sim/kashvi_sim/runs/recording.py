"""A recording: the traces of real (or simulated) processes merged on one clock.

Clocks of several hosts differ. Many events carry the server's time shortly before; the smallest difference is a host's
offset. A job's arrival is in the trace of its producer; without that trace it is taken from the job's id, and a delay
is unknown.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import NamedTuple

import msgspec
from kashvi_spec import traces

from kashvi import events
from kashvi.errors import UnusableSetting
from kashvi.events import Event, JobEvent
from kashvi.names import DEFAULT, served

from ..world.kernel import EPOCH
from ..world.trace import FaultStruck, ProcessKilled, ServerRolledBack
from .workload import Attempt

OWN: dict[str, type[Event]] = {kind.__name__: kind for kind in (FaultStruck, ProcessKilled, ServerRolledBack)}
SKEW_S = 0.05
"""A smaller difference to the server's clock may be the network's."""

SILENT_JOBS = 30
"""A worker that claims none of this many jobs, without an event of its stop, counts as dead."""


class RecordedJob(NamedTuple):
    """``at_s``: the arrival, from the start of the recording. ``attempts``: those with a recorded end."""

    type: str
    at_s: float
    delay_s: float | None
    attempts: tuple[Attempt, ...]
    queue: str = DEFAULT


class Shift(NamedTuple):
    """A worker process. ``ended_s``: None if it lived to the end."""

    began_s: float
    ended_s: float | None
    threads: int
    killed: bool
    queues: str = DEFAULT
    """What it served, as for ``queue:work --queue``."""


@dataclass
class Recording:
    """``times`` are on the simulator's clock, with the first event at EPOCH."""

    times: list[float]
    events: list[Event]
    jobs: list[RecordedJob]
    shifts: list[Shift]
    lease_s: float
    max_attempts: int
    names: dict[str, str]
    """The names of processes, by the id in their events."""
    notes: list[str] = field(default_factory=list)
    """Gaps in the traces, and the assumptions made for them."""

    @property
    def seconds(self) -> float:
        return self.times[-1] - EPOCH

    @property
    def threads(self) -> int:
        """The most frequent number of threads of a process."""
        return Counter(shift.threads for shift in self.shifts).most_common(1)[0][0]


def record_of(paths: Sequence[Path]) -> Recording:
    """Read and merge trace files. Raises InvalidSetting for a file that is not a trace or has no worker's events."""
    found: list[Event] = []
    notes: list[str] = []
    for path in paths:
        torn: list[int] = []
        try:
            with path.open("rb") as lines:
                found += traces.read(lines, torn=torn, kinds=traces.KINDS | OWN)
        except (OSError, traces.NotATrace) as error:
            why = error.strerror if isinstance(error, OSError) else f"{error}; queue:work --trace writes one that can"
            raise UnusableSetting(f"the trace {path}", str(why)) from None
        if torn:
            notes.append(f"{path}: line {', '.join(map(str, torn))} was begun and not ended: left out")
    if not any(isinstance(event, events.AttemptStarted) for event in found):
        raise UnusableSetting(f"the trace {', '.join(map(str, paths))}", "no worker runs a job in it")
    return _Merge(found, notes).recording()


class _Merge:
    def __init__(self, found: list[Event], notes: list[str]) -> None:
        self.notes = notes
        offsets = self._offsets(found)
        timed = [(event.at - offsets.get(event.process, 0.0), event) for event in found]
        timed += self._arrivals_by_id(timed)
        timed += self._deaths(timed)
        timed.sort(key=lambda one: one[0])
        self._start = timed[0][0]
        self._timed = timed

    def recording(self) -> Recording:
        shift = EPOCH - self._start
        times = [at + shift for at, _ in self._timed]
        story = [_rebased(event, shift) for _, event in self._timed]
        workers = [event for event in story if isinstance(event, events.WorkerStarted)]
        if own := {event.type for event in story if isinstance(event, events.RetryScheduled) and event.backoff}:
            self.notes.append(f"{len(own):,} job types have a backoff of their own: they are retried as others are")
        limits = [
            event.max_attempts
            for event in story
            if isinstance(event, events.JobFailed) and event.max_attempts and not event.type_limit
        ]
        shifts = self._shifts(times, story)
        if not shifts:
            raise UnusableSetting("the trace", "no worker says that it started: it is not whole")
        return Recording(
            times=times,
            events=story,
            jobs=self._served(self._jobs(times, story), shifts),
            shifts=shifts,
            lease_s=max(worker.lease_s for worker in workers),
            max_attempts=max(limits, default=3),
            names=_names(story),
            notes=self.notes,
        )

    def _offsets(self, found: Iterable[Event]) -> dict[str, float]:
        """The seconds by which each process's clock is ahead of the server's."""
        least: dict[str, float] = {}
        for event in found:
            if event.server_at is not None and getattr(event, "claim", "exchange") == "exchange":
                ahead = event.at - event.server_at
                least[event.process] = min(least.get(event.process, ahead), ahead)
        off = {process: ahead for process, ahead in least.items() if abs(ahead) > SKEW_S}
        for process, ahead in off.items():
            self.notes.append(f"the clock of process {process} is {ahead:+.3f} s off the server's: put right")
        return off

    def _arrivals_by_id(self, timed: list[tuple[float, Event]]) -> list[tuple[float, Event]]:
        """Arrivals of jobs whose dispatch is in no trace."""
        told = {event.job_id for _, event in timed if isinstance(event, events.JobDispatched)}
        added: list[tuple[float, Event]] = []
        for at, event in timed:
            if isinstance(event, events.AttemptStarted | events.AttemptFailed) and event.job_id not in told:
                told.add(event.job_id)
                if event.attempt > 1:
                    continue  # it came before the trace did
                came = min(_time_in(event.job_id, at), at)
                queue = event.queue if isinstance(event, events.AttemptStarted) else DEFAULT
                came_to = events.JobDispatched(at=came, job_id=event.job_id, type=event.type, queue=queue)
                added.append((came, came_to))
        if added:
            self.notes.append(
                f"{len(added):,} jobs were dispatched by processes without a trace: they came when their ids say, "
                "and a delay counts as a wait"
            )
        return added

    def _deaths(self, timed: list[tuple[float, Event]]) -> list[tuple[float, Event]]:
        """Deaths, at a process's last event: another process took its jobs over, or it claimed none of many jobs."""
        worker_of: dict[str, str] = {}
        last: dict[str, float] = {}
        told: set[str] = set()
        since: Counter[str] = Counter()
        for at, event in sorted(timed, key=lambda one: one[0]):
            last[event.process] = at
            since[event.process] = 0
            if isinstance(event, events.WorkerStarted):
                worker_of[event.worker] = event.process
            elif isinstance(event, events.AttemptLost) or (isinstance(event, events.JobReturned) and event.suspect):
                told.add(event.owner)
            elif isinstance(event, ProcessKilled):
                return []  # a simulated trace has its deaths as events
            elif isinstance(event, events.AttemptStarted):
                since.update(worker_of.values())
                since[event.process] = 0
        ended = {event.process for _, event in timed if isinstance(event, events.WorkerStopped)}
        silent = {process for process in worker_of.values() if since[process] >= SILENT_JOBS}
        killed = ({worker_of[owner] for owner in told if owner in worker_of} | silent) - ended
        return [
            (last[process], ProcessKilled(victim="", victim_id=process, at=last[process])) for process in sorted(killed)
        ]

    def _shifts(self, times: list[float], story: list[Event]) -> list[Shift]:
        began: dict[str, tuple[float, int, str]] = {}
        shifts: list[Shift] = []
        last_end = max(at for at, event in zip(times, story, strict=True) if isinstance(event, JobEvent)) - EPOCH

        def close(process: str, at: float | None, killed: bool) -> None:
            if process in began:
                since, threads, queues = began.pop(process)
                until = None if at is not None and at >= last_end else at
                shifts.append(Shift(since, until, threads, killed, queues))

        for at, event in zip(times, story, strict=True):
            if isinstance(event, events.WorkerStarted):
                began[event.process] = (at - EPOCH, event.threads, ",".join(event.queues))
            elif isinstance(event, events.WorkerStopped):
                close(event.process, at - EPOCH, False)
            elif isinstance(event, ProcessKilled):
                close(event.victim_id, at - EPOCH, True)
        for process in list(began):
            close(process, None, False)
        return sorted(shifts, key=lambda shift: shift.began_s)

    def _jobs(self, times: list[float], story: list[Event]) -> list[RecordedJob]:
        came: dict[str, tuple[float, events.JobDispatched]] = {}
        tries: defaultdict[str, dict[int, Attempt | None]] = defaultdict(dict)
        types: dict[str, str] = {}
        queues: dict[str, str] = {}
        late: dict[str, float] = {}
        undeliverable: set[str] = set()
        for at, event in zip(times, story, strict=True):
            if not isinstance(event, JobEvent):
                continue
            types[event.job_id] = event.type
            if isinstance(event, events.JobDispatched | events.AttemptStarted):
                queues[event.job_id] = event.queue
            if isinstance(event, events.JobDispatched):
                came.setdefault(event.job_id, (at, event))
            elif isinstance(event, events.AttemptStarted):
                tries[event.job_id].setdefault(event.attempt, None)
                late.setdefault(event.job_id, at)
            elif isinstance(event, events.AttemptSucceeded):
                tries[event.job_id][event.attempt] = Attempt(event.duration_s)
            elif isinstance(event, events.AttemptFailed):
                if event.attempt == 0:
                    undeliverable.add(event.job_id)
                tries[event.job_id][event.attempt] = Attempt(event.duration_s, event.error or "failed")
            elif isinstance(event, events.AttemptLost):
                tries[event.job_id][event.attempt] = None
        usual = _usual(tries, types)
        unended = lost = 0
        jobs: list[RecordedJob] = []
        for job_id, job_type in types.items():
            if job_id in undeliverable or (job_id not in came and job_id not in late):
                continue
            numbers = sorted(tries[job_id])
            attempts: list[Attempt] = []
            for number in numbers:
                known = tries[job_id][number]
                died = known is None and number != numbers[-1]
                lost += died
                unended += known is None and not died
                attempts.append(known or Attempt(usual(job_type), "died with its process" if died else ""))
            if not numbers:
                unended += 1
            at, dispatched = came.get(job_id, (late.get(job_id, EPOCH), None))
            due = dispatched.due if dispatched else None
            delay = None if due is None else max(due - at, 0.0)
            made = tuple(attempts) or (Attempt(usual(job_type)),)
            jobs.append(RecordedJob(job_type, at - EPOCH, delay, made, queues.get(job_id, DEFAULT)))
        if undeliverable:
            self.notes.append(f"{len(undeliverable):,} jobs could not be delivered: left out of the replay")
        if unended:
            self.notes.append(f"{unended:,} jobs have no end in the trace: they take what is usual for their type")
        if lost:
            self.notes.append(f"{lost:,} attempts died with their process: they count as failures")
        return sorted(jobs, key=lambda job: job.at_s)

    def _served(self, jobs: list[RecordedJob], shifts: list[Shift]) -> list[RecordedJob]:
        """Those on queues that a recorded worker serves: the others would wait for ever."""
        names = {one.name for shift in shifts for one in served(shift.queues)}
        found = [job for job in jobs if job.queue in names]
        if without := len(jobs) - len(found):
            self.notes.append(f"{without:,} jobs are on queues that no recorded worker serves: left out of the replay")
        return found


def _usual(tries: dict[str, dict[int, Attempt | None]], types: dict[str, str]) -> Callable[[str], float]:
    """A function that returns the usual duration of an attempt at a job of a type."""
    took: defaultdict[str, list[float]] = defaultdict(list)
    for job_id, by_number in tries.items():
        took[types[job_id]] += [one.takes_s for one in by_number.values() if one is not None]
    medians = {job_type: median(times) for job_type, times in took.items() if times}
    return lambda job_type: medians.get(job_type, 0.0)


def _rebased(event: Event, shift: float) -> Event:
    due: float | None = getattr(event, "due", None)
    return event if due is None else msgspec.structs.replace(event, due=due + shift)


def _time_in(job_id: str, otherwise: float) -> float:
    """The time in a UUIDv7; ``otherwise`` for any other id."""
    try:
        return int(job_id[:8] + job_id[9:13], 16) / 1000 if job_id[14] == "7" else otherwise
    except (ValueError, IndexError):
        return otherwise


def _names(story: list[Event]) -> dict[str, str]:
    """``p0``, ``p1`` … by the id in the events, in order of appearance."""
    ids = dict.fromkeys(event.process for event in story if event.process not in ("", "sim"))
    return {process: f"p{number}" for number, process in enumerate(ids)}
