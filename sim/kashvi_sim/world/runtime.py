"""The Runtime of a simulated process: its own wall clock, greenlets for threads, ids and chance from the tape."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import Context
from types import FrameType
from typing import NoReturn

from kashvi.worker import Limits

from .kernel import EPOCH, Condition, Kernel, Task, Turns
from .tape import Stream, Tape


class SimRuntime:
    """The Runtime of one process. Its wall clock is off by ``skew_s`` and gains ``drift`` seconds a second."""

    def __init__(self, kernel: Kernel, name: str = "p", number: int = 0, chance: Stream | None = None) -> None:
        self.kernel = kernel
        self.name = name
        self.number = number
        self.skew_s = 0.0
        self.drift = 0.0
        self.paused_until, self.stood_still_s = 0.0, 0.0
        self.called_at, self.calls = 0.0, 0
        """The time of its last call of the server, and the number of calls at that time."""
        self.limits: Limits | None = None
        """When its worker ends by itself, if a fault has said so."""
        self.reads_most = 0
        """The most entries of a read of what dead workers held, as if they were large; 0: no limit."""
        self.sleeps = 0
        """The number of its threads' sleeps."""
        self.dead = False
        self.goes_down = False
        """True while its interpreter shuts down."""
        self.exits: list[Callable[[], object]] = []
        """The functions to call when it exits, in the order of registration."""
        self.direct: dict[Callable[[], None], Callable[[], Turns[None]]] = {}
        """What runs without a greenlet, by the function that it stands for."""
        self.tasks: list[Task] = []
        self.main: Task | None = None
        """The task in which ``work()`` runs, until it is interrupted."""
        self._chance = chance or Tape().chance
        # The order of two processes' ids of one millisecond is chance, too.
        self._host = self._chance.choose(1 << 16) << 16 | number
        self._last_id = 0

    def now(self) -> float:
        return self.kernel.time + self.skew_s + self.drift * (self.kernel.time - EPOCH)

    def monotonic(self) -> float:
        return self.kernel.time - 1_000_000.0

    def sleep(self, seconds: float) -> None:
        self.sleeps += 1
        self.kernel.block(None, seconds if seconds > 0 else 0.0)

    def condition(self) -> Condition:
        return Condition(self.kernel)

    def spawn(self, run: Callable[[], None], name: str) -> Task:
        name, direct = f"{self.name}/{name}", self.direct.get(run)
        spawn = self.kernel.spawn
        task = spawn(run, name, self) if direct is None else self.kernel.spawn_direct(direct, name, self)
        self.tasks = [other for other in self.tasks if other.is_alive()]
        self.tasks.append(task)
        return task

    def new_id(self) -> str:
        """A UUIDv7 of this process's time, ascending within it."""
        stamp = (int(self.now() * 1000) << 80) | (7 << 76) | (2 << 62) | self._host
        self._last_id = max(self._last_id + (1 << 40), stamp)
        text = f"{self._last_id:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def random(self) -> float:
        # An attempt that ends with its world asks for a wait, too: it is no part of the run.
        return 0.0 if self.kernel.is_closed else self._chance.fraction()

    def process(self) -> int:
        return self.number

    def host(self) -> str:
        return self.name

    def thread(self) -> int:
        return 0

    def frame(self, thread: int) -> FrameType | None:
        """None: a task that waits has no frame that says where."""
        return None

    def interruptible(self) -> bool:
        return False

    def exit(self, error: BaseException | None) -> NoReturn:
        raise NotImplementedError("a simulated process does not fork")

    def closing(self) -> bool:
        return self.goes_down

    def at_closing(self, run: Callable[[], object]) -> Callable[[], None]:
        """Register ``run``; the code that sets ``goes_down`` calls it."""
        return lambda: None

    def at_fork(self, run: Callable[[], None]) -> None:
        """Do nothing: simulated processes do not fork."""

    async def aside(self, run: Callable[[], None], timeout_s: float | None) -> None:
        """Call ``run`` at once: a simulated process has no event loop."""
        run()

    def run_async(self, awaitable: Awaitable[object], context: Context) -> object:
        from .loop import run

        return run(self.kernel, awaitable, context)

    def end_thread(self) -> None:
        """Do nothing: each attempt has closed its loop."""

    def at_exit(self, run: Callable[[], object]) -> Callable[[], None]:
        self.exits.append(run)
        return lambda: self.exits.remove(run) if run in self.exits else None

    # -- faults ---------------------------------------------------------------------------------

    def pause(self, seconds: float) -> None:
        """Pause all its tasks, this one too if it is one of them."""
        self.stand_still(seconds)
        self.kernel.pause()

    def stand_still(self, seconds: float) -> None:
        """Its tasks go on only after this time, as after a SIGSTOP, while time goes on."""
        until = self.kernel.time + seconds
        self.stood_still_s += max(until - max(self.paused_until, self.kernel.time), 0.0)
        self.paused_until = max(self.paused_until, until)

    def kill(self) -> None:
        """Kill the process between two instructions."""
        self.dead = True
        self.kernel.kill(self, self.tasks)
