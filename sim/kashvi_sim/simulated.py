"""An app in a world: its job types and its calls of ``kashvi.queue``, with the real worker, in virtual time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from .world.clock import uninstall
from .world.tape import Tape
from .world.world import World

if TYPE_CHECKING:
    from kashvi.events import Event
    from kashvi.failures.recent import FailedJob
    from kashvi.ports import Stats
    from kashvi.queues import Queue

    from .world.process import SimQueue

LINES = 60
"""The number of last lines of the timeline that a failing test prints."""
QUIET_S = 600.0
"""If jobs are ready for so long, and nothing else is to come, none will be taken."""
OURS = ("_driver", "_driver_set", "_runtime", "_stream")
"""What an app's queue takes from the simulated process, so that the app goes on dispatching to it."""


class PromiseBroken(AssertionError):
    """A predicate found a violation while an app was simulated."""


class Sim:
    """A world in virtual time, with the app's job types and its calls of ``kashvi.queue``."""

    def __init__(self, world: World, seed: int, app: Queue) -> None:
        self.world = world
        self.seed = seed
        self._app = app
        self._staff: list[SimQueue] = []
        self._began = world.kernel.time

    def start(self, at: datetime) -> None:
        """Set the start time, before any job or worker (default 15 January 2027). Without a zone, ``at`` is local."""
        assert not self.world.events, "sim.start comes before any job or worker"
        self.world.kernel.leap(at.timestamp() - self.world.kernel.time)
        self._began = self.world.kernel.time

    def story(self) -> str:
        """The last lines of the timeline."""
        from .show.timeline import Timeline

        lines = [line for _, line in Timeline(self.world.names).lines(self.world.times, self.world.events)]
        return "\n".join([f"… {len(lines) - LINES} lines before"] * (len(lines) > LINES) + lines[-LINES:])

    def workers(self, threads: int = 1, *, queues: str = "default") -> SimQueue:
        """Start a worker process with this number of threads and the app's hooks and cron entries; returns it, for
        ``kill``. queues: those that it serves, as for ``kashvi queue:work --queue``."""
        process = self.world.process()
        process._hooks.extend(self._app._hooks)
        process._cron.update(self._app._cron)
        process.start_workers(threads, queues=queues)
        self._staff.append(process)
        return process

    def kill(self, worker: SimQueue) -> None:
        """Kill a worker as by SIGKILL. Its jobs go to others when its lease has run out (30 s)."""
        self.world.kill(worker)

    def advance(self, *, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0) -> None:
        """Let this time pass. Idle days cost nothing."""
        passing = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds).total_seconds()
        self.world.advance(passing)
        self._check()

    def run_until_idle(self, within: timedelta = timedelta(days=366)) -> None:
        """Let time pass until no job is ready, delayed or running. Raises AssertionError if jobs are left after
        ``within``, or no worker takes them."""
        why, end = "", self.world.kernel.time + within.total_seconds()
        while (left := self._left()) and self.world.kernel.time < end and not (why := self._stalled()):
            due = self.world.server.driver.next_due()
            at = due if isinstance(due, float) else 0.0
            step = max(at - self.world.kernel.time, 0.0) + 1.0 if self.world.idle() else 1.0
            self.world.advance(min(step, end - self.world.kernel.time))
        if left:
            raise AssertionError(f"{why or f'not idle within {within}'}: {self.stats()}")
        self._check()

    @property
    def elapsed(self) -> timedelta:
        """The virtual time since the start."""
        return timedelta(seconds=self.world.kernel.time - self._began)

    @property
    def events(self) -> list[Event]:
        """All events so far (``kashvi.events``)."""
        return self.world.events

    @property
    def failed_jobs(self) -> list[FailedJob]:
        """The jobs that failed for good, oldest first."""
        return [failed for worker in self._staff for failed in worker.failed_jobs()]

    def stats(self) -> Stats:
        return self.world.server.driver.stats()

    def _left(self) -> bool:
        stats = self.stats()
        return bool(stats.ready or stats.delayed or stats.held)

    def _stalled(self) -> str:
        """Why no job will ever be taken; empty if one may be."""
        if not self.world.kernel.tasks():
            return f"it won't be idle, as no worker {'is left' if self._staff else 'was started'}"
        stats, quiet_s = self.stats(), self.world.kernel.time - self.world.times[-1]
        if stats.ready and not (stats.delayed or stats.held) and quiet_s > QUIET_S:
            return f"for {QUIET_S / 60:g} minutes no worker took a job: their queue is paused, or no worker serves it"
        return ""

    def _check(self) -> None:
        broken = self.world.broken()
        if broken:
            raise PromiseBroken(f"kashvi broke a promise: {broken}")
        assert not self.world.escapes, f"a handler left virtual time:\n{self.world.escapes[0].stack}"


@contextmanager
def simulated(app: Queue, seed: int) -> Iterator[Sim]:
    """The world of the app's queue, which dispatches to it inside the context."""
    world = World(tape=Tape(seed), registry=app.registry, max_attempts=app.max_attempts, lease_s=app.lease_s)
    process, before = world.process(), {name: getattr(app, name) for name in OURS}
    for name in OURS:
        setattr(app, name, getattr(process, name))
    try:
        yield Sim(world, seed, app)
    finally:
        world.close()
        for name, value in before.items():
            setattr(app, name, value)
        uninstall()
