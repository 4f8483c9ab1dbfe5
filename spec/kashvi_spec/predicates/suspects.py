"""Predicates over deaths of processes: their costs for jobs, and the jobs that may run beside suspects."""

from __future__ import annotations

from typing import NamedTuple

from kashvi.events import (
    AttemptFailed,
    AttemptLost,
    AttemptSnoozed,
    AttemptStarted,
    AttemptSucceeded,
    Event,
    JobDispatched,
    JobReturned,
    SettleRefused,
    WorkerStarted,
)

from ..judging import Predicate, Violation

CLOCK_S = 0.01
"""The error of a duration by a process's own clock."""
TOLD_S = 1.0
"""After this time a process has emitted the events of all jobs that it took over at one moment."""
GRAVE = 2
"""A suspect this grave was announced in a death, and not charged."""


def window_s(lease_s: float, lost: int) -> float:
    """How long other suspects of the process wait for a suspect."""
    return 10 * lease_s * 2.0 ** min(max(lost, 1) - 1, 50)


def patience_s(lease_s: float, lost: int) -> float:
    """How long a grave suspect waits for running fresh jobs."""
    return lease_s * 2.0 ** min(max(lost, GRAVE) - GRAVE, 50)


class Run(NamedTuple):
    """An attempt that has begun in a worker and has not ended there."""

    job_id: str
    process: str
    at: float
    """By the process's clock."""
    claimed: float | None
    """By the server's."""
    lost: int


