"""``queue:work --processes``: which processes are replaced, when, and which end the command."""

from __future__ import annotations

import json
import socket
import sys

from kashvi.cli.processes import Place
from kashvi.ports import Stats
from kashvi.queue import Queue
from tests.servers.launch import RedisServer, until_true

from .conftest import Note, Shell, Worker


def test_what_no_process_can_start_with_ends_the_command_with_its_code(kashvi: Shell, valkey: RedisServer) -> None:
    """A database that no worker can use, a port that the first process has; what they say is shown."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (kashvi.directory / "server.py").write_text(
        f"import socket, myapp\nfrom kashvi import queue\nserver = socket.create_server(('127.0.0.1', {port}))\n"
    )
    two = ("queue:work", "--redis-url", valkey.url, "--processes", "2")
    shown = kashvi(*two, "--app", "myapp", "--database-url", "nonsense://x")
    assert shown.returncode == 1
    assert "Error: the database URL" in shown.stderr
    shown = kashvi(*two, "--app", "server")
    assert shown.returncode == 2
    assert "Address already in use" in shown.stderr
    assert "it could not start to work, so all end" in shown.stderr


def test_a_process_that_leaves_before_it_works_is_no_success(kashvi: Shell, valkey: RedisServer) -> None:
    """Whatever its own exit code says."""
    (kashvi.directory / "leaves.py").write_text(
        "import myapp, os, sys\nif any(word.startswith('--tell') for word in sys.argv): os._exit(0)\n"
    )
    shown = kashvi("queue:work", "--redis-url", valkey.url, "--processes", "2", "--app", "leaves")
    assert "it could not start to work, so all end" in shown.stderr
    assert shown.returncode == 1


def test_processes_start_as_their_command_did_whatever_the_app_changes(kashvi: Shell, valkey: RedisServer) -> None:
    """Its words and its directory, as an app may for reasons of its own."""
    (kashvi.directory / "moves.py").write_text("import myapp, os, sys\nsys.argv[1:] = []\nos.chdir('/')\n")
    shown = kashvi("queue:work", "--redis-url", valkey.url, "--processes", "2", "--app", "moves", "--stop-when-empty")
    assert (shown.returncode, shown.stderr) == (0, "")


def test_a_process_that_has_had_its_jobs_is_replaced(worker: Worker, queue: Queue) -> None:
    """At once, until the queue is empty: all jobs run, each process takes its number."""
    queue.dispatch_many([Note(n) for n in range(7)])
    worker.until_empty("--processes", "2", "--max-jobs", "2", "--trace", "t.jsonl")
    events = [json.loads(line) for line in (worker.shell.directory / "t.jsonl").read_text().splitlines()]
    ran = [event["worker"] for event in events if event["event"] == "AttemptStarted"]
    assert sorted(worker.shell.lines("ended.txt")) == [str(n) for n in range(7)]
    assert max(ran.count(one) for one in ran) <= 2
    assert len({*ran}) >= 4
    assert queue.stats() == Stats(ready=0, delayed=0, held=0, unrecorded=0, workers=0)


def test_max_time_ends_the_command_and_not_its_processes_alone(worker: Worker, queue: Queue) -> None:
    """One that takes another's place has what is left of the time."""
    queue.dispatch_many([Note(n) for n in range(1000)])
    process = worker.start("--processes", "2", "--max-jobs", "1", "--max-time", "2")
    assert process.wait(30) == 0
    assert queue.stats() == Stats(queue.stats().ready, delayed=0, held=0, unrecorded=0, workers=0)
    assert queue.stats().ready == 1000 - len(worker.shell.lines("ended.txt"))


def test_the_place_of_a_process_that_dies_stays_empty_longer_each_time() -> None:
    """From a second to half a minute; after a minute of life it is forgotten."""
    place, now, rests = Place(), 1000.0, []
    for lives in [0.1] * 7 + [60.0, 0.1]:
        place.start([sys.executable, "-c", "import sys"], None, now)
        assert place.child is not None
        place.child.wait()
        assert place.empty() == b""
        now += lives
        rests.append(place.rest(now))
        assert place.starts_at == now + rests[-1]
        now += rests[-1]
    assert rests == [1, 2, 4, 8, 16, 30, 30, 1, 2]
    assert not place.worked


def test_a_process_that_leaves_without_a_word_is_replaced(worker: Worker, queue: Queue) -> None:
    """A job that calls os._exit is no way to end a worker, whatever its code."""
    (worker.shell.directory / "leaves.py").write_text(
        "import os, myapp\nfrom dataclasses import dataclass\nfrom kashvi import queue\n"
        "@queue.job('jobs.Leaves')\n@dataclass\nclass Leaves:\n    def handle(self): os._exit(0)\n"
    )
    process = worker.start("--app", "leaves", "--processes", "2", "--lease", "0.5")
    queue.driver.push([b'{"type":"jobs.Leaves","payload":{}}'])
    until_true(lambda: queue.stats().ready == 0 and queue.stats().workers >= 2, 20)
    queue.dispatch(Note(1))
    worker.until_ran("1")
    process.terminate()
    assert process.wait(20) == 0


def test_a_job_that_ends_its_process_at_once_ends_no_other(kashvi: Shell, valkey: RedisServer, queue: Queue) -> None:
    """Also where the process is not yet done with its start: it came to work all the same."""
    (kashvi.directory / "leaves.py").write_text(
        "import os, time\nfrom dataclasses import dataclass\nfrom kashvi import queue\n"
        "@queue.job('jobs.Leaves')\n@dataclass\nclass Leaves:\n    def handle(self): os._exit(0)\n"
        "start = queue.Queue.start_workers\n"
        "def slow(queue, *words, **more):\n    running = start(queue, *words, **more)\n"
        "    until = time.monotonic() + 1  # what a dead process holds may stay, once the limit has ended this one\n"
        "    while time.monotonic() < until and (queue.stats().ready or queue.stats().held): time.sleep(0.01)\n"
        "    return running\n"
        "queue.Queue.start_workers = slow\n"
    )
    queue.driver.push([b'{"type":"jobs.Leaves","payload":{}}'])
    limits = ("--lease", "0.5", "--max-time", "1.5")
    shown = kashvi("queue:work", "--app", "leaves", "--redis-url", valkey.url, "--processes", "2", *limits)
    assert "(exit code 0); another replaces it in 1 s" in shown.stderr
    assert "could not start to work" not in shown.stderr
    assert shown.returncode == 0
