"""The picture of a run or a recording: attempts in lanes, marks, and the number of waiting jobs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, assert_never, cast

from kashvi import events
from kashvi.events import Event, JobEvent

from ..world.kernel import EPOCH
from ..world.trace import FaultStruck, ProcessKilled, ServerRolledBack, SimEvent

CLAUSES: dict[type[Event], str] = {
    events.RetryScheduled: "RETRY-2",
    events.JobPostponed: "FAILURES-10",
    events.JobSnoozed: "RETRY-13",
    events.PolicyIgnored: "RETRY-11",
    events.JobFailed: "RETRY-1",
    events.AttemptLost: "DELIVERY-10",
    events.JobReturned: "DELIVERY-8",
    events.SettleRefused: "DELIVERY-5",
    events.CancelAsked: "QUEUES-9",
    events.JobCancelled: "QUEUES-9",
    events.ChainCancelled: "QUEUES-9",
    events.ServerLost: "DELIVERY-1",
    events.ServerBack: "DELIVERY-1",
    events.StoreLost: "FAILURES-7",
    events.StoreBack: "FAILURES-7",
    events.QueuePaused: "WORKERS-21",
    events.QueueResumed: "WORKERS-21",
    events.WorkerStopping: "WORKERS-3",
    ProcessKilled: "DELIVERY-2",
    ServerRolledBack: "DELIVERY-1",
}
"""The clause that governs each fault."""
OF_FAULTS = {
    "kill": "DELIVERY-2", "sigterm": "WORKERS-3", "pause": "DELIVERY-3", "reply_lost": "DELIVERY-6",
    "applied_late": "DELIVERY-6", "insert_reply_lost": "TABLE-4", "insert_fails": "FAILURES-7",
    "database_down": "FAILURES-7", "skew": "DELAY-7", "drift": "DELAY-7", "jump_back": "DELAY-7",
    "jump_forward": "DELAY-7", "garbage": "FAILURES-9", "base_exception": "WORKERS-2", "poison": "DELIVERY-10",
}  # fmt: skip
"""DELIVERY-1 governs all other faults."""


class Span(NamedTuple):
    """One attempt. Times are seconds from the start."""

    process: str
    thread: int
    began: float
    ended: float
    how: str
    """succeeded, failed, cut off (with its process) or running (at the end)."""
    job: int
    """Jobs are numbered from 1, in the order of their first events."""
    type: str
    attempt: int
    suspect: bool
    error: str = ""

    @property
    def lane(self) -> str:
        return f"{self.process} · {self.thread}"


class Mark(NamedTuple):
    """A mark at one event."""

    at: float
    lane: str
    kind: str
    """retry, failed, handed back, refused, fault, killed, stop, server, table."""
    text: str
    clause: str
    job: int = 0


class Shift(NamedTuple):
    """A process's threads lived from ``began`` to ``ended``, and claimed jobs until ``closed``."""

    process: str
    began: float
    ended: float
    threads: int
    closed: float


@dataclass
class Picture:
    spans: list[Span] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    shifts: list[Shift] = field(default_factory=list)
    due: dict[int, float] = field(default_factory=dict)
    """The time at which each job was dispatched or due."""
    ids: dict[int, str] = field(default_factory=dict)
    depths: dict[str, list[tuple[float, int]]] = field(default_factory=dict)
    ends: float = 0.0

    @property
    def lanes(self) -> list[str]:
        """Top to bottom."""
        threads = {shift.process: shift.threads for shift in self.shifts}
        own = [f"{process} · {n}" for process in threads for n in range(1, threads[process] + 1)]
        return [*own, *sorted({mark.lane for mark in self.marks} - set(own))]


def told(mark: Mark) -> str:
    """A mark as text, with its clause."""
    job = f"job #{mark.job}: " if mark.job else ""
    return job + mark.text + (f" ({mark.clause})" if mark.clause else "")


def picture_of(times: Sequence[float], trace: Sequence[Event], names: Mapping[str, str]) -> Picture:
    """The picture of a trace. ``times``: Unix seconds of the world's clock. ``names``: of processes, by id."""
    painter = _Painter(names)
    for at, event in zip(times, trace, strict=True):
        painter.see(at - EPOCH, event)
    return painter.finished(times[-1] - EPOCH if times else 0.0)


