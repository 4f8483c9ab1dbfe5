"""The worker process: signals, jobs that go wrong, and the way of a failed job there and back."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

from kashvi.cli.signals import AGAIN_S
from kashvi.jobs.envelope import read
from kashvi.ports import Stats
from kashvi.queue import Queue
from tests.servers.launch import RedisServer, until_true

from .conftest import APP, Note, Quit, Shell, Worker, children, on_the_list


def rows(kashvi: Shell) -> list[dict[str, object]]:
    """The failure table, newest first."""
    found: list[dict[str, object]] = json.loads(kashvi("queue:failed", "--json").stdout)
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_second_signal_returns_the_very_bytes_and_the_next_worker_runs_them(
    worker: Worker, valkey: RedisServer, queue: Queue, number: signal.Signals
) -> None:
    """Uncounted, with the same id and ahead of what waits; the exit code names the signal."""
    job_id = queue.dispatch(Note(1, takes=60.0))
    (entry,) = on_the_list(valkey)
    process = worker.start()
    worker.until_ran("1")
    waiting = queue.dispatch(Note(2))
    process.send_signal(number)
    worker.until_printed("Stopping")
    until_true(lambda: process.send_signal(number) or process.poll() == 128 + number, 10)  # type: ignore[func-returns-value]
    first, second = on_the_list(valkey)
    assert first == entry
    assert (read(first).id, read(first).attempts, read(first).lost) == (job_id, 0, 0)
    assert read(second).id == waiting
    assert worker.shell.lines("ended.txt") == []
    worker.start()
    worker.until_ran("1", "1")


def test_a_stopped_worker_has_settled_the_job_it_let_end(worker: Worker, valkey: RedisServer, queue: Queue) -> None:
    """The job is done and off the queue, and nothing of the worker stays on the server."""
    process = worker.start()
    queue.dispatch(Note(1, takes=0.5))
    worker.until_ran("1")
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert "DONE" in worker.output.read_text()
    assert "1 done, 0 retried, 0 failed." in worker.output.read_text()
    assert not valkey.client().keys("kashvi:queue:held:*") + valkey.client().keys("kashvi:queue:running:*")  # type: ignore[operator]
    assert queue.stats() == Stats(ready=0, delayed=0, held=0, unrecorded=0, workers=0)


def test_a_signal_does_not_break_the_json_lines(worker: Worker, queue: Queue) -> None:
    """Nothing for people is printed between them."""
    process = worker.start("--json")
    queue.dispatch(Note(1, takes=0.2))
    worker.until_ran("1")
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    events = [json.loads(line)["event"] for line in worker.output.read_text().splitlines()]
    assert "WorkerStopping" in events
    assert events[-1] == "WorkerStopped"


def test_one_thread_outlives_system_exit_garbage_and_unknown_types(
    worker: Worker, valkey: RedisServer, queue: Queue
) -> None:
    """It goes on to the job behind them, and the three are recorded."""
    process = worker.start("--max-retry", "1")
    queue.dispatch(Quit())
    queue.driver.push([b"\xff\x00{", b'{"id":"x1","type":"jobs.Nope","payload":{}}'])
    queue.dispatch(Note(1))
    worker.until_ran("1")
    until_true(lambda: len(rows(worker.shell)) == 3, 20)
    assert process.poll() is None
    assert sorted((row["job_type"], row["attempts"]) for row in rows(worker.shell)) == [
        ("", 0),
        ("jobs.Nope", 0),
        ("jobs.Quit", 1),
    ]
    until_true(lambda: queue.stats() == Stats(ready=0, delayed=0, held=0, unrecorded=0, workers=1), 20)


def test_a_failed_attempt_is_counted_and_waits_on_the_server(worker: Worker, valkey: RedisServer, queue: Queue) -> None:
    """``--stop-when-empty`` leaves it there, as it leaves delayed jobs."""
    job_id = queue.dispatch(Quit())
    later = queue.dispatch_after(Note(1), 3600)
    assert "RETRY in 1 s" in worker.until_empty("--verbose")
    waiting = map(read, valkey.client().zrange("kashvi:queue:delayed", 0, -1))  # type: ignore[arg-type]
    assert [(one.id, one.attempts) for one in waiting] == [(job_id, 1), (later, 0)]
    assert rows(worker.shell) == []


def test_retry_all_given_twice_sends_each_job_once(worker: Worker, valkey: RedisServer, queue: Queue) -> None:
    """As new jobs, oldest first, with new ids and all their attempts."""
    old = {queue.dispatch(Quit())}
    worker.until_empty("--max-retry", "1")
    queue.driver.push([b'{"id":"x1","type":"jobs.Nope","payload":{"a": 1}}'])
    worker.until_empty()
    assert [row["job_type"] for row in rows(worker.shell)] == ["jobs.Nope", "jobs.Quit"]
    retry = ("queue:retry", "all", "--redis-url", valkey.url)
    assert worker.shell(*retry).stdout == "2 failed jobs sent back.\n"
    again = worker.shell(*retry)
    assert (again.returncode, again.stdout) == (0, "0 failed jobs sent back.\n")
    quit_, nope = map(read, on_the_list(valkey))
    assert (quit_.type, nope.type, bytes(nope.payload)) == ("jobs.Quit", "jobs.Nope", b'{"a": 1}')
    assert (quit_.attempts, nope.attempts) == (0, 0)
    assert not {quit_.id, nope.id} & {*old, "x1", ""}


def test_what_can_not_be_retried_or_forgotten_stays(worker: Worker, queue: Queue) -> None:
    """An error on standard error and exit code 1; a row is named by its number or its job's id."""
    queue.driver.push([b'{"id":"x1","type":"jobs.Nope","payload":{}}', b"garbage"])
    worker.until_empty()
    for words in (["queue:retry", "all"], ["queue:forget", "99"], ["queue:forget", "x2"]):
        shown = worker.shell(*words)
        assert shown.returncode == 1
        assert "Error: " in shown.stderr
        assert "Traceback" not in shown.stderr
    assert len(rows(worker.shell)) == 2
    assert worker.shell("queue:forget", "x1").stdout == "1 failed job deleted.\n"
    assert [row["job_type"] for row in rows(worker.shell)] == [""]
    assert json.loads(worker.shell("queue:flush", "--json").stdout) == {"deleted": 1}
    assert rows(worker.shell) == []