class _OfWorkers(Predicate):
    """Tracks the running jobs of each worker, and its lease."""

    watches: tuple[type[Event], ...] = (
        WorkerStarted, AttemptStarted, AttemptSucceeded, AttemptFailed, AttemptSnoozed, JobReturned, SettleRefused,
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self._leases: dict[str, float] = {}
        self._processes: dict[str, str] = {}
        self._runs: dict[str, dict[str, Run]] = {}
        self._of_process: dict[str, set[str]] = {}
        """Its first attempt may end before ``WorkerStarted`` is emitted."""

    def see(self, event: Event) -> None:
        if isinstance(event, WorkerStarted):
            self._leases[event.worker] = event.lease_s
            self._processes[event.worker] = event.process
            self._of_process.setdefault(event.process, set()).add(event.worker)
        elif isinstance(event, AttemptStarted):
            lost = max(event.lost, int(event.suspect))
            run = Run(event.job_id, event.process, event.at, event.server_at, lost)
            self.start(event.worker, run)
            self._runs.setdefault(event.worker, {})[event.job_id] = run
            self._of_process.setdefault(event.process, set()).add(event.worker)
        elif isinstance(event, SettleRefused) and self._processes.get(event.owner) == event.process:
            self._runs.get(event.owner, {}).pop(event.job_id, None)  # the server has given it to another worker
        elif isinstance(event, AttemptSucceeded | AttemptFailed | AttemptSnoozed | JobReturned):
            for worker in self._of_process.get(event.process, ()):
                if worker in self._runs:
                    self._runs[worker].pop(event.job_id, None)

    def start(self, worker: str, run: Run) -> None:
        """An attempt begins, beside the worker's running ones."""


class SuspectsAlone(_OfWorkers):
    """A worker starts a suspect only when its last one has ended or has outlived its window."""

    name = "suspects alone"

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[str, Run] = {}

    def start(self, worker: str, run: Run) -> None:
        if not run.lost:
            return
        last = self._last.get(worker)
        if last is not None and self._runs[worker].get(last.job_id) != last:
            last = None
        lease_s = self._leases.get(worker)
        if last is None or lease_s is not None:
            # After a clock was set back, its times are useless.
            ran = run.at - last.at if last else 0.0
            over = not last or ran < 0 or ran >= window_s(lease_s or 0.0, last.lost) - CLOCK_S
            self.expect(
                over, run.job_id, f"a suspect started {ran:.3f} s after {last and last.job_id}, which still ran"
            )
        self._last[worker] = run


class FreshKeptOut(_OfWorkers):
    """No fresh job starts beside a grave suspect in its window, and the suspect starts beside no fresh job that began
    shortly before."""

    name = "fresh kept out"

    def start(self, worker: str, run: Run) -> None:
        lease_s = self._leases.get(worker)
        if lease_s is None:
            return
        others = self._runs.get(worker, {}).values()
        if run.lost >= GRAVE and not others:
            self.expect(True, run.job_id, "")
        for other in others:
            ran = run.at - other.at
            if other.lost >= GRAVE and not run.lost:
                self._judge(ran, window_s(lease_s, other.lost), run, f"fresh, beside {other.job_id}, a grave suspect")
            elif run.lost >= GRAVE and not other.lost:
                self._judge(ran, patience_s(lease_s, run.lost), run, f"a grave suspect, beside {other.job_id}, fresh")

    def _judge(self, ran: float, least: float, run: Run, how: str) -> None:
        self.expect(ran < 0 or ran >= least - CLOCK_S, run.job_id, f"started {how}, that had run for {ran:.3f} s")


class FirstDeathFree(Predicate):
    """An attempt counts as lost only for a suspect: the first death costs no attempt, and makes suspects."""

    name = "first death free"
    watches = (WorkerStarted, JobReturned, AttemptStarted, AttemptLost)

    def __init__(self) -> None:
        super().__init__()
        self._suspects: set[str] = set()
        self._processes: dict[str, str] = {}

    def see(self, event: Event) -> None:
        if isinstance(event, WorkerStarted):
            self._processes[event.worker] = event.process
        elif isinstance(event, JobReturned) and self._processes.get(event.owner, event.process) != event.process:
            self.expect(event.suspect, event.job_id, "taken from a worker that died, and handed back as no suspect")
        if isinstance(event, JobReturned | AttemptStarted):
            if event.suspect:
                self._suspects.add(event.job_id)
        elif isinstance(event, AttemptLost):
            self.expect(event.job_id in self._suspects, event.job_id, "its first death counted as an attempt")


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
    run: Run | None
    """Its attempt there, if it has an event."""


def _taken(event: AttemptLost | JobReturned, at: float, run: Run | None) -> Taken:
    if isinstance(event, AttemptLost):
        return Taken(event.job_id, at, lost=True, fresh=False, announced=True, grave=run.lost if run else 0, run=run)
    announced = event.announced or bool(run and run.lost)
    fresh = not announced and event.lost > 0 and event.lost_before == 0
    return Taken(event.job_id, at, False, fresh, announced, event.lost_before, run)


class _Together(NamedTuple):
    jobs: list[Taken]
    told_at: float
    """By the process's clock."""


class _OfTheDead(_OfWorkers):
    """Tracks the jobs taken over from each worker, and their neighbours."""

    watches = (*_OfWorkers.watches, AttemptLost)

    def __init__(self) -> None:
        super().__init__()
        self._open: dict[tuple[str, str, float], _Together] = {}
        """The jobs taken over at one moment from one worker, while more events of it may come."""
        self._last_taken: dict[tuple[str, str], float] = {}
        """The time of the last takeover of a job from a worker."""

    def see(self, event: Event) -> None:
        if isinstance(event, AttemptLost | JobReturned):
            by_another = self._processes.get(event.owner, event.process) != event.process
            if by_another and event.server_at is not None:
                run = self._runs.get(event.owner, {}).get(event.job_id)
                if run and run.claimed is not None and run.claimed > event.server_at:
                    run = None  # the silent worker has claimed the job again since
                if run:
                    del self._runs[event.owner][event.job_id]
                if run and self._taken_since(event.owner, run):
                    run = None  # it began when its job had been taken over, and was claimed again unannounced
                self._take(event, event.owner, _taken(event, event.server_at, run))
        if self._open:
            self._close(event)
        super().see(event)

    def _taken_since(self, owner: str, run: Run) -> bool:
        """True if the job was taken over after this claim of it, and before now."""
        taken_at = self._last_taken.get((owner, run.job_id))
        return taken_at is not None and run.claimed is not None and run.claimed < taken_at

    def _take(self, event: Event, owner: str, taken: Taken) -> None:
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

    def _take(self, event: Event, owner: str, taken: Taken) -> None:
        super()._take(event, owner, taken)
        for charged in self._charged.get(owner, ()):
            later = taken.server_at > charged.server_at
            if later and taken.run and taken.run.claimed is not None and taken.run.claimed < charged.server_at:
                why = f"charged for a death that {taken.job_id} may have caused, which was left in the process's hands"
                self.expect(False, charged.job_id, why)
        if taken.lost:
            self._charged.setdefault(owner, []).append(taken)


class ExcusedForAReason(_OfTheDead):
    """A death in which a suspect was announced counts for it, unless another job may have caused it.

    From its second such death on, only a job that began long before or after it may excuse it, so few deaths are
    excused.
    """

    name = "excused for a reason"
    watches = (*_OfTheDead.watches, JobDispatched)

    def __init__(self) -> None:
        super().__init__()
        self._known: set[str] = set()
        self._renamed: set[str] = set()
        """The ids that a takeover was the first to show: a job without one gets a new id from each process."""

    def see(self, event: Event) -> None:
        if isinstance(event, JobDispatched | AttemptStarted):
            self._known.add(event.job_id)
        elif isinstance(event, SettleRefused) and self._processes.get(event.owner, event.process) != event.process:
            # It was there when the dead worker's lists were read.
            at = event.server_at or 0.0
            gone = Taken(event.job_id, at, lost=False, fresh=True, announced=False, grave=0, run=None)
            self._open.setdefault((event.process, event.owner, at), _Together([], event.at)).jobs.append(gone)
        super().see(event)

    def _take(self, event: Event, owner: str, taken: Taken) -> None:
        super()._take(event, owner, taken)
        if taken.job_id not in self._known:
            self._renamed.add(taken.job_id)

    def judges(self, taken: Taken) -> bool:
        return taken.announced and not taken.lost

    def why_wrong(self, taken: Taken, together: list[Taken], lease_s: float) -> str:
        beside = _beside(taken, together)
        if not beside:
            return "its process died, where no other job ran, and no attempt was counted"
        if taken.grave < GRAVE or taken.run is None or not lease_s:
            return ""
        if any(one.run is None and (one.announced or one.job_id in self._renamed) for one in beside):
            return ""  # it ran there, since an unknown time: under another id, or by a claim of before a takeover
        apart_s = max((abs(one.run.at - taken.run.at) for one in beside if one.run), default=0.0)
        if apart_s >= patience_s(lease_s, taken.grave) - CLOCK_S:
            return ""
        return f"excused again, for {beside[0].job_id}, which had begun {apart_s:.3f} s before it or after it"
