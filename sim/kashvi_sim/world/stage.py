"""Runs handlers of a simulated process: ordinary code, called by the production worker, in the process's own time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from kashvi.jobs.codec import Job, JobType
from kashvi.names import DEFAULT
from kashvi.registry import Registry
from kashvi.retries import Retry
from kashvi.unique import Unique

from .runtime import SimRuntime

if TYPE_CHECKING:
    from .world import World


class Stage(Registry):
    """The registry of one process, over the world's job types."""

    def __init__(self, world: World, process: SimRuntime) -> None:
        super().__init__()
        self._world = world
        self._process = process
        self._staged: dict[str, _Staged] = {}
        self.time_limits = world.registry.time_limits

    def register(
        self,
        name: str,
        factory: Callable[[], Job] | type[Job],
        retry: Retry | None = None,
        timeout: float | timedelta | None = None,
        queue: str = DEFAULT,
        unique: Unique = False,
    ) -> None:
        self._world.registry.register(name, factory, retry, timeout, queue, unique)

    def find(self, name: str) -> JobType | None:
        return self._world.registry.find(name)

    def of(self, job: Any) -> JobType:
        return self._world.registry.of(job)

    def names(self) -> list[str]:
        return self._world.registry.names()

    def named(self, name: str) -> JobType:
        staged = self._staged.get(name)
        if staged is None:
            staged = self._staged[name] = _Staged(self._world.registry.named(name), self._world, self._process)
        return staged


class _Staged(JobType):
    """A job type whose instances know their process."""

    def __init__(self, inner: JobType, world: World, process: SimRuntime) -> None:
        self.name, self.job_class, self.queue = inner.name, inner.job_class, inner.queue
        self.unique = inner.unique
        self._inner = inner
        self._world = world
        self._process = process

    def decode(self, payload: bytes) -> Job:
        return _Performance(self._inner.decode(payload), self._world, self._process)


class _Performance:
    """One attempt's ``handle()``, with its faults."""

    __slots__ = ("_process", "_world", "job")

    def __init__(self, job: Job, world: World, process: SimRuntime) -> None:
        self.job = job
        self._world = world
        self._process = process

    def handle(self) -> object:
        world = self._world
        world.curtain(self._process)
        try:
            return self.job.handle()
        finally:
            world.last_call(self._process)


def unstaged(job: Any) -> Any:
    """The app's own job behind a staged one."""
    return job.job if isinstance(job, _Performance) else job
