"""``queue:relay``, and the outbox in ``queue:stats`` and ``queue:doctor``."""

from __future__ import annotations

import json
import signal

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from kashvi.drivers.redis import RedisDriver
from kashvi.queues import Queue
from kashvi.registry import Registry
from tests.servers.launch import RedisServer, until_true

from .conftest import APP, Shell

OUTBOX = 'queue.outbox("sqlite:///app.db")\n'


def stored(kashvi: Shell, server: RedisServer, n: int, target: str | None = None) -> None:
    """Commit jobs, as an app's web process does."""
    scope: dict[str, object] = {}
    exec(compile(APP, "myapp", "exec"), scope)
    engine = sa.create_engine(f"sqlite:///{kashvi.directory}/app.db", poolclass=NullPool)
    queue = Queue(RedisDriver(server.url), registry=Registry())
    queue.registry.register("jobs.Note", scope["Note"])
    queue.outbox(engine, target=target)
    with engine.begin() as connection:
        queue.dispatch_many([scope["Note"](k) for k in range(n)], session=connection)  # type: ignore[operator]


def test_it_pushes_committed_jobs_until_it_is_stopped(kashvi: Shell, valkey: RedisServer) -> None:
    """Alone: no worker runs here. It ends with 0, and lets another relay in at once."""
    stored(kashvi, valkey, 3)
    (kashvi.directory / "myapp.py").write_text(APP + OUTBOX)
    at = ["--app", "myapp", "--redis-url", valkey.url]
    shown = kashvi("queue:stats", *at, "--json")
    assert [one["rows"] for one in json.loads(shown.stdout)["outboxes"]] == [3]
    [line] = [line for line in kashvi("queue:stats", *at).stdout.splitlines() if "outbox" in line]
    assert line.startswith("  outbox in sqlite:///app.db: 3 committed jobs, oldest 0:0")
    relay = kashvi.start("queue:relay", *at)
    until_true(lambda: valkey.client().llen("kashvi:queue:jobs") == 3, 20)
    relay.send_signal(signal.SIGTERM)
    assert relay.wait(20) == 0
    assert kashvi("queue:stats", *at).stdout.rstrip().endswith("app.db: empty")
    assert valkey.client().hgetall("kashvi:queue:relayed") == {}
    assert kashvi("queue:work", *at, "--stop-when-empty").returncode == 0
    assert sorted(kashvi.lines("ran.txt")) == ["0", "1", "2"]


def test_a_worker_that_stops_when_it_is_empty_pushes_first(kashvi: Shell, valkey: RedisServer) -> None:
    """What is committed when it begins."""
    stored(kashvi, valkey, 3)
    (kashvi.directory / "myapp.py").write_text(APP + OUTBOX)
    assert kashvi("queue:work", "--app", "myapp", "--redis-url", valkey.url, "--stop-when-empty").returncode == 0
    assert sorted(kashvi.lines("ran.txt")) == ["0", "1", "2"]


def test_rows_of_other_queues_are_counted_and_noted(kashvi: Shell, valkey: RedisServer) -> None:
    """As of one that ran on the same database by mistake."""
    stored(kashvi, valkey, 2, target="staging")
    (kashvi.directory / "myapp.py").write_text(APP + OUTBOX)
    at = ["--app", "myapp", "--redis-url", valkey.url]
    [counted] = json.loads(kashvi("queue:relay", *at, "--list", "--json").stdout)
    assert (counted["target"], counted["rows"]) == ("staging", 2)
    assert "staging" in kashvi("queue:relay", *at, "--list").stdout
    checks = json.loads(kashvi("queue:doctor", *at, "--json").stdout)["checks"]
    assert [one["mark"] for one in checks if one["about"] == "outbox"] == ["ok", "note"]


def test_an_outbox_that_is_away_hides_neither_the_server_nor_other_outboxes(kashvi: Shell, valkey: RedisServer) -> None:
    """The operator sees all the rest, and which one it is."""
    stored(kashvi, valkey, 2)
    away = 'queue.outbox("sqlite:////nowhere/at/all.db")\n'
    (kashvi.directory / "myapp.py").write_text(APP + away + OUTBOX)
    at = ["--app", "myapp", "--redis-url", valkey.url]
    shown = kashvi("queue:stats", *at, "--json")
    assert shown.returncode == 0
    stats = json.loads(shown.stdout)
    assert stats["ready"] == 0
    assert [(one["rows"], bool(one["error"])) for one in stats["outboxes"]] == [(None, True), (2, False)]
    assert "  outbox in sqlite:////nowhere/at/all.db: the table" in kashvi("queue:stats", *at).stdout
    examined = kashvi("queue:doctor", *at, "--json")
    checks = [one for one in json.loads(examined.stdout)["checks"] if one["about"] == "outbox"]
    assert (examined.returncode, [one["mark"] for one in checks]) == (1, ["wrong", "ok"])
    assert "/nowhere/at/all.db" in checks[0]["says"]


def test_a_list_makes_neither_a_table_nor_a_file(kashvi: Shell, valkey: RedisServer) -> None:
    """It is for looking."""
    none = kashvi("queue:relay", "--list", "--database-url", "sqlite:///typo.db")
    assert (none.returncode, "has no table kashvi_outbox" in none.stderr) == (2, True)
    assert not (kashvi.directory / "typo.db").exists()
    stored(kashvi, valkey, 2)
    [counted] = json.loads(kashvi("queue:relay", "--list", "--json", "--database-url", "sqlite:///app.db").stdout)
    assert (counted["target"], counted["rows"]) == ("kashvi:queue", 2)


def test_what_it_needs_is_named(kashvi: Shell, valkey: RedisServer) -> None:
    """An outbox, and a server."""
    nothing = kashvi("queue:relay", "--app", "myapp", "--redis-url", valkey.url)
    assert (nothing.returncode, "there is no outbox" in nothing.stderr) == (2, True)
    memory = kashvi("queue:relay", "--database-url", "sqlite:///app.db")
    assert (memory.returncode, "queue:relay needs Redis" in memory.stderr) == (1, True)
