"""Real workers with a handler that never ends: their process is replaced, and no other job pays for it."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kashvi_spec.traces import judge, read

from kashvi.failures.sql import SqlFailures
from kashvi.queue import Queue, RedisDriver
from kashvi.registry import Registry

from .forwarder import Forwarder
from .launch import RedisServer, until_true

APP = """
import re, time
from dataclasses import dataclass
from kashvi import queue

@queue.job("jobs.Good")
@dataclass
class Good:
    n: int
    takes: float = 0.0

    def handle(self):
        time.sleep(self.takes)
        with open("done.txt", "a") as notes:
            notes.write(f"{self.n}\\n")

@queue.job("jobs.Freezes")
@dataclass
class Freezes:
    def handle(self):
        re.match("(a|aa)+$", "a" * 60 + "b")

@queue.job("jobs.Stuck", timeout=1)
@dataclass
class Stuck:
    def handle(self):
        while True:
            pass
"""


@dataclass
class Good:
    n: int
    takes: float = 0.0

    def handle(self) -> None:
        """Runs in the worker process."""


@dataclass
class Freezes:
    def handle(self) -> None:
        """Runs in the worker process."""


@dataclass
class Stuck:
    def handle(self) -> None:
        """Runs in the worker process."""


class Fleet:
    """One ``queue:work`` and its replacements."""

    def __init__(self, server: RedisServer, directory: Path) -> None:
        self.server, self.directory = server, directory
        (directory / "app.py").write_text(APP)
        registry = Registry()
        registry.register("jobs.Good", Good)
        registry.register("jobs.Stuck", Stuck)
        registry.register("jobs.Freezes", Freezes)
        self.queue = Queue(RedisDriver(server.url), registry=registry)
        self.processes: list[subprocess.Popen[bytes]] = []
        self.url = server.url
        self.program = "from kashvi.cli import main; main()"

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", self.program, "queue:work", "--app", "app", "--redis-url", self.url]
        command += ["--obey", "0.2", "--trace", "trace.jsonl", "--database-url", "sqlite:///rows.db", *words]
        with (self.directory / "out.txt").open("ab") as out:
            process = subprocess.Popen(command, cwd=self.directory, stdout=out, stderr=out)
        self.processes.append(process)
        return process

    def told(self, kind: str = "") -> list[dict[str, Any]]:
        trace = self.directory / "trace.jsonl"
        lines = trace.read_text().splitlines() if trace.exists() else []
        events = [json.loads(line) for line in lines]
        return [event for event in events if event["event"].startswith(kind)]

    def done(self) -> list[int]:
        notes = self.directory / "done.txt"
        return sorted(map(int, notes.read_text().split())) if notes.exists() else []

    def tracebacks(self) -> list[str]:
        store = SqlFailures(f"sqlite:///{self.directory}/rows.db")
        found = [row.traceback or "" for row in store.rows()]
        store.engine.dispose()
        return found

    def rows(self) -> list[tuple[str, int, str]]:
        store = SqlFailures(f"sqlite:///{self.directory}/rows.db")
        rows = [(row.job_type, row.attempts, row.error) for row in store.rows()]
        store.engine.dispose()
        return rows

    def gaps(self) -> list[float]:
        """The time from the end of each worker to the start of the next one."""
        events = [event for event in self.told("Worker") if event["event"] != "WorkerStopping"]
        ends = [event["at"] for event in events if event["event"] == "WorkerStopped"]
        return [next(e["at"] for e in events if e["event"] == "WorkerStarted" and e["at"] > at) - at for at in ends]

    def starts(self, kind: str) -> list[int]:
        return [event["attempt"] for event in self.told("AttemptStarted") if event["type"] == kind]

    def judged(self) -> list[Any]:
        with (self.directory / "trace.jsonl").open("rb") as trace:
            return judge(list(read(trace))).broken


@pytest.fixture
def fleet(valkey: RedisServer, tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(valkey, tmp_path)
    yield fleet
    for process in fleet.processes:
        if process.poll() is None:
            process.kill()
        process.wait()


def test_a_handler_that_never_ends_is_recorded_and_costs_no_other_job_anything(fleet: Fleet) -> None:
    """Its process is back within 2 s each time, under the same number."""
    fleet.queue.dispatch_many([Stuck(), *(Good(n, takes=0.2) for n in range(9))])
    process = fleet.start("--workers", "3", "--max-retry", "2")
    until_true(lambda: len(fleet.told("WorkerStarted")) == 3, 40)
    assert fleet.rows() == [("jobs.Stuck", 2, "timed out after 1 s: stuck")]
    (shown,) = fleet.tracebacks()
    assert shown.startswith("Traceback (most recent call last):\n  File ")
    assert "app.py" in shown.splitlines()[1]
    assert shown.endswith("timed out after 1 s: stuck")
    assert fleet.done() == list(range(9))
    assert len(fleet.told("AttemptStuck")) == 2
    assert [event for event in fleet.told() if event.get("suspect")] == []
    assert fleet.told("AttemptLost") == []
    gaps = fleet.gaps()
    assert len(gaps) == 2
    assert max(gaps) < 2
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert fleet.judged() == []


def test_a_worker_whose_interpreter_stands_still_ends(fleet: Fleet) -> None:
    """A type with a time limit is enough; the limit of a job without one does not matter."""
    fleet.program = "from kashvi.cli import main, work; work.STANDS_STILL_S, work.LOOK_S = 1.0, 0.1; main()"
    fleet.queue.dispatch(Freezes())
    process = fleet.start("--lease", "0.3")
    assert process.wait(20) == 1
    shown = (fleet.directory / "out.txt").read_text()
    assert "Timeout" in shown
    assert "in handle" in shown


def cut(line: Forwarder) -> None:
    """The server can't be reached any more."""
    line.target = 1
    for one in line._sockets:
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