class _Painter:
    def __init__(self, names: Mapping[str, str]) -> None:
        self.picture = Picture()
        self._names = names
        self._jobs: dict[str, int] = {}
        self._open: dict[tuple[str, int], tuple[int, float, events.AttemptStarted]] = {}
        self._busy: defaultdict[str, set[int]] = defaultdict(set)
        self._lane_of: dict[int, str] = {}
        self._there: dict[str, tuple[float, int]] = {}
        self._closed: dict[str, float] = {}
        self._depths = _Depths()

    def see(self, at: float, event: Event) -> None:
        self._depths.see(at, event)
        name = self._names.get(event.process, event.process[-4:])
        job = self._number(event.job_id) if isinstance(event, JobEvent) else 0
        match event:
            case events.JobDispatched():
                self.picture.due.setdefault(job, at if event.due is None else event.due - EPOCH)
            case events.AttemptStarted():
                thread = next(n for n in range(1, 10_000) if n not in self._busy[name])
                self._busy[name].add(thread)
                self._open[name, job] = thread, at, event
                self._lane_of[job] = f"{name} · {thread}"
            case events.AttemptSucceeded():
                self._close(name, job, at, "succeeded")
            case events.AttemptFailed():
                self._close(name, job, at, "failed", event.error)
            case events.AttemptSnoozed():
                self._close(name, job, at, "snoozed")
            case events.WorkerStarted():
                self._there[name] = at, event.threads
            case events.WorkerStopping():
                self._closed[name] = at
            case events.WorkerStopped():
                self._leave(name, at)
            case ProcessKilled():
                name = self._names.get(event.victim_id, event.victim)
                for key in [key for key in self._open if key[0] == name]:
                    self._close(*key, at, "cut off", "its process was killed")
                self._leave(name, at)
            case _:
                pass
        if mark := self._mark(at, cast("SimEvent", event), name, job):
            self.picture.marks.append(mark)

    def finished(self, end: float) -> Picture:
        for name, job in list(self._open):
            self._close(name, job, end, "running")
        for name in list(self._there):
            self._leave(name, end)
        self.picture.shifts.sort(key=lambda shift: (shift.began, shift.process))
        self.picture.ids = {number: job_id for job_id, number in self._jobs.items()}
        self.picture.depths = self._depths.found()
        self.picture.ends = end
        return self.picture

    def _number(self, job_id: str) -> int:
        return self._jobs.setdefault(job_id, len(self._jobs) + 1)

    def _close(self, name: str, job: int, at: float, how: str, error: str = "") -> None:
        if (name, job) in self._open:
            thread, began, e = self._open.pop((name, job))
            self._busy[name].discard(thread)
            self.picture.spans.append(Span(name, thread, began, at, how, job, e.type, e.attempt, e.suspect, error))

    def _leave(self, name: str, at: float) -> None:
        if name in self._there:
            began, threads = self._there.pop(name)
            self.picture.shifts.append(Shift(name, began, at, threads, self._closed.get(name, at)))

    def _mark(self, at: float, event: SimEvent, name: str, job: int) -> Mark | None:
        clause = CLAUSES.get(type(event), "")
        lane = self._lane_of.get(job, f"{name} · 1")

        def mark(kind: str, text: str, where: str = lane, what: str = clause) -> Mark:
            return Mark(at, where, kind, text, what, job)

        match event:
            case events.RetryScheduled():
                return mark("retry", f"attempt {event.attempts} failed, the next one in {event.wait_s:g} s")
            case events.JobSnoozed():
                return mark("retry", f"its handler asks to be called again in {event.wait_s:g} s")
            case events.PolicyIgnored():
                return mark("failed", f"its retry policy is ignored: {event.why}")
            case events.JobPostponed():
                return mark("retry", f"of a type that is not known here, again in {event.wait_s:g} s")
            case events.JobFailed(undeliverable=True):
                return mark("failed", f"can't be run: {event.error}", what="FAILURES-9")
            case events.JobFailed(gave_up=True):
                return mark("failed", f"given up in attempt {event.attempts}: {event.error}", what="RETRY-10")
            case events.JobFailed():
                return mark("failed", f"failed for good after {event.attempts} attempts: {event.error}")
            case events.AttemptStuck():
                return mark(
                    "failed", f"attempt {event.attempt} does not end after its time limit of {event.timeout_s:g} s"
                )
            case events.HookFailed():
                return mark("failed", f"the hook {event.hook} raised, too: {event.error}", what="JOBS-13")
            case events.AttemptLost():
                return mark("retry", f"attempt {event.attempt} died with its process, and counts")
            case events.JobReturned(suspect=True):
                return mark("handed back", "its process died: back to the head of the queue, as a suspect")
            case events.JobReturned():
                return mark("handed back", "handed back by a worker that stops", what="WORKERS-3")
            case events.CancelAsked():
                return mark("refused", "cancelled while a worker has it: no other attempt starts")
            case events.JobCancelled():
                return mark("refused", "cancelled: the job is gone")
            case events.ChainCancelled():
                return mark("refused", "cancelled: the rest of its chain is not sent")
            case events.SettleRefused():
                return mark("refused", f"no longer this worker's to settle ({event.move})")
            case events.ServerLost() | events.ServerBack():
                return mark(
                    "server", "the server does not answer" if "Lost" in type(event).__name__ else "it answers again"
                )
            case events.StoreLost() | events.StoreBack():
                return mark("table", "the failure table is away" if "Lost" in type(event).__name__ else "it is back")
            case events.QueuePaused() | events.QueueResumed():
                return mark(
                    "pause", "the queue is paused" if isinstance(event, events.QueuePaused) else "it is resumed"
                )
            case events.TicksMissed():
                return mark("server", f"{event.count} ticks of {event.name} are left out", what="CRON-3")
            case events.TickRefused():
                return mark("server", f"{event.name} can't fire: {event.error}", what="CRON-5")
            case events.ScheduleReset():
                return mark("server", f"{event.name} starts afresh: the clock was set back", what="CRON-4")
            case events.WorkerStopping():
                return mark("stop", f"{name} takes no more jobs")
            case FaultStruck():
                text = f"{event.fault}, {event.call}"
                return mark("fault", text, f"{event.victim} · 1", OF_FAULTS.get(event.fault, "DELIVERY-1"))
            case ProcessKilled():
                return mark("killed", f"{name} was killed", f"{name} · 1")
            case ServerRolledBack():
                return mark("server", f"the server came back without its last moments ({event.why})", "server")
            case events.AttemptStarted() | events.AttemptSucceeded() | events.AttemptFailed() | events.AttemptSnoozed():
                return None  # a span
            case events.JobDispatched() | events.JobSucceeded() | events.FailureRecorded() | events.FailureRefused():
                return None
            case events.FailureForgotten():
                return None  # long after its job's end
            case events.JobDuplicate():
                return None  # there is no such job
            case events.JobStored() | events.JobRefused():
                return None  # a row of a transaction
            case events.RelayLost() | events.RelayBack():
                how = "is away" if isinstance(event, events.RelayLost) else "is back"
                return mark("table", f"the outbox in {event.outbox} {how}")
            case events.FollowUpKept():
                return None  # its dispatch comes later, or never
            case events.WorkerStarted() | events.WorkerStopped():
                return None  # the ends of a lane
            case _:
                assert_never(event)


