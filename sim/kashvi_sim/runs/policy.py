"""A retry policy in TOML, of a workload's job or of a clause's example."""

from __future__ import annotations

import builtins
from datetime import timedelta
from typing import Annotated, Any

import msgspec

from kashvi import retries
from kashvi.errors import InvalidSetting
from kashvi.retries import Backoff, Retry

KINDS: dict[str, Any] = {
    "linear": retries.Linear, "exponential": retries.Exponential, "fixed": retries.Fixed,
}  # fmt: skip


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``{ attempts = 5, backoff = { kind = "exponential", first = 2.0 }, give_up_on = ["ValueError"] }``.

    ``backoff``: kind is linear, exponential, fixed or schedule with their values (``schedule``: ``seconds`` is a list),
    or own, a function with these ``answers`` in turn, of which "raise" and "give up" are raised.
    """

    attempts: Annotated[int, msgspec.Meta(ge=1)] | None = None
    backoff: dict[str, Any] | None = None
    retry_on: tuple[str, ...] | None = None
    give_up_on: tuple[str, ...] = ()

    def made(self) -> Retry:
        """The policy. Raises InvalidSetting."""
        backoff = None if self.backoff is None else _backoff(dict(self.backoff))
        retry_on = None if self.retry_on is None else tuple(map(_exception, self.retry_on))
        return Retry(self.attempts, backoff, retry_on, tuple(map(_exception, self.give_up_on)))


def _backoff(values: dict[str, Any]) -> Backoff:
    kind = values.pop("kind", None)
    try:
        if kind == "own":
            return _own(**values)
        if kind == "schedule":
            return retries.Schedule(*values.pop("seconds"), **values)
        made: Backoff = KINDS[kind](**values)
        return made
    except (KeyError, TypeError) as error:
        wanted = "linear, exponential, fixed, schedule or own, with its values (sim/README.md has the format)"
        raise InvalidSetting("backoff", {"kind": kind} | values, wanted) from error


def _own(answers: list[Any]) -> Backoff:
    def backoff(attempt: int, error: BaseException, elapsed_s: float, chance: float) -> float | timedelta:
        answer: Any = answers[min(attempt, len(answers)) - 1]
        if answer == "raise":
            raise LookupError("no such tenant")
        if answer == "give up":
            raise retries.GiveUp("the backoff knows better")
        return answer  # type: ignore[no-any-return]

    return backoff


def _exception(name: str) -> type[BaseException]:
    found = getattr(retries if name == "GiveUp" else builtins, name, None)
    if not (isinstance(found, type) and issubclass(found, BaseException)):
        raise InvalidSetting("an exception of a policy", name, "the name of one of Python's own, such as ValueError")
    return found
