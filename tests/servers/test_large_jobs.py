"""Many large jobs in a process with little memory: nothing is read all at once."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import sqlalchemy as sa

from kashvi.drivers.redis import RedisDriver

from .launch import RedisServer

MEMORY = 256 * 1024 * 1024
APP = """
from dataclasses import dataclass
from kashvi import queue

@queue.job("jobs.Note")
@dataclass
class Note:
    text: str

    def handle(self):
        with open("ran.txt", "a") as notes:
            notes.write(self.text[:8] + "\\n")
"""
WORK = [
    *(sys.executable, "-c", "from kashvi.cli import main; main()"),
    *("queue:work", "--app", "myapp", "--lease", "2"),
]


def note(number: int, size: int, **more: object) -> bytes:
    text = f"{number:08}" + "x" * size
    return json.dumps({"id": f"{number:08}", "type": "jobs.Note", "payload": {"text": text}, **more}).encode()


def work(directory: Path, server: RedisServer, *until: str) -> None:
    """A worker of five threads, in as much memory as it may have."""
    (directory / "myapp.py").write_text(APP)
    limit = (MEMORY, MEMORY)
    worker = subprocess.run(
        [*WORK, "--redis-url", server.url, *until],
        cwd=directory,
        env=os.environ | {"MALLOC_ARENA_MAX": "1"},  # glibc reserves 64 MB for each thread, and uses little of it
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, limit),
    )
    assert worker.returncode == 0, worker.stdout[-2000:] + worker.stderr[-2000:]
    assert "MemoryError" not in worker.stderr


def ran(directory: Path) -> list[int]:
    return sorted(map(int, (directory / "ran.txt").read_text().split()))


def test_large_failures_are_recorded_in_little_memory(tmp_path: Path, valkey: RedisServer) -> None:
    """500 exhausted jobs of 100 KB wait for the table, and 50 good ones for a worker."""
    failed = {note(n, 100_000, attempts=3, error="ValueError: no card"): n for n in range(500)}
    valkey.client().zadd("kashvi:queue:unrecorded", failed)
    RedisDriver(valkey.url).push([note(n, 10) for n in range(50)])
    work(tmp_path, valkey, "--stop-when-empty")
    assert ran(tmp_path) == list(range(50))
    assert valkey.client().zcard("kashvi:queue:unrecorded") == 0
    with sa.create_engine(f"sqlite:///{tmp_path}/kashvi.db").connect() as database:
        rows = sa.text("SELECT count(DISTINCT job_id), sum(length(payload)) > 500 * 100000 FROM kashvi_failed_jobs")
        assert database.execute(rows).one() == (500, 1)


def test_large_jobs_of_a_dead_worker_are_done_in_little_memory(tmp_path: Path, valkey: RedisServer) -> None:
    """It had claimed 80 of three megabytes: they go back, are claimed and done, some at a time."""
    client = valkey.client()
    for n in range(80):
        client.lpush("kashvi:queue:held:dead", note(n, 3_000_000))
    client.zadd("kashvi:queue:workers", {"dead": 1})
    RedisDriver(valkey.url).push([note(n, 10) for n in range(80, 100)])
    work(tmp_path, valkey, "--max-jobs", "100", "--max-time", "60")
    assert ran(tmp_path) == list(range(100))
    assert client.llen("kashvi:queue:held:dead") == 0
