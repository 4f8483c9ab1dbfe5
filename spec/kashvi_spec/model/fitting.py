"""Matches steps of the model with events."""

from __future__ import annotations

from .states import NOBODY, Action, Job, State, Step
from .stories import Item
from .table import Row


def fits(item: Item, before: State, step: Step) -> bool:
    """True if the step is the item's."""
    action, w, row = step.action, step.worker, step.row
    job = before.jobs[0]
    match item.what:
        case "dispatched":
            return action == ("dispatch after" if item.flag else "dispatch")
        case "claimed":
            return action == "claim" and w == item.actor
        case "started" if action == "start":
            return w == item.actor and (job.attempts + 1, job.suspect) == (item.number, item.flag)
        case "started":
            return action == "late start" and w == item.actor and _late(before, step) + 1 == item.number
        case "ended" | "cut off" if action == "late end":
            return w == item.actor and _late(before, step) + 1 == item.number
        case "ended" | "cut off":
            wanted = "succeed" if item.flag else "fail"
            return action == wanted and w == item.actor and job.attempts + 1 == item.number
        case "void":
            return action in ("void", "late void") and w == item.actor
        case "settled":
            return row is not None and _settles(item, w, action) and _as_told(item, job, row)
        case "returned" if item.owner == item.actor:
            return action in ("return", "quit") and _mine(before, w, item) and job.suspect == item.flag
        case "returned":
            taken = action == "take over" and row is not None and row.end == ("beside" if item.announced else "died")
            return taken and w == item.owner and item.flag
        case "postponed":
            return action == "postpone" and w == item.actor and job.attempts == item.number
        case "refused":
            return action == "refused" and w == item.actor
        case _:
            return action == "record"


def _settles(item: Item, w: int, action: Action) -> bool:
    """True if the owner settles, or the worker that takes the job over."""
    if item.lost:
        return action == "take over" and w == item.owner
    return (action == "settle" and w == item.actor) or (action == "take over" and w != item.actor and item.flag)


def _as_told(item: Item, job: Job, row: Row) -> bool:
    told = (item.to, item.number, item.wait_s, item.lost, item.flag)
    wait_s = row.wait_s if item.wait_s is not None else None
    how = row.end if row.end in ("gave up", "snoozed") else ""
    return how == item.how and told == (
        row.to, job.attempts + row.counts, wait_s, row.end == "lost", row.end == "void"
    )  # fmt: skip


def _mine(before: State, w: int, item: Item) -> bool:
    return w == item.actor and before.jobs[0].owner == w


def _late(before: State, step: Step) -> int:
    """The counted attempts of a late step's job."""
    left = list(step.state.workers[step.worker].late)
    for late in before.workers[step.worker].late:
        if late in left:
            left.remove(late)
        else:
            return late.attempts
    return NOBODY
