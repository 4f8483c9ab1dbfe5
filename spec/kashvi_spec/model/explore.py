"""A breadth-first search of all states of the model.

Workers are interchangeable, and so are jobs: of states that differ only in their names, one is kept. Independent steps
(an attempt's outcome, a promotion) are taken before all others, a partial-order reduction, since their order changes
nothing. Tests compare with a search that leaves nothing out.
"""

from __future__ import annotations

import itertools
from array import array
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from .invariants import Broken, of_state, of_step
from .states import NOBODY, Action, Job, State, Step, of_job, of_worker, start_of, steps
from .table import TABLE, Decisions, Row, decisions


class Scope(NamedTuple):
    """The limits of an exploration."""

    workers: int = 2
    jobs: int = 2
    crashes: int = 1
    silences: int = 0
    limit: int = 2
    """The limit of attempts."""
    queues: int = 1
    pauses: int = 0
    cancels: int = 0


class Kind(NamedTuple):
    """The kind by which steps are counted."""

    action: Action
    about: str = ""

    def __str__(self) -> str:
        return f"{self.action} ({self.about})" if self.about else self.action


@dataclass
class Explored:
    """The result of an exploration."""

    scope: Scope
    states: int = 0
    steps: int = 0
    depth: int = 0
    kinds: Counter[Kind] = field(default_factory=Counter)
    broken: list[Broken] = field(default_factory=list)
    path: list[str] = field(default_factory=list)
    """The shortest path to the broken clause, with the last step."""


def kind_of(before: State, step: Step) -> Kind:
    """The kind of a step: steps of one kind do the same for the same reason."""
    old = before.jobs[step.job] if step.job != NOBODY else None
    if step.row is not None:
        assert old is not None
        of = f" {old.attempts + 1}" if step.row.attempt else ""
        who = ", a suspect" if old.suspect and step.row.end not in ("lost", "beside") else ""
        gone = ", cancelled" if step.state.jobs[step.job].place == "cancelled" else ""
        return Kind(step.action, f"{step.row.end}{of}{who}{gone}")
    if old is not None and old.suspect:
        return Kind(step.action, "a suspect")
    if step.action == "lapse":
        return Kind(step.action, "alive" if before.workers[step.worker].up else "dead")
    return Kind(step.action)


def explore(scope: Scope, table: tuple[Row, ...] = TABLE, *, reduce: bool = True) -> Explored:
    """Search all states; ends with the first broken clause. ``reduce``: False does the full search."""
    found = Explored(scope)
    rules = decisions(scope.limit, table)
    stand_for: Callable[[State], State] = canonical if reduce else (lambda state: state)
    w, jobs, crashes, silences, _, queues, pauses, cancels = scope
    first = stand_for(start_of(w, jobs, crashes, silences, queues=queues, pauses=pauses, cancels=cancels))
    number = {first: 0}
    order, parents = [first], array("l", [0])
    onward, offsets = array("l"), array("l", [0])
    ends_level, at = 1, 0
    while at < len(order):
        if at == ends_level:
            found.depth, ends_level = found.depth + 1, len(order)
        before = order[at]
        for step in private(before, rules) if reduce else steps(before, rules):
            found.steps += 1
            found.kinds[kind_of(before, step)] += 1
            after = stand_for(step.state)
            known = number.get(after)
            found.broken = list(of_step(before, step, scope.limit))
            if known is None:
                known = number[after] = len(order)
                order.append(after)
                parents.append(at)
                found.broken += of_state(after, scope.limit)
            if found.broken:
                found.states, found.path = len(order), _path(order, parents, at, rules, step)
                return found
            if not _harms(before, step):
                onward.append(known)
        offsets.append(len(onward))
        at += 1
    found.states = len(order)
    if (stuck := _stuck(order, onward, offsets)) is not None:
        found.broken = [Broken("DELIVERY-1", f"from here, all jobs' ends are out of reach: {order[stuck]}")]
        found.path = _path(order, parents, stuck, rules, None)
    return found


def canonical(state: State) -> State:
    """The representative of all states that differ only in the names of workers and jobs."""
    workers = state.workers
    shares: list[list[tuple[str, int, bool, str, int, bool]]] = [[] for _ in workers]
    jobs: list[Job] = []
    for job in state.jobs:
        if job.owner == NOBODY:
            jobs.append(job)
        else:
            place, attempts, suspect, _, stage, queue, marked = job
            shares[job.owner].append((place, attempts, suspect, stage, queue, marked))
    for share in shares:
        share.sort()
    ordered = sorted(zip(workers, shares, strict=True))
    for w, (_, share) in enumerate(ordered):
        jobs += [_job(*own[:3], w, *own[3:]) for own in share]
    jobs.sort()
    return State(tuple(jobs), tuple([worker for worker, _ in ordered]), *state[2:])


_jobs: dict[tuple[object, ...], Job] = {}


def _job(*fields: object) -> Job:
    """One object for equal jobs: millions of states share a few dozens."""
    if (job := _jobs.get(fields)) is None:
        job = _jobs[fields] = Job(*fields)  # type: ignore[arg-type]
    return job


def private(state: State, table: Decisions) -> Iterable[Step]:
    """The independent steps of one job or worker, if there are any; else all steps."""
    for j, job in enumerate(state.jobs):
        place, stage = job.place, job.stage
        if place in ("new", "delayed", "unrecorded"):
            return of_job(state, j, job, table)
        startable = stage == "claimed" and not (job.suspect and place == "held")
        if startable or stage == "trying":
            return [step for step in of_job(state, j, job, table) if step.action != "take over"]
        if job.owner != NOBODY and not state.workers[job.owner].up and not state.workers[job.owner].leased:
            return of_job(state, j, job, table)
    for w, worker in enumerate(state.workers):
        if not worker.up and (found := list(of_worker(state, w, worker))):
            return found
        if any(late.stage != "ended" for late in worker.late):
            return [
                step for step in of_worker(state, w, worker) if step.action in ("late start", "late void", "late end")
            ]
    return steps(state, table)


def _harms(before: State, step: Step) -> bool:
    """True for a death, a silence, a pause or a cancel, which need not happen."""
    return step.action in ("crash", "pause", "cancel", "ask") or (
        step.action == "lapse" and before.workers[step.worker].up
    )


def _stuck(order: list[State], onward: array[int], offsets: array[int]) -> int | None:
    """The first state without a path to the end of all jobs that needs no deaths or silences; None if there is none."""
    good = bytearray(all(job.place in ("done", "recorded", "cancelled") for job in state.jobs) for state in order)
    changed = True
    while changed:
        changed = False
        for at in range(len(order) - 1, -1, -1):
            if not good[at] and any(good[after] for after in onward[offsets[at] : offsets[at + 1]]):
                good[at] = changed = True
    return next((at for at, fine in enumerate(good) if not fine), None)


def _path(order: list[State], parents: array[int], at: int, rules: Decisions, last: Step | None) -> list[str]:
    """The path to a state as sentences, found by taking the steps again."""
    way = [at]
    while way[-1]:
        way.append(parents[way[-1]])
    way.reverse()
    told = []
    for before, after in itertools.pairwise(way):
        into = order[after]
        step = next(s for s in steps(order[before], rules) if into in (s.state, canonical(s.state)))
        told.append(str(kind_of(order[before], step)))
    return [*told, str(kind_of(order[at], last))] if last else told
