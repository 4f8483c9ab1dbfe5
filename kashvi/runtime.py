"""The real clock, threads and chance: the only module that touches them."""

from __future__ import annotations

import atexit
import os
import random
import threading
import time
from collections.abc import Callable
from typing import NoReturn

import uuid_utils

from .ports import Condition, Task


class _Process:
    """This process's number: to ask the system at every job costs more than to be told of forks."""

    def __init__(self) -> None:
        self.number = os.getpid()
        if hasattr(os, "register_at_fork"):  # no forks on Windows
            os.register_at_fork(after_in_child=self._forked)

    def _forked(self) -> None:
        self.number = os.getpid()


_PROCESS = _Process()


class SystemRuntime:
    """The Runtime of a real process.

    ``now`` follows a test's frozen clock, as users of freezegun and time-machine expect of delayed jobs;
    ``monotonic`` and waiting stay real, so that leases and workers go on under one.
    """

    # In the class, out of reach of what patches modules.
    monotonic = staticmethod(time.monotonic)
    sleep = staticmethod(time.sleep)

    def process(self) -> int:
        return _PROCESS.number

    def now(self) -> float:
        return time.time()

    def condition(self) -> Condition:
        return threading.Condition()

    def spawn(self, run: Callable[[], None], name: str) -> Task:
        thread = threading.Thread(target=run, name=name, daemon=True)
        thread.start()
        return thread

    def new_id(self) -> str:
        return str(uuid_utils.uuid7())

    def random(self) -> float:
        return random.random()

    def interruptible(self) -> bool:
        return threading.current_thread() is threading.main_thread()

    def exit(self, error: BaseException | None) -> NoReturn:
        code = error.code if isinstance(error, SystemExit) else error and 1
        os._exit(code if isinstance(code, int) else 1 if code else 0)

    def at_exit(self, run: Callable[[], object]) -> Callable[[], None]:
        atexit.register(run)
        return lambda: atexit.unregister(run)
