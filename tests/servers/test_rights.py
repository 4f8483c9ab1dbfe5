"""What a worker looks for before it starts: rights, a password that fits, and a server that drops no jobs."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from kashvi.drivers.redis import RedisDriver
from kashvi.errors import CommandRefused, SettingsRefused
from kashvi.queue import Queue
from kashvi.registry import Registry

from .launch import REDIS_BINARIES, RedisServer, until_true
from .test_redis import Count, Heavy, ran

PAGE = Path(__file__).parents[2] / "spec" / "redis.md"
CLAUSE = PAGE.read_text("utf-8").split("## REDIS-15")[1].split("```")[0]
NEEDED, WANTED = (line.lower().split() for line in re.findall(r"^    (.+)$", CLAUSE, re.MULTILINE))


def test_the_rights_that_are_named_are_those_that_scripts_use() -> None:
    """And those that are looked for."""
    scripts = {
        path.name: path.read_text("utf-8") for path in files("kashvi.drivers").iterdir() if path.name.endswith(".lua")
    }
    looked_for = set(re.findall(r"may\('([A-Z]+)'", scripts["rights.lua"])) | {"LPUSH", "RPUSH"}
    used = {name for text in scripts.values() for name in re.findall(r"redis\.call\('([A-Z]+)'", text)}
    used.add("SMEMBERS")  # of stats, by itself: a script would have to know the names of the queues before
    reports = set(re.findall(r"redis\.call\('([A-Z]+)'", scripts["report.lua"]))
    assert used - looked_for == (reports - looked_for) | {"HGETALL"}  # which no job needs
    assert (reports - looked_for) | {"HGETALL"} <= set(re.findall("`?([A-Z]{4,})`?", CLAUSE))
    assert {name.lower() for name in looked_for} | {"eval", "evalsha"} == set(NEEDED)


@pytest.fixture
def user(redis_server: RedisServer) -> Iterator[Any]:
    """Gives a user these rights and no other; a queue as this user."""
    admin: Any = redis_server.client()

    def queue(*commands: str) -> Queue:
        rights = [f"+{name}" for name in commands]
        words = ["reset", "on", ">secret", "~kashvi:queue:*", "resetchannels", "&kashvi:queue:delayed", *rights]
        admin.execute_command("ACL", "SETUSER", "worker", *words)
        ran.clear()
        registry = Registry()
        registry.register("jobs.Count", Count)
        registry.register("jobs.Heavy", Heavy)
        return Queue(RedisDriver(redis_server.client(username="worker", password="secret")), registry=registry)

    yield queue
    admin.execute_command("ACL", "DELUSER", "worker")


@pytest.mark.parametrize("rights", [NEEDED, NEEDED + WANTED], ids=["needed", "all"])
def test_a_worker_does_all_its_work_with_the_rights_that_are_named(
    user: Any, rights: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Now, later, failing and retried; with the least of them it says once that it can't wait."""
    queue = user(*rights)
    queue.set_max_retry(1)
    with queue.start_workers(2):
        queue.dispatch(Count(1))
        queue.dispatch_after(Count(2), 0.05)
        queue.dispatch(Heavy(0, "fails"))
        until_true(lambda: sorted(ran) == [0, 1, 2] and queue.failed_jobs(), 20)
        assert queue.driver.push_retried("a failure", b"{}") in (True, False)  # type: ignore[attr-defined]
        until_true(lambda: queue.stats().ready == 0, 20)
    assert (queue.stats().held, queue.stats().workers) == (0, 0)
    can_not_wait = [r.getMessage() for r in caplog.records if "can't wait for jobs" in r.getMessage()]
    assert len(can_not_wait) == (rights is NEEDED)


def test_a_relay_needs_one_right_more(user: Any) -> None:
    """To read the ids that the server keeps. A worker with an outbox does not start without it."""
    engine = sa.create_engine("sqlite://")
    queue = user(*NEEDED)
    queue.outbox(engine)
    with engine.begin() as connection:
        queue.dispatch_many([Count(1), Count(2)], session=connection)
    for work in (lambda: queue.start_workers(1), queue.work, lambda: queue.work(stop_when_empty=True)):
        with pytest.raises(SettingsRefused, match=r"(?i)REDIS-15 .*hkeys"):
            work()
    queue = user(*NEEDED, "hkeys")
    queue.outbox(engine)
    queue.work(stop_when_empty=True)
    assert sorted(ran) == [1, 2]
    engine.dispose()


def test_an_operator_needs_the_rights_of_a_worker(user: Any) -> None:
    """And no other one: to look, pause, cancel, clear and unlock."""
    queue = user(*NEEDED)
    first, second = queue.dispatch_many([Count(1), Count(2)])
    later = queue.dispatch_after(Count(3), 60, queue="later")
    queue.pause()
    assert queue.paused_since() is not None
    assert [one.name for one in queue.queue_stats()] == ["default", "later"]
    assert [one.id for one in queue.jobs()] == [first, second]
    assert [queue.cancel(one) for one in (first, later, "no such id")] == ["removed", "removed", "unknown"]
    assert queue.clear() == (1, 0)
    assert queue.unlock("jobs.Count:1").outcome == "unknown"
    queue.resume()
    queue.work(stop_when_empty=True)
    assert ran == []


