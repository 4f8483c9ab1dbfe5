"""What follows a failed or a lost attempt, or a type that is not known: pure decisions, nothing else.

Attempt 1, wait 1 s, attempt 2, wait 2 s, attempt 3, then the job is a failure. No wait follows the last attempt.
"""

from __future__ import annotations

from dataclasses import dataclass

UNKNOWN_FOR_S = 600.0
"""How long a job waits for a worker that knows its type. Kubernetes waits as long for a rollout that stands still."""
UNKNOWN_FIRST_S, UNKNOWN_MAX_S = 1.0, 10.0


@dataclass(frozen=True, slots=True)
class RetryAfter:
    """Try again, not before ``seconds`` after the attempt ended."""

    seconds: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The job is exhausted: record it as failed."""


@dataclass(frozen=True, slots=True)
class SendBack:
    """Back to the head of the queue, uncounted, as a suspect: it was in a process that died."""


def decide(attempt: int, max_attempts: int) -> RetryAfter | GiveUp:
    """After attempt number ``attempt`` (from 1) failed: linear backoff, ``max_attempts`` in all."""
    return RetryAfter(float(attempt)) if attempt < max_attempts else GiveUp()


def decide_lost(certain: bool, attempts: int, max_attempts: int) -> SendBack | RetryAfter | GiveUp:
    """After the process that held a job died.

    Mostly nobody can know which of its jobs killed it, so a job loses nothing but its innocence. An attempt is lost
    where it is certain that the job was alone: announced, and nothing else can have run.
    """
    return decide(attempts + 1, max_attempts) if certain else SendBack()


def decide_unknown(waited_s: float, unknown_for_s: float) -> RetryAfter | GiveUp:
    """After a worker found that it does not know a job's type, which no worker did for ``waited_s``.

    Another may know it, while a new version is rolled out. The job waits as long again as it has waited, from 1 s to
    10 s: that doubles, and needs no counter.
    """
    if waited_s >= unknown_for_s:
        return GiveUp()
    return RetryAfter(min(max(waited_s, UNKNOWN_FIRST_S), UNKNOWN_MAX_S))
