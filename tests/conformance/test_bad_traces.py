"""For every trace clause, traces that break it: its predicate says so, and no other does."""

from __future__ import annotations

from typing import Any

import pytest
from kashvi_spec.clauses import load
from kashvi_spec.judging import judge
from kashvi_spec.predicates.every import every_predicate
from kashvi_spec.predicates.follow_ups import FollowUpsAllOrNone

from kashvi.events import (
    AttemptFailed,
    AttemptLost,
    AttemptSnoozed,
    AttemptStarted,
    AttemptStuck,
    AttemptSucceeded,
    CancelAsked,
    Event,
    FailureRecorded,
    FollowUpKept,
    HookFailed,
    JobCancelled,
    JobDispatched,
    JobDuplicate,
    JobFailed,
    JobPostponed,
    JobReturned,
    JobSnoozed,
    JobSucceeded,
    QueuePaused,
    QueueResumed,
    RetryScheduled,
    ServerBack,
    ServerLost,
    SettleRefused,
    WorkerStarted,
    WorkerStopped,
    WorkerStopping,
)

TRACE_CLAUSES = {clause.id: clause for clause in load() if clause.predicate}


def about(job_id: str, at: float, process: str = "p") -> dict[str, Any]:
    return {"job_id": job_id, "type": "t", "server_at": float(at), "at": float(at), "process": process}


def dispatched(job_id: str, due: float | None = None, queue: str = "default") -> Event:
    return JobDispatched(job_id=job_id, type="t", due=due, process="producer", queue=queue)


def keyed(job_id: str, at: float, key: str = "k") -> Event:
    return JobDispatched(due=None, unique=key, **about(job_id, at, "producer"))


def worker(name: str = "w", threads: int = 1, process: str = "p", queues: tuple[str, ...] = ("default",)) -> Event:
    facts = {"threads": threads, "lease_s": 30, "driver": "memory", "queues": queues}
    return WorkerStarted(worker=name, process=process, **facts)


def paused(at: float, worker: str = "", queue: str = "default") -> Event:
    return QueuePaused(server_at=float(at), worker=worker, process="p", at=float(at), queue=queue)


def asked(job_id: str, at: float) -> Event:
    return CancelAsked(**about(job_id, at, "operator"))


def cancelled(job_id: str, at: float, move: str = "", process: str = "operator") -> Event:
    return JobCancelled(move=move, **about(job_id, at, process))


def resumed(at: float, worker: str = "", queue: str = "default") -> Event:
    return QueueResumed(server_at=float(at), worker=worker, process="p", at=float(at), queue=queue)


def stopped(name: str = "w", process: str = "p") -> Event:
    return WorkerStopped(worker=name, process=process)


def stopping(name: str = "w", process: str = "p") -> Event:
    return WorkerStopping(worker=name, process=process)


def started(
    job_id: str,
    at: float,
    n: int = 1,
    worker: str = "w",
    process: str = "p",
    suspect: bool = False,
    lost: int = 0,
    claimed: float | None = None,
    queue: str = "default",
) -> Event:
    """``lost``: how grave a suspect."""
    facts = {"suspect": suspect or lost > 0, "lost": lost, "queue": queue, **about(job_id, at, process)}
    facts["server_at"] = float(at if claimed is None else claimed)
    return AttemptStarted(attempt=n, worker=worker, claim="exchange", **facts)


def did(job_id: str, at: float, n: int = 1, process: str = "p") -> list[Event]:
    """An attempt succeeds, and the job is done."""
    return [
        AttemptSucceeded(attempt=n, duration_s=0.0, **about(job_id, at, process)),
        JobSucceeded(attempts=n, **about(job_id, at, process)),
    ]


def ticked(job_id: str, at: float, tick: float, name: str = "nightly", process: str = "producer") -> Event:
    """A cron entry dispatches the job of a tick."""
    return JobDispatched(job_id=job_id, type="t", cron=name, tick=tick, server_at=float(at), process=process)


def swallowed(job_id: str, at: float, tick: float) -> Event:
    """A tick whose job is not added, since another job has its key."""
    return JobDuplicate(
        job_id=job_id, type="t", holder="h", cron="nightly", tick=tick, server_at=float(at), process="p"
    )


def keeps(parent: str, *job_ids: str, n: int = 1, process: str = "p", unique: str = "") -> list[Event]:
    """An attempt has follow-ups."""
    about = {"type": "t", "parent": parent, "attempt": n, "process": process, "unique": unique}
    return [FollowUpKept(job_id=one, **about) for one in job_ids]


def chained(*links: str) -> Event:
    """A chain is dispatched."""
    return JobDispatched(job_id=links[0], type="t", chain=links[1:], process="producer")


def carries(job_id: str, at: float, link: str, n: int = 1) -> Event:
    """An attempt starts at a job that is not the last link."""
    return AttemptStarted(attempt=n, worker="w", claim="exchange", next=link, **about(job_id, at))


def goes_out(job_id: str, parent: str) -> Event:
    return JobDispatched(job_id=job_id, type="t", parent=parent, process="p")


def sends(parent: str, *job_ids: str, process: str = "p") -> list[Event]:
    """They are sent, and run."""
    told: list[Event] = [JobDispatched(job_id=one, type="t", parent=parent, process=process) for one in job_ids]
    return [*told, *(event for one in job_ids for event in (started(one, 9), *did(one, 9)))]


def raised(job_id: str, at: float, n: int = 1, error: str = "e", gave_up: bool = False, unsent: bool = False) -> Event:
    return AttemptFailed(attempt=n, duration_s=0.0, error=error, gave_up=gave_up, unsent=unsent, **about(job_id, at))


