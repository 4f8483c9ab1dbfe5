"""The violations that a fault excuses: of lost server data, of events never emitted, of wrong clocks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kashvi_spec.judging import ROUNDING_S, Violation
from kashvi_spec.predicates.punctual import LATE_S

from kashvi.events import AttemptStarted, Event, JobSnoozed

if TYPE_CHECKING:
    from .runtime import SimRuntime
    from .world import World

ROLLED_BACK = frozenset(
    {
        "none lost",
        "never early",
        "backoff kept",
        "recorded iff exhausted",
        "settle fenced",
        "drains",
        "FIFO",
        "due order",
        "starts once",
        "last error kept",
        "done is done",
        "suspects alone",
        "fresh kept out",
        "charged alone",
        "excused for a reason",
        "each tick once",
        "given up at once",
        "follow-ups all or none",
        "chains in order",
        "ids unique",
        "cancelled stays",
        "one job a key",
    }
)
"""Predicates that a rolled-back server may violate, for the jobs whose data it lost."""

OF_ONE_JOB = frozenset({
    "attempts counted", "backoff kept", "chains in order", "done is done", "in time", "never early", "settle fenced",
    "unknown types wait", "cancelled stays",
})  # fmt: skip
"""Predicates that compare times of the server about one job. They prove nothing if its clock was set meanwhile."""
OF_MANY = frozenset({"due order", "FIFO", "lease kept", "one job a key"})
"""Predicates that compare them with times of other jobs, however long ago."""

HOLDS_UP = {
    "kill": (1.0, 0.0),
    "sigterm": (2.0, 0.0),
    "pause": (2.0, 3.0),
    "request_lost": (15.0, 0.0),
    "reply_lost": (15.0, 1.0),
    "latency": (2.0, 0.0),
    "applied_late": (2.0, 2.5),
    "reset": (6.0, 1.0),
    "unreachable": (16.0, 2.0),
    "restart": (12.0, 2.0),
    "failover": (7.0, 2.0),
    "out_of_memory": (11.0, 0.0),
    "read_only": (11.0, 0.0),
    "interrupt": (2.0, 0.0),
    "exit": (2.0, 0.0),
    "sigterm_soon": (4.0, 0.0),
    "server_back": (12.0, 0.0),
}
"""How long a fault may make jobs wait, in seconds and in leases: its duration and 5 s until workers try again."""


@dataclass
class Trouble:
    """The times at which faults held jobs up."""

    lease_s: float
    spans: list[tuple[float, float, str]] = field(default_factory=list)
    """Begin, end, fault."""

    def begins(self, fault: str, at: float) -> None:
        if fault in HOLDS_UP:
            seconds, leases = HOLDS_UP[fault]
            self.spans.append((at, at + seconds + leases * self.lease_s, fault))
        else:
            self.spans.append((at, at, fault))

    def excuses(self, since: float, until: float, most_s: float, also: Mapping[str, float] = {}) -> str:
        """The first fault from ``since`` to ``until``, if every gap between faults is at most ``most_s``, else empty.

        ``also``: seconds for which other faults count.
        """
        first = ""
        for began, ended, fault in sorted(self.spans):
            over = max(ended, began + also.get(fault, 0.0))
            if over > since and began < until:
                if began - since > most_s:
                    return ""
                first = first or fault
                since = max(since, over)
        return first if until - since <= most_s else ""


@dataclass
class Telling:
    """The processes that must emit the events of a job's steps on the server."""

    ends: dict[str, list[SimRuntime]] = field(default_factory=dict)
    retries: dict[str, list[SimRuntime]] = field(default_factory=dict)
    returns: dict[str, list[SimRuntime]] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    """Processes that got no answer."""


