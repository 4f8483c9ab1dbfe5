"""Predicates over deaths of processes: their costs for jobs, and the jobs that may run beside suspects."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import NamedTuple

from kashvi.events import (
    AttemptFailed,
    AttemptLost,
    AttemptSnoozed,
    AttemptStarted,
    AttemptSucceeded,
    Event,
    JobCancelled,
    JobEvent,
    JobReturned,
    SettleRefused,
    WorkerStarted,
)

from ..judging import Predicate, Violation, Watches

CLOCK_S = 0.01
"""The error of a duration by a process's own clock."""
TOLD_S = 1.0
"""After this time a process has emitted the events of all jobs that it took over at one moment."""
GRAVE = 2
"""A suspect this grave was announced in a death, and not charged."""
NOBODY: dict[str, dict[str, AttemptStarted]] = {}


def window_s(lease_s: float, lost: int) -> float:
    """How long other suspects of the process wait for a suspect."""
    return 10 * lease_s * 2.0 ** min(max(lost, 1) - 1, 50)


def patience_s(lease_s: float, lost: int) -> float:
    """How long a grave suspect waits for running fresh jobs."""
    return lease_s * 2.0 ** min(max(lost, GRAVE) - GRAVE, 50)


def gravity(run: AttemptStarted) -> int:
    """How grave a suspect the job was when it started; 0: it was none."""
    return max(run.lost, int(run.suspect))


class _OfWorkers(Predicate):
    """Tracks the attempts of each worker that have begun and have not ended there, and its lease."""

    def __init__(self) -> None:
        super().__init__()
        self._leases: dict[str, float] = {}
        self._processes: dict[str, str] = {}
        self._runs: dict[str, dict[str, AttemptStarted]] = {}
        """By worker and job."""
        self._of_process: dict[str, dict[str, dict[str, AttemptStarted]]] = {}
        """The same by process: its first attempt may end before ``WorkerStarted`` is emitted."""

    def watches(self) -> Watches:
        return {
            WorkerStarted: self._worker,
            AttemptStarted: self._started,
            AttemptSucceeded: self._ended,
            AttemptFailed: self._ended,
            AttemptSnoozed: self._ended,
            JobReturned: self._ended,
            SettleRefused: self._refused,
        }

    def _worker(self, event: WorkerStarted) -> None:
        self._leases[event.worker] = event.lease_s
        self._processes[event.worker] = event.process

    def _started(self, run: AttemptStarted) -> None:
        runs = self._runs.get(run.worker)
        if runs is None:
            runs = self._runs[run.worker] = {}
        if runs or run.suspect or run.lost:
            self.starts(run, runs)
        runs[run.job_id] = run
        of_process = self._of_process.get(run.process)
        if of_process is None:
            of_process = self._of_process[run.process] = {}
        of_process[run.worker] = runs

    def _refused(self, event: SettleRefused) -> None:
        if self._processes.get(event.owner) == event.process:
            self._runs.get(event.owner, {}).pop(event.job_id, None)  # the server has given it to another worker

    def _ended(self, event: AttemptSucceeded | AttemptFailed | AttemptSnoozed | JobReturned) -> None:
        for runs in self._of_process.get(event.process, NOBODY).values():
            runs.pop(event.job_id, None)

    def starts(self, run: AttemptStarted, others: dict[str, AttemptStarted]) -> None:
        """A suspect begins, or any attempt begins beside the worker's running ones."""


class SuspectsAlone(_OfWorkers):
    """A worker starts a suspect only when its last one has ended or has outlived its window."""

    name = "suspects alone"

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[str, AttemptStarted] = {}

    def memory(self, over: Container[str] = ()) -> Mapping[str, object]:
        last = {w: run for w, run in self._last.items() if self._runs.get(w, {}).get(run.job_id) == run}
        return {**super().memory(over), "_last": last}

    def starts(self, run: AttemptStarted, others: dict[str, AttemptStarted]) -> None:
        if not gravity(run):
            return
        last = self._last.get(run.worker)
        if last is not None and others.get(last.job_id) != last:
            last = None
        lease_s = self._leases.get(run.worker)
        if last is None or lease_s is not None:
            self.judged += 1
            if last:
                # After a clock was set back, its times are useless.
                ran = run.at - last.at
                if 0 <= ran < window_s(lease_s or 0.0, gravity(last)) - CLOCK_S:
                    self.breaks(run.job_id, f"a suspect started {ran:.3f} s after {last.job_id}, which still ran")
        self._last[run.worker] = run