EACH = [("valkey-9", name) for name in sorted(NEEDED)]
BY_SERVER_OR_SCRIPT = [
    (server, name) for server in sorted({*REDIS_BINARIES} - {"valkey-9"}) for name in ("eval", "hdel")
]


@pytest.mark.parametrize(("redis_server", "name"), EACH + BY_SERVER_OR_SCRIPT, indirect=["redis_server"])
def test_a_right_that_is_missing_is_named_before_anything_is_done(
    redis_server: RedisServer, user: Any, name: str
) -> None:
    """Not in the middle of a script, which can't be undone. One server for them all, the others' words for two."""
    queue = user(*(right for right in NEEDED if right != name))
    redis_server.client().lpush("kashvi:queue:jobs", "{}")
    with pytest.raises(SettingsRefused, match=f"(?i)may not run {name},|'{name}'"):
        queue.start_workers(1)
    assert redis_server.client().keys() == [b"kashvi:queue:jobs"]


def test_an_idle_worker_without_blmove_asks_five_times_a_second_at_the_most(valkey: RedisServer) -> None:
    """It looks as often as it would have waited. Beside that, an exchange and a report may fall into the time."""
    admin: Any = valkey.client()
    admin.execute_command("ACL", "SETUSER", "idle", "reset", "on", ">secret", "~*", "&*", "+@all", "-blmove")
    queue = Queue(RedisDriver(valkey.client(username="idle", password="secret")), registry=Registry())
    with queue.start_workers(5):
        until_true(lambda: queue.stats().workers == 1, 20)
        admin.config_resetstat()
        began = admin.time()[0]
        until_true(lambda: admin.time()[0] - began >= 3, 20)
        asked, seconds = admin.info("commandstats"), admin.time()[0] - began
    calls = [asked.get(f"cmdstat_{name}", {"calls": 0}) for name in ("evalsha", "zrange", "blmove")]
    assert 0 < sum(one["calls"] + one.get("rejected_calls", 0) for one in calls) <= 5 * (seconds + 1) + 4


def test_a_wrong_password_ends_the_command_at_once(valkey: RedisServer, tmp_path: Path) -> None:
    """With exit code 2; a server that is not there is waited for."""
    admin: Any = valkey.client()
    admin.acl_setuser("known", enabled=True, passwords=["+right"], categories=["+@all"], keys=["*"])
    (tmp_path / "jobs.py").write_text(
        "from dataclasses import dataclass\nfrom kashvi import queue\n\n\n@queue.job('jobs.A')\n@dataclass\n"
        "class A:\n    def handle(self): ...\n"
    )
    url = f"redis://known:wrong@127.0.0.1:{valkey.port}/0"
    command = [
        sys.executable,
        "-c",
        "from kashvi.cli import main; main()",
        "queue:work",
        "--app",
        "jobs",
        "--redis-url",
        url,
    ]
    ended = subprocess.run(command, cwd=tmp_path, timeout=30, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "does not take these settings" in ended.stderr
    assert "wrong@" not in ended.stdout + ended.stderr


def test_a_policy_that_drops_jobs_is_told_once_when_a_worker_starts(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker that may not ask starts all the same."""
    client: Any = redis_server.client()
    queue = Queue(RedisDriver(redis_server.url), registry=Registry())
    client.config_set("maxmemory", "100mb")
    client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        with caplog.at_level(logging.WARNING), queue.start_workers(2):
            pass
    finally:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", "0")
    assert [r.getMessage().count("maxmemory-policy is allkeys-lru") for r in caplog.records] == [1]


def test_a_policy_that_drops_what_expires_drops_no_job(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A full server refuses the next job then, and drains; so nothing is said of the policy."""
    client: Any = redis_server.client()
    registry = Registry()
    registry.register("jobs.Heavy", Heavy)
    queue = Queue(RedisDriver(redis_server.url), registry=registry)
    sent: list[str] = []

    def fill() -> None:
        while len(sent) < 2_000:
            sent.append(queue.dispatch(Heavy(1, "x" * 10_000)))

    try:
        client.config_set("maxmemory-policy", "volatile-random")
        client.config_set("maxmemory", client.info("memory")["used_memory"] + 2_000_000)
        with pytest.raises(CommandRefused, match="OOM"):
            fill()
        assert queue.stats().ready == len(sent)
        queue.work(stop_when_empty=True)
    finally:
        client.config_set("maxmemory", "0")
        client.config_set("maxmemory-policy", "noeviction")
    assert (queue.stats().ready, queue.failed_jobs(), caplog.messages) == (0, [], [])