def limited(job_id: str, at: float, limit_s: float, n: int = 1) -> Event:
    """An attempt with a time limit starts."""
    return AttemptStarted(attempt=n, worker="w", claim="exchange", timeout_s=limit_s, **about(job_id, at))


def stuck(job_id: str, at: float, took_s: float, limit_s: float, *, replaced: bool = False) -> Event:
    facts = {"worker": "w", "timeout_s": limit_s, "duration_s": took_s, "replaced": replaced}
    return AttemptStuck(attempt=1, **facts, **about(job_id, at))


def done_after(job_id: str, at: float, took_s: float, *, late: bool) -> list[Event]:
    return [
        AttemptSucceeded(attempt=1, duration_s=took_s, late=late, **about(job_id, at)),
        JobSucceeded(attempts=1, **about(job_id, at)),
    ]


def failed_after(job_id: str, at: float, took_s: float, error: str, timed_out: Any = "") -> list[Event]:
    """Its first attempt; a second one succeeds."""
    return [
        AttemptFailed(attempt=1, duration_s=took_s, error=error, timed_out=timed_out, **about(job_id, at)),
        retried(job_id, at),
        started(job_id, at + 1, 2),
        *did(job_id, at + 1, 2),
    ]


def given_up(job_id: str, at: float, n: int = 1) -> Event:
    return JobFailed(attempts=n, max_attempts=3, error="e", gave_up=True, **about(job_id, at))


def own_wait(job_id: str, at: float, wait_s: float, backoff: str, n: int = 1, limit: int = 0) -> Event:
    """A retry by the type's own backoff."""
    facts = {"wait_s": wait_s, "due": at + wait_s, "backoff": backoff, "type_limit": limit}
    return RetryScheduled(attempts=n, **facts, **about(job_id, at))


def snoozed(job_id: str, at: float, wait_s: float, n: int = 0, told_s: float | None = None) -> list[Event]:
    """An attempt asks to be called again in ``wait_s``; the job is settled with n attempts, for ``told_s``."""
    told_s = wait_s if told_s is None else told_s
    return [
        AttemptSnoozed(attempt=1, duration_s=0.0, wait_s=wait_s, **about(job_id, at)),
        JobSnoozed(attempts=n, wait_s=told_s, due=at + told_s, snoozed=1, **about(job_id, at)),
    ]


def retried(job_id: str, at: float, n: int = 1, wait_s: float | None = None) -> Event:
    wait_s = float(n) if wait_s is None else wait_s
    return RetryScheduled(attempts=n, wait_s=wait_s, due=at + wait_s, **about(job_id, at))


def gave_up(job_id: str, at: float, n: int = 3, error: str = "e", undeliverable: bool = False) -> Event:
    return JobFailed(attempts=n, max_attempts=3, error=error, undeliverable=undeliverable, **about(job_id, at))


def postponed(job_id: str, at: float, wait_s: float, n: int = 0) -> Event:
    return JobPostponed(attempts=n, wait_s=wait_s, due=at + wait_s, **about(job_id, at))


def recorded(job_id: str) -> Event:
    return FailureRecorded(job_id=job_id, type="t")


def returned(job_id: str, at: float, owner: str = "w", suspect: bool = True, process: str = "q") -> Event:
    return JobReturned(owner=owner, suspect=suspect, **about(job_id, at, process))


def taken(job_id: str, at: float, before: int, now: int, announced: bool = False) -> Event:
    """By another process, from a worker that died; how grave a suspect it was, and is."""
    facts = {"lost": now, "lost_before": before, "announced": announced, **about(job_id, at, "q")}
    return JobReturned(owner="w", suspect=True, **facts)


def died(job_id: str, at: float, n: int = 1, owner: str = "w") -> Event:
    return AttemptLost(attempt=n, owner=owner, **about(job_id, at, "q"))


def charged(job_id: str, at: float) -> list[Event]:
    """Its first attempt, by another process."""
    return [died(job_id, at), RetryScheduled(attempts=1, wait_s=1.0, due=at + 1, **about(job_id, at, "q"))]


RUN_A, RUN_B = ([started(one, 150), *did(one, 150)] for one in "ab")
TWO_FAILURES = [
    dispatched("a"),
    started("a", 0), raised("a", 0), retried("a", 0),
    started("a", 1, 2), raised("a", 1, 2), retried("a", 1, 2),
]  # fmt: skip
EXHAUSTED = [*TWO_FAILURES, started("a", 3, 3), raised("a", 3, 3), gave_up("a", 3), recorded("a")]
TAKEN_OVER = [
    worker(), dispatched("a"), started("a", 0), worker("v", process="q"),
    returned("a", 30), started("a", 30, worker="v", process="q", suspect=True), *did("a", 31, process="q"),
    stopped("v", "q"),
]  # fmt: skip

EXPONENTIAL = "Exponential(first=2.0, factor=3.0, cap=10.0, jitter=False)"
SHAKEN = "Fixed(seconds=5.0, jitter=True)"
OWN_BACKOFFS_BROKEN = [
    (EXPONENTIAL, 6.0),
    (SHAKEN, 5.5),
    ("Schedule(seconds=(4.0, 9.0), jitter=False)", 9.0),
    ("Linear(step=3.0, cap=2.0, jitter=False)", 3.0),
    ("own", -1.0),
    ("own", 1e12),
    ("Fixed(", 5.0),
    ("Fixed(seconds=__import__('os').getpid(), jitter=False)", 5.0),
    ("Fixed(seconds=5.0)", 5.0),
    ("Quadratic(seconds=5.0, jitter=False)", 5.0),
]

