"""How a process with workers ends, and what the processes are that it starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from kashvi.queue import Queue
from kashvi.registry import Registry
from kashvi.runtime import SystemRuntime

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")

FORKS = """
import multiprocessing, os, signal, time
from dataclasses import dataclass
from pathlib import Path
from kashvi import queue

@queue.job("jobs.Starts")
@dataclass
class Starts:
    def handle(self):
        child = multiprocessing.get_context("fork").Process(target=waits)
        child.start()
        while not Path("waits.txt").exists():
            time.sleep(0.01)
        child.terminate()
        child.join(10)
        Path("ended.txt").write_text(f"{child.exitcode} {signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL}")

def waits():
    Path("waits.txt").write_text("")
    time.sleep(60)

queue.dispatch(Starts())
"""


def test_a_process_that_a_handler_starts_ends_by_a_signal(tmp_path: Path) -> None:
    """It prints nothing of stopping, and its parent goes on to hear of its own signals."""
    (tmp_path / "forks.py").write_text(FORKS)
    command = ["queue:work", "--app", "forks", "--stop-when-empty", "--workers", "1"]
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", "from kashvi.cli import main; main()", *command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (ran.returncode, (tmp_path / "ended.txt").read_text()) == (0, "-15 True")
    assert "Stopping" not in ran.stdout
    assert "1 done" in ran.stdout


FALLS = """
import json, os, threading, time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
import msgspec
from kashvi import queue

executor = ThreadPoolExecutor(2)
going = threading.Barrier(3)

@queue.job("jobs.Uses")
@dataclass
class Uses:
    n: int
    def handle(self):
        if self.n < 2:
            going.wait(20)
        threading.main_thread().join()
        {uses}

queue.set_driver(queue.MemoryDriver())
queue.dispatch_many([Uses(n) for n in range(8)])
queue.observe(lambda event: os.write(1, msgspec.json.encode(event) + b"\\n"))
{works}
going.wait(20)
threading.Thread(target=time.sleep, args=[0.3]).start()
"""
POOL = "queue.start_workers(2)"
OWN = "for _ in range(2): threading.Thread(target=queue.work, daemon=True).start()"


@pytest.mark.parametrize("works", [POOL, OWN], ids=["start_workers", "work"])
@pytest.mark.parametrize(
    "uses",
    [
        "executor.submit(int).result()",
        "ThreadPoolExecutor(1).submit(int).result()",
        "raise RuntimeError('sys.meta_path is None, Python is likely shutting down')",
    ],
    ids=["executor", "new-executor", "import"],
)
def test_an_attempt_that_fails_while_the_interpreter_goes_down_goes_back_uncounted(uses: str, works: str) -> None:
    """And none begins: of eight jobs two had started."""
    ran = subprocess.run(
        [sys.executable, "-c", FALLS.format(uses=uses, works=works)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    told = [json.loads(line) for line in ran.stdout.splitlines()]
    kinds = [event["event"] for event in told]
    assert kinds.count("AttemptStarted") == 2
    assert not {"AttemptFailed", "RetryScheduled", "JobFailed"} & {*kinds}
    assert not any(event.get("suspect") for event in told)
    assert ran.stderr == ""


def test_workers_that_are_started_when_the_interpreter_goes_down_take_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As from a hook of atexit."""

    @dataclass
    class Note:
        def handle(self) -> None:
            raise AssertionError("it ran")

    monkeypatch.setattr(SystemRuntime, "closing", lambda self: True)
    queue = Queue(registry=Registry())
    queue.register("jobs.Note", Note)
    queue.dispatch(Note())
    assert queue.start_workers(2).join(20)
    assert queue.failed_jobs() == []
    assert queue.stats().ready == 1
