"""What the events, the server and the table of a finished run say of each other."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator

from kashvi_spec.judging import Violation

from kashvi.events import AttemptLost, JobDispatched, JobDuplicate, JobReturned

from ..world.world import World
from .workload import CronEntry


def settled_twice(world: World) -> Iterator[Violation]:
    """Violations for jobs that the server settled for good more than once."""
    for job_id, moves in sorted(world.ended.items()):
        if len(moves) > 1 and job_id and job_id not in world.rolled_back and job_id not in world.others.repeated:
            yield Violation("settle fenced", job_id, f"settled for good {len(moves)} times: {moves}")


def made_up_for(world: World, entries: Iterable[CronEntry]) -> Iterator[Violation]:
    """Violations for entries with ``once`` of which one answer of the server fired several ticks."""
    once = {entry.name for entry in entries if entry.missed == "once"}
    fired = Counter(
        (event.cron, event.process, event.server_at)
        for event in world.events
        if isinstance(event, JobDispatched | JobDuplicate) and event.cron in once
    )
    for (name, _, at), ticks in fired.items():
        if ticks > 1:
            yield Violation("late ticks as the entry says", name, f"{ticks} ticks fired at once, at {at}")


def unwanted(world: World) -> Iterator[Violation]:
    """Violations for jobs of other programs that were not settled exactly once."""
    ended, pushed = world.others_ended(), world.others.pushed
    if not pushed - world.others.forgotten <= ended <= pushed and not world.rolled_back:
        yield Violation(
            "none lost", "", f"{world.others.pushed} jobs without ids were pushed, and {ended} were settled"
        )


def undeserved(world: World) -> Iterator[Violation]:
    """Violations for leases that ran out without a cause, and lost attempts that were never announced."""
    for lost in world.unannounced:
        if lost.job_id not in world.rolled_back:
            yield Violation("attempts bounded", lost.job_id, f"attempt {lost.attempt} was counted, never announced")
    if world.struck:
        return
    for event in world.events:
        if isinstance(event, AttemptLost) or (isinstance(event, JobReturned) and event.suspect):
            yield Violation("lease kept", event.job_id, "taken from a worker that was alive and well")


def recorded_wrongly(world: World, recorded: Iterable[str]) -> Iterator[Violation]:
    """Violations for jobs without their row, or with more. ``recorded``: the job ids in the failure table."""
    rows = Counter(recorded)
    failed = Counter(job_id for job_id, moves in world.ended.items() if "fail" in moves)
    for job_id in sorted((rows | failed).keys()):
        if job_id in world.rolled_back or job_id in world.others.repeated:
            continue
        if world.refused_rows.get(job_id) == math.inf:
            # Refused for ever; after any other refusal the row comes.
            failed[job_id] = min(failed[job_id], rows[job_id])
        if job_id.startswith("sha256:") and (world.rolled_back or world.others.repeated):
            continue  # a second failure under one id: the server forgot the first, or there were two
        if rows[job_id] != failed[job_id]:
            why = f"{rows[job_id]} rows in the table, where {failed[job_id]} is right"
            yield Violation("recorded iff exhausted", job_id, why)
