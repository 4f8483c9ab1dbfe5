"""Each safety predicate accepts a good trace and rejects a bad one, by its name and by no other."""

from __future__ import annotations

import pytest
from kashvi_spec.predicates.safety import all_predicates, judge

from kashvi.events import (
    AttemptStarted,
    AttemptSucceeded,
    Event,
    FailureRecorded,
    JobDispatched,
    JobFailed,
    JobPostponed,
    JobReturned,
    JobSucceeded,
    RetryScheduled,
)


def dispatched(job_id: str, due: float | None = None) -> Event:
    return JobDispatched(job_id=job_id, type="t", due=due)


def started(job_id: str, at: float, attempt: int = 1) -> Event:
    return AttemptStarted(job_id=job_id, type="t", server_at=at, attempt=attempt, worker="w", claim="exchange")


def succeeded(job_id: str, at: float, attempts: int = 1) -> Event:
    return JobSucceeded(job_id=job_id, type="t", server_at=at, attempts=attempts)


def whole(trace: list[Event]) -> list[Event]:
    """With the success of the attempt before each success of a job that had one."""
    found: list[Event] = []
    for event in trace:
        if isinstance(event, JobSucceeded) and event.attempts:
            found.append(AttemptSucceeded(job_id=event.job_id, type="t", attempt=event.attempts, duration_s=0.0))
        found.append(event)
    return found


def retried(job_id: str, at: float, attempts: int, wait_s: float | None = None) -> Event:
    wait_s = attempts if wait_s is None else wait_s
    return RetryScheduled(job_id=job_id, type="t", server_at=at, attempts=attempts, wait_s=wait_s, due=at + wait_s)


def failed(job_id: str, at: float, attempts: int = 3) -> Event:
    return JobFailed(job_id=job_id, type="t", server_at=at, attempts=attempts, max_attempts=3, error="e")


def recorded(job_id: str) -> Event:
    return FailureRecorded(job_id=job_id, type="t")


def postponed(job_id: str, at: float) -> Event:
    return JobPostponed(job_id=job_id, type="t", server_at=at, attempts=0, wait_s=1.0, due=at + 1.0)


def returned(job_id: str, at: float) -> Event:
    return JobReturned(job_id=job_id, type="t", server_at=at, owner="w", suspect=False)


EXHAUSTED = [
    dispatched("a"),
    started("a", 0),
    retried("a", 0, 1),
    started("a", 1, 2),
    retried("a", 1, 2),
    started("a", 3, 3),
    failed("a", 3),
]
GOOD = {
    "an exhausted job": [*EXHAUSTED, recorded("a")],
    "a delayed job": [dispatched("a", 5), started("a", 5), succeeded("a", 5)],
    "a job that runs twice after a lease": [
        dispatched("a"), started("a", 0), returned("a", 30), started("a", 31), succeeded("a", 31),
    ],
    "a settlement told of late": [dispatched("a"), started("a", 0), succeeded("a", 9), retried("a", 1, 1)],
    "a job that no worker knew yet": [
        dispatched("a"), dispatched("b"), postponed("a", 0), started("b", 0), succeeded("b", 0), started("a", 1),
        succeeded("a", 1),
    ],
    "two in order": [
        dispatched("a"), dispatched("b"), started("a", 0), started("b", 1), succeeded("a", 1), succeeded("b", 1),
    ],
}  # fmt: skip
BAD = {
    "none lost": ([dispatched("a"), started("a", 0)], {"none lost", "drains"}),
    "none lost, settled before it was done": (
        [dispatched("a"), succeeded("a", 0, attempts=0)],
        {"none lost"},
    ),
    "never early": ([dispatched("a", 5), started("a", 4.999), succeeded("a", 5)], {"never early"}),
    "attempts bounded": ([*EXHAUSTED[:-1], retried("a", 3, 3), started("a", 6, 4), succeeded("a", 6)], None),
    "attempts bounded, too few": ([*EXHAUSTED[:2], failed("a", 0, 1), recorded("a")], {"attempts bounded"}),
    "backoff kept": (
        [dispatched("a"), started("a", 0), retried("a", 0, 1, 0.5), started("a", 0.5, 2), succeeded("a", 1)],
        {"backoff kept"},
    ),
    "recorded iff exhausted, not at all": (EXHAUSTED, {"recorded iff exhausted"}),
    "recorded iff exhausted, succeeded": (
        [dispatched("a"), started("a", 0), succeeded("a", 0), recorded("a")],
        {"recorded iff exhausted"},
    ),
    "settle fenced": ([dispatched("a"), succeeded("a", 1), retried("a", 2, 1)], {"settle fenced"}),
    "settle fenced, two ends": ([dispatched("a"), succeeded("a", 1), succeeded("a", 1)], {"settle fenced"}),
    "drains": ([dispatched("a"), started("a", 0), retried("a", 0, 1)], {"none lost", "drains"}),
    "FIFO": (
        [
            dispatched("a"), dispatched("b"), started("b", 0), started("a", 1), succeeded("a", 1), succeeded("b", 1),
        ],
        {"FIFO"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_a_good_trace_violates_nothing(name: str) -> None:
    """Legal variants included."""
    assert judge(whole(GOOD[name]), all_predicates()) == []


@pytest.mark.parametrize("name", BAD)
def test_a_bad_trace_violates_its_predicate(name: str) -> None:
    """With a sentence that says how."""
    trace, wanted = BAD[name]
    found = judge(whole(trace), all_predicates())
    assert name.partition(",")[0] in {violation.predicate for violation in found}
    assert wanted is None or {violation.predicate for violation in found} == wanted
    assert all(violation.why and violation.job_id == "a" for violation in found)
