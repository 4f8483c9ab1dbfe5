"""States of the queue, and all that can happen in one: pure functions of tuples.

A job is somewhere on the server, and its owner, if it has one, is at some stage with it. A worker whose job was taken
over does not know; what it still does with it is *late*. Time is left out, but for leases: one runs, or it has run out.
Orders are left out: which ready job is claimed is anyone's choice, and so is when a delayed one is due.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from .table import Decisions, End, Row

Place = Literal["new", "delayed", "ready", "held", "running", "unrecorded", "recorded", "done"]
Stage = Literal["", "claimed", "trying", "good", "bad", "void", "ended"]
"""How far its owner has come with a job; nothing where it has none, or a dead one. ended: of what is late."""
Action = Literal[
    "dispatch", "dispatch after", "promote", "claim", "announce", "start", "void", "succeed", "fail", "settle",
    "return", "postpone", "quit", "crash", "restart", "lapse", "renew", "take over", "late start", "late void",
    "late end", "refused", "record",
]  # fmt: skip

NOBODY = -1
UNLIMITED = -1


class Job(NamedTuple):
    place: Place = "new"
    attempts: int = 0
    """Counted so far."""
    suspect: bool = False
    owner: int = NOBODY
    stage: Stage = ""


class Late(NamedTuple):
    """What a worker still does with a job that is no longer its own."""

    stage: Stage
    attempts: int


class Worker(NamedTuple):
    up: bool = True
    leased: bool = True
    late: tuple[Late, ...] = ()
    certain: bool = False
    """Its lease ran out while one announced job was all that can have run: known of all it has, before any is taken."""


class State(NamedTuple):
    jobs: tuple[Job, ...]
    workers: tuple[Worker, ...]
    crashes: int
    """So many processes may still die; UNLIMITED: any number."""
    silences: int
    """So many may still be silent for a lease, and live; UNLIMITED: any number."""
    others: bool = False
    """Workers may have other jobs than these: whether one was alone is anyone's guess."""


class Step(NamedTuple):
    """Something that can happen, and what is then."""

    action: Action
    job: int
    worker: int
    """Whose step it is; of "take over": whose job it was."""
    state: State
    row: Row | None = None
    """Of the table, where it was asked."""


LAST: dict[Stage, End] = {"good": "succeeded", "bad": "failed", "void": "void"}
OVER: tuple[Stage, ...] = ("good", "bad", "void")


def start_of(workers: int, jobs: int, crashes: int, silences: int, others: bool = False) -> State:
    return State((Job(),) * jobs, (Worker(),) * workers, crashes, silences, others)


def steps(state: State, table: Decisions) -> Iterator[Step]:
    """All that can happen in a state."""
    for j, job in enumerate(state.jobs):
        yield from of_job(state, j, job, table)
    for w, worker in enumerate(state.workers):
        yield from of_worker(state, w, worker)


def of_job(state: State, j: int, job: Job, table: Decisions) -> Iterator[Step]:
    place, attempts, suspect, owner, _ = job
    if place == "new":
        yield Step("dispatch", j, NOBODY, _put(state, j, Job("ready")))
        yield Step("dispatch after", j, NOBODY, _put(state, j, Job("delayed")))
    elif place == "delayed":
        yield Step("promote", j, NOBODY, _put(state, j, Job("ready", attempts, suspect)))
    elif place == "ready":
        for w, worker in enumerate(state.workers):
            if worker.up:
                yield Step("claim", j, w, _put(_renewed(state, w), j, Job("held", attempts, suspect, w, "claimed")))
    elif place == "unrecorded":
        yield Step("record", j, NOBODY, _put(state, j, Job("recorded")))
    elif owner != NOBODY:
        worker = state.workers[owner]
        if worker.up:
            yield from _of_owner(state, j, job, table)
        if not worker.leased:  # whoever takes it over may be a process that has just come
            ends: tuple[End, ...] = ("died",)
            if place == "running":
                ends = ("lost", "beside") if state.others else ("lost",) if worker.certain else ("beside",)
            for end in ends:
                yield _settled(_disowned(state, job), "take over", j, owner, end, table)
            if not attempts and not suspect:
                yield _settled(_disowned(state, job), "take over", j, owner, "void", table)


def _of_owner(state: State, j: int, job: Job, table: Decisions) -> Iterator[Step]:
    """What a worker does with its job."""
    place, attempts, suspect, w, stage = job
    if stage == "claimed":
        if suspect and place == "held":  # beside another, if that one has outlived its window: time is left out
            yield Step("announce", j, w, _put(_renewed(state, w), j, Job("running", attempts, suspect, w, stage)))
        else:
            yield Step("start", j, w, _put(state, j, Job(place, attempts, suspect, w, "trying")))
            yield Step("void", j, w, _put(state, j, Job(place, attempts, suspect, w, "void")))
            yield _settled(_renewed(state, w), "postpone", j, w, "unknown", table)
        yield _settled(_renewed(state, w), "return", j, w, "returned", table)
    elif stage == "trying":
        yield Step("succeed", j, w, _put(state, j, Job(place, attempts, suspect, w, "good")))
        yield Step("fail", j, w, _put(state, j, Job(place, attempts, suspect, w, "bad")))
    else:
        yield _settled(_renewed(state, w), "settle", j, w, LAST[stage], table)