TIMED_OUT = "timed out after 3 s"
TIME_LIMITS_BROKEN = [
    [limited("a", 0, 3), *done_after("a", 2, 2, late=True)],
    [limited("a", 0, 3), *done_after("a", 4, 4, late=False)],
    [limited("a", 0, 3), *failed_after("a", 2, 2, TIMED_OUT, "obeyed")],
    [limited("a", 0, 3), *failed_after("a", 4, 4, "e")],
    [limited("a", 0, 3), *failed_after("a", 4, 4, "ValueError: e", "late")],
    [limited("a", 0, 3), *failed_after("a", 9, 9, f"{TIMED_OUT}: stuck", "stuck")],
    [started("a", 0), *failed_after("a", 4, 4, TIMED_OUT, "obeyed")],
    [limited("a", 0, 3), stuck("a", 2, 2, 3), *done_after("a", 9, 9, late=True)],
    [limited("a", 0, 3), stuck("a", 8, 8, 3), stuck("a", 9, 9, 3), *done_after("a", 9, 9, late=True)],
    [started("a", 0), stuck("a", 8, 8, 3), *did("a", 9)],
    [
        limited("a", 0, 3), AttemptSnoozed(attempt=1, duration_s=4.0, wait_s=5.0, **about("a", 4)),
        JobSnoozed(attempts=0, wait_s=5.0, due=9.0, snoozed=1, **about("a", 4)), started("a", 9), *did("a", 9),
    ],
]  # fmt: skip
IN_ITS_PLACE = [
    worker(), *map(dispatched, "abc"), limited("a", 0, 3), stuck("a", 8, 8, 3, replaced=True),
    *done_after("a", 10, 10, late=True),
]  # fmt: skip

UNSENT = [
    worker(), dispatched("a"), started("a", 0), *keeps("a", "b"), did("a", 0)[0], raised("a", 0, unsent=True),
    retried("a", 0), started("a", 1, 2), *keeps("a", "c", n=2), *did("a", 1, 2), *sends("a", "c"), stopped(),
]  # fmt: skip


def ended_elsewhere(lost: int, until: float) -> list[Event]:
    """A worker runs a suspect that another one has taken over and ended, while another job waits from 34 on."""
    return [
        worker(threads=2), worker("v", process="q"), dispatched("a"), dispatched("b"), started("b", 0, lost=lost),
        AttemptLost(attempt=1, owner="w", **about("b", 31, "q")),
        RetryScheduled(attempts=1, wait_s=1.0, due=32.0, **about("b", 31, "q")),
        started("b", 32, 2, "v", "q", lost=lost + 1), *did("b", 33, 2, "q"),
        returned("a", 34, process="p", suspect=False),
        AttemptSucceeded(attempt=1, duration_s=until, **about("b", until)),
        SettleRefused(move="done", owner="w", **about("b", until)), started("a", 40), *did("a", 40), stopped(),
    ]  # fmt: skip


