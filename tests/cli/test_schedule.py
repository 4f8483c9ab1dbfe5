"""``queue:schedule``: the app's cron entries, and what the server knows of them."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from kashvi.drivers.redis import RedisDriver
from kashvi.queue import Queue
from tests.servers.launch import RedisServer, until_true

from .conftest import Shell, Worker

APP = """
from dataclasses import dataclass
from kashvi import current, queue

@queue.cron("0 9 * * mon", tz="Europe/Berlin", missed="all")
@queue.job("jobs.Weekly", queue="mail")
@dataclass
class Weekly:
    def handle(self): ...

@queue.cron("* * * * *")
@queue.job("jobs.Minutely")
@dataclass
class Minutely:
    def handle(self):
        with open("ran.txt", "a") as notes:
            notes.write(f"{current().tick:%S}\\n")
"""


@pytest.fixture
def app(kashvi: Shell) -> Shell:
    (kashvi.directory / "cronapp.py").write_text(APP)
    return kashvi


def known(server: RedisServer, name: str, last: float) -> None:
    """A worker has asked for it."""
    server.client().hset("kashvi:queue:cron", name, f"{last!r} s {last!r} {last!r}")


def test_entries_are_listed_with_their_last_and_next_ticks(app: Shell, valkey: RedisServer) -> None:
    """And those that the app does not have; for people and for programs."""
    known(valkey, "jobs.Weekly", 1_800_000_000.0)
    known(valkey, "gone", 1_800_000_060.5)
    at = ("--app", "cronapp", "--redis-url", valkey.url)
    printed = app("queue:schedule", *at).stdout.splitlines()
    assert printed[0] == "gone  -  -  of no table here"
    assert printed[1].startswith("jobs.Minutely  -  20")
    assert printed[2].split()[1:] == [
        "2027-01-15T08:00Z",
        printed[2].split()[2],
        *["0", "9", "*", "*", "mon", "Europe/Berlin", "jobs.Weekly"],
    ]
    entries = {one["name"]: one for one in json.loads(app("queue:schedule", *at, "--json").stdout)}
    weekly = entries["jobs.Weekly"]
    assert (weekly["queue"], weekly["missed"], weekly["max_late_s"]) == ("mail", "all", 86400.0)
    assert [datetime.fromisoformat(one).isoweekday() for one in weekly["next"]] == [1, 1, 1]
    assert all(datetime.fromisoformat(one) > datetime.now(UTC) for one in weekly["next"])
    assert (entries["gone"]["here"], entries["gone"]["last"], entries["gone"]["next"]) == (False, None, [])
    assert valkey.client().hlen("kashvi:queue:cron") == 2


def test_at_a_desk_without_redis_the_next_ticks_are_listed(app: Shell) -> None:
    shown = app("queue:schedule", "--app", "cronapp")
    assert (shown.returncode, len(shown.stdout.splitlines())) == (0, 2)
    assert app("queue:schedule", "--app", "myapp").stdout == "No cron entries there.\n"


def test_an_entry_that_no_table_has_is_forgotten(app: Shell, valkey: RedisServer) -> None:
    """One that the app has is not: its workers would start it afresh."""
    known(valkey, "gone", 1_800_000_000.0)
    at = ("--app", "cronapp", "--redis-url", valkey.url)
    assert app("queue:schedule", *at, "--forget", "gone").stdout == "Forgotten: gone.\n"
    assert valkey.client().hlen("kashvi:queue:cron") == 0
    for name, why in (("gone", "knows no cron entry"), ("jobs.Weekly", "The app has the entry")):
        shown = app("queue:schedule", *at, "--forget", name)
        assert (shown.returncode, why in " ".join(shown.stderr.split())) == (2, True), shown.stderr
    shown = app("queue:schedule", "--app", "cronapp", "--forget", "gone")
    assert (shown.returncode, "needs Redis" in shown.stderr) == (1, True)


def test_a_real_worker_fires_a_missed_tick_when_it_starts(app: Shell, worker: Worker, valkey: RedisServer) -> None:
    """Two workers, and one job: the server's clock is a minute or two further than the last tick that it knows."""
    now = float(valkey.client().time()[0])  # type: ignore[index]
    queue = Queue(RedisDriver(valkey.url))
    worker.options[2] = "cronapp"
    worker.start()
    until_true(lambda: "jobs.Minutely" in {one.name for one in queue.schedule()}, 20)
    record = valkey.client().hget("kashvi:queue:cron", "jobs.Minutely")
    assert record is not None
    key = record.split()[1].decode()  # type: ignore[union-attr]
    last = now - now % 60 - 120
    valkey.client().hset("kashvi:queue:cron", "jobs.Minutely", f"{last} {key} {last} {last}")
    worker.start()
    until_true(lambda: bool(app.lines("ran.txt")), 20)
    assert app.lines("ran.txt") in (["00"], ["00", "00"])  # a minute may have begun meanwhile
    [entry] = [one for one in queue.schedule() if one.name == "jobs.Minutely"]
    assert entry.last is not None
    assert entry.last.timestamp() >= last + 60