def of_worker(state: State, w: int, worker: Worker) -> Iterator[Step]:
    mine = [job for job in state.jobs if job.owner == w]
    if not worker.up:
        if not mine:
            yield Step("restart", NOBODY, w, _set(state, w, Worker()))
        elif worker.leased:
            yield Step("lapse", NOBODY, w, _set(state, w, Worker(False, False, (), certain(mine))))
        return
    _, _, crashes, silences, _ = state
    if crashes:
        left = state._replace(crashes=crashes - 1 if crashes > 0 else crashes)
        yield Step("crash", NOBODY, w, _down(left, w, worker.leased and bool(mine), worker.certain and bool(mine)))
    if silences and worker.leased and mine:
        left = state._replace(silences=silences - 1 if silences > 0 else silences)
        yield Step("lapse", NOBODY, w, _set(left, w, Worker(True, False, worker.late, certain(mine))))
    if not worker.leased:
        yield Step("renew", NOBODY, w, _renewed(state, w))
    if any(job.stage == "trying" for job in mine) and not any(job.stage in OVER for job in mine):
        yield Step("quit", NOBODY, w, _quit(state, w))
    for late in dict.fromkeys(worker.late):
        rest = list(worker.late)
        rest.remove(late)
        if late.stage == "ended":
            yield Step("refused", NOBODY, w, _set(state, w, Worker(True, True, tuple(rest))))
            continue
        ended = tuple(sorted([*rest, Late("ended", late.attempts)]))
        if late.stage == "trying":
            yield Step("late end", NOBODY, w, _set(state, w, worker._replace(late=ended)))
            continue
        trying = tuple(sorted([*rest, Late("trying", late.attempts)]))
        yield Step("late start", NOBODY, w, _set(state, w, worker._replace(late=trying)))
        yield Step("late void", NOBODY, w, _set(state, w, worker._replace(late=ended)))
        yield Step("refused", NOBODY, w, _set(state, w, Worker(True, True, tuple(rest))))


# -- what is then ---------------------------------------------------------------------------------


def _put(state: State, j: int, job: Job) -> State:
    jobs = state.jobs
    return State((*jobs[:j], job, *jobs[j + 1 :]), *state[1:])


def _set(state: State, w: int, worker: Worker) -> State:
    workers = state.workers
    return State(state.jobs, (*workers[:w], worker, *workers[w + 1 :]), *state[2:])


def _renewed(state: State, w: int) -> State:
    """After an exchange."""
    worker = state.workers[w]
    return state if worker.leased else _set(state, w, Worker(True, True, worker.late))


def certain(mine: Iterable[Job]) -> bool:
    """Of what a worker has: one is announced, and all else waits to be."""
    mine = list(mine)
    return sum(job.place == "running" for job in mine) == 1 and all(
        job.place == "running" or job.suspect for job in mine
    )


def _down(state: State, w: int, leased: bool, certain: bool) -> State:
    """Its process is gone; what it held, it still holds."""
    jobs = tuple(Job(*job[:4]) if job[3] == w else job for job in state.jobs)
    return _set(state._replace(jobs=jobs), w, Worker(False, leased, (), certain))


def _quit(state: State, w: int) -> State:
    """It gives back all it has, in the middle of it, and is gone."""
    jobs = tuple(Job("ready", job.attempts, job.suspect) if job.owner == w else job for job in state.jobs)
    return _set(state._replace(jobs=jobs), w, Worker(False, False))


def _disowned(state: State, job: Job) -> State:
    """Its owner, if alive, goes on with what is no longer its own."""
    worker = state.workers[job.owner]
    if not worker.up:
        return state
    stage: Stage = "ended" if job.stage in OVER else job.stage
    return _set(state, job.owner, worker._replace(late=tuple(sorted([*worker.late, Late(stage, job.attempts)]))))


def _settled(state: State, action: Action, j: int, w: int, end: End, table: Decisions) -> Step:
    """What the table says."""
    job = state.jobs[j]
    row = table[end, job.attempts + 1]
    suspect = job.suspect if row.suspect is None else row.suspect
    over = row.to in ("done", "unrecorded")
    after = Job(row.to) if over else Job(row.to, job.attempts + row.counts, suspect)
    return Step(action, j, w, _put(state, j, after), row)
