"""Real processes, really killed. Slow, since leases run in real time; everything else about them is in virtual time."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

from kashvi import queue as face
from kashvi.cli.signals import AGAIN_S
from kashvi.failures.sql import SqlFailures
from kashvi.queue import Queue
from kashvi.registry import Registry

from .launch import RedisServer, until_true

APP = """
import os, signal, time
from dataclasses import dataclass
from kashvi import queue

def note(n):
    fd = os.open("ran.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, b"%d %d\\n" % (n, os.getpid()))
    os.close(fd)

@queue.job("jobs.Good")
@dataclass
class Good:
    n: int
    takes: float = 0.0

    def handle(self):
        note(self.n)
        time.sleep(self.takes)

@queue.job("jobs.Poison")
@dataclass
class Poison:
    n: int

    def handle(self):
        note(self.n)
        os.kill(os.getpid(), signal.SIGKILL)
"""


@dataclass
class Good:
    n: int
    takes: float = 0.0

    def handle(self) -> None:
        """Runs in the worker process."""


@dataclass
class Poison:
    n: int

    def handle(self) -> None:
        """Kills the worker process."""


class Process(Protocol):
    """What a test does with one."""

    pid: int

    def poll(self) -> int | None: ...
    def kill(self) -> None: ...
    def wait(self) -> object: ...


class Fleet:
    """Worker processes on one server, and a queue to feed them."""

    def __init__(self, server: RedisServer, directory: Path, app: str = APP) -> None:
        self.server = server
        self.directory = directory
        (directory / "app.py").write_text(app)
        registry = Registry()
        registry.register("jobs.Good", Good)
        registry.register("jobs.Poison", Poison)
        self.queue = Queue(face.RedisDriver(server.url), registry=registry)
        self.processes: list[Process] = []

    def start(self, workers: int = 10, lease: float = 1.0, attempts: int = 3) -> Any:
        words = ["queue:work", "--app", "app", "--workers", str(workers), "--lease", str(lease)]
        process = self.started([*words, "--max-retry", str(attempts), "--redis-url", self.server.url, "--json"])
        self.processes.append(process)
        return process

    def started(self, words: list[str]) -> Process:
        command = [sys.executable, "-c", "from kashvi.cli import main; main()", *words]
        with (self.directory / "out.txt").open("ab") as out:
            return subprocess.Popen(command, cwd=self.directory, stdout=out, stderr=out)

    def keep_one_alive(self, **options: Any) -> None:
        if all(process.poll() is not None for process in self.processes):
            self.start(**options)

    def _notes(self) -> list[list[int]]:
        notes = self.directory / "ran.txt"
        lines = notes.read_text().splitlines() if notes.exists() else []
        return [[int(word) for word in line.split()] for line in lines]

    def ran(self) -> list[int]:
        """Which jobs started, as often as they did."""
        return [note[0] for note in self._notes()]

    def at_work(self) -> list[Process]:
        """Living processes that have started some jobs, so that a slow machine gets anywhere between kills."""
        started = Counter(note[1] for note in self._notes())
        return [process for process in self.processes if process.poll() is None and started[process.pid] >= 3]

    def empty(self) -> bool:
        stats = self.queue.stats()
        return stats.ready + stats.delayed + stats.held + stats.unrecorded == 0

    def failed(self) -> list[tuple[str, int]]:
        store = SqlFailures(f"sqlite:///{self.directory}/kashvi.db")
        rows = [(row.job_type, row.attempts) for row in store.rows()]
        store.engine.dispose()
        return rows

    def stop(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()


NURSERY = """
import os, signal, sys
import app, kashvi.cli.work, kashvi.drivers.redis, kashvi.failures.sql
from kashvi.cli import main

signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # none of them becomes a zombie
told = os.dup(1)
os.dup2(2, 1)
for line in sys.stdin:
    child = os.fork()
    if not child:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        sys.argv[1:] = line.split()
        main()
    os.write(told, b"%d\\n" % child)
"""


class Forked:
    """A worker process that was forked by another, which had imported all of it: 10 ms, where a start takes 400."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def poll(self) -> int | None:
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return 0
        return None

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> None:
        until_true(lambda: self.poll() is not None, 20)


class Nursery(Fleet):
    """Its processes are forked."""

    def __init__(self, server: RedisServer, directory: Path, app: str = APP) -> None:
        super().__init__(server, directory, app)
        with (directory / "out.txt").open("ab") as out:
            self._parent = subprocess.Popen(
                [sys.executable, "-c", NURSERY],
                cwd=directory,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=out,
            )

    def started(self, words: list[str]) -> Process:
        assert self._parent.stdin
        assert self._parent.stdout
        self._parent.stdin.write(" ".join(words).encode() + b"\n")
        self._parent.stdin.flush()
        return Forked(int(self._parent.stdout.readline()))

    def stop(self) -> None:
        super().stop()
        self._parent.communicate()


@pytest.fixture
def nursery(valkey: RedisServer, tmp_path: Path) -> Iterator[Nursery]:
    nursery = Nursery(valkey, tmp_path)
    yield nursery
    nursery.stop()


@pytest.fixture
def fleet(valkey: RedisServer, tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(valkey, tmp_path)
    yield fleet
    fleet.stop()


def test_a_job_in_the_middle_of_a_killed_process_runs_elsewhere_once(fleet: Fleet) -> None:
    """After the lease, and not before."""
    first = fleet.start()
    fleet.queue.dispatch(Good(1, takes=3.0))
    until_true(lambda: fleet.ran() == [1], 20)
    first.kill()
    fleet.start()
    until_true(lambda: fleet.empty() and len(fleet.ran()) > 1, 30)
    assert fleet.ran() == [1, 1]
    assert fleet.failed() == []


def test_a_poison_job_among_two_thousand_is_the_only_one_recorded(fleet: Fleet) -> None:
    """Four starts, the first death free, and perhaps one more, beside fresh jobs; ten threads."""
    fleet.queue.dispatch_many([Good(n) for n in range(1000)])
    fleet.queue.dispatch(Poison(-1))
    fleet.queue.dispatch_many([Good(n) for n in range(1000, 2000)])

    def done() -> bool:
        fleet.keep_one_alive()
        return fleet.empty()

    until_true(done, 120)
    assert fleet.failed() == [("jobs.Poison", 3)]
    assert fleet.ran().count(-1) in (4, 5)
    assert set(fleet.ran()) == {-1, *range(2000)}


def test_a_job_that_outlives_the_lease_beside_a_poison_job_succeeds(fleet: Fleet) -> None:
    """Two threads, a lease of two seconds; the good job starts first, and its process dies for another's sake."""
    fleet.queue.dispatch(Good(-2, takes=3.0))
    fleet.queue.dispatch(Poison(-1))
    fleet.queue.dispatch_many([Good(n, takes=0.02) for n in range(100)])

    def done() -> bool:
        fleet.keep_one_alive(workers=2, lease=2.0)
        return fleet.empty()

    until_true(done, 120)
    assert fleet.failed() == [("jobs.Poison", 3)]
    ran = Counter(fleet.ran())
    assert 4 <= ran.pop(-1) <= 7
    assert ran.keys() == {-2, *range(100)}
    assert fleet.queue.stats().unrecorded == 0


def test_two_hundred_random_kills_during_five_thousand_jobs_lose_none_and_fail_none(nursery: Nursery) -> None:
    """Three processes; each is killed at a random moment after its first jobs, and replaced.

    Six attempts: chance alone kills three processes in the middle of one and the same good job now and then.
    """
    rng = random.Random(7)
    for _ in range(3):
        nursery.start(workers=1, attempts=6)
    for kill in range(200):
        nursery.queue.dispatch_many([Good(n, takes=0.004) for n in range(kill * 25, kill * 25 + 25)])
        until_true(nursery.at_work, 60, "no process started a job")
        until_true(lambda: rng.random() < 0.1, 60)
        victim = rng.choice(nursery.at_work())
        victim.kill()
        victim.wait()
        nursery.start(workers=1, attempts=6)
    until_true(nursery.empty, 120)
    assert nursery.failed() == []
    assert set(nursery.ran()) == set(range(5000))


def test_a_server_that_stops_and_starts_under_load_loses_nothing(tmp_path: Path) -> None:
    """With its append-only file synced at every write; workers carry on by themselves."""
    options = ("--appendonly", "yes", "--appendfsync", "always")
    server = RedisServer("valkey-9", tmp_path / "server", *options).start()
    fleet = Fleet(server, tmp_path)
    try:
        fleet.queue.dispatch_many([Good(n, takes=0.01) for n in range(3000)])
        for _ in range(2):
            fleet.start(lease=5.0)
        for part in (500, 1500):
            until_true(lambda part=part: len(fleet.ran()) > part, 60)
            server.kill()
            server.start()
        until_true(lambda: len(set(fleet.ran())) == 3000 and fleet.empty(), 90)
        assert fleet.failed() == []
        assert all(process.poll() is None for process in fleet.processes)
    finally:
        fleet.stop()
        server.stop()


def test_two_processes_promoting_five_thousand_due_jobs_run_each_once(fleet: Fleet) -> None:
    """Real processes, real promotion."""
    for n in range(5000):
        fleet.queue.dispatch_after(Good(n), 1.5)
    for _ in range(2):
        fleet.start(workers=5, lease=30)
    until_true(lambda: len(fleet.ran()) >= 5000 and fleet.empty(), 60)
    assert sorted(fleet.ran()) == list(range(5000))


def test_ten_thousand_byte_strings_of_garbage_are_all_recorded(fleet: Fleet) -> None:
    """And the worker lives to run the job behind them."""
    rng = random.Random(1)
    garbage = [rng.randbytes(rng.randrange(1, 60)) for _ in range(10_000)]
    fleet.queue.driver.push(garbage)
    fleet.queue.dispatch(Good(1))
    process = fleet.start(lease=30)
    until_true(lambda: fleet.ran() == [1] and fleet.empty(), 120)
    assert len(fleet.failed()) == 10_000
    assert process.poll() is None


def test_the_second_signal_hands_the_running_job_back_and_exits_at_once(fleet: Fleet) -> None:
    """Uncounted; another process runs it without waiting for a lease."""
    process = fleet.start(lease=30)
    fleet.queue.dispatch(Good(1, takes=60.0))
    until_true(lambda: fleet.ran() == [1], 20)
    process.send_signal(signal.SIGTERM)
    until_true(lambda: b'"WorkerStopping"' in (fleet.directory / "out.txt").read_bytes(), 20)
    told_at = time.monotonic()
    until_true(lambda: time.monotonic() - told_at >= AGAIN_S, 20)  # sooner, it would be the same stop, told twice
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == 128 + signal.SIGTERM
    assert fleet.queue.stats().ready == 1


def test_a_process_whose_clock_is_an_hour_ahead_starts_nothing_early(fleet: Fleet) -> None:
    """The server's own TIME decides."""
    ahead = "import time; real = time.time; time.time = lambda: real() + 3600; from kashvi.cli import main; main()"
    fleet.start(lease=2)
    command = [sys.executable, "-c", ahead, "queue:work", "--app", "app", "--redis-url", fleet.server.url, "--json"]
    with (fleet.directory / "ahead.txt").open("wb") as out:
        fleet.processes.append(subprocess.Popen(command, cwd=fleet.directory, stdout=out, stderr=out))
    until_true(lambda: fleet.queue.stats().workers == 2, 20)
    fleet.queue.dispatch_many([Good(n, takes=0.3) for n in range(40)])
    due = [fleet.queue.driver.push([_delayed(fleet, n)], 1.5) or 0.0 for n in range(100, 120)]
    until_true(fleet.empty, 30)
    assert sorted(fleet.ran()) == [*range(40), *range(100, 120)]
    printed = (fleet.directory / "ahead.txt").read_text() + (fleet.directory / "out.txt").read_text()
    events = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    late = [e for e in events if e["event"] == "AttemptStarted" and e["job_id"].startswith("late")]
    assert len(late) == 20
    assert all(event["server_at"] >= min(due) for event in late)
    assert not [e for e in events if e["event"] in ("JobReturned", "SettleRefused")]


def _delayed(fleet: Fleet, n: int) -> bytes:
    return b'{"id":"late-%d","type":"jobs.Good","payload":{"n":%d}}' % (n, n)


def test_a_program_that_ends_without_stopping_its_workers_hands_their_jobs_back(
    valkey: RedisServer, tmp_path: Path
) -> None:
    """Uncounted, at once; no lease has to run out."""
    script = (
        APP
        + f"""
queue.set_driver(queue.RedisDriver({valkey.url!r}))
queue.dispatch(Good(1, takes=60.0))
queue.start_workers(3)
while not os.path.exists("ran.txt"):
    time.sleep(0.01)
"""
    )
    (tmp_path / "program.py").write_text(script)
    subprocess.run([sys.executable, "program.py"], cwd=tmp_path, timeout=20, check=True)
    stats = Queue(face.RedisDriver(valkey.url)).stats()
    assert (stats.ready, stats.held) == (1, 0)