def test_with_its_server_away_for_less_than_a_lease_it_settles_and_then_goes(fleet: Fleet) -> None:
    """Nothing that it held is a suspect."""
    fleet.queue.dispatch_many([Stuck(), Good(0, takes=2.5)])
    with Forwarder(fleet.server.port) as line:
        fleet.url = f"redis://127.0.0.1:{line.port}/0"
        fleet.start("--workers", "2", "--max-retry", "1", "--lease", "5", "--patience", "0.4")
        until_true(lambda: fleet.told("AttemptStuck"), 20)
        cut(line)
        until_true(lambda: fleet.told("ServerLost"), 20)
        line.target = fleet.server.port
        until_true(lambda: fleet.done() == [0], 20)
    assert fleet.rows() == [("jobs.Stuck", 1, "timed out after 1 s: stuck")]
    assert (fleet.starts("jobs.Stuck"), fleet.starts("jobs.Good")) == ([1], [1, 1])
    assert [event for event in fleet.told() if event.get("suspect")] == []
    assert [event.get("unsettled", 0) for event in fleet.told("WorkerStopped")] == [0]


def test_with_its_server_away_for_longer_it_dies_and_costs_no_attempt(fleet: Fleet) -> None:
    """It is as any other death: free, at the price of one more start of each job."""
    fleet.queue.dispatch_many([Stuck(), Good(0, takes=3)])
    with Forwarder(fleet.server.port) as line:
        fleet.url = f"redis://127.0.0.1:{line.port}/0"
        fleet.start("--workers", "2", "--max-retry", "1", "--lease", "1", "--patience", "0.4")
        until_true(lambda: fleet.told("AttemptStuck"), 20)
        cut(line)
        until_true(lambda: len(fleet.told("WorkerStarted")) == 2, 20)
        line.target = fleet.server.port
        until_true(lambda: fleet.done() == [0] and fleet.rows() != [], 30)
    assert fleet.rows() == [("jobs.Stuck", 1, "timed out after 1 s: stuck")]
    assert (fleet.starts("jobs.Stuck"), fleet.starts("jobs.Good")) == ([1, 1], [1, 1])
    assert fleet.told("AttemptLost") == []
    assert next(event["unsettled"] for event in fleet.told("WorkerStopped")) == 2
