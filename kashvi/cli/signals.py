"""The signals that stop a worker process: SIGTERM, Ctrl-C and others, caught before the slow part of a start.

Before the worker starts, a signal ends the process. After that the first one lets running jobs end; a second one, or
the end of the grace, hands them back.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType

from ..runtime import SystemRuntime
from ..worker.pool import Workers
from .output import write

AGAIN_S = 1.0
"""A signal sooner after the first is a duplicate: systemd and Heroku signal a parent and its children at once, and the
parent passes its signal on."""
EXIT_S = 3.0
"""How long a process that is about to exit waits for jobs to be handed back."""
NUMBERS = [signal.SIGTERM, signal.SIGINT]
"""The signals that stop a worker. A closing terminal sends SIGHUP (ignored under nohup); Ctrl-\\ sends SIGQUIT."""
for _name in ("SIGHUP", "SIGQUIT"):
    if (_number := getattr(signal, _name, None)) and signal.getsignal(_number) == signal.SIG_DFL:
        NUMBERS.append(_number)


class Repeats:
    """Counts signals: the first, and the first that comes ``AGAIN_S`` or more after it."""

    def __init__(self) -> None:
        self.first: int | None = None
        self._first_at = 0.0

    def count(self, number: int) -> int:
        """1 for the first signal, 2 for a second one, 0 for a duplicate of the first."""
        now = SystemRuntime.monotonic()
        if self.first is None:
            self.first, self._first_at = number, now
            return 1
        return 2 if now - self._first_at >= AGAIN_S else 0


class Signals:
    """The signal handlers of a worker process. ``quiet``: print nothing."""

    def __init__(self, grace_s: float, *, quiet: bool) -> None:
        self._grace_s = grace_s
        self._quiet = quiet
        self._repeats = Repeats()
        self._starting = False
        self._again: int | None = None
        """The second signal, if it came before ``stops``."""
        self._workers: Workers | None = None
        self._before = {number: signal.signal(number, self._caught) for number in NUMBERS}
        SystemRuntime().at_fork(self._forked)

    def _forked(self) -> None:
        """In a child that a handler forks: restore the signal handlers from before this command."""
        for number, before in self._before.items():
            if signal.getsignal(number) == self._caught:
                signal.signal(number, before or signal.SIG_DFL)

    @property
    def came(self) -> bool:
        """True if a signal has come."""
        return self._repeats.first is not None

    def release(self) -> bool:
        """From now on a signal ends the process, as without these handlers. False if one has come before."""
        for number in NUMBERS:
            signal.signal(number, signal.SIG_DFL)
        return not self.came

    def expect(self) -> None:
        """From now on jobs may be claimed, and a signal waits for ``stops``."""
        self._starting = True

    def stops(self, workers: Workers) -> None:
        """From now on a signal stops these workers; one that came since ``expect`` stops them now."""
        self._workers = workers
        if self.came:
            self._stop(workers)
        if self._again is not None:
            self._exit(self._again)

    def _caught(self, number: int, frame: FrameType | None) -> None:
        if not self._starting:
            end_by(number)
        count = self._repeats.count(number)
        if count == 2:
            self._again = number
        if self._workers is None:
            return
        if count == 1:
            self._stop(self._workers)
        elif count == 2:
            self._exit(number)

    def _exit(self, number: int) -> None:
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
        except RuntimeError:  # the interpreter is shutting down, and a thread of the app keeps it alive
            os._exit(0)

    def _wait_for_grace(self) -> None:
        SystemRuntime.sleep(self._grace_s)
        self._hand_back(0)

    def _hand_back(self, code: int) -> None:
        """Hand jobs back and exit. Every wait here has a limit: the reader of our output may be blocked."""
        workers, returned = self._workers, []
        assert workers

        def hand_back() -> None:
            returned.append(workers.hand_back())

        SystemRuntime().spawn(hand_back, "kashvi-hand-back").join(EXIT_S)
        os._exit(code or (0 if returned == [True] else 1))


def end_by(number: int) -> None:
    """Die of a signal, as without a handler. A container's first process can't die of one, so it exits with the code
    that a shell gives for it."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(128 + number)
