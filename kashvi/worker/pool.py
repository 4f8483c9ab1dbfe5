"""A worker's threads: start, join, stop, and hand-back when the process ends without a stop."""

from __future__ import annotations

from types import TracebackType

from ..errors import DriverError
from ..ports import Runtime, Task
from .keeper import Keeper
from .shell import Worker


class Workers:
    """Running workers, a context manager: leaving the block stops them and waits for running jobs.

    A process that exits without ``stop()`` hands its jobs back, uncounted; running ones run again elsewhere.
    """

    def __init__(self, worker: Worker, keeper: Keeper, runtime: Runtime) -> None:
        self._worker = worker
        self._runtime = runtime
        if runtime.closing():
            worker.stop()
        self._tasks: list[Task] = [runtime.spawn(keeper.keep, "kashvi-keeper")]
        try:
            for number in range(1, worker.threads + 1):
                self._tasks.append(runtime.spawn(worker.run, f"kashvi-{number}"))
        except BaseException:  # no thread can be started: stop those that were
            worker.stop()
            worker.without(worker.threads + 1 - len(self._tasks))
            raise
        self._forget = runtime.at_exit(self.hand_back)
        self._forget_end = runtime.at_closing(worker.stop)
        runtime.at_fork(self._forked)

    def _forked(self) -> None:
        """In the child of a fork: count as ended, since it has no threads, and the parent's may hold the locks."""
        self._tasks = []

    @property
    def id(self) -> str:
        """The worker's id in events and on the server."""
        return self._worker.id

    def is_alive(self) -> bool:
        return any(task.is_alive() for task in (self._tasks[:1] if self.stuck else self._tasks))

    @property
    def stuck(self) -> bool:
        """True if the worker has left stuck attempts behind: their threads go on."""
        return self._worker.machine.left_behind

    @property
    def to_replace(self) -> bool:
        """True if the worker ended for a stuck attempt alone: another process is to take this one's place."""
        return self._worker.machine.to_replace

    @property
    def taken(self) -> int:
        """How many jobs have started."""
        return self._worker.machine.taken

    def over(self, timeout: float | None) -> bool:
        """Wait until the worker has settled all it can, at most ``timeout`` seconds; stuck threads may go on."""
        for keeper in self._tasks[:1]:
            keeper.join(timeout)
        return not any(task.is_alive() for task in self._tasks[:1])

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the workers have ended; False if ``timeout`` seconds were not enough."""
        deadline = None if timeout is None else self._runtime.monotonic() + timeout
        for task in self._tasks[:1] if self.stuck else self._tasks[::-1]:
            try:
                task.join(None if deadline is None else max(deadline - self._runtime.monotonic(), 0.0))
            except RuntimeError:  # a job that stops its own workers can't wait for itself
                return False
        ended = not self.is_alive()
        if ended:
            self._forget()
            self._forget_end()
        return ended

    def stop(self, timeout: float | None = None) -> bool:
        """Claim no more jobs and wait for running ones; False if ``timeout`` seconds were not enough.

        Jobs that still run stay leased until their threads end: a hand-back would start them twice.
        """
        self.request_stop()
        return self.join(timeout)

    def request_stop(self) -> None:
        """Claim no more jobs; does not wait."""
        if self.is_alive():
            self._worker.stop()

    def hand_back(self) -> bool:
        """For a process that is about to exit: return the running jobs to the queue, uncounted.

        False if the server did not confirm it: then the jobs wait until the lease runs out.
        """
        return self._worker.hand_back() if self.is_alive() else not self.unsettled

    @property
    def full(self) -> bool:
        """True if these workers have reached ``max_jobs``."""
        return self._worker.full

    @property
    def error(self) -> DriverError | None:
        """The error if the server could not be reached when these workers ended, else None."""
        return self._worker.error

    @property
    def unsettled(self) -> int:
        """The number of jobs whose settling the server did not confirm: they run again."""
        return self._worker.unsettled

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
