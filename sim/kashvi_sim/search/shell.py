"""The shells of the workers, real ones, into which the machine of a state is put for a step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kashvi.drivers.memory import MemoryDriver
from kashvi.events import Event
from kashvi.registry import Registry
from kashvi.stream import EventStream
from kashvi.worker.attempt import Attempts
from kashvi.worker.keeper import Keeper
from kashvi.worker.recorder import Recorder
from kashvi.worker.running import FollowUps
from kashvi.worker.shell import Worker
from kashvi.worker.timekeeper import MachineTimekeeper

from .scope import Scope
from .state import Process, State
from .still import Still


@dataclass
class Small:
    """The class of all jobs; its handler is declared by the search."""

    n: int = 0

    def handle(self) -> None:
        """Never called."""


class Driver(MemoryDriver):
    """The driver of all workers. It notes that a worker called itself, to end its wait."""

    woke = ""

    def wake(self, worker: str) -> None:
        self.woke = worker


class Shell:
    """Of one worker: the library's own code, without its loops."""

    def __init__(
        self, scope: Scope, process: Process, runtime: Any, driver: Driver, see: Callable[[Event], None]
    ) -> None:
        assert process.machine is not None
        stream = EventStream(f"p{process.number}", runtime.now, runtime.interruptible)
        stream.observe(see)
        registry = Registry()
        registry.register("jobs.Small", Small)
        registry.register("jobs.Hangs", type("Hangs", (Small,), {}), timeout=scope.timeout_s or None)
        follow_ups = FollowUps(driver, registry, runtime, stream, 1000)
        self.stream, self.runtime = stream, runtime
        self.attempts = Attempts(
            process.name, registry, runtime, stream, self._most, follow_ups, unknown_for_s=1.0, interruptible=False
        )
        recorder = Recorder(driver, None, runtime, stream, _forget)
        self.worker = Worker(
            process.machine, self.attempts, driver=driver, runtime=runtime, stream=stream, recorder=recorder
        )
        self.keeper = Keeper(self.worker, driver, recorder, runtime, stream, self._most, self.attempts.type_limit)
        self._scope = scope
        self._times = bool(scope.timeout_s)

    def _most(self) -> int:
        return self._scope.attempts

    def holds(self, process: Process) -> None:
        """Put the machine of this state in."""
        worker = self.worker
        assert process.machine is not None
        worker.machine = process.machine
        worker.rung, worker.hurried = process.rung, process.hurried
        worker.lost = worker.error = None
        if self._times:
            self.attempts.timekeeper = MachineTimekeeper(process.machine, worker.lock, self.runtime)


class Shells:
    """All of a search."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.runtime = Still()
        self.driver: Driver | None = None
        self.told: list[Event] = []
        """The events of the step under way."""
        self.deaf = False
        """True while a call is repeated, whose events are told already."""
        self._shells: dict[int, Shell] = {}

    def enter(self, state: State, process: Process) -> Shell:
        driver = self.server(state)
        shell = self._shells.get(process.number)
        if shell is None:
            shell = self._shells[process.number] = Shell(self.scope, process, self.runtime, driver, self._see)
        shell.holds(process)
        return shell

    def server(self, state: State) -> Driver:
        """The driver, with the store of this state."""
        self.runtime.at = state.now
        state.store.now = self.runtime.now
        if self.driver is None:
            self.driver = Driver(runtime=self.runtime, store=state.store)  # type: ignore[arg-type]
        self.driver.store = state.store
        return self.driver

    def _see(self, event: Event) -> None:
        if not self.deaf:
            self.told.append(event)


def _forget(*failed: object) -> None:
    """The list of failed jobs decides nothing."""
