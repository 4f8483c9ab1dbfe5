"""The recorder's calls, one in each step: it is run again, and the calls that were made before answer as they did."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kashvi.errors import DriverError
from kashvi.ports import Failure, Refusal, Unrecorded

from .choices import Died, Suspended
from .shell import Shells
from .state import State

Call = Callable[[Callable[[], Any], bool], Any]
"""Makes a call, which may be lost; whether a death there makes a difference."""


class Calls:
    """A recorder's driver and its table: each step makes one call, after those that were ``made``."""

    prefix = None

    def __init__(self, call: Call, state: State, shells: Shells, made: tuple[Any, ...]) -> None:
        self.made = made
        self.suspended = self.died = False
        assert shells.driver is not None
        self._call, self._driver, self._state, self._shells, self._at = call, shells.driver, state, shells, 0
        self._shells.deaf = bool(made)

    def _next(self, effect: Callable[[], Any], matters: bool) -> Any:
        at, self._at = self._at, self._at + 1
        if at < len(self.made):
            answer = self.made[at]
        elif self.suspended or (at and not self._shells.deaf):
            self.suspended = self._shells.deaf = True
            raise Suspended
        else:
            self._shells.deaf = False
            try:
                answer = self._call(effect, matters)
            except Died:
                self.died = self.suspended = self._shells.deaf = True
                raise
            except DriverError as error:
                answer = error
            self.made = (*self.made, answer)
        if isinstance(answer, DriverError):
            raise answer
        return answer

    def unrecorded(self, limit: int, skip: int = 0) -> list[Unrecorded]:
        return self._next(lambda: self._driver.unrecorded(limit, skip), False)  # type: ignore[no-any-return]

    def record(self, failures: list[Failure]) -> dict[str, Refusal]:
        def insert() -> None:
            self._state.table |= {one.job_id for one in failures}

        self._next(insert, True)
        return {}

    def recorded(self, envelopes: list[bytes]) -> None:
        self._next(lambda: self._driver.recorded(envelopes), True)
