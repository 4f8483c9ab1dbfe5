"""The commands: what they print, how they exit."""

from __future__ import annotations

import json
import signal
from dataclasses import dataclass

import pytest

from kashvi.cli import COMMANDS
from kashvi.drivers.redis import RedisDriver
from kashvi.jobs.envelope import read
from kashvi.queue import Queue
from kashvi.registry import Registry
from tests.servers.launch import RedisServer, until_true

from .conftest import Shell


@dataclass
class Note:
    n: int
    takes: float = 0.0

    def handle(self) -> None:
        """Runs in the worker process."""


@dataclass
class Quit:
    def handle(self) -> None:
        """Runs in the worker process."""


@pytest.fixture
def queue(valkey: RedisServer) -> Queue:
    registry = Registry()
    registry.register("jobs.Note", Note)
    registry.register("jobs.Quit", Quit)
    return Queue(RedisDriver(valkey.url), registry=registry)


def worker_options(server: RedisServer) -> list[str]:
    return ["queue:work", "--app", "myapp", "--redis-url", server.url, "--unknown-for", "0"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples(kashvi: Shell, command: str) -> None:
    """And every option of it has a text."""
    shown = kashvi(command, "--help")
    assert shown.returncode == 0
    assert f"kashvi {command}" in shown.stdout.partition("Examples:")[2]


def test_demo_ends_with_one_json_object(kashvi: Shell) -> None:
    """Three jobs succeed, one is exhausted, and its row is read back."""
    shown = kashvi("demo", "--json")
    result = json.loads(shown.stdout.splitlines()[-1])
    assert (result["succeeded"], result["failed"], result["rows"]) == (3, 1, 1)


def test_without_redis_the_worker_says_that_it_works_in_memory(kashvi: Shell) -> None:
    """Plainly; and it makes the default database."""
    shown = kashvi("queue:work", "--app", "myapp", "--stop-when-empty")
    assert shown.returncode == 0
    assert "this process's memory" in shown.stdout
    assert (kashvi.directory / "kashvi.db").exists()


def test_the_worker_prints_done_and_fail(kashvi: Shell, valkey: RedisServer, queue: Queue) -> None:
    """A job that raises SystemExit is a failed attempt and ends no worker."""
    queue.dispatch(Quit())
    queue.dispatch(Note(1))
    shown = kashvi(*worker_options(valkey), "--stop-when-empty", "--max-retry", "1")
    assert shown.returncode == 0
    assert "RUNNING" not in shown.stdout  # a line a job; -v shows starts
    assert "ms DONE" in shown.stdout
    assert "ms FAIL" in shown.stdout
    assert "SystemExit: no" in shown.stdout
    assert kashvi.lines("ended.txt") == ["1"]


def test_json_output_is_one_object_a_line(kashvi: Shell, valkey: RedisServer, queue: Queue) -> None:
    """Every event, for programs."""
    queue.dispatch(Note(1))
    shown = kashvi(*worker_options(valkey), "--stop-when-empty", "--json")
    events = [json.loads(line)["event"] for line in shown.stdout.splitlines()]
    assert {"WorkerStarted", "AttemptStarted", "AttemptSucceeded", "JobSucceeded", "WorkerStopped"} <= set(events)


def test_max_jobs_leaves_the_rest_on_the_queue(kashvi: Shell, valkey: RedisServer, queue: Queue) -> None:
    """Uncounted, in order."""
    queue.dispatch_many([Note(n) for n in range(5)])
    assert kashvi(*worker_options(valkey), "--max-jobs", "2", "--workers", "1").returncode == 0
    assert kashvi.lines("ran.txt") == ["0", "1"]
    assert queue.stats().ready == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--workers", "0"], "x>=1"),
        (["--workers", "many"], "not a valid integer"),
        (["--app", "no_such_app"], "can't import 'no_such_app'"),
        (["--app", "myapp:Note"], "not a kashvi Queue"),
        (["--max-retry", "0"], "x>=1"),
    ],
)
def test_wrong_usage_exits_with_two_and_says_why(kashvi: Shell, words: list[str], message: str) -> None:
    """Before anything is done."""
    shown = kashvi("queue:work", *words)
    assert shown.returncode == 2
    assert message in shown.stderr


def test_an_unusable_url_exits_with_one_and_hides_the_password(kashvi: Shell) -> None:
    """Whichever of the two it is."""
    for option, url in (("--redis-url", "http://u:hidden@x"), ("--database-url", "nonsense://u:hidden@x/y")):
        shown = kashvi("queue:work", "--app", "myapp", option, url, "--stop-when-empty")
        assert shown.returncode == 1
        assert "Error: " in shown.stderr
        assert "hidden" not in shown.stderr + shown.stdout


def test_the_first_signal_lets_the_running_job_end(kashvi: Shell, valkey: RedisServer, queue: Queue) -> None:
    """Takes no more, exits with 0."""
    process = kashvi.start(*worker_options(valkey), "--workers", "1")
    queue.dispatch(Note(1, takes=1.0))
    until_true(lambda: kashvi.lines("ran.txt") == ["1"], 20)
    queue.dispatch(Note(2))
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert kashvi.lines("ended.txt") == ["1"]
    assert queue.stats().ready == 1