class FreshKeptOut(_OfWorkers):
    """No fresh job starts beside a grave suspect in its window, and the suspect starts beside no fresh job that began
    shortly before."""

    name = "fresh kept out"

    def __init__(self) -> None:
        super().__init__()
        self._any_grave = False
        """True once a grave suspect has started."""

    def starts(self, run: AttemptStarted, others: dict[str, AttemptStarted]) -> None:
        lease_s, lost = self._leases.get(run.worker), gravity(run)
        self._any_grave = self._any_grave or lost >= GRAVE
        if lease_s is None or not self._any_grave:
            return
        if lost >= GRAVE and not others:
            self.judged += 1
        for other in others.values():
            ran, before = run.at - other.at, gravity(other)
            if before >= GRAVE and not lost:
                self._judge(ran, window_s(lease_s, before), run, "fresh, beside {}, a grave suspect", other)
            elif lost >= GRAVE and not before:
                self._judge(ran, patience_s(lease_s, lost), run, "a grave suspect, beside {}, fresh", other)

    def _judge(self, ran: float, least: float, run: AttemptStarted, how: str, other: AttemptStarted) -> None:
        self.judged += 1
        if 0 <= ran < least - CLOCK_S:
            self.breaks(run.job_id, f"started {how.format(other.job_id)}, that had run for {ran:.3f} s")


class FirstDeathFree(Predicate):
    """An attempt counts as lost only for a suspect: the first death costs no attempt, and makes suspects."""

    name = "first death free"

    def __init__(self) -> None:
        super().__init__()
        self._suspects: set[str] = set()
        self._processes: dict[str, str] = {}
        self._open: dict[str, float] = {}
        """The times of charges, of jobs that no event made a suspect yet: a process may tell that late."""

    def watches(self) -> Watches:
        return {
            WorkerStarted: self._worker,
            JobReturned: self._returned,
            AttemptStarted: self._started,
            AttemptLost: self._charged,
        }

    def _worker(self, event: WorkerStarted) -> None:
        self._processes[event.worker] = event.process

    def _returned(self, event: JobReturned) -> None:
        if self._processes.get(event.owner, event.process) != event.process:
            self.judged += 1
            if not event.suspect:
                self.breaks(event.job_id, "taken from a worker that died, and handed back as no suspect")
        self._started(event)

    def _started(self, event: AttemptStarted | JobReturned) -> None:
        if event.suspect:
            self._suspects.add(event.job_id)
            if self._open and (event.server_at or 0.0) <= self._open.get(event.job_id, -1.0):
                del self._open[event.job_id]

    def _charged(self, event: AttemptLost) -> None:
        self.judged += 1
        if event.job_id not in self._suspects:
            self._open.setdefault(event.job_id, event.server_at or 0.0)

    def at_end(self) -> list[Violation]:
        return [self.broken(job_id, "its first death counted as an attempt") for job_id in sorted(self._open)]


class Taken(NamedTuple):
    """A job that another process settled for a dead worker."""

    job_id: str
    server_at: float
    lost: bool
    """True if its attempt was counted."""
    fresh: bool
    announced: bool
    grave: int
    """How grave a suspect it was."""
    run: AttemptStarted | None
    """Its attempt there, if it has an event."""


def _taken(event: AttemptLost | JobReturned, at: float, run: AttemptStarted | None) -> Taken:
    if isinstance(event, AttemptLost):
        grave = gravity(run) if run else 0
        return Taken(event.job_id, at, lost=True, fresh=False, announced=True, grave=grave, run=run)
    announced = event.announced or bool(run and gravity(run))
    fresh = not announced and event.lost > 0 and event.lost_before == 0
    return Taken(event.job_id, at, False, fresh, announced, event.lost_before, run)


class _Together(NamedTuple):
    jobs: list[Taken]
    told_at: float
    """By the process's clock."""