GOOD: dict[str, list[Event]] = {
    "a grave suspect that was ended elsewhere keeps other jobs out": ended_elsewhere(2, until=40),
    "an attempt whose follow-up the server can't add": UNSENT,
    "attempts with a time limit": [
        worker(), dispatched("a"), dispatched("b"), dispatched("c"), limited("a", 0, 3),
        *failed_after("a", 3, 3, TIMED_OUT, "obeyed"), limited("b", 10, 3), *failed_after("b", 12, 2, "e"),
        limited("c", 20, 3), *failed_after("c", 24, 4, f"{TIMED_OUT}: ValueError: e", "late"),
    ],
    "threads in place of stuck ones": [
        worker(), dispatched("a"), dispatched("b"), dispatched("c"), limited("a", 0, 3),
        stuck("a", 8, 8, 3, replaced=True), started("b", 8), *did("b", 9), *done_after("a", 10, 10, late=True),
        stopping(), started("c", 10), *did("c", 10),
    ],
    "a type with its own limit and backoff, whose event of a retry comes late": [
        dispatched("a"), started("a", 0), raised("a", 0), own_wait("a", 0, 2, EXPONENTIAL, limit=5),
        started("a", 2, 2), raised("a", 2, 2), own_wait("a", 2, 6, EXPONENTIAL, 2, 5), started("a", 8, 3),
        raised("a", 8, 3), own_wait("a", 8, 10, EXPONENTIAL, 3, 5), *did("a", 18, 4),
        dispatched("b"), started("b", 20), raised("b", 20), started("b", 20.5, 2), own_wait("b", 20, 0.25, SHAKEN),
        *did("b", 21, 2),
    ],
    "a job that is given up": [
        dispatched("a"), started("a", 0), raised("a", 0, gave_up=True), given_up("a", 0), recorded("a"),
    ],
    "a job that a worker gave up when it was no longer its own, and that the same worker took over later": [
        worker(), worker("v", process="q"), dispatched("a"), started("a", 0), returned("a", 39, process="q", owner="w"),
        raised("a", 40, gave_up=True), SettleRefused(move="fail", owner="w", **about("a", 40)),
        started("a", 41, 1, "v", "q", lost=1), AttemptLost(attempt=1, owner="v", **about("a", 80)), retried("a", 80),
        started("a", 81, 2), *did("a", 81, 2), stopped(),
    ],
    "a job that snoozes": [
        dispatched("a"), started("a", 0), *snoozed("a", 0, 5), started("a", 5), raised("a", 5), retried("a", 5),
        started("a", 6, 2), *did("a", 6, 2),
    ],
    "follow-ups of the attempt that is done, and of none before": [
        dispatched("a"), started("a", 0), *keeps("a", "b", "c"), raised("a", 0), retried("a", 0),
        started("a", 1, 2), *keeps("a", "d", "e", n=2), *did("a", 1, 2), *sends("a", "d", "e"),
    ],
    "follow-ups of a process that could not tell that it sent them": [
        worker(), worker("v", process="q"), dispatched("a"), started("a", 0), *keeps("a", "b"), *did("a", 0),
        started("b", 1, worker="v", process="q"), *did("b", 1, process="q"), stopped("v", "q"),
    ],
    "an attempt that runs again where it was handed back": [
        worker(), dispatched("a"), started("a", 0), *keeps("a", "b"), returned("a", 1, suspect=False, process="p"),
        started("a", 1), *keeps("a", "c"), *did("a", 1), *sends("a", "c"), stopped(),
    ],
    "a job that is taken from a worker that comes back at this moment, and claims it again": [
        worker(), worker("v", process="q"), dispatched("a"), started("a", 0), started("a", 40, lost=1),
        returned("a", 40), did("a", 40)[0], *did("a", 41), stopped("v", "q"),
    ],
    "two runs of an attempt in one process, of which the server takes one": [
        worker(), worker("v", process="q"), dispatched("a"), started("a", 0), returned("a", 39, process="q", owner="w"),
        started("a", 40), *keeps("a", "b", "c"), did("a", 42)[0], did("a", 42)[0],
        SettleRefused(move="done", owner="w", **about("a", 42)), did("a", 42)[1], *sends("a", "b"),
    ],
    "a chain": [
        chained("a", "b", "c"), carries("a", 0, "b"), raised("a", 0), retried("a", 0), carries("a", 1, "b", 2),
        *did("a", 1, 2), goes_out("b", "a"), carries("b", 1, "c"), *did("b", 2), goes_out("c", "b"), started("c", 2),
        *did("c", 3),
    ],
    "a chain that ends with a link that failed": [
        chained("a", "b"), carries("a", 0, "b"), raised("a", 0, gave_up=True), given_up("a", 0), recorded("a"),
    ],
    "a chain that goes on with a new job for the link that failed": [
        chained("a", "b"), carries("a", 0, "b"), raised("a", 0, gave_up=True), given_up("a", 0), recorded("a"),
        carries("a2", 9, "b"), *did("a2", 9), goes_out("b", "a2"), started("b", 9), *did("b", 9),
    ],
    "a link of a process that could not tell that it sent it": [
        worker(), worker("v", process="q"), chained("a", "b"), carries("a", 0, "b"), *did("a", 0),
        started("b", 1, worker="v", process="q"), *did("b", 1, process="q"), stopped("v", "q"),
    ],
    "a hook that raises after the handler had": [
        dispatched("a"), started("a", 0),
        HookFailed(attempt=1, hook="session", error="no commit", job_id="a", type="t", process="p"), raised("a", 0),
        retried("a", 0), started("a", 1, 2), *did("a", 1, 2),
    ],
    "an exhausted job": EXHAUSTED,
    "a job that is taken over": TAKEN_OVER,
    "a job that is handed back by its own worker": [
        worker(), dispatched("a"), started("a", 0), returned("a", 1, suspect=False, process="p"), stopped(),
        worker("v", process="q"), started("a", 2, worker="v", process="q"), *did("a", 2, process="q"),
    ],
    "a suspect beside one that has run for ten leases": [
        worker(threads=2), dispatched("a"), dispatched("b"), started("a", 0, suspect=True),
        started("b", 300, suspect=True), *did("a", 301), *did("b", 301),
    ],
    "a grave suspect beside one that it had waited for": [
        worker(threads=3), dispatched("a"), dispatched("b"), dispatched("c"), started("a", 0),
        started("b", 60, lost=3), *did("a", 70), *did("b", 2000), started("c", 2001), *did("c", 2001),
    ],
    "a death that nobody is charged for, since each of two may be to blame": [
        worker(threads=2), dispatched("a"), dispatched("b"), dispatched("c"), started("a", 0, lost=1),
        started("b", 300, lost=1), taken("c", 400, 0, 1), taken("a", 400, 1, 2, True), taken("b", 400, 1, 3, True),
        *did("a", 500, process="q"), *did("b", 500, process="q"), *did("c", 500, process="q"),
    ],
    "a suspect that is told to be one after it is charged": [
        worker(), worker("v", process="q"), dispatched("a"), started("a", 0), *charged("a", 80),
        JobReturned(owner="w", suspect=True, lost=1, **about("a", 40, "r")), started("a", 81, 2, "v", "q", lost=2),
        *did("a", 81, 2, "q"),
    ],
    "a death that one is charged for, beside suspects that waited": [
        worker(threads=2), dispatched("a"), dispatched("b"), started("a", 0, lost=1), taken("b", 40, 1, 1),
        *charged("a", 40), *did("a", 50, 2, "q"), *did("b", 50, process="q"),
    ],
    "a death that one is charged for, beside a suspect that a silent worker claims again": [
        worker(threads=2), worker("v", process="q"), dispatched("a"), dispatched("b"), started("a", 0, lost=1),
        taken("b", 40, 1, 1), *charged("a", 40), did("a", 41)[0], started("b", 0, lost=1), taken("b", 80, 1, 3, True),
        taken("c", 80, 0, 1), *did("a", 90, 2, "q"), *did("b", 90, process="q"), *did("c", 90, process="q"),
    ],
    "a death that one is charged for, beside a suspect that a silent worker claims again and then begins": [
        worker(threads=2), worker("v", process="q"), dispatched("a"), dispatched("b"), started("a", 0, lost=1),
        did("a", 10)[0], started("b", 50, lost=1, claimed=0), taken("b", 40, 1, 1), *charged("a", 40),
        *did("a", 60, 2, "q"), *charged("b", 90), *did("b", 100, 2, "q"),
    ],
    "a suspect that is excused again, for one that had run for long": [
        worker(threads=2), dispatched("a"), dispatched("b"), started("b", 0), started("a", 60, lost=3),
        taken("b", 100, 0, 1), taken("a", 100, 3, 5, True), *did("a", 200, process="q"), *did("b", 200, process="q"),
    ],
    "a suspect that is excused again, for one that was announced by a claim of before a takeover": [
        worker(threads=2), dispatched("a"), dispatched("b"), taken("b", 5, 0, 1), started("b", 10, lost=1, claimed=0),
        started("a", 310, lost=2), taken("b", 350, 1, 2, True), taken("a", 350, 2, 4, True),
        *did("a", 400, process="q"), *did("b", 400, process="q"),
    ],
    "a suspect that a silent worker began after it was charged, and then only held": [
        worker(), worker("v", process="q"), dispatched("a"), started("a", 0), taken("a", 40, 0, 1), *charged("a", 80),
        started("a", 90, lost=1, claimed=45), taken("a", 130, 2, 2), *did("a", 140, 2, "q"),
    ],
    "a suspect that is excused for a job without an id, which begins under another one before all is told": [
        worker(threads=2), worker("v", process="q"), dispatched("a"), started("a", 0, lost=2), taken("b", 40, 0, 1),
        taken("a", 40, 2, 4, True), started("b", 40, worker="x", process="r", lost=1), *did("b", 41, process="r"),
        *did("a", 50, process="q"),
    ],
    "what could not be attempted": [raised("a", 0, 0, "no envelope"), gave_up("a", 0, 0, "", True), recorded("a")],
    "a type that one worker knows": [
        dispatched("a"), postponed("a", 0, 1), postponed("a", 1, 1), postponed("a", 2, 2),
        started("a", 4), *did("a", 4),
    ],
    "a job that waited for a worker whose server was away": [
        worker(threads=2), ServerLost(error="away", process="p", at=1.0), dispatched("a"),
        ServerBack(process="p", at=20.0), started("a", 21), *did("a", 21), stopped(),
    ],
    "a job that waited while all threads were busy": [
        worker(), dispatched("a"), dispatched("b"), started("a", 0), *did("a", 10), started("b", 10), *did("b", 10),
        stopped(),
    ],
    "a job that waited while its queue was paused, and one that was claimed a moment after it": [
        worker(), dispatched("b"), dispatched("a"), paused(1), paused(1.4, "w"), started("b", 1.5), *did("b", 1.5),
        resumed(20), resumed(20.3, "w"), started("a", 20.3), *did("a", 20.3), stopped(),
    ],
    "a job that waited for a worker that serves its queue, and two that were claimed out of order, of two queues": [
        worker(), worker("v", process="q", queues=("b:3", "a:1")), dispatched("a", queue="a"),
        dispatched("b", queue="b"), started("b", 9, worker="v", process="q", queue="b"), *did("b", 9, process="q"),
        started("a", 9.1, worker="v", process="q", queue="a"), *did("a", 9.1, process="q"), stopped(),
    ],
    "a job of a queue that goes on while another one is paused": [
        worker(queues=("a", "b")), dispatched("b", queue="b"), paused(1, queue="a"), paused(1.4, "w", "a"),
        started("b", 2.5, queue="b"), *did("b", 2.5), stopped(),
    ],
    "a job that was claimed before its process told of the end of the pause": [
        worker(), dispatched("a"), paused(1), started("a", 9.1), resumed(9), *did("a", 9.1), stopped(),
    ],
    "a job that waited beside a worker that was dead, and told nothing": [
        worker(), worker("v", process="q"), dispatched("a"), dispatched("b"), started("a", 0), *did("a", 10),
        started("b", 10), *did("b", 10), stopped(),
    ],
    "one attempt that was made twice, and failed in two ways": [
        *TWO_FAILURES, started("a", 3, 3), returned("a", 40), started("a", 41, 3, "v", "q"), raised("a", 42, 3, "late"),
        raised("a", 43, 3, "e"), gave_up("a", 43), recorded("a"),
    ],
}  # fmt: skip

