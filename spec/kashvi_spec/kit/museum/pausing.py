"""Bugs of pauses."""

from __future__ import annotations

from typing import Any

from kashvi.drivers.memory import MemoryDriver
from kashvi.drivers.redis import RedisDriver
from kashvi.ports import Exchange
from kashvi.worker.machine import Machine, choose

from . import Patch, exhibit, where


@exhibit("a pause is heard at the next renewal", "an idle worker goes from wait to wait", "WORKERS-21", also="QUEUES-5")
def _(patch: Patch) -> None:
    where(
        patch, Machine, "due",
        lambda self, now, due, paused=False: paused,
        lambda real, self, now, due, paused=False: real(self, now, due),
    )  # fmt: skip


@exhibit("only waits heed a pause", "an exchange claims all the same", "WORKERS-21", also="QUEUES-5")
def _(patch: Patch) -> None:
    where(patch, MemoryDriver, "exchange", lambda self, *rest: self.store.paused_at is not None, _claims_all_the_same)


def _claims_all_the_same(real: Any, self: MemoryDriver, *rest: Any) -> Exchange:
    since, self.store.paused_at = self.store.paused_at, None
    try:
        found: Exchange = real(self, *rest)
        return found
    finally:
        self.store.paused_at = since


@exhibit(
    "a resumed queue is looked at when its worker renews",
    "it stays idle after the resume",
    "WORKERS-21",
    source="BullMQ #3971: a worker that is resumed stays paused",
)
def _(patch: Patch) -> None:
    patch.setattr(choose, "asks_again", lambda state, now: False)


@exhibit(
    "a pause is of the process that makes it",
    "a worker that starts later does not know",
    "WORKERS-21",
    source="LavinMQ #446: a restart ends a pause",
)
def _(patch: Patch) -> None:
    def exchange(real: Any, self: MemoryDriver, worker: str, n: int, *rest: Any) -> Exchange:
        return real(self, worker, n, *rest) if n > 1 else _claims_all_the_same(real, self, worker, n, *rest)

    where(patch, MemoryDriver, "exchange", lambda self, worker, n, *rest: self.store.paused_at is not None, exchange)


@exhibit("a second pause begins anew", "the server says a later time than that of the pause", "COMMANDS-23")
def _(patch: Patch) -> None:
    real = RedisDriver.pause

    def pause(self: RedisDriver, queue: str = "default") -> float:
        self.resume(queue)
        return real(self, queue)

    patch.setattr(RedisDriver, "pause", pause)


@exhibit("queue:resume says so and does nothing", "the queue stays paused", "COMMANDS-23", also="COMMANDS-25")
def _(patch: Patch) -> None:
    patch.setattr(RedisDriver, "resume", lambda self, queue="default": self.paused_since() or 0.0)
