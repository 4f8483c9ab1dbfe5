"""Predicates over types with a retry policy, and over handlers that give up or snooze."""

from __future__ import annotations

import ast
import math
from typing import Any

from kashvi.events import AttemptFailed, AttemptLost, AttemptSnoozed, JobFailed, JobSnoozed, RetryScheduled

from ..judging import Predicate, Watches

LONGEST_S = 100 * 366 * 86_400.0
TEXT_MAX = 100_000


class OwnBackoffKept(Predicate):
    """The wait after a failed attempt is what the type's own backoff says: exactly, or with jitter no longer than that.

    A function of the app's own may say anything from 0 to 100 years.
    """

    name = "own backoff kept"

    def watches(self) -> Watches:
        return {RetryScheduled: self._retried}

    def _retried(self, event: RetryScheduled) -> None:
        if not event.backoff:
            return
        self.judged += 1
        n, wait_s = event.attempts, event.wait_s
        known = (0.0, LONGEST_S) if event.backoff == "own" else _waits(event.backoff, n)
        if known is None:
            self.breaks(event.job_id, f"waits by a backoff that is none: {event.backoff[:100]!r}")
            return
        least, most = known
        if not least - least * 1e-9 <= wait_s <= most + most * 1e-9:
            span = f"{most:g} s" if least == most else f"from {least:g} to {most:g} s"
            self.breaks(event.job_id, f"waits {wait_s:g} s after attempt {n}, not {span} ({event.backoff[:100]})")


def _waits(text: str, n: int) -> tuple[float, float] | None:
    """The shortest and the longest wait after attempt n, by the backoff in an event; None if it is none."""
    try:
        name, values = _read(text)
        most = {"Linear": _linear, "Exponential": _exponential, "Fixed": _fixed, "Schedule": _schedule}[name](values, n)
        return (0.0 if values["jitter"] else most), most
    except (KeyError, TypeError, ValueError, IndexError, ArithmeticError):
        return None


def _read(text: str) -> tuple[str, dict[str, Any]]:
    """``Fixed(seconds=5.0, jitter=False)`` as a name and values. Raises ValueError."""
    if len(text) > TEXT_MAX:
        raise ValueError("too long")
    try:
        call = ast.parse(text, mode="eval").body
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name)) or call.args:
            raise ValueError("no call")
        return call.func.id, {one.arg or "": ast.literal_eval(one.value) for one in call.keywords}
    except (SyntaxError, RecursionError, MemoryError):
        raise ValueError("no expression") from None


def _linear(values: dict[str, Any], n: int) -> float:
    return float(min(n * values["step"], values["cap"]))


def _exponential(values: dict[str, Any], n: int) -> float:
    first, factor, cap = values["first"], values["factor"], values["cap"]
    return float(min(cap, math.exp(min(math.log(first) + (n - 1) * math.log(factor), 700.0))))


def _fixed(values: dict[str, Any], n: int) -> float:
    return float(values["seconds"])


def _schedule(values: dict[str, Any], n: int) -> float:
    waits = values["seconds"]
    return float(waits[n - 1] if n <= len(waits) else waits[-1])


class GivenUpAtOnce(Predicate):
    """A job is not tried again after an attempt that gave it up, and it counts as given up if and only if one did."""

    name = "given up at once"

    def __init__(self) -> None:
        super().__init__()
        self._given_up: set[tuple[str, str, int]] = set()
        """Jobs, processes and attempts. An attempt that runs there twice counts as it ended last."""
        self._lost: set[tuple[str, str, int]] = set()
        """Attempts of dead workers, whose retry follows."""

    def watches(self) -> Watches:
        return {
            AttemptFailed: self._ended, AttemptLost: self._charged, RetryScheduled: self._retried,
            JobFailed: self._failed,
        }  # fmt: skip

    def _charged(self, event: AttemptLost) -> None:
        self._lost.add((event.job_id, event.process, event.attempt))

    def _ended(self, event: AttemptFailed) -> None:
        key = event.job_id, event.process, event.attempt
        self._given_up.add(key) if event.gave_up else self._given_up.discard(key)

    def _retried(self, event: RetryScheduled) -> None:
        self.judged += 1
        key = event.job_id, event.process, event.attempts
        if key in self._lost:
            self._lost.discard(key)
        elif key in self._given_up:
            self.breaks(event.job_id, f"given up in attempt {event.attempts}, and tried again")

    def _failed(self, event: JobFailed) -> None:
        if event.undeliverable:
            return
        self.judged += 1
        given_up = (event.job_id, event.process, event.attempts) in self._given_up
        if event.gave_up != given_up:
            told = "given up, and attempt {} had not" if event.gave_up else "exhausted, and attempt {} had given it up"
            self.breaks(event.job_id, f"failed as {told.format(event.attempts)}")


class SnoozeUncounted(Predicate):
    """A job is snoozed for as long as its attempt asked, and that attempt is not counted."""

    name = "snooze uncounted"

    def __init__(self) -> None:
        super().__init__()
        self._asked: dict[tuple[str, str], set[tuple[int, float]]] = {}
        """Attempts and waits, by job and process."""

    def watches(self) -> Watches:
        return {AttemptSnoozed: self._asks, JobSnoozed: self._snoozed}

    def _asks(self, event: AttemptSnoozed) -> None:
        self._asked.setdefault((event.job_id, event.process), set()).add((event.attempt, event.wait_s))

    def _snoozed(self, event: JobSnoozed) -> None:
        self.judged += 1
        if (event.attempts + 1, event.wait_s) not in self._asked.get((event.job_id, event.process), ()):
            why = f"snoozed for {event.wait_s:g} s, {event.attempts} attempts counted, and no such attempt"
            self.breaks(event.job_id, f"{why} had asked for it")