class _Depths:
    """The numbers of jobs that are ready, delayed, and waiting for the table, by the events."""

    def __init__(self) -> None:
        self._due: dict[str, float | None] = {}
        self._early: set[tuple[str, int]] = set()
        """Attempts whose events came before the event that made them possible, from another process."""
        self._changes: list[tuple[float, str, int]] = []
        self._unrecorded: set[str] = set()

    def see(self, at: float, event: Event) -> None:
        match event:
            case events.JobDispatched() | events.RetryScheduled() | events.JobPostponed() | events.JobSnoozed():
                number = 1 if isinstance(event, events.JobDispatched) else event.attempts + 1
                if (event.job_id, number) in self._early:
                    return
                self._leave(event.job_id, at)
                self._due[event.job_id] = event.due
                self._changes.append((at, "ready" if event.due is None else "waiting until due", 1))
            case events.JobReturned():
                self._leave(event.job_id, at)  # claimed by a process that died before it emitted a start
                self._due[event.job_id] = None
                self._changes.append((at, "ready", 1))
            case events.AttemptStarted() if event.job_id in self._due:
                self._leave(event.job_id, at)
            case events.AttemptStarted():
                self._early.add((event.job_id, event.attempt))
            case events.JobFailed():
                self._unrecorded.add(event.job_id)
                self._changes.append((at, "waiting for the table", 1))
            case events.FailureRecorded() if event.job_id in self._unrecorded:
                self._unrecorded.discard(event.job_id)
                self._changes.append((at, "waiting for the table", -1))
            case _:
                pass

    def _leave(self, job_id: str, at: float) -> None:
        """Take the job off its list, if the events put it there."""
        if job_id in self._due:
            due = self._due.pop(job_id)
            if due is not None:
                moved = min(max(due - EPOCH, 0.0), at)
                self._changes += [(moved, "waiting until due", -1), (moved, "ready", 1)]
            self._changes.append((at, "ready", -1))

    def found(self) -> dict[str, list[tuple[float, int]]]:
        found: dict[str, list[tuple[float, int]]] = {}
        for at, name, change in sorted(self._changes):
            points = found.setdefault(name, [(0.0, 0)])
            depth = points[-1][1] + change
            if points[-1][0] == at:
                points[-1] = (at, depth)
            else:
                points.append((at, depth))
        return found
