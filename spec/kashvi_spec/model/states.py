"""States of the queue, and all possible steps: pure functions of tuples.

A job is in a place on the server, and its owner, if any, is at a stage with it. A worker does not know that its job was
taken over; its later steps with it are *late*. Time is left out, except that a lease runs or has run out.
Orders are left out: any ready job may be claimed, and a delayed one may be due at any time; a worker serves all queues.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from .table import Decisions, End, Row

Place = Literal["new", "delayed", "ready", "held", "running", "unrecorded", "recorded", "done", "cancelled"]
Stage = Literal["", "claimed", "trying", "good", "bad", "void", "ended"]
"""The owner's progress with a job; empty without a live owner. ended: only of late jobs."""
Action = Literal[
    "dispatch", "dispatch after", "promote", "claim", "announce", "start", "void", "succeed", "fail", "settle",
    "return", "postpone", "quit", "crash", "restart", "lapse", "renew", "take over", "late start", "late void",
    "late end", "refused", "record", "pause", "resume", "cancel", "ask",
]  # fmt: skip

NOBODY = -1
UNLIMITED = -1


class Job(NamedTuple):
    place: Place = "new"
    attempts: int = 0
    """The attempts counted so far."""
    suspect: bool = False
    owner: int = NOBODY
    stage: Stage = ""
    queue: int = 0
    marked: bool = False
    """True if it was cancelled while a worker had it."""


class Late(NamedTuple):
    """A worker's progress with a job that was taken over."""

    stage: Stage
    attempts: int


class Worker(NamedTuple):
    up: bool = True
    leased: bool = True
    late: tuple[Late, ...] = ()
    certain: bool = False
    """True if its lease ran out while only one announced job can have run; fixed before the first takeover."""


class State(NamedTuple):
    jobs: tuple[Job, ...]
    workers: tuple[Worker, ...]
    crashes: int
    """The number of processes that may still die; UNLIMITED: any number."""
    silences: int
    """The number of processes that may still be silent for a lease, and live; UNLIMITED: any number."""
    others: bool = False
    """True if workers may hold other jobs than these; then either answer to "was it alone?" is allowed."""
    queues: int = 1
    paused: tuple[int, ...] = ()
    """The queues that are paused, in order."""
    pauses: int = 0
    """The number of pauses that may still begin; UNLIMITED: any number."""
    cancels: int = 0
    """The number of jobs that may still be cancelled; UNLIMITED: any number, and again."""


class Step(NamedTuple):
    """A possible step, and the state after it."""

    action: Action
    job: int
    worker: int
    """The worker of the step; of "take over": the old owner."""
    state: State
    row: Row | None = None
    """The row of the table, if the step used one."""


LAST: dict[Stage, tuple[End, ...]] = {
    "good": ("succeeded",), "bad": ("failed", "gave up", "snoozed"), "void": ("void",),
}  # fmt: skip
"""The ends that a stage may have: what the handler raised decides."""
OVER: tuple[Stage, ...] = tuple(LAST)


def start_of(
    workers: int, jobs: int, crashes: int, silences: int, others: bool = False, *, queues: int = 1, pauses: int = 0,
    cancels: int = 0,
) -> State:  # fmt: skip
    jobs_, workers_ = (Job(),) * jobs, (Worker(),) * workers
    return State(jobs_, workers_, crashes, silences, others, queues, (), pauses, cancels)


def steps(state: State, table: Decisions) -> Iterator[Step]:
    """All possible steps in a state."""
    for j, job in enumerate(state.jobs):
        yield from of_job(state, j, job, table)
    for w, worker in enumerate(state.workers):
        yield from of_worker(state, w, worker)
    yield from of_queues(state)


def of_queues(state: State) -> Iterator[Step]:
    """Pauses of queues, and their ends."""
    for queue in range(state.queues):
        if queue in state.paused:
            rest = tuple(q for q in state.paused if q != queue)
            yield Step("resume", NOBODY, NOBODY, state._replace(paused=rest))
        elif state.pauses:
            more = tuple(sorted((*state.paused, queue)))
            yield Step("pause", NOBODY, NOBODY, state._replace(paused=more, pauses=_one_less(state.pauses)))


def _one_less(number: int) -> int:
    return number - 1 if number > 0 else number


def of_job(state: State, j: int, job: Job, table: Decisions) -> Iterator[Step]:
    place, attempts, suspect, owner, _, queue, marked = job
    if state.cancels and place != "new":
        yield from _cancels(state, j, job)
    if place == "new":
        for q in range(state.queues):
            yield Step("dispatch", j, NOBODY, _put(state, j, Job("ready", queue=q)))
            yield Step("dispatch after", j, NOBODY, _put(state, j, Job("delayed", queue=q)))
    elif place == "delayed":
        yield Step("promote", j, NOBODY, _put(state, j, Job("ready", attempts, suspect, queue=queue)))
    elif place == "ready":
        for w, worker in enumerate(state.workers):
            if worker.up and queue not in state.paused:
                held = Job("held", attempts, suspect, w, "claimed", queue, marked)
                yield Step("claim", j, w, _put(_renewed(state, w), j, held))
    elif place == "unrecorded":
        yield Step("record", j, NOBODY, _put(state, j, Job("recorded", queue=queue)))
    elif owner != NOBODY:
        worker = state.workers[owner]
        if worker.up:
            yield from _of_owner(state, j, job, table)
        if not worker.leased:  # a new process may take it over
            ends: tuple[End, ...] = ("died",)
            if place == "running":
                ends = ("lost", "beside") if state.others else ("lost",) if worker.certain else ("beside",)
            for end in ends:
                yield _settled(_disowned(state, job), "take over", j, owner, end, table)
            if not attempts and not suspect:
                yield _settled(_disowned(state, job), "take over", j, owner, "void", table)


