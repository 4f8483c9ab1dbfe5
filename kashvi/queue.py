"""``from kashvi import queue``, the documented package: functions on one default queue.

It takes ``KASHVI_REDIS_URL`` and ``KASHVI_DATABASE_URL`` from the environment at first use. A program that wants
several queues makes ``Queue`` objects (``queues.py``), with the same methods.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .drivers.memory import MemoryDriver
from .failures.recent import FailedJob
from .ports import Driver, FailureStore
from .queues import Queue
from .registry import Registry
from .trace import TraceFile

if TYPE_CHECKING:
    from .dispatch import Outgoing, Sealed, TraceHook
    from .drivers.redis import RedisDriver
    from .failures.table import FailedJobRecord
    from .queued import QueuedJob, QueueState
    from .worker import Limits
    from .worker.hooks import Attempt, Hook
    from .worker.pool import Workers


class MemoryQueueWarning(UserWarning):
    """A job was dispatched to the default in-memory queue of a process that runs no workers."""


class _DefaultQueue(Queue):
    """The queue behind this module's functions. Settings not made come from the environment at first use."""

    _asked = False

    def _forked(self) -> None:
        super()._forked()
        self._asked = False

    def _default_driver(self) -> Driver:
        if url := os.environ.get("KASHVI_REDIS_URL"):
            from .drivers.redis import RedisDriver

            return RedisDriver(url)
        return super()._default_driver()

    def _push(self, sealed: Sequence[Sealed], delay_s: float) -> Sequence[str]:
        if not self._asked:
            self._asked = True
            if not (self._worked or self._driver_set) and isinstance(self.driver, MemoryDriver):
                warnings.warn(
                    "this job went to an in-memory queue, and no worker runs in this process: set KASHVI_REDIS_URL or "
                    "call queue.set_driver(queue.RedisDriver(...)); to mean memory, "
                    "queue.set_driver(queue.MemoryDriver())",
                    MemoryQueueWarning,
                    stacklevel=3,
                )
        return super()._push(sealed, delay_s)

    @property
    def store(self) -> FailureStore | None:
        if self._store is None and (url := os.environ.get("KASHVI_DATABASE_URL")):
            self.use_db(url)
            self._store_set = False
        return self._store


_default = _DefaultQueue()

job = _default.job
register = _default.register
dispatch = _default.dispatch
dispatch_after = _default.dispatch_after
dispatch_many = _default.dispatch_many
adispatch = _default.adispatch
adispatch_after = _default.adispatch_after
adispatch_many = _default.adispatch_many
chain = _default.chain
achain = _default.achain
cron = _default.cron
schedule = _default.schedule
forget_ticks = _default.forget_ticks
set_driver = _default.set_driver
set_max_retry = _default.set_max_retry
use_db = _default.use_db
outbox = _default.outbox
failed_jobs = _default.failed_jobs
observe = _default.observe
around = _default.around
tracing = _default.tracing
stats = _default.stats
queue_stats = _default.queue_stats
jobs = _default.jobs
cancel = _default.cancel
pause = _default.pause
resume = _default.resume
paused_since = _default.paused_since
start_workers = _default.start_workers
work = _default.work


def default() -> Queue:
    """The queue these functions act on."""
    return _default


def __getattr__(name: str) -> Any:
    """A name that only some programs need, imported at first use."""
    if name == "RedisDriver":
        from .drivers.redis import RedisDriver

        return RedisDriver
    if name == "FailedJobRecord":
        from .failures.table import FailedJobRecord

        return FailedJobRecord
    if name in ("Outgoing", "TraceHook"):
        from . import dispatch

        return getattr(dispatch, name)
    if name in ("Attempt", "Hook"):
        from .worker import hooks

        return getattr(hooks, name)
    if name == "Limits":
        from .worker import Limits

        return Limits
    if name in ("QueuedJob", "QueueState"):
        from . import queued

        return getattr(queued, name)
    if name == "Workers":
        from .worker.pool import Workers

        return Workers
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "Attempt",
    "FailedJob",
    "FailedJobRecord",
    "Hook",
    "Limits",
    "MemoryDriver",
    "MemoryQueueWarning",
    "Outgoing",
    "Queue",
    "QueueState",
    "QueuedJob",
    "RedisDriver",
    "Registry",
    "TraceFile",
    "TraceHook",
    "Workers",
    "achain",
    "adispatch",
    "adispatch_after",
    "adispatch_many",
    "around",
    "cancel",
    "chain",
    "cron",
    "default",
    "dispatch",
    "dispatch_after",
    "dispatch_many",
    "failed_jobs",
    "forget_ticks",
    "job",
    "jobs",
    "observe",
    "outbox",
    "pause",
    "paused_since",
    "queue_stats",
    "register",
    "resume",
    "schedule",
    "set_driver",
    "set_max_retry",
    "start_workers",
    "stats",
    "tracing",
    "use_db",
    "work",
]
