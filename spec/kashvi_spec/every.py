"""Every predicate a clause names: the eight on which all rests, and those of the finer rules."""

from __future__ import annotations

from . import attempts, order, punctual, suspects, telling, workers
from .judging import Predicate
from .predicates import all_predicates

OF_ONE_LIMIT = frozenset({"attempts bounded", "no wait after the last"})
"""Predicates that take the limit of attempts for the same from start to end."""


def every_predicate(max_attempts: int = 3, with_store: bool = True) -> list[Predicate]:
    """Fresh ones, for one trace. ``with_store``: whether its workers had a failure table."""
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
        order.DueOrder(),
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
