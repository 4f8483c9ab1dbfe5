"""The workers of a world that have cron entries: a leap of time ends before their next look."""

from __future__ import annotations

from kashvi.worker.ticker import Ticker

from .kernel import Kernel
from .runtime import SimRuntime


class Tickers:
    """Of the processes that are alive."""

    def __init__(self) -> None:
        self._all: list[tuple[SimRuntime, Ticker]] = []
        self._stopped = False

    def add(self, process: SimRuntime, ticker: Ticker) -> None:
        self._all.append((process, ticker))
        if self._stopped:
            ticker.stop()

    def next_at(self, now: float, end: float) -> float:
        """When the first of them looks again, or ``end`` if that comes before."""
        self._all = [one for one in self._all if not one[0].dead]
        return min((now + ticker.next_s() for _, ticker in self._all), default=end)

    def over(self) -> bool:
        """From now on there are no more ticks; true if no call is under way: it would leave jobs behind a run."""
        self._stopped = True
        for _, ticker in self._all:
            ticker.stop()
        return not any(
            task.is_alive() and task.name.endswith("/kashvi-cron")
            for process, _ in self._all if not process.dead
            for task in process.tasks
        )  # fmt: skip

    def leap(self, kernel: Kernel, seconds: float) -> None:
        """Time leaps, and they look again."""
        kernel.leap(seconds)
        for _, ticker in self._all:
            ticker.ring()
