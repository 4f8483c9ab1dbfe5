"""The invariants of every state and step of the model, from the clauses, without the table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from .states import NOBODY, Action, Job, State, Step

ENDS = ("done", "unrecorded", "recorded", "cancelled")
AN_ATTEMPT = ("succeeded", "failed", "gave up", "lost")
"""The ends of attempts whose handler was called."""


class Broken(NamedTuple):
    """A clause, and the reason why it is broken."""

    clause: str
    why: str


def of_state(state: State, limit: int) -> Iterator[Broken]:
    """The clauses that a state breaks."""
    for j, job in enumerate(state.jobs):
        place, attempts, suspect, owner, stage, *_ = job
        if (place in ("held", "running")) != (owner != NOBODY):
            yield Broken("DISPATCH-1", f"job {j} is {place} and its owner is {owner}")
        if place not in ENDS and attempts >= limit:
            yield Broken("RETRY-1", f"job {j} is {place} after {attempts} of {limit} attempts")
        if place == "running" and not suspect:
            yield Broken("DELIVERY-14", f"job {j} was announced and is no suspect")
        if suspect and place == "held" and stage not in ("", "claimed", "ended"):
            yield Broken("DELIVERY-14", f"job {j}, a suspect, was started and not announced")


Check = Callable[[State, Step, Job, Job, int], bool]
"""A check of a step: the state before it, the step, its job before and after it, the limit. True: the clause holds."""

NOTHING = Job()


def of_step(before: State, step: Step, limit: int) -> Iterator[Broken]:
    """The clauses that a step breaks."""
    j = step.job
    old, new = (before.jobs[j], step.state.jobs[j]) if j != NOBODY else (NOTHING, NOTHING)
    checks = CANCELLED if old.marked and step.row is not None else CHECKS.get(step.action, ())
    for clause, why, holds in checks:
        if not holds(before, step, old, new, limit):
            yield Broken(clause, f"{step.action}: {why}: {_brief(old)} → {_brief(new)}")


def _brief(job: Job) -> str:
    marks = (
        f"{' suspect' if job.suspect else ''}{' cancelled' if job.marked else ''}{' ' + job.stage if job.stage else ''}"
    )
    return f"{job.place}{marks}, {job.attempts} attempts"


def _end(step: Step) -> str:
    assert step.row is not None
    return step.row.end


def _last(old: Job, limit: int) -> bool:
    return old.attempts + 1 == limit


def _bad(step: Step) -> bool:
    """True if an attempt failed, or died with its process."""
    return _end(step) in ("failed", "lost")


def _row_counts(step: Step) -> bool:
    return step.row is not None and step.row.counts


def _who_ran(state: State, w: int) -> int:
    """The number of its jobs that may have run: all but suspects that were not announced."""
    mine = [job for job in state.jobs if job.owner == w]
    waiting = sum(job.place == "held" and job.suspect for job in mine)
    return len(mine) - waiting if any(job.place == "running" for job in mine) else 0


_ITS_QUEUE: tuple[str, str, Check] = (
    "QUEUES-4", "a job stays on its queue", lambda b, s, old, new, limit: new.queue == old.queue)  # fmt: skip

_COUNTED: tuple[tuple[str, str, Check], ...] = (
    ("JOBS-2", "done if and only if the attempt succeeded",
     lambda b, s, old, new, limit: (new.place == "done") == (_end(s) == "succeeded")),
    ("RETRY-1", "a job that failed is tried as often as the limit says",
     lambda b, s, old, new, limit: not _bad(s) or _last(old, limit) or new.place == "delayed"),
    ("RETRY-3", "after the last attempt it fails at once",
     lambda b, s, old, new, limit: not (_bad(s) and _last(old, limit)) or new.place == "unrecorded"),
    ("RETRY-6", "attempts that were made are counted, one by one, and no others",
     lambda b, s, old, new, limit: _row_counts(s) == (_end(s) in AN_ATTEMPT)
     and (new.place in ENDS or new.attempts == old.attempts + _row_counts(s))),
    ("RETRY-2", "after attempt n, n seconds pass",
     lambda b, s, old, new, limit: s.row is not None
     and s.row.wait_s == (new.attempts if new.place == "delayed" and _end(s) != "snoozed" else 0)),
    ("RETRY-10", "what is given up is recorded at once",
     lambda b, s, old, new, limit: _end(s) != "gave up" or new.place == "unrecorded"),
    ("RETRY-13", "what is snoozed waits as it was, and is no suspect",
     lambda b, s, old, new, limit: _end(s) != "snoozed"
     or (new.place, new.attempts, new.suspect) == ("delayed", old.attempts, False)),
    ("FAILURES-9", "what can't be attempted is recorded at once",
     lambda b, s, old, new, limit: _end(s) != "void" or new.place == "unrecorded"),
    ("DELIVERY-8", "an attempt that ends normally clears the mark, a death leaves it",
     lambda b, s, old, new, limit: new.place in ENDS or new.suspect == (_end(s) not in ("failed", "snoozed"))),
    _ITS_QUEUE,
)  # fmt: skip

CHECKS: dict[Action, tuple[tuple[str, str, Check], ...]] = {
    "claim": (
        ("RETRY-7", "only what is ready is claimed", lambda b, s, old, new, limit: old.place == "ready"),
        ("DELIVERY-7", "by a worker that is there", lambda b, s, old, new, limit: b.workers[s.worker].up),
        ("QUEUES-5", "not while its queue is paused", lambda b, s, old, new, limit: old.queue not in b.paused),
        _ITS_QUEUE,
    ),
    "promote": (_ITS_QUEUE,),
    "cancel": (
        ("QUEUES-9", "what no worker has leaves its queue",
         lambda b, s, old, new, limit: old.place in ("delayed", "ready") and new.place == "cancelled"),
    ),
    "ask": (
        ("QUEUES-9", "what a worker has stays with it",
         lambda b, s, old, new, limit: new == old._replace(marked=True)),
    ),
    "quit": (
        ("QUEUES-9", "a cancelled job is not handed back; all others are, to their queues",
         lambda b, s, old, new, limit: all(
             (after.place, after.queue) == ("cancelled" if job.marked else "ready", job.queue)
             for job, after in zip(b.jobs, s.state.jobs, strict=True) if job.owner == s.worker)),
    ),
    "start": (
        ("RETRY-1", "no attempt over the limit", lambda b, s, old, new, limit: old.attempts < limit),
        ("DELIVERY-7", "once a claim", lambda b, s, old, new, limit: old.stage == "claimed"),
        ("DELIVERY-14", "a suspect once it is announced",
         lambda b, s, old, new, limit: not old.suspect or old.place == "running"),
    ),
    "settle": _COUNTED,
    "take over": (
        ("DELIVERY-3", "after the lease",
         lambda b, s, old, new, limit: not b.workers[s.worker].leased),
        ("DELIVERY-8", "the first death costs no attempt, and makes a suspect",
         lambda b, s, old, new, limit: _end(s) != "died"
         or (new.place, new.attempts, new.suspect) == ("ready", old.attempts, True)),
        ("DELIVERY-16", "an announced attempt is lost if it was alone, and no other is",
         lambda b, s, old, new, limit: (_end(s) == "lost") == (old.place == "running" and b.workers[s.worker].certain)),
        ("DELIVERY-16", "beside others it costs no attempt, and stays a suspect",
         lambda b, s, old, new, limit: _end(s) != "beside"
         or (new.place, new.attempts, new.suspect) == ("ready", old.attempts, True)),
        *_COUNTED,
    ),
    "lapse": (
        ("DELIVERY-16", "alone is who was announced while nothing fresh was there",
         lambda b, s, old, new, limit: s.state.workers[s.worker].certain == (_who_ran(b, s.worker) == 1)),
    ),
    "return": (
        ("WORKERS-3", "handed back as it was",
         lambda b, s, old, new, limit: s.row is not None and (s.row.counts, s.row.wait_s) == (False, 0)
         and (new.place, new.attempts, new.suspect) == ("ready", old.attempts, old.suspect)),
        _ITS_QUEUE,
    ),
    "postpone": (
        ("FAILURES-10", "delayed as it was, for a second at first",
         lambda b, s, old, new, limit: s.row is not None and (s.row.counts, s.row.wait_s) == (False, 1)
         and (new.place, new.attempts, new.suspect) == ("delayed", old.attempts, old.suspect)),
        _ITS_QUEUE,
    ),
    "refused": (
        ("DELIVERY-5", "a refused settlement changes nothing",
         lambda b, s, old, new, limit: b.jobs == s.state.jobs),
    ),
    "record": (
        ("FAILURES-1", "recorded is what was settled as failed",
         lambda b, s, old, new, limit: (old.place, new.place) == ("unrecorded", "recorded")),
    ),
    "crash": (
        ("DISPATCH-1", "a death moves no job",
         lambda b, s, old, new, limit: all(
             job._replace(stage="") == after._replace(stage="")
             for job, after in zip(b.jobs, s.state.jobs, strict=True))),
    ),
}  # fmt: skip
CANCELLED: tuple[tuple[str, str, Check], ...] = (
    ("QUEUES-9", "a cancelled job is gone unless it succeeded",
     lambda b, s, old, new, limit: new.place == ("done" if _end(s) == "succeeded" else "cancelled")),
    ("DELIVERY-3", "by its own worker, or after the lease",
     lambda b, s, old, new, limit: s.action != "take over" or not b.workers[s.worker].leased),
    _ITS_QUEUE,
)  # fmt: skip
"""The checks of settlements of marked jobs."""
CLAUSES = sorted(
    {clause for checks in (*CHECKS.values(), CANCELLED) for clause, _, _ in checks}
    | {"DELIVERY-1", "DELIVERY-14", "DISPATCH-1", "RETRY-1"},
    key=lambda clause: (clause.partition("-")[0], int(clause.partition("-")[2])),
)
"""All clauses that an exploration judges."""
