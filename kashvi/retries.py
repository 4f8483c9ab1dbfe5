"""Retry policies: how often the jobs of a type are tried, after which waits, and after which errors no more.

    @queue.job("jobs.ChargeCard", retry=Retry(attempts=5, backoff=Exponential(first=2, cap=600, jitter=True)))

A policy is code of the worker: the one that ran the attempt asks its own (RETRY-12). What a policy leaves open is as
for types without one: the queue's limit of attempts, and n seconds after failed attempt n.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from .delays import DELAY_MAX_S, seconds_of
from .errors import InvalidDelay, InvalidSetting

ATTEMPTS_MAX = 2**31 - 1
LEAST_S = 1e-6

Backoff = Callable[[int, BaseException, float, float], float | timedelta]
"""``backoff(attempt, error, elapsed_s, chance)``: the wait in seconds after failed attempt number ``attempt`` (from 1).

``error`` is what ``handle()`` raised, ``elapsed_s`` how long the attempt took, ``chance`` a random number from 0 to
below 1. It may raise GiveUp. It is called in a worker's thread, maybe in several at a time.
"""


class GiveUp(Exception):
    """``raise GiveUp("why")`` in ``handle()`` or in a backoff: the job fails at once, whatever its limit (RETRY-10)."""


class Snooze(Exception):
    """``raise Snooze(60)`` in ``handle()``: the job waits that time (seconds or a timedelta), uncounted.

    Raises InvalidDelay for a time that is not from 0 to 100 years (RETRY-13, RETRY-14).
    """

    def __init__(self, delay: float | timedelta) -> None:
        self.seconds = seconds_of(delay)
        super().__init__(f"for {self.seconds:g} s")


@dataclass(frozen=True, slots=True)
class Linear:
    """``step`` seconds after the first attempt, twice as many after the second, and so on; at most ``cap``.

    ``jitter``: the wait is anywhere from 0 to that. Raises InvalidSetting.
    """

    step: float = 1.0
    cap: float = DELAY_MAX_S
    jitter: bool = False

    def __post_init__(self) -> None:
        _check_waits(self, "step", "cap")

    def __call__(self, attempt: int, error: BaseException, elapsed_s: float, chance: float) -> float:
        return _shaken(self.jitter, min(self.step * attempt, self.cap), chance)


@dataclass(frozen=True, slots=True)
class Exponential:
    """``first`` seconds after the first attempt, and ``factor`` times as many after each further one; at most ``cap``.

    ``jitter``: the wait is anywhere from 0 to that. Raises InvalidSetting.
    """

    first: float = 1.0
    factor: float = 2.0
    cap: float = 3600.0
    jitter: bool = False

    def __post_init__(self) -> None:
        _check_waits(self, "first", "cap")
        if self.first < LEAST_S:
            raise InvalidSetting("first of Exponential", self.first, "a microsecond or more; Fixed(0) does not wait")
        if not _is_number(self.factor) or not 1 <= self.factor <= DELAY_MAX_S:
            raise InvalidSetting("factor of Exponential", self.factor, "a number from 1")
        object.__setattr__(self, "factor", float(self.factor))

    def __call__(self, attempt: int, error: BaseException, elapsed_s: float, chance: float) -> float:
        try:
            wait_s = min(self.first * self.factor ** (attempt - 1), self.cap)
        except OverflowError:
            wait_s = self.cap
        return _shaken(self.jitter, wait_s, chance)


@dataclass(frozen=True, slots=True)
class Fixed:
    """The same wait after each attempt. ``jitter``: it is anywhere from 0 to that. Raises InvalidSetting."""

    seconds: float
    jitter: bool = False

    def __post_init__(self) -> None:
        _check_waits(self, "seconds")

    def __call__(self, attempt: int, error: BaseException, elapsed_s: float, chance: float) -> float:
        return _shaken(self.jitter, self.seconds, chance)


@dataclass(frozen=True, slots=True, init=False)
class Schedule:
    """``Schedule(1, 5, 60)``: the seconds after the first attempt, the second …; the last ones after all further ones.

    It does not set how many attempts there are. ``jitter``: the wait is anywhere from 0 to that. Raises InvalidSetting.
    """

    seconds: tuple[float, ...]
    jitter: bool

    def __init__(self, *seconds: float | timedelta, jitter: bool = False) -> None:
        if not seconds:
            raise InvalidSetting("Schedule", "()", "one wait or more, such as Schedule(1, 5, 60)")
        waits = tuple(_wait_of(f"wait {n} of Schedule", one) for n, one in enumerate(seconds, 1))
        object.__setattr__(self, "seconds", waits)
        object.__setattr__(self, "jitter", jitter)
        _check_jitter(self)

    def __call__(self, attempt: int, error: BaseException, elapsed_s: float, chance: float) -> float:
        return _shaken(self.jitter, self.seconds[min(attempt, len(self.seconds)) - 1], chance)


KINDS = (Linear, Exponential, Fixed, Schedule)


@dataclass(frozen=True, slots=True)
class Retry:
    """A job type's retry policy. Raises InvalidSetting.

    attempts: how often a job is tried in all; None: as ``set_max_retry`` says.
    backoff: Linear, Exponential, Fixed, Schedule or a function as ``Backoff`` describes; None: ``Linear()``.
    retry_on: an exception class or several; after any other error the job fails at once. None: all are tried again.
    give_up_on: an exception class or several, after which the job fails at once.
    """

    attempts: int | None = None
    backoff: Backoff | None = None
    retry_on: type[BaseException] | tuple[type[BaseException], ...] | None = None
    give_up_on: type[BaseException] | tuple[type[BaseException], ...] = ()

    def __post_init__(self) -> None:
        n = self.attempts
        if n is not None and (isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= ATTEMPTS_MAX):
            raise InvalidSetting("attempts of Retry (in all)", n, "a whole number, 1 or more; 1 means no retry")
        if self.backoff is not None:
            _check_backoff(self.backoff)
        if self.retry_on is not None:
            object.__setattr__(self, "retry_on", _classes("retry_on", self.retry_on))
            if not self.retry_on:
                raise InvalidSetting("retry_on of Retry", (), "one exception class or more; attempts=1 means no retry")
        object.__setattr__(self, "give_up_on", _classes("give_up_on", self.give_up_on))


def checked(retry: object) -> Retry | None:
    """The policy given for a type, or None. Raises InvalidSetting for anything else."""
    if retry is None or isinstance(retry, Retry):
        return retry
    raise InvalidSetting("retry", retry, "a policy, such as retry=Retry(attempts=5), of kashvi.retries")


def told(backoff: Backoff | None) -> str:
    """A backoff in an event: empty for the default, its ``repr`` for one of the library, else ``own``."""
    return "" if backoff is None else repr(backoff) if type(backoff) in KINDS else "own"


def _shaken(jitter: bool, wait_s: float, chance: float) -> float:
    return wait_s * chance if jitter else wait_s


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _wait_of(name: str, value: object) -> float:
    try:
        return seconds_of(value)
    except InvalidDelay:
        raise InvalidSetting(name, value, "from 0 seconds to 100 years (a number of seconds or a timedelta)") from None


def _check_waits(backoff: Any, *names: str) -> None:
    for name in names:
        seconds = _wait_of(f"{name} of {type(backoff).__name__}", getattr(backoff, name))
        object.__setattr__(backoff, name, seconds)
    _check_jitter(backoff)


def _check_jitter(backoff: Any) -> None:
    if not isinstance(backoff.jitter, bool):
        raise InvalidSetting(f"jitter of {type(backoff).__name__}", backoff.jitter, "True or False")


def _check_backoff(backoff: object) -> None:
    wanted = "Linear(), Exponential(), Fixed(…), Schedule(…) or a function(attempt, error, elapsed_s, chance) → seconds"
    if isinstance(backoff, type):
        raise InvalidSetting("backoff of Retry", backoff, f"an instance, {backoff.__name__}(…)")
    if not callable(backoff) or inspect.iscoroutinefunction(backoff):
        raise InvalidSetting("backoff of Retry", backoff, wanted)
    try:
        signature = inspect.signature(backoff)
    except (TypeError, ValueError):
        return  # of a builtin
    try:
        signature.bind(1, ValueError(), 0.0, 0.0)
    except TypeError:
        raise InvalidSetting("backoff of Retry", backoff, wanted) from None


def _classes(name: str, given: object) -> tuple[type[BaseException], ...]:
    several = tuple(given) if isinstance(given, tuple | list | set | frozenset) else (given,)
    for one in several:
        if not (isinstance(one, type) and issubclass(one, BaseException)):
            raise InvalidSetting(f"{name} of Retry", one, "an exception class, or several in a tuple")
    return several
