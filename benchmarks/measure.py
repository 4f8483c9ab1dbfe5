"""One peer, one measurement: let it work, read the clock, the server's counters and the kernel's.

Rates are taken from the first job's start to the last one's: no queue is charged for how long it takes to start.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks import work
from benchmarks.install import import_ms
from benchmarks.subject import Subject

Figures = dict[str, float]
SPREAD_S = 10.0


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


def burns(s: Subject) -> Figures:
    """Jobs of 1 ms of CPU on two processes: how much longer than two cores need at best."""
    s.clear()
    with s.client() as ask:
        n = ask("dispatch", "burn", s.sizes.burns, s.sizes.limit_s)["n"]
    with s.workers(2):
        at = s.wait_for(n, s.sizes.limit_s)
    return {"burns": (max(at) - min(at) + work.BURN_S) / (len(at) * work.BURN_S / 2)}


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
            figures |= _delayed(s, ask) | _spread(s, ask)
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


def _spread(s: Subject, ask: Callable[..., Any]) -> Figures:
    """Delayed jobs, one every few milliseconds for ten seconds."""
    for n in range(s.sizes.delayed):
        s.started[n] = 0.0
    due = time.time() + s.sizes.lead_s
    n = ask("spread", s.sizes.spread, due, SPREAD_S)["n"]
    s.wait_for(n, s.sizes.lead_s + SPREAD_S + s.sizes.limit_s)
    due_monotonic = time.monotonic() + due - time.time()
    gap = SPREAD_S / s.sizes.spread
    late = sorted((at - due_monotonic - i * gap) * 1000 for i, at in enumerate(s.started[:n]) if at)
    return {"spread_p50": statistics.median(late), "spread_p99": late[int(len(late) * 0.99)]}


def imports(s: Subject) -> Figures:
    """The least of three, with files in the cache and no other process running."""
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
PARTS: tuple[Part, ...] = (drain, two_processes, naps, burns, idle, imports)


def _rate(at: list[float]) -> float:
    return (len(at) - 1) / (max(at) - min(at)) if len(at) > 1 else 0.0


def _rss_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024
