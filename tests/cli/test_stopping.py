"""How a worker process ends: at any moment, in time, with what it ran back on the queue, whatever the server does."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from typing import cast

import pytest

from kashvi.cli.signals import NUMBERS, Signals
from kashvi.ports import Stats
from kashvi.queue import Queue
from kashvi.runtime import SystemRuntime
from kashvi.worker.pool import Workers
from tests.servers.launch import RedisServer, until_true

from .conftest import MAIN, Note, Shell, Worker, children, on_the_list

NOWHERE = "redis://localhost:1"
AT = """
import os, signal, myapp
from pathlib import Path
from kashvi import queue

def at(event):
    if type(event).__name__ == {moment!r}:
        os.kill(os.getpid(), signal.SIGTERM)

queue.observe(at)
if {moment!r} == "import":
    os.kill(os.getpid(), signal.SIGTERM)
    Path("imported.txt").write_text("on")
"""
MOMENTS = [
    "import",
    "WorkerStarted",
    "AttemptStarted",
    "AttemptSucceeded",
    "JobSucceeded",
    "WorkerStopping",
    "WorkerStopped",
]


def deaf() -> None:
    """As a container's first process is: deaf to what it has not asked for."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_signal_at_any_moment_ends_the_worker_and_loses_no_job(
    kashvi: Shell,
    valkey: RedisServer,
    queue: Queue,
    moment: str,
) -> None:
    """Whatever was not done is on the queue, uncounted, and the server knows no worker any more."""
    queue.dispatch_many([Note(n) for n in range(40)])
    entries = on_the_list(valkey)
    (kashvi.directory / "at.py").write_text(AT.format(moment=moment))
    ended = subprocess.run(
        [*MAIN, "queue:work", "--app", "at", "--redis-url", valkey.url, "--workers", "2", "--stop-when-empty"],
        cwd=kashvi.directory,
        env=kashvi.environment,
        stdout=subprocess.DEVNULL,
        preexec_fn=deaf,
        timeout=30,
        check=False,
    )
    assert ended.returncode == (-signal.SIGTERM if moment == "import" else 0)
    assert not (kashvi.directory / "imported.txt").exists()
    done = len(kashvi.lines("ended.txt"))
    assert queue.stats() == Stats(ready=40 - done, delayed=0, held=0, unrecorded=0, workers=0)
    assert [*map(int, sorted(kashvi.lines("ran.txt"), key=int))] == [*range(done)]
    assert on_the_list(valkey) == entries[done:]


def test_the_same_stop_told_twice_lets_the_job_end(worker: Worker, queue: Queue) -> None:
    """systemd tells the parent and its children at once, and the parent tells its children."""
    process = worker.start("--processes", "2")
    until_true(lambda: queue.stats().workers == 2, 20)
    queue.dispatch(Note(1, takes=1.5))
    worker.until_ran("1")
    for pid in (process.pid, *children(process)):
        os.kill(pid, signal.SIGTERM)
    assert process.wait(20) == 0
    assert worker.shell.lines("ended.txt") == ["1"]
    assert worker.output.read_text().count("Stopping") == 2


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_job_that_hangs_is_handed_back_at_the_end_of_the_grace(
    worker: Worker,
    valkey: RedisServer,
    queue: Queue,
    processes: str,
) -> None:
    """As it was, so a deploy costs it no attempt; the command has done what it was told."""
    queue.dispatch(Note(1, takes=60.0))
    (entry,) = on_the_list(valkey)
    process = worker.start("--grace", "0.3", "--processes", processes)
    worker.until_ran("1")
    process.terminate()
    assert process.wait(20) == 0
    assert on_the_list(valkey) == [entry]
    assert (queue.stats().held, worker.shell.lines("ended.txt")) == (0, [])


class Busy:
    """Workers that stop when they like."""

    def is_alive(self) -> bool:
        return True

    def request_stop(self) -> None:
        pass

    def hand_back(self) -> bool:
        return True


def test_a_second_signal_before_the_workers_run_ends_them_as_soon_as_they_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """The start may take a while, and the user has asked twice."""
    now, codes, over = [100.0], list[int](), threading.Event()
    before = {number: signal.getsignal(number) for number in NUMBERS}
    monkeypatch.setattr(SystemRuntime, "monotonic", staticmethod(lambda: now[0]))
    monkeypatch.setattr(Signals, "_wait_for_grace", lambda self: None)
    monkeypatch.setattr("kashvi.cli.signals.os._exit", lambda code: (codes.append(code), over.set()))
    try:
        signals = Signals(60, quiet=True)
        signals.expect()
        for now[0] in (100.0, 102.0):
            signal.raise_signal(signal.SIGTERM)
        signals.stops(cast("Workers", Busy()))
        assert over.wait(10)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert codes == [128 + signal.SIGTERM]


def test_limits_hold_while_the_server_is_away(kashvi: Shell) -> None:
    """After a lease; the exit code says that the worker could not learn whether the queue is empty."""
    away = ("queue:work", "--app", "myapp", "--redis-url", NOWHERE, "--lease", "0.5")
    for limit in (["--stop-when-empty"], ["--max-time", "0.5"]):
        shown = kashvi(*away, *limit)
        assert shown.returncode == 1
        assert "Error: localhost:1 can't be reached" in shown.stderr


def test_with_nothing_in_hand_a_worker_does_not_wait_for_its_server(worker: Worker) -> None:
    """A lease of an hour or not."""
    process = worker.start("--redis-url", NOWHERE, "--lease", "3600", "--grace", "3600")
    worker.until_printed("Ctrl-C")
    process.terminate()
    assert process.wait(10) == 0


@pytest.fixture
def hearing() -> Iterator[None]:
    """SIGHUP is not ignored, as it is under nohup, nor SIGQUIT, as in the background of a shell's script."""
    before = [(number, signal.signal(number, signal.SIG_DFL)) for number in (signal.SIGHUP, signal.SIGQUIT)]
    yield
    for number, handler in before:
        signal.signal(number, handler)


@pytest.mark.usefixtures("hearing")
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGQUIT])
def test_a_terminal_that_closes_stops_a_worker_as_sigterm_does(
    worker: Worker, queue: Queue, number: signal.Signals
) -> None:
    """Where the process died at once, and its job waited for the lease to end."""
    process = worker.start()
    queue.dispatch(Note(1, takes=0.3))
    worker.until_ran("1")
    process.send_signal(number)
    assert process.wait(20) == 0
    assert queue.stats() == Stats(ready=0, delayed=0, held=0, unrecorded=0, workers=0)


@pytest.mark.usefixtures("hearing")
@pytest.mark.parametrize("processes", [1, 2])
def test_a_worker_goes_on_in_a_new_trace_after_the_old_one_was_renamed(
    worker: Worker, queue: Queue, processes: int
) -> None:
    """As logrotate does it: rename, then SIGHUP."""
    path = worker.shell.directory / "t.jsonl"
    process = worker.start("--trace", str(path), "--processes", str(processes))
    until_true(lambda: path.exists() and path.read_text().count('"WorkerStarted"') == processes, 20)
    path.rename(path.with_name("t.jsonl.1"))
    process.send_signal(signal.SIGHUP)
    until_true(path.exists, 20)
    queue.dispatch(Note(1))
    until_true(lambda: '"JobSucceeded"' in path.read_text(), 20)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert '"JobSucceeded"' not in path.with_name("t.jsonl.1").read_text()
