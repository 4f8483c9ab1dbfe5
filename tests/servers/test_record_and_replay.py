"""Real worker processes write their traces, one is killed, and the replay comes to what happened."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from kashvi_sim.runs.recording import Recording, record_of
from kashvi_sim.runs.replay import recorded, replay

from kashvi import queue as face
from kashvi.queue import Queue, TraceFile
from kashvi.registry import Registry

from .launch import RedisServer, until_true

JOBS = 2_000
APP = """
import time
from dataclasses import dataclass
from kashvi import queue

@queue.job("jobs.Mail")
@dataclass
class Mail:
    n: int
    takes: float
    fails: bool = False

    def handle(self):
        time.sleep(self.takes)
        if self.fails:
            raise RuntimeError("the password is hunter2")
"""


@dataclass
class Mail:
    n: int
    takes: float
    fails: bool = False

    def handle(self) -> None:
        """Runs in the worker process."""


@pytest.fixture
def traces(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Path]]:
    """Of a process that dispatches 2,000 jobs within 13 s, and of three workers: one killed, one that comes later."""
    directory = tmp_path_factory.mktemp("recorded")
    (directory / "app.py").write_text(APP)
    server = RedisServer("valkey-9", directory / "server").start()
    registry = Registry()
    registry.register("jobs.Mail", Mail)
    web = Queue(face.RedisDriver(server.url), registry=registry)
    web.observe(TraceFile(directory / "web.jsonl"))
    workers: list[subprocess.Popen[bytes]] = []

    def work() -> None:
        number = len(workers)
        command = [sys.executable, "-c", "from kashvi.cli import main; main()", "queue:work", "--app", "app"]
        options = ["--workers", "4", "--lease", "2", "--redis-url", server.url, "--json"]
        options += ["--trace", f"worker-{number}.jsonl"]
        with (directory / "out.txt").open("ab") as out:
            workers.append(subprocess.Popen([*command, *options], cwd=directory, stdout=out, stderr=out))
        until_true((directory / f"worker-{number}.jsonl").exists, 20)

    try:
        work()
        work()
        chance = random.Random(5)
        at = time.monotonic()
        for n in range(JOBS):
            at += chance.expovariate(150)
            until_true(lambda at=at: time.monotonic() >= at, 20)  # type: ignore[misc]
            job = Mail(n, chance.expovariate(1 / 0.04), chance.random() < 0.02)
            if n % 50 == 49:
                web.dispatch_after(job, 1.5)
            else:
                web.dispatch(job)
            if n == 800:
                workers[0].kill()
            if n == 1100:
                work()
        until_true(lambda: not any((s := web.stats(), s.ready, s.delayed, s.held, s.unrecorded)[1:]), 120)
        for worker in workers[1:]:
            worker.terminate()
            worker.wait(20)
        yield sorted(directory.glob("*.jsonl"))
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
        server.stop()


def test_a_recording_holds_what_happened_and_its_replay_comes_to_the_same(traces: list[Path]) -> None:
    """And with more workers to less."""
    recording = record_of(traces)
    every_job_is_in_it_with_all_its_attempts(recording)
    no_message_of_an_error_is_in(traces)
    the_killed_process_is_known_to_be_dead(recording)
    replayed_as_it_was_jobs_wait_as_long_as_they_did(recording)
    with_twice_the_workers_they_would_have_waited_less(recording)


def every_job_is_in_it_with_all_its_attempts(recording: Recording) -> None:
    """Failed ones too, and what was cut off was made again."""
    figures = recorded(recording).figures
    assert figures.jobs == figures.succeeded + figures.failed == JOBS
    assert {len(job.attempts) for job in recording.jobs} == {1, 3}
    assert sum(job.delay_s is not None for job in recording.jobs) == JOBS // 50


def no_message_of_an_error_is_in(traces: list[Path]) -> None:
    """Its type is."""
    text = b"".join(path.read_bytes() for path in traces)
    assert b'"error":"RuntimeError"' in text
    assert b"hunter2" not in text


def the_killed_process_is_known_to_be_dead(recording: Recording) -> None:
    """The others told."""
    assert [shift.killed for shift in recording.shifts] == [True, False, False]
    ended = recording.shifts[0].ended_s
    assert ended is not None
    assert recording.jobs[0].at_s < ended < recording.jobs[1000].at_s


def replayed_as_it_was_jobs_wait_as_long_as_they_did(recording: Recording) -> None:
    """Within 15 % where the machine is left alone (about 1 % is usual); this bears a busy one."""
    real, again = recorded(recording).figures, replay(recording).figures
    assert (again.jobs, again.succeeded, again.failed) == (real.jobs, real.succeeded, real.failed)
    assert real.wait_s
    assert again.wait_s
    for name in ("mean", "p95", "p99"):
        happened, replayed = getattr(real.wait_s, name), getattr(again.wait_s, name)
        assert replayed == pytest.approx(happened, rel=0.3, abs=0.02), name


def with_twice_the_workers_they_would_have_waited_less(recording: Recording) -> None:
    """And half of them much more."""
    waits = [replay(recording, workers).figures.wait_s for workers in (4, 8, 16)]
    few, some, many = (wait.mean for wait in waits if wait)
    assert few > some > many