def test_garbage_and_unknown_types_are_listed_and_sent_back_once(
    kashvi: Shell, valkey: RedisServer, queue: Queue
) -> None:
    """A retry is a new job with a new id; repeated after an interruption it does not double."""
    queue.driver.push([b"garbage", b'{"id":"x1","type":"jobs.Nope","payload":{}}'])
    assert kashvi(*worker_options(valkey), "--stop-when-empty").returncode == 0
    rows = json.loads(kashvi("queue:failed", "--json").stdout)
    assert {(row["job_type"], row["attempts"]) for row in rows} == {("", 0), ("jobs.Nope", 0)}
    assert "unknown job type 'jobs.Nope'" in next(r for r in rows if r["job_type"])["error"]
    assert "jobs.Nope" in kashvi("queue:failed").stdout

    known = next(row for row in rows if row["job_type"])
    retried = kashvi("queue:retry", str(known["id"]), "--redis-url", valkey.url)
    assert (retried.returncode, retried.stdout) == (0, "1 failed job sent back.\n")
    (entry,) = valkey.client().lrange("kashvi:queue:jobs", 0, -1)  # type: ignore[misc]
    assert read(entry).id not in ("", "x1")
    assert kashvi("queue:retry", "x1", "--redis-url", valkey.url).returncode == 1
    assert kashvi("queue:retry", "all", "--redis-url", valkey.url).returncode == 0
    assert queue.stats().ready == 2
    assert kashvi("queue:failed").stdout == "No failed jobs in sqlite:///kashvi.db.\n"


