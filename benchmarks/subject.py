"""A peer that can be run: its producer and its workers as processes, each ended by its id."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import work
from benchmarks.install import BUILD, Installed
from benchmarks.peers import Peer
from benchmarks.server import Server

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    jobs: int = 20_000
    naps: int = 2_000
    burns: int = 5_000
    spread: int = 1_000
    pings: int = 100
    delayed: int = 5_000
    lead_s: float = 6.0
    idle_s: float = 2.0
    limit_s: float = 30.0
    """A slower peer is judged by what it did in this time."""


QUICK = Sizes(jobs=2_000, naps=300, burns=500, spread=200, pings=60, delayed=500, lead_s=3.0, idle_s=1.5, limit_s=4.0)


@dataclass
class Subject:
    """A peer that is installed, and the means to run it."""

    name: str
    peer: Peer
    at: Installed
    server: Server
    sizes: Sizes
    started: memoryview[float]

    def _start(self, role: str, number: int = 0, **options: Any) -> subprocess.Popen[str]:
        command = [self.at.python, "-m", "benchmarks.process", self.name, role, str(number)]
        env = os.environ | {
            "BENCH_URL": self.server.url,
            "BENCH_STARTED": str(BUILD / "started"),
            "PYTHONPATH": str(ROOT),
        }
        with (BUILD / f"{self.name}.log").open("ab") as log:
            return subprocess.Popen(
                command, cwd=ROOT, env=env, stderr=log, text=True, start_new_session=True, **options
            )

    @contextmanager
    def client(self) -> Iterator[Callable[..., Any]]:
        """The producer, as a function: ``ask("dispatch", "noop", 10, 1.0)``."""
        process = self._start("client", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdin
        assert process.stdout
        to, answers = process.stdin, process.stdout

        def ask(*request: Any) -> Any:
            print(json.dumps(request), file=to, flush=True)
            return json.loads(answers.readline())

        try:
            yield ask
        finally:
            _end(process)

    @contextmanager
    def workers(self, processes: int) -> Iterator[list[int]]:
        """Let go together; their ids."""
        running = [
            self._start("work", n, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) for n in range(processes)
        ]
        try:
            _until(lambda: all(self.started[work.READY + n] for n in range(processes)), 60)
            self.started[work.GATE] = 1.0
            yield [process.pid for process in running]
        finally:
            for process in running:
                _end(process)

    def clear(self) -> None:
        """An empty server, and no job has started."""
        self.server.empty()
        for n in range(work.SLOTS):
            self.started[n] = 0.0

    def starts(self, n: int) -> list[float]:
        return [at for at in self.started[:n] if at]

    def wait_for(self, n: int, limit_s: float) -> list[float]:
        """When those jobs started that did in time."""
        _until(lambda: bool(self.started[n - 1]) and len(self.starts(n)) >= n, limit_s)  # counting takes a core's time
        return self.starts(n)


def _until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)


def _end(process: subprocess.Popen[str]) -> None:
    """By its id, and with what it started: the session is its own."""
    for stream in (process.stdin, process.stdout):
        if stream:
            stream.close()
    try:
        process.terminate()
        process.wait(0.5)
    except subprocess.TimeoutExpired:
        pass
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
