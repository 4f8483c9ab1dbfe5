"""The Runtime of a simulated process: virtual time, greenlets for threads, ids and chance from a seed."""

from __future__ import annotations

import random
from collections.abc import Callable

from .kernel import Condition, Kernel, Task


class SimRuntime:
    """One process's. ``skew_s``: how far its wall clock is off."""

    def __init__(self, kernel: Kernel, name: str = "p", seed: int = 0, skew_s: float = 0.0) -> None:
        self.kernel = kernel
        self.name = name
        self.skew_s = skew_s
        self.tasks: list[Task] = []
        self.dead = False
        self._random = random.Random(f"{name} {seed}")
        self._last_id = 0

    def now(self) -> float:
        return self.kernel.time + self.skew_s

    def monotonic(self) -> float:
        return self.kernel.time - 1_000_000.0

    def sleep(self, seconds: float) -> None:
        self.kernel.sleep(seconds)

    def condition(self) -> Condition:
        return Condition(self.kernel)

    def spawn(self, run: Callable[[], None], name: str) -> Task:
        task = self.kernel.spawn(run, f"{self.name}/{name}", self)
        self.tasks.append(task)
        return task

    def new_id(self) -> str:
        """A UUIDv7 of virtual time, ascending within this process."""
        stamp = (int(self.kernel.time * 1000) << 80) | (7 << 76) | (2 << 62) | self._random.getrandbits(60)
        self._last_id = max(self._last_id + 1, stamp)
        text = f"{self._last_id:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def random(self) -> float:
        return self._random.random()

    def at_exit(self, run: Callable[[], None]) -> Callable[[], None]:
        """Simulated processes are killed or stopped; they do not exit by themselves."""
        return lambda: None

    def kill(self) -> None:
        """The process is gone, between two instructions."""
        self.dead = True
        self.kernel.kill(self, self.tasks)