class _OfTheDead(_OfWorkers):
    """Tracks the jobs taken over from each worker, and their neighbours."""

    def __init__(self) -> None:
        super().__init__()
        self._open: dict[tuple[str, str, float], _Together] = {}
        """The jobs taken over at one moment from one worker, while more events of it may come."""
        self._last_taken: dict[tuple[str, str], float] = {}
        """The time of the last takeover of a job from a worker."""

    def watches(self) -> Watches:
        return super().watches() | {AttemptLost: self._taken, JobReturned: self._taken}

    def _worker(self, event: WorkerStarted) -> None:
        if self._open:
            self._close(event)
        super()._worker(event)

    def _started(self, run: AttemptStarted) -> None:
        if self._open:
            self._close(run)
        super()._started(run)

    def _refused(self, event: SettleRefused) -> None:
        if self._open:
            self._close(event)
        super()._refused(event)

    def _ended(self, event: AttemptSucceeded | AttemptFailed | AttemptSnoozed | JobReturned) -> None:
        if self._open:
            self._close(event)
        super()._ended(event)

    def _taken(self, event: AttemptLost | JobReturned) -> None:
        by_another = self._processes.get(event.owner, event.process) != event.process
        if by_another and event.server_at is not None:
            run = self._runs.get(event.owner, {}).get(event.job_id)
            if run and run.server_at is not None and run.server_at > event.server_at:
                run = None  # the silent worker has claimed the job again since
            if run and gravity(run) and isinstance(event, JobReturned) and not event.announced:
                run = None  # it was announced since, by its old claim: the job came back to the silent worker unchanged
            if run:
                del self._runs[event.owner][event.job_id]
            if run and self._taken_since(event.owner, run):
                run = None  # it began when its job had been taken over, and was claimed again unannounced
            self._take(event, event.owner, _taken(event, event.server_at, run))
        if isinstance(event, JobReturned):
            self._ended(event)
        elif self._open:
            self._close(event)

    def _taken_since(self, owner: str, run: AttemptStarted) -> bool:
        """True if the job was taken over after this claim of it, and before now."""
        taken_at = self._last_taken.get((owner, run.job_id))
        return taken_at is not None and run.server_at is not None and run.server_at < taken_at

    def _take(self, event: JobEvent, owner: str, taken: Taken) -> None:
        together = self._open.setdefault((event.process, owner, taken.server_at), _Together([], event.at))
        together.jobs.append(taken)
        self.judged += self.judges(taken)
        self._last_taken[owner, taken.job_id] = taken.server_at

    def _close(self, event: Event) -> None:
        """Judge takeovers whose events are complete: a process's threads emit theirs at about the same time."""
        told = [key for key, one in self._open.items() if key[0] == event.process and event.at > one.told_at + TOLD_S]
        for key in told:
            jobs = self._open.pop(key).jobs
            for one in filter(self.judges, jobs):
                if why := self.why_wrong(one, jobs, self._leases.get(key[1], 0.0)):
                    self.violations.append(self.broken(one.job_id, why))

    def judges(self, taken: Taken) -> bool:
        """True if this takeover is judged."""
        raise NotImplementedError

    def why_wrong(self, taken: Taken, together: list[Taken], lease_s: float) -> str:
        """The reason why a takeover is wrong, else empty. ``together``: all jobs taken over with it."""
        raise NotImplementedError

    def at_end(self) -> list[Violation]:
        return [
            self.broken(one.job_id, why)
            for (_, owner, _), (jobs, _) in self._open.items()
            for one in filter(self.judges, jobs)
            if (why := self.why_wrong(one, jobs, self._leases.get(owner, 0.0)))
        ]


def _beside(taken: Taken, together: list[Taken]) -> list[Taken]:
    """The other jobs that may have caused the death."""
    return [one for one in together if one.job_id != taken.job_id and (one.announced or one.fresh)]


class ChargedAlone(_OfTheDead):
    """A death counts as a job's attempt only if no other job of the process can have caused it."""

    name = "charged alone"

    def __init__(self) -> None:
        super().__init__()
        self._charged: dict[str, list[Taken]] = {}
        """The jobs charged, by worker."""

    def judges(self, taken: Taken) -> bool:
        return taken.lost

    def why_wrong(self, taken: Taken, together: list[Taken], lease_s: float) -> str:
        beside = _beside(taken, together)
        return f"charged for a death that {beside[0].job_id} may have caused, in the same process" if beside else ""

    def _take(self, event: JobEvent, owner: str, taken: Taken) -> None:
        super()._take(event, owner, taken)
        for charged in self._charged.get(owner, ()):
            later = taken.server_at > charged.server_at
            if later and taken.run and taken.run.server_at is not None and taken.run.server_at < charged.server_at:
                why = f"charged for a death that {taken.job_id} may have caused, which was left in the process's hands"
                self.judged += 1
                self.breaks(charged.job_id, why)
        if taken.lost:
            self._charged.setdefault(owner, []).append(taken)


class ExcusedForAReason(_OfTheDead):
    """A death in which a suspect was announced counts for it, unless another job may have caused it.

    From its second such death on, only a job that began long before or after it may excuse it, so few deaths are
    excused.
    """

    name = "excused for a reason"

    def watches(self) -> Watches:
        return {**super().watches(), JobCancelled: self._was_there}

    def _refused(self, event: SettleRefused) -> None:
        self._was_there(event)
        super()._refused(event)

    def _was_there(self, event: SettleRefused | JobCancelled) -> None:
        """It was there when the dead worker's lists were read."""
        if event.owner and self._processes.get(event.owner, event.process) != event.process:
            at, run = event.server_at or 0.0, self._runs.get(event.owner, {}).get(event.job_id)
            gone = Taken(event.job_id, at, lost=False, fresh=True, announced=False, grave=0, run=run)
            self._open.setdefault((event.process, event.owner, at), _Together([], event.at)).jobs.append(gone)

    def judges(self, taken: Taken) -> bool:
        return taken.announced and not taken.lost

    def why_wrong(self, taken: Taken, together: list[Taken], lease_s: float) -> str:
        beside = _beside(taken, together)
        if not beside:
            return "its process died, where no other job ran, and no attempt was counted"
        if taken.grave < GRAVE or taken.run is None or not lease_s:
            return ""
        if any(one.run is None for one in beside):
            return ""  # it may have run there, since an unknown time
        apart_s = max(abs(one.run.at - taken.run.at) for one in beside if one.run)
        if apart_s >= patience_s(lease_s, taken.grave) - CLOCK_S:
            return ""
        return f"excused again, for {beside[0].job_id}, which had begun {apart_s:.3f} s before it or after it"
