"""One peer, one measurement: start its processes, let it work, read the clock, the server's counters and the kernel's.

Rates are taken from the first job's start to the last one's: no queue is charged for how long it takes to start.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks import work
from benchmarks.install import BUILD, Installed, import_ms
from benchmarks.peers import Peer
from benchmarks.server import Server

ROOT = Path(__file__).parents[1]
Figures = dict[str, float]


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    jobs: int = 20_000
    naps: int = 2_000
    pings: int = 100
    delayed: int = 5_000
    lead_s: float = 6.0
    idle_s: float = 2.0
    limit_s: float = 30.0
    """A slower peer is judged by what it did in this time."""


QUICK = Sizes(jobs=2_000, naps=300, pings=60, delayed=500, lead_s=3.0, idle_s=1.5, limit_s=4.0)


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
        _until(lambda: len(self.starts(n)) >= n, limit_s)
        return self.starts(n)


def drain(s: Subject) -> Figures:
    """Dispatch one by one, then one process with ten threads."""
    s.clear()
    with s.client() as ask:
        ask("dispatch", "noop", 0, 0.0)
        before = s.server.memory()
        sent = ask("dispatch", "noop", s.sizes.jobs, s.sizes.limit_s)
        n = sent["n"]
        size = (s.server.memory() - before) / n
    s.server.reset()
    with s.workers(1) as pids:
        at = s.wait_for(n, s.sizes.limit_s)
        time.sleep(0.2)  # what is settled late belongs to the price
        trips, commands, rss = s.server.round_trips(), s.server.commands(), _rss_mb(pids[0])
    return {
        "dispatch": n / sent["seconds"],
        "bytes": size,
        "drain": _rate(at),
        "commands": commands / len(at),
        "trips": trips / len(at),
        "rss_mb": rss,
    }


def two_processes(s: Subject) -> Figures:
    """dispatch_many, where there is one; then two processes with ten threads each."""
    s.clear()
    figures = {}
    with s.client() as ask:
        if s.peer.many:
            sent = ask("many", s.sizes.jobs)
            figures["many"] = sent["n"] / sent["seconds"]
        else:
            sent = ask("dispatch", "noop", s.sizes.jobs, s.sizes.limit_s)
    with s.workers(2):
        figures["drain_2"] = _rate(s.wait_for(sent["n"], s.sizes.limit_s))
    return figures


def naps(s: Subject) -> Figures:
    """Jobs that sleep 10 ms: how much longer than ten threads need at best."""
    s.clear()
    with s.client() as ask:
        n = ask("dispatch", "nap", s.sizes.naps, s.sizes.limit_s)["n"]
    with s.workers(1):
        at = s.wait_for(n, s.sizes.limit_s)
    took = max(at) - min(at) + work.NAP_S
    return {"naps": took / (len(at) * work.NAP_S / 10)}


def idle(s: Subject) -> Figures:
    """A worker with nothing to do: what it asks the server, how soon it takes a job, how late a delayed one."""
    s.clear()
    with s.workers(1), s.client() as ask:
        ask("dispatch", "noop", 1, 1.0)
        s.wait_for(1, 20)
        time.sleep(1.0)
        s.server.reset()
        time.sleep(s.sizes.idle_s)
        trips = s.server.round_trips()
        figures = {"idle": s.server.commands() / s.sizes.idle_s, "idle_trips": trips / s.sizes.idle_s}
        s.started[0] = 0.0
        began = ask("pings", s.sizes.pings, 0.02)["began"]
        s.wait_for(s.sizes.pings, 10)
        waited = sorted((at - b) * 1000 for at, b in zip(s.started, began, strict=False) if at)
        figures |= {"pickup_p50": statistics.median(waited), "pickup_p99": waited[int(len(waited) * 0.99)]}
        if s.peer.later:
            figures |= _delayed(s, ask)
    return figures


def _delayed(s: Subject, ask: Callable[..., Any]) -> Figures:
    for n in range(s.sizes.pings):
        s.started[n] = 0.0
    due = float(int(time.time() + s.sizes.lead_s))
    n = ask("later", s.sizes.delayed, due)["n"]
    at = s.wait_for(n, s.sizes.lead_s + s.sizes.limit_s)
    due_monotonic = time.monotonic() + due - time.time()
    late = sorted(a - due_monotonic for a in at)
    in_order = sum(a < b for a, b in pairwise(at)) / max(len(at) - 1, 1)
    return {"late_p50": statistics.median(late), "late_max": late[-1], "late_min": late[0], "in_order": in_order}


def imports(s: Subject) -> Figures:
    """The least of three: files are in the cache, and nobody else was running."""
    return {"import_ms": min(import_ms(s.at.python, s.peer.package) for _ in range(3))}


def memory_driver(jobs: int) -> float:
    """dispatch and work() on one thread, in this process: jobs a second."""
    from benchmarks.peers.kashvi import Noop
    from kashvi.queue import MemoryDriver, Queue, Registry

    registry = Registry()
    registry.register("bench.Noop", Noop)
    queue = Queue(MemoryDriver(), registry=registry)
    held, work.started = work.started, memoryview(bytearray(work.SLOTS * 8)).cast("d")
    began = time.perf_counter()
    for n in range(jobs):
        queue.dispatch(Noop(n, work.email(n)))
    queue.work(drain=True)
    took = time.perf_counter() - began
    work.started = held
    return jobs / took


Part = Callable[[Subject], Figures]
PARTS: tuple[Part, ...] = (drain, two_processes, naps, idle, imports)


def _rate(at: list[float]) -> float:
    return (len(at) - 1) / (max(at) - min(at)) if len(at) > 1 else 0.0


def _rss_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


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
