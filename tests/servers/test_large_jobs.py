"""Many large jobs in a process with little memory, or a container with no more: nothing is read all at once."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
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
    *("queue:work", "--app", "myapp", "--workers", "5", "--lease", "2"),
]


def note(number: int, size: int, **more: object) -> bytes:
    text = f"{number:08}" + "x" * size
    return json.dumps({"id": f"{number:08}", "type": "jobs.Note", "payload": {"text": text}, **more}).encode()


class Container:
    """A control group: what is in it has so much memory and no swap. Raises OSError where none can be made."""

    LIMITS = {"memory.max": MEMORY, "memory.swap.max": 0}
    LIMITS_1 = {"memory.limit_in_bytes": MEMORY, "memory.memsw.limit_in_bytes": MEMORY}

    def __init__(self) -> None:
        groups = Path("/sys/fs/cgroup")
        first = groups / "memory"  # of cgroup v1
        self._path = (first if first.is_dir() else groups) / f"kashvi-tests-{os.getpid()}"
        if not first.is_dir():
            (groups / "cgroup.subtree_control").write_text("+memory")
        self._path.mkdir()
        try:
            for name, limit in (self.LIMITS_1 if first.is_dir() else self.LIMITS).items():
                if limit or (self._path / name).exists():  # where there is no swap, no limit of it
                    (self._path / name).write_text(str(limit))
        except OSError:
            self.remove()
            raise

    def enter(self) -> None:
        (self._path / "cgroup.procs").write_text("0")

    @property
    def killed(self) -> int:
        """How many processes had to die for want of memory."""
        file = next(path for name in ("memory.events", "memory.oom_control") if (path := self._path / name).exists())
        return next(int(line.split()[1]) for line in file.read_text().splitlines() if line.startswith("oom_kill "))

    def remove(self) -> None:
        self._path.rmdir()


Enter = Callable[[], None]


@pytest.fixture(params=["process", "container"])
def little_memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Enter]:
    """What a process calls to have little of it."""
    if request.param == "process":
        monkeypatch.setenv("MALLOC_ARENA_MAX", "1")  # glibc reserves 64 MB for each thread, and uses little of it
        yield lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        return
    try:
        container = Container()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    yield container.enter
    killed = container.killed
    container.remove()
    assert killed == 0


def work(directory: Path, server: RedisServer, enter: Enter, *until: str) -> None:
    """A worker of five threads, in as much memory as it may have."""
    (directory / "myapp.py").write_text(APP)
    worker = subprocess.run(
        [*WORK, "--redis-url", server.url, *until],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        preexec_fn=enter,
    )
    assert worker.returncode == 0, worker.stdout[-2000:] + worker.stderr[-2000:]
    assert "MemoryError" not in worker.stderr


def ran(directory: Path) -> list[int]:
    return sorted(map(int, (directory / "ran.txt").read_text().split()))


def test_large_failures_are_recorded_in_little_memory(
    tmp_path: Path, valkey: RedisServer, little_memory: Enter
) -> None:
    """500 exhausted jobs of 100 KB wait for the table, and 50 good ones for a worker."""
    failed = {note(n, 100_000, attempts=3, error="ValueError: no card"): n for n in range(500)}
    valkey.client().zadd("kashvi:queue:unrecorded", failed)
    RedisDriver(valkey.url).push([note(n, 10) for n in range(50)])
    work(tmp_path, valkey, little_memory, "--stop-when-empty")
    assert ran(tmp_path) == list(range(50))
    assert valkey.client().zcard("kashvi:queue:unrecorded") == 0
    with sa.create_engine(f"sqlite:///{tmp_path}/kashvi.db").connect() as database:
        rows = sa.text("SELECT count(DISTINCT job_id), sum(length(payload)) > 500 * 100000 FROM kashvi_failed_jobs")
        assert database.execute(rows).one() == (500, 1)


@pytest.mark.parametrize("little_memory", ["process"], indirect=True)
def test_large_jobs_of_a_dead_worker_are_done_in_little_memory(
    tmp_path: Path, valkey: RedisServer, little_memory: Enter
) -> None:
    """It had claimed 80 of three megabytes: they go back, are claimed and done, some at a time."""
    client = valkey.client()
    for n in range(80):
        client.lpush("kashvi:queue:held:dead", note(n, 3_000_000))
    client.zadd("kashvi:queue:workers", {"dead": 1})
    RedisDriver(valkey.url).push([note(n, 10) for n in range(80, 100)])
    work(tmp_path, valkey, little_memory, "--max-jobs", "100", "--max-time", "60")
    assert ran(tmp_path) == list(range(100))
    assert client.llen("kashvi:queue:held:dead") == 0