BAD: dict[str, list[tuple[list[Event], set[str]]]] = {
    "JOBS-2": [
        ([dispatched("a"), started("a", 0), raised("a", 0), JobSucceeded(attempts=1, **about("a", 0))], {"none lost"}),
        ([dispatched("a"), started("a", 0), retried("a", 0), started("a", 1, 2), *did("a", 1, 2)], set()),
    ],
    "DISPATCH-1": [([dispatched("a")], {"drains"})],
    "DISPATCH-3": [
        ([dispatched("a"), dispatched("b"), started("b", 0), *did("b", 0), started("a", 1), *did("a", 1)], set())
    ],
    "DISPATCH-5": [([dispatched("a"), dispatched("a"), started("a", 0), *did("a", 0)], set())],
    "DELAY-1": [([dispatched("a", 5.0), started("a", 4.999), *did("a", 5)], set())],
    "DELAY-5": [
        (
            [
                dispatched("a", 5.0), dispatched("b", 6.0), started("b", 6), *did("b", 6),
                started("a", 7), *did("a", 7),
            ],
            set(),
        )
    ],
    "DELIVERY-1": [([*TWO_FAILURES], {"none lost"})],
    "CRON-1": [
        ([ticked("a", 60, 60), ticked("b", 61, 60, process="q"), *RUN_A, *RUN_B], set()),
        ([ticked("a", 60, 60), swallowed("b", 61, 60), *RUN_A], set()),
        ([ticked("a", 59.5, 60), *RUN_A], set()),
    ],
    "QUEUES-1": [
        ([dispatched("a", queue="a"), started("a", 0), *did("a", 0)], set()),
        ([dispatched("a"), started("a", 0, queue="a"), *did("a", 0)], set()),
        ([worker(queues=("b", "c:1")), started("a", 0, queue="a"), *did("a", 0)], set()),
        ([worker(queues=("b",)), dispatched("a"), started("a", 0), *did("a", 0)], set()),
    ],
    "DELIVERY-3": [
        (
            [
                worker(), dispatched("a"), started("a", 0), worker("v", process="q"), returned("a", 29),
                started("a", 30, worker="v", process="q", suspect=True), *did("a", 31, process="q"),
            ],
            set(),
        )
    ],
    "DELIVERY-5": [
        ([dispatched("a"), started("a", 0), *did("a", 1), returned("a", 2)], set()),
        ([*TAKEN_OVER, *did("a", 40)], set()),
    ],
    "DELIVERY-7": [
        ([dispatched("a"), started("a", 0), started("a", 0, worker="v", process="q"), *did("a", 1)], set())
    ],
    "DELIVERY-8": [
        (
            [
                worker(), dispatched("a"), started("a", 0), worker("v", process="q"), returned("a", 30, suspect=False),
                started("a", 30, worker="v", process="q"), *did("a", 31, process="q"), stopped("v", "q"),
            ],
            set(),
        ),

        (
            [
                dispatched("a"), started("a", 0), died("a", 30), retried("a", 30), started("a", 31, 2),
                *did("a", 31, 2),
            ],
            set(),
        )
    ],
    "DELIVERY-14": [
        (
            [
                worker(threads=2), dispatched("a"), dispatched("b"), started("a", 0, suspect=True),
                started("b", 29, suspect=True), *did("a", 31), *did("b", 31),
            ],
            set(),
        )
    ],
    "DELIVERY-15": [
        (
            [
                worker(threads=2), dispatched("a"), dispatched("b"), started("a", 0, lost=2), started("b", 599),
                *did("a", 700), *did("b", 700),
            ],
            set(),
        ),
        (
            [
                worker(threads=2), dispatched("a"), dispatched("b"), started("a", 0), started("b", 29, lost=2),
                *did("a", 700), *did("b", 700),
            ],
            set(),
        ),
    ],
    "DELIVERY-16": [
        (
            [
                worker(threads=2), dispatched("a"), dispatched("b"), started("a", 0, lost=1), started("b", 10),
                taken("b", 50, 0, 1), *charged("a", 50), *did("a", 60, 2, "q"),
                *did("b", 60, process="q"),
            ],
            set(),
        ),
        (
            [
                worker(threads=2), dispatched("a"), dispatched("b"), started("a", 0, lost=1), started("b", 300, lost=1),
                *charged("a", 400), taken("b", 401, 1, 1, True), *did("a", 460, 2, "q"),
                *did("b", 460, process="q"),
            ],
            {"excused for a reason"},
        ),
    ],
    "DELIVERY-17": [
        (
            [
                worker(), worker("v", process="q"), dispatched("a"), started("a", 0, lost=1),
                taken("a", 50, 1, 2, True), *did("a", 60, process="q"), stopped("v", "q"),
            ],
            set(),
        ),
        (
            [
                worker(threads=2), dispatched("a"), dispatched("b"), started("b", 0), started("a", 29, lost=2),
                taken("b", 60, 0, 1), taken("a", 60, 2, 4, True), *did("a", 70, process="q"),
                *did("b", 70, process="q"),
            ],
            {"fresh kept out"},
        ),
    ],
    "JOBS-13": [
        (
            [
                dispatched("a"), started("a", 0),
                HookFailed(attempt=1, hook="session", error="e", job_id="a", type="t", process="p"), *did("a", 0),
            ],
            set(),
        )
    ],
    "JOBS-18": [
        ([dispatched("a"), started("a", 0), *keeps("a", "b"), *did("a", 0)], set()),
        (
            [
                dispatched("a"), started("a", 0), *keeps("a", "b"), raised("a", 0), retried("a", 0), started("b", 0),
                *did("b", 0), started("a", 1, 2), *did("a", 1, 2),
            ],
            set(),
        ),
        (
            [
                dispatched("a"), started("a", 0), *keeps("a", "b", "c", "d"), *did("a", 0), *sends("a", "b", "d"),
            ],
            set(),
        ),
        (
            [
                *TAKEN_OVER[:3], *keeps("a", "b"), *TAKEN_OVER[3:6], *keeps("a", "c", process="q"), *TAKEN_OVER[6:-1],
                did("a", 40)[0], SettleRefused(move="done", owner="w", **about("a", 40)),
                *sends("a", "c", process="q"), started("b", 41, worker="v", process="q"), *did("b", 41, process="q"),
                stopped("v", "q"),
            ],
            set(),
        ),
        (
            [
                worker(), worker("v", process="q"), dispatched("a"), started("a", 0), *keeps("a", "b"),
                started("b", 1, worker="v", process="q"),
                *did("b", 1, process="q"), raised("a", 2, gave_up=True), given_up("a", 2), recorded("a"), stopped(),
            ],
            set(),
        ),
    ],
    "JOBS-21": [
        ([chained("a", "b"), started("a", 0), *did("a", 0)], set()),
        ([dispatched("a"), carries("a", 0, "b"), *did("a", 0)], set()),
        (
            [
                chained("a", "b", "c"), started("a", 0), *did("a", 1), goes_out("b", "a"), started("b", 1),
                raised("b", 1, gave_up=True), given_up("b", 1), recorded("b"), started("c", 1), *did("c", 1),
            ],
            set(),
        ),
        ([chained("a", "b"), started("a", 0), started("b", 0), *did("a", 1), *did("b", 1)], set()),
        (
            [
                chained("a", "b", "c"), started("a", 0), *did("a", 1), goes_out("b", "a"), goes_out("c", "a"),
                started("b", 1), started("c", 1), *did("b", 2), *did("c", 2),
            ],
            set(),
        ),
        (
            [
                chained("a", "b"), started("a", 0), *did("a", 0), goes_out("b", "a"), goes_out("b", "a"),
                started("b", 1), *did("b", 1),
            ],
            {"ids unique"},
        ),
        (
            [
                worker(), worker("v", process="q"), chained("a", "b"), started("a", 0), goes_out("b", "a"),
                started("b", 1, worker="v", process="q"), *did("b", 1, process="q"), raised("a", 2), retried("a", 2),
                started("a", 3, 2), *did("a", 3, 2), stopped(),
            ],
            set(),
        ),
    ],
    "WORKERS-1": [
        (
            [worker(), dispatched("a"), dispatched("b"), started("a", 0), started("b", 0), *did("a", 1), *did("b", 1)],
            set(),
        ),
        ([*IN_ITS_PLACE, started("b", 11), started("c", 11), *did("b", 12), *did("c", 12)], set()),
    ],
    "WORKERS-3": [
        (
            [*IN_ITS_PLACE, stopping(), started("b", 11), *did("b", 11), started("c", 12), *did("c", 12)],
            set(),
        ),
        (
            [
                worker(threads=2), dispatched("a"), dispatched("b"), started("a", 0), *did("a", 1), stopping(),
                started("b", 2), *did("b", 2), dispatched("c"), started("c", 2), *did("c", 2),
                dispatched("d"), started("d", 2), *did("d", 2), stopped(),
            ],
            set(),
        ),
        ([worker(), stopped(), dispatched("a"), started("a", 1), *did("a", 1)], set())],
    "WORKERS-13": [
        (
            [
                worker(), dispatched("a"), started("a", 0), *did("a", 0),
                SettleRefused(move="done", owner="w", **about("a", 0)),
            ],
            set(),
        ),
        (
            [
                worker(), dispatched("a"), started("a", 0), raised("a", 0), stopped(), worker("v", process="q"),
                returned("a", 30), started("a", 30, worker="v", process="q", suspect=True),
                *did("a", 31, process="q"), stopped("v", "q"),
            ],
            set(),
        ),
        (
            [
                worker(), dispatched("a"), started("a", 0), *did("a", 0),
                WorkerStopped(worker="w", process="p", unsettled=2),
            ],
            set(),
        ),
    ],
    "QUEUES-8": [
        ([keyed("a", 0), keyed("b", 1), started("a", 1), *did("a", 2), started("b", 3), *did("b", 3)], set()),
        ([keyed("b", 1.5), started("a", 1), *did("a", 2), keyed("a", 0), started("b", 3), *did("b", 3)], set()),
        ([keyed("a", 0), keyed("b", 1), cancelled("a", 2), started("b", 3), *did("b", 3)], set()),
    ],
    "QUEUES-9": [
        ([worker(), dispatched("a"), cancelled("a", 1), started("a", 2), *did("a", 2), stopped()], {"settle fenced"}),
        ([worker(), dispatched("a"), asked("a", 1), started("a", 2), *did("a", 2), stopped()], set()),
        (
            [
                worker(), dispatched("a"), started("a", 1), asked("a", 1.5), raised("a", 2), retried("a", 2),
                started("a", 3, 2), *did("a", 3, 2), stopped(),
            ],
            set(),
        ),
    ],
    "WORKERS-21": [
        ([worker(), dispatched("a"), paused(1), started("a", 3), *did("a", 3), resumed(9), stopped()], set()),
        ([worker(), dispatched("a"), paused(1), paused(2.5), started("a", 3), *did("a", 3), stopped()], set()),
        (
            [
                worker(queues=("a", "b")), dispatched("a", queue="a"), paused(1, queue="a"), paused(2, queue="b"),
                resumed(3, queue="b"), started("a", 4, queue="a"), *did("a", 4), stopped(),
            ],
            set(),
        ),
    ],
    "WORKERS-14": [
        (ended_elsewhere(1, until=40), set()),
        (ended_elsewhere(2, until=36), set()),
        (
            [
                worker(queues=("a", "b")), dispatched("b", queue="b"), paused(1, queue="a"), paused(1.4, "w", "a"),
                started("b", 1, queue="b"), raised("b", 1), retried("b", 1), started("b", 6, 2, queue="b"),
                *did("b", 6, 2), stopped(),
            ],
            set(),
        ),
        (
            [
                worker(), dispatched("a"), started("a", 0), returned("a", 1, suspect=False, process="p"),
                started("a", 5), *did("a", 5), stopped(),
            ],
            set(),
        ),
        (
            [
                worker(threads=2), dispatched("a"), started("a", 0), raised("a", 0), retried("a", 0),
                started("a", 5, 2), *did("a", 5, 2), stopped(),
            ],
            set(),
        ),
    ],
    "RETRY-1": [
        ([dispatched("a"), started("a", 0), raised("a", 0), gave_up("a", 0, 1), recorded("a")], set()),
        (
            [
                *TWO_FAILURES, started("a", 3, 3), raised("a", 3, 3), retried("a", 3, 3),
                started("a", 6, 4), *did("a", 6, 4),
            ],
            {"no wait after the last"},
        ),
    ],
    "RETRY-2": [
        ([dispatched("a"), started("a", 0), raised("a", 0), retried("a", 0, 1, 0.5), *did("a", 9, 2)], set()),
        (
            [
                dispatched("a"), started("a", 0), raised("a", 0), retried("a", 0), started("a", 0.5, 2),
                *did("a", 1, 2),
            ],
            {"never early"},
        ),
    ],
    "RETRY-3": [
        (
            [
                *TWO_FAILURES, started("a", 3, 3), raised("a", 3, 3), retried("a", 3, 3),
                gave_up("a", 6), recorded("a"),
            ],
            set(),
        )
    ],
    "RETRY-6": [
        (
            [dispatched("a"), started("a", 0), raised("a", 5), started("a", 1, 2), *did("a", 1, 2), retried("a", 5)],
            {"settle fenced"},
        ),
        ([dispatched("a"), started("a", 0), raised("a", 0), started("a", 2, 2), *did("a", 2, 2)], set())],
    "RETRY-7": [([dispatched("a"), started("a", 0), *did("a", 0), started("a", 1)], {"starts once"})],
    "RETRY-9": [
        (
            [dispatched("a"), started("a", 0), raised("a", 0), own_wait("a", 0, wait_s, backoff), *did("a", 90, 2)],
            set(),
        )
        for backoff, wait_s in OWN_BACKOFFS_BROKEN
    ],
    "RETRY-10": [
        (
            [
                dispatched("a"), started("a", 0), raised("a", 0, gave_up=True), retried("a", 0), started("a", 1, 2),
                *did("a", 1, 2),
            ],
            set(),
        ),
        ([dispatched("a"), started("a", 0), raised("a", 0), given_up("a", 0), recorded("a")], set()),
        (
            [
                *TWO_FAILURES, started("a", 3, 3), raised("a", 3, 3, gave_up=True), gave_up("a", 3), recorded("a"),
            ],
            set(),
        ),
    ],
    "RETRY-13": [
        ([dispatched("a"), started("a", 0), *snoozed("a", 0, 5, n=1), started("a", 5, 2), *did("a", 5, 2)],
         {"attempts counted"}),
        ([dispatched("a"), started("a", 0), *snoozed("a", 0, 5, told_s=1), started("a", 5), *did("a", 5)], set()),
    ],
    "WORKERS-18": [([dispatched("a"), *trace], set()) for trace in TIME_LIMITS_BROKEN],
    "FAILURES-1": [
        (EXHAUSTED[:-1], set()),
        ([dispatched("a"), started("a", 0), *did("a", 0), recorded("a")], set()),
    ],
    "FAILURES-4": [
        (
            [
                *TWO_FAILURES, started("a", 3, 3), raised("a", 3, 3, error="no card"),
                gave_up("a", 3, error="n"), recorded("a"),
            ],
            set(),
        ),
        (
            [
                *TWO_FAILURES, returned("a", 3), started("a", 3, 3, suspect=True), died("a", 40, 3),
                gave_up("a", 40, error="e"), recorded("a"),
            ],
            set(),
        ),

        ([*EXHAUSTED[:-2], gave_up("a", 3, error="another"), recorded("a")], set()),
        ([*EXHAUSTED[:-2], gave_up("a", 3, error=""), recorded("a")], set()),
    ],
    "FAILURES-5": [([*TWO_FAILURES, gave_up("a", 3, 3), recorded("a")], set())],
    "FAILURES-9": [
        ([raised("a", 0, 0), retried("a", 0, 0), gave_up("a", 1, 0, undeliverable=True), recorded("a")], set()),
        ([raised("a", 0, 0), gave_up("a", 0, 0), recorded("a")], {"attempts bounded"}),
    ],
    "FAILURES-10": [
        ([dispatched("a"), postponed("a", 0, 0), started("a", 0), *did("a", 0)], set()),
        ([dispatched("a"), postponed("a", 0, 4), postponed("a", 4, 1), started("a", 5), *did("a", 5)], set()),
    ],
}  # fmt: skip
CASES = [(clause_id, trace, others) for clause_id, traces in BAD.items() for trace, others in traces]


