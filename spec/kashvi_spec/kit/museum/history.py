"""Bugs of history: what workers report, counted or shown wrongly."""

from __future__ import annotations

from kashvi.drivers.memory import MemoryDriver
from kashvi.reporting import Counts, Report

from . import Patch, exhibit


@exhibit(
    "a repeated report is counted twice",
    "its number is not looked at, so each lost reply adds attempts that never were",
    "HISTORY-1",
)
def _(patch: Patch) -> None:
    real = MemoryDriver.report

    def report(self: MemoryDriver, worker: str, n: int, minute: int, about: bytes, counts: Counts) -> bool:
        self.store.about.pop(worker, None)
        return real(self, worker, n, minute, about, counts)

    patch.setattr(MemoryDriver, "report", report)


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
    real = MemoryDriver.report

    def report(self: MemoryDriver, worker: str, n: int, minute: int, about: bytes, counts: Counts) -> bool:
        if n < self.store.about.get(worker, (0, None))[0]:
            del self.store.about[worker]
        return real(self, worker, n, minute, about, counts)

    patch.setattr(MemoryDriver, "report", report)


@exhibit(
    "a worker that is off the list reports",
    "a process that was taken for dead goes on to be counted, and is shown by its name",
    "HISTORY-2",
)
def _(patch: Patch) -> None:
    real = MemoryDriver.report

    def report(self: MemoryDriver, worker: str, n: int, minute: int, about: bytes, counts: Counts) -> bool:
        if worker in self.store.workers:
            return real(self, worker, n, minute, about, counts)
        self.store.workers[worker] = self.store.now()
        taken = real(self, worker, n, minute, about, counts)
        del self.store.workers[worker]
        return taken

    patch.setattr(MemoryDriver, "report", report)
