"""Matches steps of the model with events."""

from __future__ import annotations

from .states import NOBODY, Action, Job, State, Step
from .stories import Item
from .table import Row, Verdict

REMOVED: dict[str, Verdict] = {"retry": "delayed", "fail": "unrecorded", "return": "ready"}
"""The place from which a mark keeps a job, by its settlement."""


def fits(item: Item, before: State, step: Step) -> bool:
    """True if the step is the item's."""
    action, w, row = step.action, step.worker, step.row
    job, after = before.jobs[0], step.state.jobs[0]
    if item.what in OF_QUEUE:
        return _of_queue(item, before, step)
    if after.place == "cancelled" != job.place:
        return item.what == "cancelled" and _removes(item, before, step)
    match item.what:
        case "asked":
            return action == "ask"
        case "cancelled":
            return False
        case "started" if action == "start":
            told = job.attempts + 1, job.suspect, job.queue
            return w == item.actor and told == (item.number, item.flag, item.queue)
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


OF_QUEUE = ("dispatched", "claimed", "paused", "resumed")


def _of_queue(item: Item, before: State, step: Step) -> bool:
    """True if the step is on the item's queue, or about it."""
    if item.what == "dispatched":
        action = "dispatch after" if item.flag else "dispatch"
        return step.action == action and step.state.jobs[0].queue == item.queue
    if item.what == "claimed":
        return step.action == "claim" and step.worker == item.actor and before.jobs[0].queue == item.queue
    changed = (item.queue in step.state.paused) != (item.queue in before.paused)
    return changed and step.action == ("pause" if item.what == "paused" else "resume")


def _removes(item: Item, before: State, step: Step) -> bool:
    """True if a cancel takes the job off its queue, or if the settlement of this move removes it."""
    if not item.move or step.action == "cancel":
        return not item.move and step.action == "cancel"
    if step.action == "take over":
        right = item.owner != item.actor and step.worker == item.owner
    else:
        right = item.owner == item.actor and _mine(before, step.worker, item)
    return right and REMOVED[item.move] == (step.row.to if step.row else "ready")


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
