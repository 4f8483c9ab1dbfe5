"""Named queues on the command line: which are served, paused, listed and counted, and where failed jobs go back to."""

from __future__ import annotations

import json
from typing import Any

import pytest
import sqlalchemy as sa

from kashvi.cli.listing import wanted
from kashvi.drivers.redis import RedisDriver
from kashvi.failures.sql import SqlFailures
from kashvi.ports import Unrecorded
from kashvi.queue import Queue
from kashvi.retrying import send_back
from kashvi.worker.row import failure_of
from tests.servers.launch import RedisServer

from .conftest import Note, Quit, Shell, Worker


def ready(server: RedisServer) -> dict[str, int]:
    """How many jobs are ready, by queue."""
    return {one.name: one.ready for one in Queue(RedisDriver(server.url)).queue_stats()}


def test_queues_are_served_in_their_order_and_no_others(worker: Worker, queue: Queue, valkey: RedisServer) -> None:
    """The banner says which."""
    for n, name in enumerate(("default", "mail", "payments", "elsewhere")):
        queue.dispatch(Note(n), queue=name)
    assert "Queues: payments,mail,default, strictly in this order." in worker.until_empty(
        "--queue", "payments,mail,default"
    )
    assert worker.shell.lines("ran.txt") == ["2", "1", "0"]
    assert ready(valkey)["elsewhere"] == 1


def test_queues_are_served_by_weight(worker: Worker, queue: Queue, valkey: RedisServer) -> None:
    queue.dispatch_many([Note(1) for _ in range(30)], queue="mail")
    queue.dispatch_many([Note(2) for _ in range(30)])
    printed = worker.until_empty("--queue", "mail:3,default:1", "--max-jobs", "20")
    assert "Queues: mail:3,default:1, by weight." in printed
    assert (ready(valkey)["mail"], ready(valkey)["default"]) == (15, 25)


def test_all_processes_serve_the_queues(worker: Worker, queue: Queue, valkey: RedisServer) -> None:
    queue.dispatch(Note(1), queue="mail")
    queue.dispatch(Note(2))
    worker.until_empty("--queue", "mail", "--processes", "2")
    assert worker.shell.lines("ran.txt") == ["1"]
    assert ready(valkey) == {"default": 1, "mail": 0}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("queue:work", "--queue", "Mail"), "a-z, 0-9"),
        (("queue:work", "--queue", "mail:0"), "from 1 to 1,000, as in 'payments:3'"),
        (("queue:work", "--queue", "mail:1,default"), "all with a weight"),
        (("queue:work", "--queue", "mail,mail"), "different names"),
        (("queue:list", "--queue", "held"), "not the name of another key"),
        (("queue:failed", "--queue", "../x"), "a-z, 0-9"),
        (("queue:pause", "running"), "not the name of another key"),
        (("queue:resume", ""), "1 to 64"),
    ],
)
def test_a_name_that_no_queue_can_have_is_wrong_usage(kashvi: Shell, words: tuple[str, ...], says: str) -> None:
    """The message says what can be one."""
    shown = kashvi(*words, "--redis-url", "redis://x:1") if words[0] != "queue:failed" else kashvi(*words)
    assert (shown.returncode, says in " ".join(shown.stderr.split())) == (2, True), shown.stderr


def test_a_queue_is_paused_and_resumed_by_name(worker: Worker, queue: Queue, valkey: RedisServer) -> None:
    queue.dispatch(Note(1), queue="mail")
    queue.dispatch(Note(2))
    shown = worker.shell("queue:pause", "mail", "--redis-url", valkey.url)
    assert shown.stdout == "The queue mail is paused: no job of it starts until queue:resume mail.\n"
    worker.until_empty("--queue", "mail,default")
    assert worker.shell.lines("ran.txt") == ["2"]
    shown = worker.shell("queue:resume", "mail", "--redis-url", valkey.url)
    assert shown.stdout == "The queue mail goes on.\n"
    worker.until_empty("--queue", "mail,default")
    assert worker.shell.lines("ran.txt") == ["2", "1"]


