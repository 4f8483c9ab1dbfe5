"""The choices of a step, and what may end it before its time."""

from __future__ import annotations

from kashvi_spec.judging import Violation


class Broken(Exception):
    """A promise is."""

    def __init__(self, predicate: str, job_id: str, why: str) -> None:
        super().__init__(why)
        self.violation = Violation(predicate, job_id, why)


class Died(BaseException):
    """The process dies here."""


class Suspended(BaseException):
    """The recorder goes on in another step."""


class Choices:
    """The choices of one step, enumerated: the step is made once for each way through them."""

    def __init__(self) -> None:
        self._given: list[int] = []
        self._sizes: list[int] = []
        self._at = 0

    def of(self, n: int) -> int:
        if self._at == len(self._given):
            self._given.append(0)
            self._sizes.append(n)
        self._at += 1
        return self._given[self._at - 1]

    def next(self) -> bool:
        """Go to the next way; False if there is none."""
        while self._given and self._given[-1] + 1 == self._sizes[-1]:
            self._given.pop()
            self._sizes.pop()
        if self._given:
            self._given[-1] += 1
        self._at = 0
        return bool(self._given)
