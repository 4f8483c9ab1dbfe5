"""Checks beyond the events: lateness of upkeep, leftovers, and the cost of a run.

Rows and takeovers have bounds; a fault that held them up excuses by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kashvi_spec.judging import Violation

from kashvi import events

from ..world.faults import SET_BACK_S
from ..world.kernel import EPOCH
from ..world.trace import ProcessKilled

if TYPE_CHECKING:
    from ..world.world import World

SOON_S = 3.0
"""A keeper checks once a second, and a waiting worker asks within 0.6 s."""
DATABASE = {"insert_fails": 35.0, "insert_reply_lost": 35.0, "database_down": 335.0, "database_slow": 55.0}
"""How long a fault of the database may hold up a row: its duration, and up to 30 s of a recorder's pause."""
REFUSED = DATABASE | {"row_refused": 45.0}
"""The same for a row that was refused."""
FORGOTTEN = frozenset(
    {
        "request_lost", "reply_lost", "applied_late", "reset", "unreachable", "restart", "failover", "out_of_memory",
        "read_only", "pause", "interrupt",
    }
)  # fmt: skip
"""After these faults a worker may be unable to remove its name; others remove it an hour later."""
CALLS_A_JOB, CALLS_A_SECOND, CALLS_A_FAULT = 5.8, 4.5, 15.0
"""The most calls of the server for an attempt, a second of a process, and a fault."""
CALLS_A_MARK, TURNS_A_MARK = 16, 24
"""The most for a mark: a cancel searches two places of each queue, and all workers ask which of their jobs it is."""
TURNS_A_JOB, TURNS_A_SECOND, TURNS_A_FAULT = 10.6, 12.0, 30.0
"""The most wake-ups of threads for these."""


@dataclass
class _Staff:
    """The workers, by their events."""

    process_of: dict[str, str] = field(default_factory=dict)
    since: dict[str, float] = field(default_factory=dict)
    """The workers that claim jobs, with their start times."""
    killed: dict[str, float] = field(default_factory=dict)
    """Killed processes, with the times."""


def late_upkeep(world: World) -> Iterator[Violation]:
    """Violations for late rows and late takeovers."""
    staff, failed, taken = _Staff(), dict[str, float](), set[str]()
    for now, event in zip(world.times, world.events, strict=True):
        if isinstance(event, events.JobFailed):
            failed[event.job_id] = now
        elif isinstance(event, events.FailureRecorded):
            since = failed.pop(event.job_id, now)
            also = REFUSED if event.job_id in world.refused_rows else DATABASE
            if now - since > SOON_S and not world.trouble.excuses(since, now, SOON_S, also):
                yield Violation("row in time", event.job_id, f"recorded {now - since:.3f} s after it failed")
        elif isinstance(event, events.JobReturned | events.AttemptLost) and event.owner not in taken:
            taken.add(event.owner)
            died = staff.killed.get(staff.process_of.get(event.owner, ""))
            if died is not None:
                set_back_s = SET_BACK_S * world.struck["server_back"]  # by the server's clock the lease was longer
                since = max(died + world.lease_s * 4 / 3 + set_back_s, min(staff.since.values(), default=now))
                if now - since > SOON_S and not world.trouble.excuses(since, now, SOON_S):
                    why = f"taken over {now - died:.3f} s after its process died, under a lease of {world.lease_s:g} s"
                    yield Violation("taken over in time", event.job_id, why)
        elif isinstance(event, events.WorkerStarted):
            staff.process_of[event.worker] = event.process
            staff.since[event.worker] = now
        elif isinstance(event, events.WorkerStopping | events.WorkerStopped):
            staff.since.pop(event.worker, None)
        elif isinstance(event, ProcessKilled):
            staff.killed[event.victim_id] = now
            for worker, process in staff.process_of.items():
                if process == event.victim_id:
                    staff.since.pop(worker, None)


def left_behind(world: World) -> Iterator[Violation]:
    """Violations for leftover names of stopped workers, and for failures that their process does not list."""
    told = world.events
    if not any(world.struck[rule] for rule in FORGOTTEN):
        shares = world.server.contents().shares
        for event in told:
            if isinstance(event, events.WorkerStopped) and event.worker in shares and not event.unsettled:
                yield Violation("leaves nothing behind", "", f"worker {event.worker} stopped, and the server lists it")
    listed = {queue.process_id: {one.id for one in queue.failed_jobs()} for queue in world.queues}
    for event in told:
        if isinstance(event, events.JobFailed) and event.job_id not in listed.get(event.process, {event.job_id}):
            yield Violation("failures listed", event.job_id, "failed for good in a process that does not list it")


def dear(world: World) -> Iterator[Violation]:
    """Violations for more calls of the server than the work and polling need."""
    if world.spinning:
        yield Violation("calls bounded", "", f"{world.spinning} calls the server without end, in no time")
        return
    attempts = sum(type(event) is events.AttemptStarted for event in world.events)
    seconds = worker_seconds(world)
    struck = sum(world.struck.values()) + len(world.processes)
    most = CALLS_A_JOB * attempts + CALLS_A_SECOND * seconds + CALLS_A_FAULT * struck + CALLS_A_MARK * world.marks
    if world.calls > most:
        why = f"{world.calls:,} calls of the server for {attempts:,} attempts in {world.elapsed_s:.0f} s"
        yield Violation("calls bounded", "", f"{why}: {most:,.0f} are enough")
    most = TURNS_A_JOB * attempts + TURNS_A_SECOND * seconds + TURNS_A_FAULT * struck + TURNS_A_MARK * world.marks
    if world.kernel.steps > most:
        why = f"threads were woken {world.kernel.steps:,} times for {attempts:,} attempts in {world.elapsed_s:.0f} s"
        yield Violation("turns bounded", "", f"{why}: {most:,.0f} times are enough")


def worker_seconds(world: World) -> float:
    """The total seconds in which processes had a worker."""
    began: dict[str, float] = {}
    seconds = 0.0
    for now, event in zip(world.times, world.events, strict=True):
        if isinstance(event, events.WorkerStarted):
            began[event.process] = now
        elif isinstance(event, events.WorkerStopped):
            seconds += now - began.pop(event.process, now)
        elif isinstance(event, ProcessKilled):
            seconds += now - began.pop(event.victim_id, now)
    return seconds + sum(world.elapsed_s + EPOCH - at for at in began.values())