@pytest.mark.parametrize(
    ("app", "message"),
    [
        ("myapp:missing", "'myapp:missing' is not there (AttributeError: module 'myapp' has no attribute 'missing')"),
        ("myapp:os", "'myapp:os' is not a kashvi Queue, but of type module"),
        ("myapp.jobs", "can't import 'myapp.jobs'"),
        ("myapp.py", "'myapp.py' is no module; did you mean 'myapp'?"),
        ("./shop/jobs.py", "'./shop/jobs.py' is no module; did you mean 'shop.jobs'?"),
        (".jobs", "'.jobs' is no module; did you mean 'jobs'?"),
        ("../jobs.py", "'../jobs.py' is no module\n"),
        ("", "no job types are registered"),
        ("needs", "No module named 'not_there'"),
    ],
)
def test_an_app_that_can_not_be_used_is_wrong_usage(kashvi: Shell, app: str, message: str) -> None:
    """The message names what is missing; nothing was started and no database made."""
    (kashvi.directory / "needs.py").write_text("import not_there\n")
    shown = kashvi("queue:work", "--app", app)
    assert (shown.returncode, shown.stdout) == (2, "")
    assert message in shown.stderr
    assert "Traceback" not in shown.stderr
    assert not (kashvi.directory / "kashvi.db").exists()


@pytest.mark.parametrize("option", ["--lease", "--grace", "--max-time", "--unknown-for"])
@pytest.mark.parametrize("seconds", ["nan", "inf"])
def test_a_time_that_is_no_number_is_wrong_usage(kashvi: Shell, option: str, seconds: str) -> None:
    """A range takes it: nothing is below it, and nothing above."""
    shown = kashvi("queue:work", "--app", "myapp", option, seconds, "--stop-when-empty")
    assert shown.returncode == 2
    assert "is not a finite number of seconds" in shown.stderr


@pytest.mark.parametrize("option", ["--lease", "--obey", "--patience"])
def test_a_time_over_a_hundred_years_is_wrong_usage(kashvi: Shell, option: str) -> None:
    """Clocks and servers do not count as far."""
    shown = kashvi("queue:work", "--app", "myapp", option, "1e308", "--stop-when-empty")
    assert shown.returncode == 2
    assert "over 100 years" in shown.stderr


@pytest.mark.parametrize("error", ["ValueError('no port')", "SystemExit('no port')", "GeneratorExit('no port')"])
def test_an_app_that_fails_when_it_is_imported_shows_where(kashvi: Shell, error: str) -> None:
    """From its own first line on, whatever it raises; kashvi's frames and importlib's say nothing."""
    (kashvi.directory / "breaks.py").write_text(f"def port():\n    raise {error}\n\nport()\n")
    shown = kashvi("queue:work", "--app", "breaks")
    assert shown.returncode == 2
    places = [line for line in shown.stderr.splitlines() if line.startswith("  File ")]
    assert ["breaks.py" in place for place in places] == [True, True]
    assert f"can't import 'breaks': {error.partition('(')[0]}: no port" in shown.stderr


