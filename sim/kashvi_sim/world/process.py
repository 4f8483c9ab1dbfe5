"""A simulated process: a Queue for the code in it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kashvi.dispatch import Sealed
from kashvi.errors import DriverError
from kashvi.events import Event
from kashvi.failures.recent import FailedJob
from kashvi.names import DEFAULT
from kashvi.outbox.relay import Relay
from kashvi.ports import FailureStore
from kashvi.queues import Queue
from kashvi.worker import Limits
from kashvi.worker.keeper import Keeper
from kashvi.worker.pool import Workers
from kashvi.worker.shell import Worker

from .database import Database
from .direct import run_directly
from .network import Line
from .outbox import OutboxLine, Transaction
from .runtime import SimRuntime
from .stage import Stage, unstaged

if TYPE_CHECKING:
    from .world import World


class SimQueue(Queue):
    """The real Queue in a simulated process, with a simulated network, clock and threads."""

    def __init__(self, world: World, process: SimRuntime, line: Line) -> None:
        self.process = process
        self.handles: list[Workers] = []
        self._told = False
        """A signal told it to stop."""
        self.patience_s = world.patience_s
        self._world = world
        self._line = line
        super().__init__(
            line,
            registry=Stage(world, process),
            runtime=process,
            database=None if world.table is not None else world.database,
            max_attempts=world.max_attempts,
            lease_s=world.lease_s,
            unknown_for_s=world.unknown_for_s,
            obey_s=world.obey_s,
        )

    @property
    def process_id(self) -> str:
        """The process's id in its events."""
        return self._stream.process

    def tell(self, kind: type[Event], **facts: Any) -> None:
        """Emit an event of this process."""
        self._stream.emit(kind, **facts)  # type: ignore[type-var]

    def start_working(self, queues: str = DEFAULT) -> None:
        """Run ``work()`` in the main thread, until Ctrl-C or ``request_stop``; raises if the server is away then."""

        limits = self.process.limits or Limits()

        def work() -> None:
            error: BaseException | None = None
            try:
                self.work(
                    queues=queues,
                    stop_when_empty=limits.until == "empty",
                    drain=limits.until == "drained",
                    max_jobs=limits.max_jobs,
                    max_time=limits.max_time_s,
                )
            except (DriverError, KeyboardInterrupt) as raised:
                error = raised
            if self._world.dealings is not None:
                self._world.dealings.returned(self.process, error)

        self._world.ledger.in_main.add(self.process_id)
        self.process.main = self.process.spawn(work, "work")

    def request_stop(self) -> None:
        """Stop as by SIGTERM, which the command heeds also before its worker is there."""
        self._told = True
        for one in self._workers:
            one.request_stop() if isinstance(one, Workers) else one.stop()
        for one in self.handles:
            if one.join() and self._world.dealings is not None:
                self._world.dealings.returned(self.process, one.error)

    def leave(self) -> None:
        """Exit: call the functions registered for that, then the process is gone."""
        if self._world.dealings is not None:
            self._world.dealings.told(self.process)
        self.process.spawn(self._exit, "exit")

    def _exit(self) -> None:
        for run in self.process.exits[::-1]:
            done = run()
            if self._world.dealings is not None:
                self._world.dealings.exits(self.process, bool(done))
        if not self.process.dead:
            self._world.end(self.process)

    @property
    def store(self) -> FailureStore | None:
        inner = self._world.table or super().store
        return Database(self._world, self.process, inner) if inner is not None else None

    def failed_jobs(self) -> list[FailedJob]:
        return [replace(failed, job=unstaged(failed.job)) for failed in super().failed_jobs()]

    def relays(self) -> list[Relay]:
        outbox = self._world.outbox
        if outbox is None:
            return []
        rows = OutboxLine(self._world, self.process, outbox)
        return [Relay(self._line, rows, self.process, self._stream, outbox.hold_s)]

    def _insert(self, session: object, sealed: Sequence[Sealed], delay_s: float) -> None:
        assert isinstance(session, Transaction)
        session.insert(sealed, delay_s)

    def _worker(
        self, threads: int, limits: Limits | None, queues: str | Iterable[str], *, interruptible: bool
    ) -> tuple[Worker, Keeper]:
        worker, keeper = super()._worker(threads, limits, queues, interruptible=interruptible)
        if keeper.ticker is not None:
            self._world.tickers.add(self.process, keeper.ticker)
        if self._told:
            worker.stop()
        if self._world.direct and not interruptible:
            run_directly(self._world, self.process, self._line, worker, keeper)
        return worker, keeper

    def start_workers(self, n: int = 5, **options: Any) -> Workers:
        limits = self.process.limits
        if self.patience_s is not None:
            limits = (limits or Limits())._replace(patience_s=self.patience_s)
        handle = super().start_workers(n, **{"limits": limits, **options})
        self.handles.append(handle)
        return handle