def test_stats_and_list_show_each_queue(kashvi: Shell, queue: Queue, valkey: RedisServer) -> None:
    """Its jobs, and whether a worker serves it; without a server there is nothing to show."""
    at = ["--redis-url", valkey.url]
    mail = queue.dispatch(Note(1), queue="mail")
    queue.dispatch_after(Note(2), 60, queue="mail")
    queue.dispatch(Note(3), queue="payments")
    running = queue.dispatch(Note(4), queue="payments")
    driver: Any = queue.driver
    driver.exchange("a worker", 1, 30.0, [], 0)
    driver._server.call("LMOVE", "kashvi:queue:payments:jobs", "kashvi:queue:held:a worker", "LEFT", "LEFT")
    queue.pause("mail")
    counts = json.loads(kashvi("queue:stats", "--json", *at).stdout)
    assert (counts["ready"], counts["delayed"], counts["held"]) == (2, 1, 1)
    found = {one["name"]: one for one in counts["queues"]}
    assert found["default"] | {"served": True, "ready": 0} == found["default"]
    assert found["mail"] | {"served": False, "ready": 1, "delayed": 1, "paused": True} == found["mail"]
    assert 0 <= found["mail"]["oldest_age_s"] < 60
    lines = {line.split()[0]: line for line in kashvi("queue:stats", *at).stdout.splitlines() if line}
    assert "paused  oldest 0:00:" in lines["mail"]
    assert lines["mail"].endswith("no worker serves it")
    assert "no worker" not in lines["default"]
    doctor = kashvi("queue:doctor", "--app", "myapp", *at).stdout
    assert "start one: kashvi queue:work --queue payments" in " ".join(doctor.split())

    def shown(*words: str) -> list[tuple[str, str]]:
        return [(one["id"], one["queue"]) for one in json.loads(kashvi("queue:list", *words, "--json", *at).stdout)]

    assert shown("ready") == []
    assert shown("ready", "--queue", "mail") == [(mail, "mail")]
    assert shown("running") == shown("running", "--queue", "payments") == [(running, "payments")]
    assert shown("running", "--queue", "mail") == []
    assert "  a worker (payments)  " in kashvi("queue:list", *at).stdout
    for command in ("queue:stats", "queue:list"):
        assert "needs Redis" in kashvi(command).stderr


def test_failed_jobs_are_listed_by_queue_and_go_back_to_their_own(
    worker: Worker, queue: Queue, valkey: RedisServer
) -> None:
    """Also bytes that are no envelope, which were pushed to a queue by hand."""
    shell = worker.shell
    queue.dispatch(Quit())
    queue.dispatch(Quit(), queue="mail")
    valkey.client().lpush("kashvi:queue:mail:jobs", b"garbage")
    worker.until_empty("--queue", "mail,default", "--max-retry", "1")

    def listed(name: str) -> list[str]:
        return sorted(row["job_type"] for row in json.loads(shell("queue:failed", "--queue", name, "--json").stdout))

    assert listed("mail") == ["", "jobs.Quit"]
    assert listed("default") == ["jobs.Quit"]
    assert shell("queue:failed", "--queue", "payments").stdout.startswith("No failed jobs like that")
    shown = shell("queue:retry", "all", "--redis-url", valkey.url)
    assert shown.stdout == "3 failed jobs sent back.\n", shown.stderr
    assert ready(valkey) == {"default": 1, "mail": 2}
    assert b"garbage" in valkey.client().lrange("kashvi:queue:mail:jobs", 0, -1)  # type: ignore[operator]


def without_the_column() -> SqlFailures:
    """Its table may not get a column for the queue."""
    engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool)

    @sa.event.listens_for(engine, "before_cursor_execute")
    def refuse(connection: Any, cursor: Any, statement: str, *about: Any) -> None:
        if "ADD COLUMN queue" in statement:
            raise sa.exc.OperationalError(statement, {}, Exception("must be owner of the table"))

    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "CREATE TABLE kashvi_failed_jobs (id INTEGER PRIMARY KEY, job_type TEXT NOT NULL, "
                "payload TEXT NOT NULL, error TEXT, attempts INTEGER NOT NULL DEFAULT 0, failed_at DATETIME)"
            )
        )
    return SqlFailures(engine)


@pytest.mark.parametrize("with_column", [True, False])
def test_a_row_goes_to_the_queue_it_names_if_a_queue_can_be_called_so(valkey: RedisServer, with_column: bool) -> None:
    """Else to the default queue. A table without the column names it in ``extra``."""
    store = SqlFailures("sqlite://") if with_column else without_the_column()
    for n, name in enumerate(["mail", "default", "held", "../x", 7, None, "payments"]):
        fields = {"id": str(n), "type": "jobs.X", "payload": n, "attempts": 3, "queue": name}
        assert store.record([failure_of(Unrecorded(json.dumps(fields).encode(), 1.0))]) == {}
    columns = [row.queue for row in store.rows()[::-1]]
    assert columns == (["mail", *[None] * 5, "payments"] if with_column else [None] * 7)
    pages = store.pages(wanted=wanted(None, None, None, "payments"))
    assert [row.job_id for page in pages for row in page] == ["6"]
    pages = store.pages(wanted=wanted(None, None, None, "default"))
    assert [row.job_id for page in pages for row in page] == ["1", "2", "3", "4", "5"]
    valkey.client().flushall()
    send_back(store, RedisDriver(valkey.url), store.rows())
    assert ready(valkey) == {"default": 5, "mail": 1, "payments": 1}
    assert store.rows() == []


def test_a_driver_with_one_queue_takes_all_that_failed(valkey: RedisServer) -> None:
    """Its jobs came from nowhere else."""

    class OneQueue(RedisDriver):
        names_queues = False

    store = SqlFailures("sqlite://")
    entry = Unrecorded(b'{"id":"a","type":"jobs.X","payload":1,"queue":"mail"}', 1.0)
    store.record([failure_of(entry)])
    valkey.client().flushall()
    send_back(store, OneQueue(valkey.url), store.rows())
    assert ready(valkey) == {"default": 1}
