"""Bugs of cancelled jobs: they slip by the search, come back, or are told to be failures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from kashvi import cancelling
from kashvi.cli import cancelling as command
from kashvi.drivers.memory import MemoryDriver
from kashvi.ports import Settlement

from . import Patch, exhibit, where


@exhibit(
    "a cancel is only a search",
    "a job that runs meanwhile is tried again",
    "QUEUES-9",
    source="Celery: revoke reaches the workers that listen at that moment",
    also="DELIVERY-1 DISPATCH-1 QUEUES-10",
)
def _(patch: Patch) -> None:
    where(patch, MemoryDriver, "_ends", lambda self, s: True, lambda real, self, s: False)


@exhibit("only a retry looks at the marks", "a takeover makes a cancelled job ready again", "QUEUES-9")
def _(patch: Patch) -> None:
    where(patch, MemoryDriver, "_ends", lambda self, s: s.move == "return", lambda real, self, s: False)


@exhibit("a cancelled job that fails is recorded", "an operator sends it back from the table", "QUEUES-9", also="")
def _(patch: Patch) -> None:
    where(patch, MemoryDriver, "_ends", lambda self, s: s.move in ("retry", "fail"), _as_failed)


def _as_failed(real: Any, self: MemoryDriver, s: Settlement) -> bool:
    if s.move == "retry" and s.job_id in self.store.marks:
        self.store.unrecorded[s.new] = self.store.now()
    return bool(real(self, s))


@exhibit(
    "a cancel does not look among delayed jobs", "they run when they are due", "QUEUES-9 QUEUES-10", also="COMMANDS-30"
)
def _(patch: Patch) -> None:
    def found(real: Any, driver: Any, job_id: str, where_: str, queue: str) -> Iterator[Any]:
        return iter(())

    where(patch, cancelling, "found", lambda driver, job_id, place, queue: place == "delayed", found)


@exhibit("a cancelled job keeps its key", "no other one with it can ever be dispatched", "QUEUES-10")
def _(patch: Patch) -> None:
    def take_out(real: Any, self: MemoryDriver, job_id: str, place: Any, queue: str, raw: bytes, lock: Any) -> Any:
        return real(self, job_id, place, queue, raw, ("", ""))

    where(patch, MemoryDriver, "take_out", lambda self, *rest: True, take_out)


@exhibit("a cancelled link sends the next one", "the rest of the chain goes on", "QUEUES-10", also="QUEUES-9")
def _(patch: Patch) -> None:
    where(patch, MemoryDriver, "_ends", lambda self, s: s.move == "done", lambda real, self, s: False)


@exhibit("queue:cancel exits with 0 whatever it finds", "a script believes that a job is cancelled", "COMMANDS-27")
def _(patch: Patch) -> None:
    def ends_well(real: Any, **options: Any) -> None:
        with suppress(SystemExit):
            real(**options)

    where(patch, command.cancel, "callback", lambda **options: True, ends_well)


@exhibit("queue:cancel takes the first id alone", "the others are forgotten without a word", "COMMANDS-27")
def _(patch: Patch) -> None:
    def first(real: Any, job_ids: tuple[str, ...], **options: Any) -> None:
        real(job_ids=job_ids[:1], **options)

    where(patch, command.cancel, "callback", lambda job_ids, **options: True, first)