@pytest.mark.parametrize("name", GOOD)
def test_a_good_trace_breaks_nothing(name: str) -> None:
    """Also where it looks odd."""
    assert judge(GOOD[name], every_predicate()) == []


@pytest.mark.parametrize(("told", "broken"), [(1, 0), (2, 1)])
def test_a_duplicate_is_missed_only_if_its_process_lived_to_tell_it(told: int, broken: int) -> None:
    """Another worker ran the follow-up that was none. ``told``: of the end and its settling."""
    keeps_both = [*keeps("a", "b"), *keeps("a", "c", unique="k")]
    trace = [dispatched("a"), started("a", 0), *keeps_both, *did("a", 0)[:told], started("b", 1, process="q")]
    assert len(judge(trace, [FollowUpsAllOrNone()])) == broken


@pytest.mark.parametrize(
    ("clause_id", "trace", "others"), CASES, ids=[f"{case[0]}-{n}" for n, case in enumerate(CASES)]
)
def test_a_bad_trace_is_rejected_by_its_clause_and_by_no_other(
    clause_id: str, trace: list[Event], others: set[str]
) -> None:
    """``others``: those that are broken with it of necessity."""
    found = judge(trace, every_predicate())
    assert {one.predicate for one in found} == {TRACE_CLAUSES[clause_id].predicate} | others
    assert all(one.job_id and one.why for one in found)


def test_every_trace_clause_has_a_bad_trace() -> None:
    """Or its predicate might never say no."""
    assert set(BAD) == set(TRACE_CLAUSES)


@pytest.mark.parametrize("clause_id", BAD)
def test_a_predicate_counts_what_it_judged(clause_id: str) -> None:
    """At least once in the trace it rejects, and never in a trace of nothing."""
    wanted = TRACE_CLAUSES[clause_id].predicate
    predicates = {one.name: one for one in every_predicate()}
    assert judge([], predicates.values()) == []
    assert predicates[wanted].judged == 0
    judge(EXHAUSTED + TAKEN_OVER + [event for trace, _ in BAD[clause_id] for event in trace], predicates.values())
    assert predicates[wanted].judged > 0
