"""The command line as a user calls it: a process of its own, in a directory of its own."""

from __future__ import annotations

import os
import subprocess
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kashvi.drivers.redis import RedisDriver
from kashvi.queue import Queue
from kashvi.registry import Registry
from tests.servers.launch import RedisServer, until_true

APP = """
import os, time
from dataclasses import dataclass
from kashvi import queue

@queue.job("jobs.Note")
@dataclass
class Note:
    n: int
    takes: float = 0.0

    def handle(self):
        with open("ran.txt", "a") as notes:
            notes.write(f"{self.n}\\n")
        time.sleep(self.takes)
        with open("ended.txt", "a") as notes:
            notes.write(f"{self.n}\\n")

@queue.job("jobs.Quit")
@dataclass
class Quit:
    def handle(self):
        raise SystemExit("no")
"""

MAIN = [f"{sysconfig.get_path('scripts')}/kashvi"]


class Shell:
    """Runs ``kashvi``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "myapp.py").write_text(APP)
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("KASHVI_")}
        self.running: list[subprocess.Popen[str]] = []

    def __call__(
        self, *words: str, encoding: str | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*MAIN, *words],
            cwd=self.directory,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            encoding=encoding,
            timeout=60,
            check=False,
        )

    def start(self, *words: str, stdout: Any = subprocess.PIPE) -> subprocess.Popen[str]:
        process = subprocess.Popen([*MAIN, *words], cwd=self.directory, env=self.environment, stdout=stdout, text=True)
        self.running.append(process)
        return process

    def lines(self, name: str) -> list[str]:
        path = self.directory / name
        return path.read_text().split() if path.exists() else []


@pytest.fixture
def kashvi(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    for process in shell.running:
        if process.poll() is None:
            process.kill()
        process.communicate()


@dataclass
class Note:
    n: int
    takes: float = 0.0

    def handle(self) -> None:
        """Runs in the worker process."""


@dataclass
class Quit:
    def handle(self) -> None:
        """Runs in the worker process."""


class Worker:
    """``queue:work`` with one thread and the test's server; what it prints goes to a file."""

    def __init__(self, kashvi: Shell, server: RedisServer) -> None:
        self.shell = kashvi
        self.options = [
            "queue:work",
            "--app",
            "myapp",
            "--redis-url",
            server.url,
            "--workers",
            "1",
            "--unknown-for",
            "0",
        ]
        self.output = kashvi.directory / "output.txt"

    def until_empty(self, *words: str) -> str:
        """Run what is ready; returns what was printed."""
        shown = self.shell(*self.options, "--stop-when-empty", *words)
        assert shown.returncode == 0, shown.stderr
        return shown.stdout

    def start(self, *words: str) -> subprocess.Popen[str]:
        with self.output.open("w") as out:
            process = subprocess.Popen(
                [*MAIN, *self.options, *words],
                cwd=self.shell.directory,
                env=self.shell.environment,
                stdout=out,
                text=True,
            )
        self.shell.running.append(process)
        return process

    def until_printed(self, text: str) -> None:
        until_true(lambda: text in self.output.read_text(), 20, f"it never printed {text!r}")

    def until_ran(self, *numbers: str) -> None:
        until_true(lambda: self.shell.lines("ran.txt") == [*numbers], 20)


@pytest.fixture
def queue(valkey: RedisServer) -> Queue:
    """As a program that dispatches has it."""
    registry = Registry()
    registry.register("jobs.Note", Note)
    registry.register("jobs.Quit", Quit)
    return Queue(RedisDriver(valkey.url), registry=registry)


@pytest.fixture
def worker(kashvi: Shell, valkey: RedisServer) -> Worker:
    """Not started yet."""
    return Worker(kashvi, valkey)


def on_the_list(server: RedisServer) -> list[bytes]:
    """The ready jobs, oldest first."""
    entries: list[bytes] = server.client().lrange("kashvi:queue:jobs", 0, -1)  # type: ignore[assignment]
    return entries[::-1]


def children(process: subprocess.Popen[str]) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
