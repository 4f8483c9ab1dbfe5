"""Bugs of history: what workers report, counted or shown wrongly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kashvi.drivers.memory import MemoryDriver
from kashvi.reporting import Report

from . import Patch, exhibit, where


@exhibit(
    "a repeated report is counted twice",
    "the server ignores its number, so each lost reply adds attempts that never were",
    "HISTORY-1",
)
def _(patch: Patch) -> None:
    taken_for_new(patch, lambda n, last: n <= last)


@exhibit(
    "a removed worker is still shown",
    "the view reads what a worker reported without a look at the list of workers",
    "HISTORY-2",
)
def _(patch: Patch) -> None:
    def reports(self: MemoryDriver, workers: list[str]) -> dict[str, Report]:
        return {name: self.store.about[name][1] for name in workers if name in self.store.about}

    patch.setattr(MemoryDriver, "reports", reports)


@exhibit(
    "a late report counts as a new one",
    "only the number of the last one is recognised, and an older request may arrive after it",
    "HISTORY-1",
)
def _(patch: Patch) -> None:
    taken_for_new(patch, lambda n, last: n < last)


def taken_for_new(patch: Patch, wrongly: Callable[[int, int], bool]) -> None:
    """Count a report that was counted. ``wrongly``: by its number, and that of the worker's last one."""

    def known(self: MemoryDriver, worker: str, n: int, *about: Any) -> bool:
        last = self.store.about.get(worker)
        return last is not None and wrongly(n, last[0])

    def report(real: Any, self: MemoryDriver, worker: str, *about: Any) -> bool:
        del self.store.about[worker]
        return bool(real(self, worker, *about))

    where(patch, MemoryDriver, "report", known, report)


@exhibit(
    "a worker that is off the list reports",
    "a process that was taken for dead goes on to be counted, and is shown by its name",
    "HISTORY-2",
)
def _(patch: Patch) -> None:
    def report(real: Any, self: MemoryDriver, worker: str, *about: Any) -> bool:
        self.store.workers[worker] = self.store.now()
        taken = bool(real(self, worker, *about))
        del self.store.workers[worker]
        return taken

    where(patch, MemoryDriver, "report", lambda self, worker, *about: worker not in self.store.workers, report)