def excuse(world: World, v: Violation, stored: bool) -> str:
    """The name of the fault that excuses a violation, else empty. ``stored``: True if every row needs an event."""
    if v.job_id in world.others.repeated and v.predicate not in ("none lost", "drains"):
        return "repeated_id"
    if v.predicate in ("none lost", "drains"):
        forgotten = world.lost_pushes.get(v.job_id) or (not world.is_ours(v.job_id) and world.rolled_back.get(v.job_id))
        return forgotten or untold(world, v.job_id)
    if v.predicate in ROLLED_BACK and v.job_id in world.rolled_back:
        return world.rolled_back[v.job_id]
    if v.predicate == "chains in order" and (before := [one for one in world.rolled_back if one in v.why]):
        return world.rolled_back[before[0]]  # of the link before it
    if v.predicate == "never early" and _claimed_long_ago(world, v.job_id):
        return "pause"
    if v.predicate in ("due order", "FIFO") and world.others.repeated:
        return "repeated_id"  # the other job may be one that was sent again: without its delay, and behind others
    if v.predicate in OF_MANY and world.struck["server_back"]:
        return "server_back"
    if v.predicate in OF_ONE_JOB and _jumped(world, v, "server_back"):
        return "server_back"
    if v.predicate in ("in time", "never early", "backoff kept") and _jumped(world, v, "server_forward"):
        return "server_forward"  # a wait's time of claim is by the old clock, and a pause ends by the new
    if v.predicate == "in time":
        waited = world.waits[v.job_id]
        set_s = sum(by for at, _, by in world.jumps if at <= _times_of(world, v.job_id)[-1])
        since, until = waited.since - set_s, waited.until - set_s
        return world.rolled_back.get(v.job_id, "") or world.trouble.excuses(since, until, LATE_S)
    if v.predicate == "pauses kept":
        # The server may have lost the pause, and no job.
        lost = next((rule for rule in ("restart", "failover") if world.struck[rule]), "")
        lost = lost or next((rule for _, rule, _ in world.jumps), "")
        started = next(at for at, e in zip(world.times, world.events, strict=True) if _starts(e, v.job_id))
        return lost or world.trouble.excuses(started - LATE_S, started, LATE_S)
    if v.predicate == "lease kept":
        # A job without an id gets one from its next worker.
        return world.renewals_lost.get(v.job_id) or (not world.is_ours(v.job_id) and world.renewals_lost.get("")) or ""
    if v.predicate in ("suspects alone", "fresh kept out", "excused for a reason", "charged alone"):
        # The rollback may concern the other of the two jobs, and the process's own clock measured a window.
        other = (why for job_id, why in world.rolled_back.items() if job_id in v.why)
        twice = ("repeated_id" for job_id in world.others.repeated if job_id in v.why)
        clock = (rule for rule in ("jump_back", "drift") if world.struck[rule] and v.predicate != "charged alone")
        # A time of claim by the old clock, as a wait's or a listing's, may seem to be before a takeover.
        left = v.predicate == "charged alone" and "left in" in v.why
        jumped = (left or v.predicate == "excused for a reason") and _jumped(world, v, "server_forward")
        back = left and world.struck["server_back"]  # by the new clock, a claim since may seem to be from before
        return [*other, *twice, *clock, "server_forward" if jumped else "server_back" if back else ""][0]
    if v.predicate == "recorded iff exhausted" and not stored and "fail" in world.ended.get(v.job_id, ()):
        return untold(world, v.job_id)
    if v.predicate == "attempts counted" and "never settled" in v.why:
        return _gone(world, world.telling.retries.get(v.job_id, ()))
    if v.predicate in ("FIFO", "due order"):
        # It was handed back; the event comes late, or never.
        late = (
            rule for rule in ("pause", "latency", "reply_lost") if world.struck[rule] and v.job_id in world.returned
        )
        return _gone(world, world.telling.returns.get(v.job_id, ())) or next(late, "")
    if v.predicate == "first death free" and "counted" in v.why:
        return _gone(world, world.telling.returns.get(v.job_id, ()))  # which made it a suspect
    if v.predicate == "starts once" and _most_starts(world, v.job_id) - 1 <= world.returned[v.job_id]:
        return _gone(world, world.telling.returns.get(v.job_id, ()))
    return ""


def _jumped(world: World, v: Violation, rule: str) -> bool:
    """Whether the server's clock was set during this job's life, and by as much as the job is early.

    A worker goes by the old clock until its next exchange, at most a lease later. A process that stands still emits the
    first event of a follow-up long after the server got it.
    """
    jumps = [(at, abs(by)) for at, struck, by in world.jumps if struck == rule]
    if not jumps or not (times := _times_of(world, v.job_id)):
        return bool(jumps)
    began = min(times[0], world.came.get(v.job_id, times[0]))
    spanned = [by for at, by in jumps if began - world.lease_s <= at <= times[-1]]
    return bool(spanned) and sum(spanned) + ROUNDING_S >= _early_s(v)


def _claimed_long_ago(world: World, job_id: str) -> bool:
    """Whether a process that stood still started a job of a wait, which another worker had snoozed meanwhile."""
    stood_still = {queue.process_id for queue in world.queues if queue.process.stood_still_s}
    starts = (e for e in world.events if isinstance(e, AttemptStarted) and e.job_id == job_id)
    return any(e.claim == "wait" and e.process in stood_still for e in starts) and any(
        isinstance(e, JobSnoozed) and e.job_id == job_id for e in world.events
    )


def _times_of(world: World, job_id: str) -> list[float]:
    """The time of each event about the job."""
    return [at for at, event in zip(world.times, world.events, strict=True) if getattr(event, "job_id", None) == job_id]


def _early_s(v: Violation) -> float:
    """The seconds by which the job was early, as the violation says."""
    found = [float(number) for number in re.findall(r"(\d+(?:\.\d+)?) s\b", v.why)]
    if v.predicate == "never early":
        return found[0]
    return found[1] - found[0] if v.predicate == "backoff kept" and len(found) > 1 else 0.0


def untold(world: World, job_id: str) -> str:
    """The fault that kept the job's events from being emitted, else empty."""
    return _gone(world, world.telling.ends.get(job_id, ()))


def _gone(world: World, tellers: Sequence[SimRuntime]) -> str:
    """The fault that silenced one of the processes (killed, or without an answer), else empty."""
    if any(process.dead for process in tellers):
        return "kill"
    return "no answer" if any(process.name in world.telling.silent for process in tellers) else ""


def _starts(event: Event, job_id: str) -> bool:
    return isinstance(event, AttemptStarted) and event.job_id == job_id


def _most_starts(world: World, job_id: str) -> int:
    """The most starts of one attempt at this job."""
    starts = Counter(e.attempt for e in world.events if isinstance(e, AttemptStarted) and e.job_id == job_id)
    return max(starts.values(), default=0)
