"""Events as aligned lines: time, process, job, what happened."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import assert_never, cast

from kashvi import events
from kashvi.events import Event
from kashvi.text import visible

from ..world.kernel import EPOCH
from ..world.trace import FaultStruck, ProcessKilled, ServerRolledBack, SimEvent


class Timeline:
    """Gives jobs short names, in the order they appear; and processes, unless ``names`` has them by id."""

    def __init__(self, names: Mapping[str, str] | None = None) -> None:
        self._processes: dict[str, str] = {"sim": "", **(names or {})}
        self._jobs: dict[str, str] = {}

    def lines(self, times: Iterable[float], trace: Iterable[Event]) -> Iterator[tuple[Event, str]]:
        for at, event in zip(times, trace, strict=True):
            yield event, self.line(at, event)

    def line(self, at: float, event: Event) -> str:
        what = self._kept(event) if type(event) is events.FollowUpKept else told(cast("SimEvent", event))
        where = self._process(event)
        job = self.name(event) if isinstance(event, events.JobEvent) else ""
        return visible(f"{at - EPOCH:12.6f}  {where:<4} {job:<28} {what}")

    def name(self, event: events.JobEvent) -> str:
        """The short name of an event's job: its type, and a number."""
        number = self._jobs.setdefault(event.job_id, f"#{len(self._jobs) + 1}")
        return f"{event.type or '(no envelope)'} {number}"

    def _kept(self, event: events.FollowUpKept) -> str:
        return f"{told(event)} of {self._jobs.get(event.parent, event.parent)}"

    def _process(self, event: Event) -> str:
        if isinstance(event, FaultStruck | ProcessKilled):
            return event.victim
        return self.short(event.process)

    def short(self, process: str) -> str:
        """``p0``, ``p1`` … for a process's id."""
        return self._processes.setdefault(process, f"p{len(self._processes) - 1}")


def _of(tick: float) -> str:
    return f" its tick of {tick - EPOCH:.6f}" if tick else ""


def told(event: SimEvent) -> str:
    match event:
        case events.JobDispatched(due=None):
            return "dispatched"
        case events.JobDispatched(due=due):
            assert due is not None
            return f"dispatched, due at {due - EPOCH:.6f}"
        case events.JobDuplicate():
            return "not added: a job with its key is on a queue"
        case events.JobStored():
            return "stored in the outbox" + (f", with a delay of {event.delay_s:g} s" if event.delay_s else "")
        case events.JobRefused():
            return f"the server refuses the row of the outbox: {event.error}"
        case events.FollowUpKept():
            return f"a follow-up, kept for the end of attempt {event.attempt}"
        case events.AttemptStarted():
            return f"attempt {event.attempt}" + (", a suspect" if event.suspect else "")
        case events.AttemptFailed():
            return f"attempt {event.attempt} failed after {event.duration_s:.6f} s: {event.error}"
        case events.HookFailed():
            return f"the hook {event.hook} raised, too: {event.error}"
        case events.AttemptSnoozed():
            return f"attempt {event.attempt} snoozes after {event.duration_s:.6f} s: again in {event.wait_s:g} s"
        case events.AttemptSucceeded():
            late = ", late" if event.late else ""
            return f"attempt {event.attempt} succeeded after {event.duration_s:.6f} s{late}"
        case events.AttemptStuck():
            more = ": another thread runs in its place" if event.replaced else ""
            return f"attempt {event.attempt} is stuck after {event.duration_s:.6f} s{more}"
        case events.AttemptLost():
            return f"attempt {event.attempt} died with its process"
        case events.JobSucceeded():
            return "settled: done"
        case events.RetryScheduled():
            return f"settled: waits {event.wait_s:g} s, due at {event.due - EPOCH:.6f}"
        case events.JobSnoozed():
            return f"settled: snoozed, due at {event.due - EPOCH:.6f}"
        case events.PolicyIgnored():
            return f"its retry policy is ignored: {event.why}"
        case events.JobPostponed():
            return f"settled: its type is not known here, waits {event.wait_s:g} s, due at {event.due - EPOCH:.6f}"
        case events.JobFailed(undeliverable=True):
            return f"settled: undeliverable: {event.error}"
        case events.JobFailed(gave_up=True):
            return f"settled: given up in attempt {event.attempts}"
        case events.JobFailed():
            return f"settled: failed after {event.attempts} attempts"
        case events.JobReturned():
            return "back to the head of the queue" + (", as a suspect" if event.suspect else "")
        case events.CancelAsked():
            return "cancelled: a worker has it"
        case events.JobCancelled():
            return "cancelled: gone"
        case events.ChainCancelled():
            return "cancelled: the rest of its chain is not sent"
        case events.SettleRefused():
            return f"settling refused ({event.move}): no longer this worker's"
        case events.FailureRecorded():
            return "recorded in kashvi_failed_jobs"
        case events.FailureForgotten():
            return "its row in kashvi_failed_jobs is deleted"
        case events.FailureRefused():
            return f"the table refuses the row: {event.error}"
        case events.WorkerStarted():
            return f"WORKER with {event.threads} threads"
        case events.WorkerStopping():
            return "WORKER stopping"
        case events.WorkerStopped():
            return "WORKER stopped"
        case events.ServerLost() | events.StoreLost():
            return f"{'SERVER' if isinstance(event, events.ServerLost) else 'TABLE'} lost: {event.error}"
        case events.ServerBack() | events.StoreBack():
            return f"{'SERVER' if isinstance(event, events.ServerBack) else 'TABLE'} back"
        case events.RelayLost():
            return f"OUTBOX in {event.outbox} lost: {event.error}"
        case events.RelayBack():
            return f"OUTBOX in {event.outbox} back"
        case events.QueuePaused():
            return "QUEUE paused"
        case events.QueueResumed():
            return "QUEUE resumed"
        case events.TicksMissed():
            return f"CRON {event.name}: {event.count} ticks left out, up to {event.newest - EPOCH:.6f}"
        case events.TickRefused():
            return f"CRON {event.name} can't fire{_of(event.tick)}: {event.error}"
        case events.ScheduleReset():
            return f"CRON {event.name} starts afresh: the clock was set back"
        case FaultStruck():
            return f"FAULT {event.fault} {event.call}"
        case ProcessKilled():
            return "KILLED"
        case ServerRolledBack():
            return f"SERVER came back without its last moments ({event.why}): {event.lost} dispatches lost"
        case _:
            assert_never(event)
