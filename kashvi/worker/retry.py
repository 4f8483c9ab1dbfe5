"""Pure decisions: what follows a failed attempt, a lost attempt or an unknown type.

Attempt 1, wait 1 s, attempt 2, wait 2 s, attempt 3, then the job is exhausted. No wait follows the last attempt.
"""

from __future__ import annotations

from dataclasses import dataclass

UNKNOWN_FOR_S = 600.0
"""How long a job waits for a worker that knows its type: as long as Kubernetes waits for a stuck rollout."""
UNKNOWN_FIRST_S, UNKNOWN_MAX_S = 1.0, 10.0


@dataclass(frozen=True, slots=True)
class RetryAfter:
    """Try again ``seconds`` or more after the attempt ended."""

    seconds: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The job is exhausted: record it as failed."""


@dataclass(frozen=True, slots=True)
class SendBack:
    """Hand the job back, uncounted, as a suspect: its process died."""


def decide(attempt: int, max_attempts: int) -> RetryAfter | GiveUp:
    """After attempt number ``attempt`` (from 1) failed: linear backoff, ``max_attempts`` in all."""
    return RetryAfter(float(attempt)) if attempt < max_attempts else GiveUp()


def decide_lost(certain: bool, attempts: int, max_attempts: int) -> SendBack | RetryAfter | GiveUp:
    """After the process that held a job died.

    A process may have been killed by any of its jobs, so each becomes a suspect and no attempt is counted. The attempt
    is lost only if the job was certainly alone: announced, and no other job can have run.
    """
    return decide(attempts + 1, max_attempts) if certain else SendBack()


def decide_unknown(waited_s: float, unknown_for_s: float) -> RetryAfter | GiveUp:
    """After a worker found a job's type unknown. The job has waited ``waited_s`` for a worker that knows the type.

    Another worker may know it, while a new version is rolled out. The job waits as long again as it has waited, at
    least 1 s and at most 10 s: the wait doubles without a counter.

    """
    if waited_s >= unknown_for_s:
        return GiveUp()
    return RetryAfter(min(max(waited_s, UNKNOWN_FIRST_S), UNKNOWN_MAX_S))
