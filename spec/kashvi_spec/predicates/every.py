"""The list of all predicates: the eight basic ones, and those of finer rules."""

from __future__ import annotations

from ..judging import Predicate
from . import (
    attempts,
    cancels,
    chains,
    cron,
    follow_ups,
    hooks,
    order,
    pauses,
    policies,
    punctual,
    queues,
    suspects,
    telling,
    time_limits,
    unique,
    workers,
)  # fmt: skip
from .safety import all_predicates

OF_ONE_LIMIT = frozenset({"attempts bounded", "no wait after the last"})
"""Predicates that need the same limit of attempts from start to end."""


def every_predicate(max_attempts: int = 3, with_store: bool = True) -> list[Predicate]:
    """New predicates, for one trace. ``with_store``: True if its workers had a failure table."""
    return [
        *all_predicates(max_attempts, with_store),
        attempts.IdsUnique(),
        attempts.SettledAsItEnded(),
        attempts.AttemptsCounted(),
        attempts.StartsOnce(),
        attempts.NoWaitAfterTheLast(max_attempts),
        attempts.DoneIsDone(),
        attempts.AttemptsMade(),
        attempts.LastErrorKept(),
        attempts.UndeliverableAtOnce(),
        attempts.UnknownTypesWait(),
        policies.OwnBackoffKept(),
        policies.GivenUpAtOnce(),
        policies.SnoozeUncounted(),
        time_limits.TimeLimitsKept(),
        hooks.HooksSaveNothing(),
        follow_ups.FollowUpsAllOrNone(),
        chains.ChainsInOrder(),
        order.DueOrder(),
        queues.OwnQueue(),
        unique.OneJobAKey(),
        pauses.PausesKept(),
        cancels.CancelledStays(),
        cron.EachTickOnce(),
        workers.ThreadsBounded(),
        workers.SilentAfterStop(),
        workers.LeaseKept(),
        suspects.SuspectsAlone(),
        suspects.FreshKeptOut(),
        suspects.FirstDeathFree(),
        suspects.ChargedAlone(),
        suspects.ExcusedForAReason(),
        telling.EachEndSettled(),
        punctual.InTime(),
    ]