def _cancels(state: State, j: int, job: Job) -> Iterator[Step]:
    """A cancel takes a job off its queue. If a worker has it, the job is marked, and the worker is asked."""
    left = state._replace(cancels=_one_less(state.cancels))
    if job.place in ("delayed", "ready"):
        yield Step("cancel", j, NOBODY, _put(left, j, Job("cancelled", queue=job.queue)))
    elif job.owner != NOBODY and not job.marked:
        yield Step("ask", j, NOBODY, _put(left, j, job._replace(marked=True)))
    elif state.cancels == UNLIMITED:  # again, or it ended between the cancel's look and its second mark
        yield Step("ask", j, NOBODY, state)


def _of_owner(state: State, j: int, job: Job, table: Decisions) -> Iterator[Step]:
    """The steps of an owner with its job."""
    place, attempts, suspect, w, stage, queue, marked = job
    if stage == "claimed":
        if suspect and place == "held":  # maybe beside another that has outlived its window, since time is left out
            yield Step(
                "announce",
                j,
                w,
                _put(_renewed(state, w), j, Job("running", attempts, suspect, w, stage, queue, marked)),
            )
        else:
            yield Step("start", j, w, _put(state, j, Job(place, attempts, suspect, w, "trying", queue, marked)))
            yield Step("void", j, w, _put(state, j, Job(place, attempts, suspect, w, "void", queue, marked)))
            yield _settled(_renewed(state, w), "postpone", j, w, "unknown", table)
        yield _settled(_renewed(state, w), "return", j, w, "returned", table)
    elif stage == "trying":
        yield Step("succeed", j, w, _put(state, j, Job(place, attempts, suspect, w, "good", queue, marked)))
        yield Step("fail", j, w, _put(state, j, Job(place, attempts, suspect, w, "bad", queue, marked)))
    else:
        for end in LAST[stage]:
            yield _settled(_renewed(state, w), "settle", j, w, end, table)


def of_worker(state: State, w: int, worker: Worker) -> Iterator[Step]:
    mine = [job for job in state.jobs if job.owner == w]
    if not worker.up:
        if not mine:
            yield Step("restart", NOBODY, w, _set(state, w, Worker()))
        elif worker.leased:
            yield Step("lapse", NOBODY, w, _set(state, w, Worker(False, False, (), certain(mine))))
        return
    _, _, crashes, silences, *_ = state
    if crashes:
        left = state._replace(crashes=_one_less(crashes))
        yield Step("crash", NOBODY, w, _down(left, w, worker.leased and bool(mine), worker.certain and bool(mine)))
    if silences and worker.leased and mine:
        left = state._replace(silences=_one_less(silences))
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


# -- states after steps ---------------------------------------------------------------------------


def _put(state: State, j: int, job: Job) -> State:
    jobs = state.jobs
    return State((*jobs[:j], job, *jobs[j + 1 :]), *state[1:])


def _set(state: State, w: int, worker: Worker) -> State:
    workers = state.workers
    return State(state.jobs, (*workers[:w], worker, *workers[w + 1 :]), *state[2:])


def _renewed(state: State, w: int) -> State:
    """The state after an exchange of the worker."""
    worker = state.workers[w]
    return state if worker.leased else _set(state, w, Worker(True, True, worker.late))


def certain(mine: Iterable[Job]) -> bool:
    """True if one of a worker's jobs is announced and all others are waiting suspects."""
    mine = list(mine)
    return sum(job.place == "running" for job in mine) == 1 and all(
        job.place == "running" or job.suspect for job in mine
    )


def _down(state: State, w: int, leased: bool, certain: bool) -> State:
    """The state after a worker's death; it still holds its jobs."""
    jobs = tuple(job._replace(stage="") if job[3] == w else job for job in state.jobs)
    return _set(state._replace(jobs=jobs), w, Worker(False, leased, (), certain))


def _quit(state: State, w: int) -> State:
    """The state after a worker handed back all its jobs, running ones too, and ended."""
    jobs = tuple(_handed_back(job) if job.owner == w else job for job in state.jobs)
    return _set(state._replace(jobs=jobs), w, Worker(False, False))


def _handed_back(job: Job) -> Job:
    if job.marked:
        return Job("cancelled", queue=job.queue)
    return Job("ready", job.attempts, job.suspect, queue=job.queue)


def _disowned(state: State, job: Job) -> State:
    """The state in which the old owner, if alive, is late with the job."""
    worker = state.workers[job.owner]
    if not worker.up:
        return state
    stage: Stage = "ended" if job.stage in OVER else job.stage
    return _set(state, job.owner, worker._replace(late=tuple(sorted([*worker.late, Late(stage, job.attempts)]))))


def _settled(state: State, action: Action, j: int, w: int, end: End, table: Decisions) -> Step:
    """The step with the result of the table's row."""
    job = state.jobs[j]
    row = table[end, job.attempts + 1]
    suspect = job.suspect if row.suspect is None else row.suspect
    over = row.to in ("done", "unrecorded")
    if job.marked and row.to != "done":  # it becomes ready no more, and is no failure
        after = Job("cancelled", queue=job.queue)
    elif over:
        after = Job(row.to, queue=job.queue)
    else:
        after = Job(row.to, job.attempts + row.counts, suspect, queue=job.queue)
    return Step(action, j, w, _put(state, j, after), row)