def test_retry_interrupted_before_the_row_is_deleted_sends_once(
    kashvi: Shell, valkey: RedisServer, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server remembers which failed job it took back."""
    from kashvi.failures.sql import SqlFailures
    from kashvi.retrying import send_back

    queue.driver.push([b"garbage"])
    kashvi(*worker_options(valkey), "--stop-when-empty")
    store = SqlFailures(f"sqlite:///{kashvi.directory}/kashvi.db")
    (row,) = store.rows()
    with monkeypatch.context() as patch:
        patch.setattr(SqlFailures, "remove", lambda *args: set())  # the process dies here
        send_back(store, RedisDriver(valkey.url), [row])
    send_back(store, RedisDriver(valkey.url), store.rows())
    assert (store.count(), queue.stats().ready) == (0, 1)
    store.engine.dispose()


def test_no_database_is_made_by_looking_for_failed_jobs(kashvi: Shell) -> None:
    """In the wrong directory, or behind a slip in a URL, an empty table would be a lie."""
    for command in (
        ["queue:failed"],
        ["queue:forget", "1"],
        ["queue:flush"],
        ["queue:retry", "1", "--redis-url", "redis://x:1"],
    ):
        shown = kashvi(*command)
        assert shown.returncode == 2
        assert "there is no kashvi.db in this directory" in shown.stderr
        for url in ("sqlite:///typo.db", "sqlite:///file:typo.db?uri=true", f"sqlite:///{kashvi.directory}/typo.db"):
            shown = kashvi(*command, "--database-url", url)
            assert shown.returncode == 2
            assert "has no table kashvi_failed_jobs (queue:work makes it)" in shown.stderr
    assert list(kashvi.directory.glob("*.db")) == []
    (kashvi.directory / "empty.db").touch()
    assert kashvi("queue:failed", "--database-url", "sqlite:///empty.db").returncode == 2
    assert (kashvi.directory / "empty.db").stat().st_size == 0


def test_retry_without_redis_is_refused(kashvi: Shell) -> None:
    """A queue in the command's own memory would lose the job."""
    shown = kashvi("queue:retry", "all")
    assert shown.returncode == 1
    assert "needs Redis" in shown.stderr


def test_forget_and_flush_delete_rows(kashvi: Shell, valkey: RedisServer, queue: Queue) -> None:
    """An id that is not there exits with 1."""
    queue.driver.push([b"one", b"two", b"three"])
    kashvi(*worker_options(valkey), "--stop-when-empty")
    assert kashvi("queue:forget", "1").stdout == "1 failed job deleted.\n"
    assert kashvi("queue:forget", "1").returncode == 1
    assert json.loads(kashvi("queue:flush", "--json").stdout) == {"deleted": 2}


def test_the_worker_takes_its_settings_from_the_environment(kashvi: Shell, valkey: RedisServer, queue: Queue) -> None:
    """KASHVI_APP, KASHVI_REDIS_URL, KASHVI_DATABASE_URL."""
    queue.dispatch(Note(1))
    settings = {"KASHVI_APP": "myapp", "KASHVI_REDIS_URL": valkey.url, "KASHVI_DATABASE_URL": "sqlite:///other.db"}
    assert kashvi("queue:work", "--stop-when-empty", **settings).returncode == 0
    assert kashvi.lines("ran.txt") == ["1"]
    assert (kashvi.directory / "other.db").exists()


def test_an_app_that_dispatches_at_import_still_takes_the_option(
    kashvi: Shell, valkey: RedisServer, queue: Queue
) -> None:
    """A queue that was only used has not been chosen."""
    (kashvi.directory / "eager.py").write_text("import myapp\nmyapp.queue.dispatch(myapp.Note(5))\n")
    queue.dispatch(Note(1))
    shown = kashvi("queue:work", "--app", "eager", "--redis-url", valkey.url, "--stop-when-empty")
    assert f"redis at 127.0.0.1:{valkey.port}" in shown.stdout
    assert kashvi.lines("ran.txt") == ["1"]


def test_retry_sends_to_the_queue_the_app_uses(kashvi: Shell, valkey: RedisServer, queue: Queue) -> None:
    """Its own prefix, its own database."""
    (kashvi.directory / "own.py").write_text(
        "import myapp\nfrom kashvi import Queue, queue\n"
        f"q = Queue(queue.RedisDriver({valkey.url!r}, prefix='own'), database='sqlite:///own.db')\n"
    )
    RedisDriver(valkey.url, prefix="own").push([b"garbage"])
    assert kashvi("queue:work", "--app", "own:q", "--stop-when-empty").returncode == 0
    assert "1 failed job sent back" in kashvi("queue:retry", "all", "--app", "own:q").stdout
    assert valkey.client().lrange("own:jobs", 0, -1) == [b"garbage"]
    assert queue.stats().ready == 0


def test_max_time_ends_the_worker(kashvi: Shell) -> None:
    """With exit code 0."""
    assert kashvi("queue:work", "--app", "myapp", "--max-time", "0.2").returncode == 0


def test_an_option_that_the_app_overrules_is_said_to_be_unused(kashvi: Shell) -> None:
    """So the user knows why the jobs of that server are not run."""
    (kashvi.directory / "own.py").write_text(
        "import myapp\nfrom kashvi import queue\nqueue.set_driver(queue.MemoryDriver())\n"
    )
    shown = kashvi("queue:work", "--app", "own", "--redis-url", "redis://localhost:1/0", "--stop-when-empty")
    assert (shown.returncode, shown.stderr) == (
        0,
        "Warning: --redis-url is not used: the app calls queue.set_driver.\n",
    )


def test_two_failures_of_one_job_id_are_both_sent_back(kashvi: Shell, valkey: RedisServer, queue: Queue) -> None:
    """Another program's ids may come again; a row is sent once, not an id."""
    for _ in range(2):
        queue.driver.push([b'{"id":"order-1","type":"jobs.Nope","payload":{}}'])
        assert kashvi(*worker_options(valkey), "--stop-when-empty").returncode == 0
        assert kashvi("queue:retry", "all", "--redis-url", valkey.url).stdout == "1 failed job sent back.\n"
        assert queue.stats().ready == 1
        assert kashvi(*worker_options(valkey), "--stop-when-empty").returncode == 0
        assert kashvi("queue:forget", json.loads(kashvi("queue:failed", "--json").stdout)[0]["job_id"]).returncode == 0


def test_forget_takes_no_all_and_numbers_are_as_they_are_shown(
    kashvi: Shell, valkey: RedisServer, queue: Queue
) -> None:
    """Flush deletes all; 007 is no row's number."""
    queue.driver.push([b"garbage"])
    kashvi(*worker_options(valkey), "--stop-when-empty")
    assert kashvi("queue:forget", "all").returncode == 1
    assert kashvi("queue:forget", "001").returncode == 1
    assert kashvi("queue:forget", "1").returncode == 0


@pytest.mark.parametrize("lease", ["nan", "inf"])
def test_a_lease_that_is_no_number_of_seconds_is_refused(kashvi: Shell, lease: str) -> None:
    """It would never run out."""
    shown = kashvi("queue:work", "--lease", lease, "--stop-when-empty")
    assert shown.returncode in (1, 2)
    assert "lease" in shown.stderr


def test_a_full_disk_behind_the_output_ends_no_worker(kashvi: Shell, valkey: RedisServer, queue: Queue) -> None:
    """The jobs are what matters."""
    queue.dispatch(Note(1))
    with open("/dev/full", "w") as full:  # noqa: PTH123
        process = kashvi.start(*worker_options(valkey), "--stop-when-empty", stdout=full)
        assert process.wait(20) == 0
    assert kashvi.lines("ended.txt") == ["1"]


def test_a_second_signal_ends_a_worker_whose_output_nobody_reads(
    kashvi: Shell, valkey: RedisServer, queue: Queue
) -> None:
    """It blocks in the middle of a line; its jobs are handed back or their lease runs out."""
    queue.dispatch_many([Note(n) for n in range(3000)])
    process = kashvi.start(*worker_options(valkey), "--json")
    counts: list[int] = []

    def stuck() -> bool:
        counts.append(len(kashvi.lines("ran.txt")))
        return counts[-1] > 0 and counts[-50:] == [counts[-1]] * 50

    def signalled_and_ended() -> bool:
        process.send_signal(signal.SIGTERM)
        return process.poll() is not None

    until_true(stuck, 30)
    until_true(signalled_and_ended, 20)
    assert process.returncode == 128 + signal.SIGTERM
    assert len(kashvi.lines("ran.txt")) < 3000
