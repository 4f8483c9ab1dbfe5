"""The queues that are measured, one file each: what it needs, what it promises, how jobs go in, how a worker runs.

A file is read twice: here for its ``PEER``, and in the peer's own environment for ``connect``. So it imports its
library only inside ``connect``.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Coroutine
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal, Protocol

THREADS = 10
NAMES = ("kashvi", "bare", "ardiq", "dramatiq", "huey", "taskiq", "celery", "saq", "streaq", "rq")

Task = Literal["noop", "nap", "burn"]


@dataclass(frozen=True)
class Peer:
    """What is said about a queue in the report."""

    title: str
    package: str
    """The distribution whose version is shown, and the module that is imported."""
    requires: tuple[str, ...]
    """What pip installs; nothing: it is in the environment that measures."""
    guarantee: str
    settings: str
    """How it is configured, and why so."""
    many: bool = True
    """Whether it has a call that dispatches many jobs."""
    later: bool = True
    """Whether a worker process alone runs delayed jobs."""


class App(Protocol):
    """A queue, from the side of the producer and of the worker."""

    def dispatch(self, task: Task, ids: range) -> None:
        """One call a job."""

    def many(self, ids: range) -> None:
        """No-op jobs in one call."""

    def later(self, ids: range, delay_s: float) -> None:
        """No-op jobs that become due ``delay_s`` from now."""

    def work(self) -> None:
        """Run jobs in this process until it is ended."""


class AsyncApp:
    """A loop that lasts, for libraries that want one."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(coroutine)


def load(name: str) -> ModuleType:
    return importlib.import_module(f"{__name__}.{name}")
