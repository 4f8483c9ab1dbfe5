"""A runtime in which nothing runs at the same time, and whose time is that of a state."""

from __future__ import annotations

from collections.abc import Callable

from kashvi.worker.machine.state import ALL
from kashvi.worker.machine.steps import SECOND


class Bell:
    """A condition of a world in which nothing runs at the same time. It notes who is called."""

    def __init__(self) -> None:
        self.called = 0

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        """Do nothing."""

    def __enter__(self) -> bool:
        return True

    def __exit__(self, *error: object) -> None:
        """Do nothing."""

    def wait(self, seconds: float | None = None) -> bool:
        return False

    def notify(self, n: int = 1) -> None:
        self.called = self.called if self.called == ALL else self.called + n

    def notify_all(self) -> None:
        self.called = ALL


class Still:
    """A runtime whose time is that of the state."""

    def __init__(self) -> None:
        self.at = 0

    def now(self) -> float:
        return self.at / SECOND

    def monotonic(self) -> float:
        return self.at / SECOND

    def sleep(self, seconds: float) -> None:
        """Do nothing: steps take no time."""

    def condition(self) -> Bell:
        return Bell()

    def new_id(self) -> str:
        raise AssertionError("every job here has an id")

    def random(self) -> float:
        return 0.0

    def process(self) -> int:
        return 1

    def thread(self) -> int:
        return 1

    def frame(self, thread: int) -> None:
        return None

    def closing(self) -> bool:
        return False

    def interruptible(self) -> bool:
        return False

    def at_fork(self, run: Callable[[], None]) -> None:
        """Do nothing."""