def test_a_trace_holds_what_the_json_lines_hold_and_is_judged(worker: Worker, queue: Queue) -> None:
    """Two workers, one after the other, one file: it is added to. Of an error it has the type, and the places."""
    queue.dispatch(Note(1))
    printed = worker.until_empty("--json", "--trace", "t.jsonl")
    queue.dispatch(Quit())
    printed += worker.until_empty("--json", "--trace", "t.jsonl", "--max-retry", "1")
    written = (worker.shell.directory / "t.jsonl").read_text()
    traced = [json.loads(line) for line in written.splitlines()]
    (places,) = (event.pop("traceback") for event in traced if "traceback" in event)
    line = APP.splitlines().index('        raise SystemExit("no")') + 1
    assert places == [f"{worker.shell.directory}/myapp.py:{line} in handle"]
    shown = [json.loads(line) for line in printed.replace("SystemExit: no", "SystemExit").splitlines()]
    assert sorted(map(repr, traced)) == sorted(map(repr, shown))
    with (worker.shell.directory / "t.jsonl").open("a") as trace:
        trace.write('{"event":"Attem')
    judged = worker.shell("spec:check", "t.jsonl")
    assert judged.returncode == 0
    assert "begun and not ended, as by a process that was killed" in judged.stdout


def test_a_trace_that_cannot_be_written_stops_the_worker_before_it_starts(worker: Worker) -> None:
    """Rather than run untraced."""
    shown = worker.shell(*worker.options, "--trace", "nowhere/t.jsonl")
    assert shown.returncode == 1
    assert "can't be used: it can't be written (No such file or directory)" in shown.stderr


def test_several_processes_are_as_many_workers_and_end_with_the_work(worker: Worker, queue: Queue) -> None:
    """Each job runs once, in one of the processes."""
    queue.dispatch_many([Note(n, takes=0.2) for n in range(10)])
    worker.until_empty("--processes", "2", "--trace", "t.jsonl")
    events = [json.loads(line) for line in (worker.shell.directory / "t.jsonl").read_text().splitlines()]
    assert len({event["worker"] for event in events if event["event"] == "WorkerStarted"}) == 2
    assert sorted(worker.shell.lines("ran.txt"), key=int) == [str(n) for n in range(10)]


def test_a_worker_process_that_dies_is_replaced_and_a_signal_ends_them_all(worker: Worker, queue: Queue) -> None:
    """Its job is not lost; the one that still runs at the stop may end."""
    process = worker.start("--processes", "2", "--lease", "2")
    until_true(lambda: queue.stats().workers == 2, 20)
    queue.dispatch(Note(1, takes=60.0))
    worker.until_ran("1")
    first = children(process)
    for pid in first:
        os.kill(pid, signal.SIGKILL)
    until_true(lambda: len(children(process)) == 2 and not {*first} & {*children(process)}, 20)
    worker.until_ran("1", "1")
    queue.dispatch(Note(2, takes=1.0))
    worker.until_ran("1", "1", "2")
    process.terminate()
    until_true(lambda: worker.output.read_text().count("Stopping") == 2, 20)
    told_at = time.monotonic()
    until_true(lambda: worker.shell.lines("ended.txt") == ["2"], 20)
    until_true(lambda: time.monotonic() - told_at >= AGAIN_S, 20)
    process.terminate()
    assert process.wait(20) == 128 + signal.SIGTERM
    assert queue.stats().ready == 1


def test_processes_do_not_share_a_queue_in_memory(kashvi: Shell) -> None:
    """Each would wait for jobs that none can send it."""
    shown = kashvi("queue:work", "--app", "myapp", "--processes", "2")
    assert shown.returncode == 1
    assert "queue:work --processes needs Redis" in shown.stderr


@pytest.mark.parametrize(
    ("app", "why"), [([], "--app MODULE."), (["--app", "empty"], "'empty' registers no job types")]
)
def test_a_worker_without_job_types_does_not_start(
    kashvi: Shell, valkey: RedisServer, queue: Queue, app: list[str], why: str
) -> None:
    """Wrong usage, which says what to do; nothing is taken off the queue."""
    queue.dispatch(Note(1))
    (kashvi.directory / "empty.py").write_text("from kashvi import queue\n")
    shown = kashvi("queue:work", *app, "--redis-url", valkey.url, "--stop-when-empty")
    assert (shown.returncode, shown.stdout) == (2, "")
    assert "no job types" in shown.stderr
    assert why in " ".join(shown.stderr.split())
    assert queue.stats().ready == 1


def test_a_job_that_only_the_new_version_knows_waits_for_it(worker: Worker, queue: Queue) -> None:
    """The old version's worker warns once and leaves it on the server, uncounted."""
    (worker.shell.directory / "old.py").write_text(
        "from myapp import queue, Note\nfrom kashvi.queue import Queue, Registry\n"
        "old = Queue(registry=Registry())\nold.register('jobs.Old', Note)\n"
    )
    queue.dispatch(Note(1))
    shown = worker.shell(*worker.options, "--app", "old:old", "--stop-when-empty", "--unknown-for", "60")
    assert shown.stderr.count("unknown job type 'jobs.Note'") == 1
    assert (worker.shell.lines("ran.txt"), queue.stats().delayed) == ([], 1)
    worker.start()
    worker.until_ran("1")
    assert rows(worker.shell) == []
