"""Bugs of the commands that know named queues: wrong queues served, paused or counted, and failures sent elsewhere."""

from __future__ import annotations

from typing import Any

from kashvi import queued, retrying
from kashvi.cli import pausing, work
from kashvi.drivers.redis import RedisDriver
from kashvi.jobs import envelope
from kashvi.named import QueueStats
from kashvi.ports import Shown

from . import Patch, exhibit
from .commands import working


@exhibit(
    "--queue is not heeded", "the worker serves the default queue alone", "COMMANDS-24", also="COMMANDS-25 COMMANDS-26"
)
def _(patch: Patch) -> None:
    working(patch, queues="default")


@exhibit("weights are an order", "the first queue starves the others", "COMMANDS-24")
def _(patch: Patch) -> None:
    real = work.work.callback
    assert real is not None

    def ordered(*, queues: str, **options: Any) -> None:
        real(queues=",".join(part.partition(":")[0] for part in queues.split(",")), **options)

    patch.setattr(work.work, "callback", ordered)


@exhibit("queues of the dead are served", "whatever became of their workers", "COMMANDS-25")
def _(patch: Patch) -> None:
    real = RedisDriver.queue_stats

    def queue_stats(self: RedisDriver) -> dict[str, QueueStats]:
        told = self._server.call("HVALS", self._serves)
        serves = {name.decode() for names in told for name in names.split(b",")}
        return {name: one._replace(served=one.served or name in serves) for name, one in real(self).items()}

    patch.setattr(RedisDriver, "queue_stats", queue_stats)


@exhibit("a pause has no name", "to pause one queue is to pause the default one", "COMMANDS-25")
def _(patch: Patch) -> None:
    real = pausing.pause.callback
    assert real is not None
    patch.setattr(pausing.pause, "callback", lambda queue, **options: real(queue="default", **options))


@exhibit("what failed goes to the default queue", "whatever queue it came from", "COMMANDS-26")
def _(patch: Patch) -> None:
    patch.setattr(retrying, "queue_of", lambda column, extra: "default")


@exhibit("bytes that are no job lose their queue", "their row does not name it", "COMMANDS-26")
def _(patch: Patch) -> None:
    real = envelope.wrap_garbage
    patch.setattr(envelope, "wrap_garbage", lambda raw, job_id, error, queue="default": real(raw, job_id, error))


@exhibit(
    "the newest job is shown first",
    "a list read from its left end",
    "COMMANDS-20",
    also="QUEUES-11 COMMANDS-27 QUEUES-7",
)
def _(patch: Patch) -> None:
    def shown(self: RedisDriver, key: Any, first: int, last: int, worker: str = "") -> list[Shown]:
        return [Shown(raw, worker=worker) for raw in self._server.call("LRANGE", key, first, last)]

    patch.setattr(RedisDriver, "_shown", shown)


@exhibit("bytes that are no job are left out of a list", "an operator does not see what is stuck there", "COMMANDS-20")
def _(patch: Patch) -> None:
    real = queued.jobs

    def jobs(*words: Any) -> list[queued.QueuedJob]:
        return [job for job in real(*words) if job.type]

    patch.setattr(queued, "jobs", jobs)
