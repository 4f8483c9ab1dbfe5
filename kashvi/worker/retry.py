"""Pure decisions: what follows a failed attempt, a lost attempt or an unknown type.

Attempt 1, wait 1 s, attempt 2, wait 2 s, attempt 3, then the job is exhausted. No wait follows the last attempt.
A type's own policy is asked in this order (RETRY-10): does the handler or the error's class give the job up? Was it the
last attempt? Else: how long is the wait?
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .. import retries
from ..delays import seconds_of
from ..errors import TimedOut
from ..retries import Retry

UNKNOWN_FIRST_S, UNKNOWN_MAX_S = 1.0, 10.0


@dataclass(frozen=True, slots=True)
class RetryAfter:
    """Try again ``seconds`` or more after the attempt ended. ``backoff``: whose wait it is, as events have it."""

    seconds: float
    backoff: str = ""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The job is exhausted, or given up before: record it as failed."""

    early: bool = False
    """True if the handler, or the type's policy, gave it up."""


@dataclass(frozen=True, slots=True)
class SendBack:
    """Hand the job back, uncounted, as a suspect: its process died."""


def decide(attempt: int, max_attempts: int) -> RetryAfter | GiveUp:
    """After attempt number ``attempt`` (from 1) failed: linear backoff, ``max_attempts`` in all."""
    return RetryAfter(float(attempt)) if attempt < max_attempts else GiveUp()


def decide_by(
    policy: Retry | None,
    attempt: int,
    max_attempts: int,
    error: BaseException,
    elapsed_s: float,
    chance: Callable[[], float],
) -> RetryAfter | GiveUp:
    """As ``decide``, by the type's policy. Raises InvalidDelay for a wait that is none, and what the policy raises.

    A TimedOut is tried again whatever ``retry_on`` says; what was raised too late is its cause.
    """
    late = error.__cause__ if isinstance(error, TimedOut) else None
    if isinstance(error, retries.GiveUp) or isinstance(late, retries.GiveUp):
        return GiveUp(early=True)
    if policy is None:
        return decide(attempt, max_attempts)
    unwanted = policy.retry_on is not None and not isinstance(error, policy.retry_on)
    unwanted = unwanted and not isinstance(error, TimedOut)
    if unwanted or isinstance(error, policy.give_up_on) or isinstance(late, policy.give_up_on):
        return GiveUp(early=True)
    if attempt >= max_attempts or policy.backoff is None:
        return decide(attempt, max_attempts)
    try:
        wait_s = seconds_of(policy.backoff(attempt, error, elapsed_s, chance()))
    except retries.GiveUp:
        return GiveUp(early=True)
    return RetryAfter(wait_s, retries.told(policy.backoff))


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
