"""What a page of a long queue takes: python -m benchmarks.view [jobs], with a real Valkey and a database in SQLite.

For each question of a ``View`` it prints the time until the answer, and the time that the server ran for it.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kashvi.drivers.redis import RedisDriver
from kashvi.failures.sql import SqlFailures
from kashvi.jobs.envelope import seal
from kashvi.ports import Failure
from kashvi.queue import Queue
from kashvi.runtime import SystemRuntime
from kashvi.view import FailureFilter, LiveView
from tests.servers.launch import REDIS_BINARIES, RedisServer

TIMES = 20


def main() -> None:
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as place:
        server = RedisServer("valkey-9", Path(place)).start()
        try:
            measure(server, jobs, f"sqlite:///{place}/failed.db")
        finally:
            server.stop()


def measure(server: RedisServer, jobs: int, database: str) -> None:
    new_id = SystemRuntime().new_id
    driver = RedisDriver(server.url)
    envelopes = [seal(new_id(), b'"jobs.Email"', b'{"to":"%b"}' % (b"x" * 100)) for _ in range(jobs)]
    for i in range(0, jobs, 1000):
        driver.push(envelopes[i : i + 1000])
        driver.push(envelopes[i : i + 1000], 3600.0)
        SqlFailures(database).record([_failure(new_id()) for _ in range(1000)])
    for n in range(50):
        driver.exchange(f"worker {n:02d}", 1, 60.0, [], 100)
    view = LiveView(Queue(driver, database=database))
    middle: Any = view.jobs("ready")
    for _ in range(jobs // 200):
        middle = view.jobs("ready", after=middle.next)
    late: Any = view.jobs("delayed")
    for _ in range(jobs // 200):
        late = view.jobs("delayed", after=late.next)
    questions: dict[str, Callable[[], object]] = {
        "stats": view.stats,
        "queues": view.queues,
        "jobs, ready, first page": view.jobs,
        "jobs, ready, in the middle": lambda: view.jobs("ready", after=middle.next),
        "jobs, delayed, in the middle": lambda: view.jobs("delayed", after=late.next),
        "jobs, running": lambda: view.jobs("running"),
        "workers": view.workers,
        "failures": view.failures,
        "failures, by text": lambda: view.failures(FailureFilter(error="no such text")),
        "story, ready": lambda: view.story(envelopes[jobs // 2][7:43].decode()),
        "story, unknown": lambda: view.story(new_id()),
    }
    client: Any = server.client()
    print(f"{jobs:,} ready, {jobs:,} delayed, 5,000 held by 50 workers, {jobs:,} failed; medians of {TIMES}, ms")
    print(f"{'question':30} {'answer':>8} {'server':>8} {'calls':>6} {'a call':>8}")
    for name, ask in questions.items():
        took, used, calls = list[float](), list[float](), 0
        for _ in range(TIMES):
            client.config_resetstat()
            began = time.perf_counter()
            ask()
            took.append((time.perf_counter() - began) * 1e3)
            found = client.info("commandstats")
            of_server = [one for key, one in found.items() if key not in ("cmdstat_config|resetstat", "cmdstat_info")]
            top = [one for key, one in found.items() if key in ("cmdstat_evalsha", "cmdstat_eval")]
            alone = [one for one in of_server if one not in top] if not top else []
            used.append(sum(one["usec"] for one in top or alone) / 1e3)
            calls = sum(one["calls"] for one in top or alone)
        server_ms = statistics.median(used)
        print(f"{name:30} {statistics.median(took):8.2f} {server_ms:8.2f} {calls:6} {server_ms / max(calls, 1):8.2f}")


def _failure(job_id: str) -> Failure:
    return Failure(job_id, "jobs.Email", b"[1]", "TimeoutError: no answer", 3, datetime.now(UTC))


if __name__ == "__main__":
    assert REDIS_BINARIES
    main()
