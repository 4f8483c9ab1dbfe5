"""``queue:doctor`` and ``queue:stats``: what they find, and what a probe reads from their exit codes."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from kashvi.cli.doctor import _health
from kashvi.drivers.health import read_health
from kashvi.drivers.redis import RedisDriver
from tests.servers.launch import RedisServer, free_port

from .conftest import Shell


@pytest.fixture
def limited(valkey: RedisServer) -> Iterator[Any]:
    """A client of the server, whose settings are set back."""
    client = valkey.client()
    yield client
    client.config_set("maxmemory", 0)
    client.config_set("maxmemory-policy", "noeviction")


def examined(kashvi: Shell, *words: str) -> tuple[int, dict[str, str]]:
    shown = kashvi("queue:doctor", "--json", *words)
    return shown.returncode, {check["about"]: check["mark"] for check in json.loads(shown.stdout)["checks"]}


def test_a_healthy_queue_has_nothing_wrong(kashvi: Shell, valkey: RedisServer) -> None:
    """Once a worker has made the table."""
    at = ["--app", "myapp", "--redis-url", valkey.url]
    assert kashvi("queue:work", *at, "--stop-when-empty").returncode == 0
    assert examined(kashvi, *at) == (0, {"app": "ok", "server": "ok", "jobs": "ok", "table": "ok"})
    assert "Valkey 9" in kashvi("queue:doctor", *at).stdout


def test_a_server_that_drops_jobs_is_wrong(kashvi: Shell, valkey: RedisServer, limited: Any) -> None:
    """Full, it evicts; and nearly full, it soon refuses jobs. Without a limit, a policy does nothing."""
    at = ["--app", "myapp", "--redis-url", valkey.url]
    limited.config_set("maxmemory-policy", "allkeys-lru")
    assert examined(kashvi, *at)[0] == 0
    limited.config_set("maxmemory", "1gb")
    assert examined(kashvi, *at)[1]["eviction"] == "wrong"
    limited.config_set("maxmemory-policy", "noeviction")
    limited.config_set("maxmemory", limited.info("memory")["used_memory"] + 1000)
    code, checks = examined(kashvi, *at)
    assert (code, checks["memory"], "eviction" in checks) == (1, "wrong", False)


def test_what_cannot_be_used_is_wrong(kashvi: Shell, valkey: RedisServer) -> None:
    """Each is named, and the others are examined all the same."""
    nowhere = f"redis://:secret@127.0.0.1:{free_port()}/0"
    code, checks = examined(
        kashvi, "--app", "nothing_there", "--redis-url", nowhere, "--database-url", "sqlite:////no/where.db"
    )
    assert (code, checks) == (1, {"app": "wrong", "server": "wrong", "table": "wrong"})
    (kashvi.directory / "empty.py").write_text("")
    code, checks = examined(kashvi, "--app", "empty", "--redis-url", valkey.url)
    assert (code, checks["app"], checks["server"]) == (1, "wrong", "ok")
    assert kashvi("queue:stats", "--redis-url", nowhere).returncode == 1


def test_a_table_that_takes_no_rows_is_wrong(kashvi: Shell) -> None:
    """Though it can be read and its columns are right. The trial leaves no row."""
    file = kashvi.directory / "failed.db"
    assert (
        kashvi("queue:work", "--app", "myapp", "--stop-when-empty", "--database-url", f"sqlite:///{file}").returncode
        == 0
    )
    before = file.read_bytes()
    assert examined(kashvi, "--database-url", f"sqlite:///{file}")[1]["table"] == "ok"
    assert file.read_bytes() == before
    code, checks = examined(kashvi, "--database-url", f"sqlite:///file:{file}?mode=ro&uri=true")
    assert (code, checks["table"]) == (1, "wrong")
    shown = kashvi("queue:doctor", "--database-url", f"sqlite:///file:{file}?mode=ro&uri=true").stdout
    assert "takes no rows" in " ".join(shown.split())


def test_a_table_is_looked_at_and_left_alone(kashvi: Shell) -> None:
    """None is made, none altered; one that would take no row is wrong, though it can be counted."""
    file = kashvi.directory / "other.db"
    at = ["--database-url", f"sqlite:///{file}"]
    assert examined(kashvi, *at)[1]["table"] == "note"
    assert not file.exists()
    columns = "id integer primary key, job_type text, payload text, error text, attempts int, failed_at datetime"
    for column, mark in (
        ("note text", "ok"),
        ("tenant int not null", "wrong"),
        ("tenant int not null default 1", "ok"),
    ):
        with closing(sqlite3.connect(file)) as database:
            database.execute("DROP TABLE IF EXISTS kashvi_failed_jobs")
            database.execute(f"CREATE TABLE kashvi_failed_jobs ({columns}, {column})")
        before = file.read_bytes()
        assert examined(kashvi, *at)[1]["table"] == mark
        assert file.read_bytes() == before
    with closing(sqlite3.connect(file)) as database:
        database.execute("ALTER TABLE kashvi_failed_jobs DROP COLUMN attempts")
    assert "takes no rows: it lacks attempts" in kashvi("queue:doctor", *at).stdout


def test_a_server_that_keeps_its_facts_to_itself_is_used_all_the_same(kashvi: Shell, valkey: RedisServer) -> None:
    """INFO is refused to a user with few rights."""
    client: Any = valkey.client()
    client.acl_setuser("few", enabled=True, passwords=["+pw"], keys=["*"], commands=["+@all", "-info"])
    try:
        url = valkey.url.replace("redis://", "redis://few:pw@")
        assert examined(kashvi, "--app", "myapp", "--redis-url", url)[1]["server"] == "note"
    finally:
        client.acl_deluser("few")


@pytest.mark.parametrize("missing", ["-zadd", "-time", "-eval"])
def test_a_right_that_a_worker_needs_is_wrong_where_it_is_missing(
    kashvi: Shell, valkey: RedisServer, missing: str
) -> None:
    """Counting jobs takes fewer rights than running them: a worker would not start."""
    rights: dict[str, Any] = {"keys": ["*"], "channels": ["*"], "categories": ["+@all"], "commands": [missing]}
    valkey.client().acl_setuser("few", enabled=True, passwords=["+few-few"], reset=True, **rights)
    at = ["--redis-url", valkey.url.replace("//", "//few:few-few@")]
    shown = kashvi("queue:doctor", *at)
    assert shown.returncode == kashvi("queue:work", "--app", "myapp", *at).returncode - 1 == 1
    assert missing[1:].upper() in shown.stdout.upper()


def test_jobs_without_a_worker_are_mentioned(kashvi: Shell, valkey: RedisServer) -> None:
    """And counted, for people and for programs."""
    RedisDriver(valkey.url).push([b"{}", b"{}"])
    at = ["--redis-url", valkey.url]
    assert examined(kashvi, "--app", "myapp", *at)[1]["jobs"] == "note"
    assert json.loads(kashvi("queue:stats", "--json", *at).stdout)["ready"] == 2
    assert kashvi("queue:stats", *at).stdout.splitlines()[0].split() == ["ready", "2"]


@pytest.mark.parametrize("redis_server", ["redis-6.2", "valkey-9"], indirect=True)
def test_a_server_says_what_it_is(redis_server: RedisServer) -> None:
    """A replica, or a server that is too old, is wrong."""
    health = RedisDriver(redis_server.url).health()
    assert (health.primary, health.evicts, health.version >= (6, 2)) == (True, False, True)
    assert {finding.mark for finding in _health("here", health._replace(version=(6, 0)))} == {"wrong"}
    assert [finding.about for finding in _health("here", health._replace(primary=False))] == ["server", "role"]


def test_an_answer_without_the_facts_is_read_as_harmless() -> None:
    """Some servers and proxies leave lines out."""
    assert read_health(b"# Server\r\nredis_version:7.2.4\r\n").evicts is False
