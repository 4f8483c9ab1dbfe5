"""SIGTERM, Ctrl-C and their kin for a worker process: caught before the slow part of a start, heeded at every moment.

Before there is a worker, a signal ends the process. The first one after that lets running jobs end; a second one, or
the end of the grace, hands them back.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType

from ..pool import Workers
from ..runtime import SystemRuntime
from .output import write

AGAIN_S = 1.0
"""Signals so soon after the first are the same stop, told twice: systemd and Heroku tell a parent and its children at
once, and the parent passes it on."""
EXIT_S = 3.0
"""How long a process that is about to exit waits for jobs to be handed back."""
NUMBERS = [signal.SIGTERM, signal.SIGINT]
"""Those that stop a worker. A terminal that closes sends SIGHUP, unless nohup had it ignored; Ctrl-\\ sends SIGQUIT."""
for _name in ("SIGHUP", "SIGQUIT"):
    if (_number := getattr(signal, _name, None)) and signal.getsignal(_number) == signal.SIG_DFL:
        NUMBERS.append(_number)


class Repeats:
    """Which signals count: the first, and the first that comes ``AGAIN_S`` or more after it."""

    def __init__(self) -> None:
        self.first: int | None = None
        self._first_at = 0.0

    def count(self, number: int) -> int:
        """1: the first. 2: again. 0: the same, told twice."""
        now = SystemRuntime.monotonic()
        if self.first is None:
            self.first, self._first_at = number, now
            return 1
        return 2 if now - self._first_at >= AGAIN_S else 0


class Signals:
    """Of a process that is to become a worker. ``quiet``: nothing is said to people."""

    def __init__(self, grace_s: float, *, quiet: bool) -> None:
        self._grace_s = grace_s
        self._quiet = quiet
        self._repeats = Repeats()
        self._starting = False
        self._workers: Workers | None = None
        self._before = {number: signal.signal(number, self._caught) for number in NUMBERS}
        SystemRuntime().at_fork(self._forked)

    def _forked(self) -> None:
        """A process that a handler forks is no worker: signals mean to it what they meant before."""
        for number, before in self._before.items():
            if signal.getsignal(number) == self._caught:
                signal.signal(number, before or signal.SIG_DFL)

    @property
    def came(self) -> bool:
        """Whether one has come."""
        return self._repeats.first is not None

    def expect(self) -> None:
        """From now on jobs may be claimed: a signal waits for ``stops``."""
        self._starting = True

    def stops(self, workers: Workers) -> None:
        """From now on a signal stops these, and so does one that came since ``expect``."""
        self._workers = workers
        if self.came:
            self._stop(workers)

    def _caught(self, number: int, frame: FrameType | None) -> None:
        if not self._starting:
            end_by(number)
        count = self._repeats.count(number)
        if self._workers is None:
            return
        if count == 1:
            self._stop(self._workers)
        elif count == 2:
            self._spawn(lambda: self._hand_back(128 + number), "kashvi-exit")

    def _stop(self, workers: Workers) -> None:
        ended = not workers.is_alive()
        self._spawn(workers.request_stop, "kashvi-stop")
        self._spawn(self._wait_for_grace, "kashvi-grace")
        if not (self._quiet or ended):
            write(
                "\n  Stopping: running jobs end, no more are taken. What still runs is handed back after "
                f"{self._grace_s:g} s, or at the next signal."
            )

    def _spawn(self, run: Callable[[], None], name: str) -> None:
        try:
            SystemRuntime().spawn(run, name)
        except RuntimeError:  # the interpreter goes down, and something of the app's keeps it from its end
            os._exit(0)

    def _wait_for_grace(self) -> None:
        SystemRuntime.sleep(self._grace_s)
        self._hand_back(0)

    def _hand_back(self, code: int) -> None:
        """The reader of our output may have stopped reading, so no wait here is without a limit."""
        workers, returned = self._workers, []
        assert workers

        def hand_back() -> None:
            returned.append(workers.hand_back())

        SystemRuntime().spawn(hand_back, "kashvi-hand-back").join(EXIT_S)
        os._exit(code or (0 if returned == [True] else 1))


def end_by(number: int) -> None:
    """Die of a signal, as a process does that catches none. A container's first process can't: it exits with the code
    that a shell gives for that."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(128 + number)
