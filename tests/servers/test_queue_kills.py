"""Workers of four queues are killed, stopped and started among unique, snoozed, retried and cancelled jobs.

``python -m tests.servers.test_queue_kills --kills 200`` is the long version, on a server of its own; the test is short.
``kashvi sim:sweep --workload cancels --faults kill,sigterm,exit`` does the same in virtual time.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kashvi.cancelling import lock_of
from kashvi.drivers.redis import RedisDriver
from kashvi.jobs.envelope import read
from kashvi.queues import Queue
from kashvi.registry import Registry
from kashvi.unique import Dispatched

from .launch import RedisServer, until_true
from .test_kills import Nursery

APP = """
import os, time
from dataclasses import dataclass
from kashvi import current, queue
from kashvi.retries import Fixed, Retry, Snooze

def note(what):
    fd = os.open("ran.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{what} {os.getpid()} {current().job_id}\\n".encode())
    os.close(fd)

@dataclass
class Job:
    n: int

    def handle(self):
        note(0)
        time.sleep(0.004)  # its work: a kill may come in the middle
        self.more()
        note(1)

    def more(self): ...

class Retried(Job):
    def more(self):
        if current().attempt < 1 + self.n % 3:
            raise ValueError("again")

class Snoozed(Job):
    def more(self):
        first = f"snoozed.{current().job_id}"
        if not os.path.exists(first):
            open(first, "w").close()
            raise Snooze(0.1)

tries = Retry(attempts=9, backoff=Fixed(0.1))
queue.register("jobs.Plain", Job, retry=tries)
queue.register("jobs.Unique", type("Unique", (Retried,), {}), retry=tries, queue="mails", unique=lambda job: job.n % 11)
queue.register("jobs.Retried", Retried, retry=tries, queue="orders")
queue.register("jobs.Snoozed", Snoozed, retry=tries, queue="slow", unique=lambda job: job.n % 5)
"""
SERVED = ("mails,orders,slow,default", "slow:2,orders:1,mails:1,default:1", "default,mails", "orders,slow,mails")
HELD = """
local found = {}
for _, key in ipairs(redis.call('KEYS', ARGV[1] .. ':*')) do
  local kind = redis.call('TYPE', key).ok
  local part = {}
  if kind == 'list' then part = redis.call('LRANGE', key, 0, -1) end
  if string.sub(key, -8) == ':delayed' then part = redis.call('ZRANGE', key, 0, -1) end
  for _, envelope in ipairs(part) do found[#found + 1] = envelope end
end
return { found, redis.call('HGETALL', ARGV[1] .. ':unique') }
"""
"""Each job that is on a queue or with a worker, and all keys of unique jobs, at one moment."""


@dataclass
class Job:
    n: int

    def handle(self) -> None:
        """Runs in the worker process."""


class Unique(Job): ...


class Retried(Job): ...


class Snoozed(Job): ...


class Fleet(Nursery):
    """Worker processes of several queues."""

    def __init__(self, server: RedisServer, directory: Path) -> None:
        super().__init__(server, directory, APP)
        self.queue = Queue(RedisDriver(server.url), registry=Registry())
        self.queue.register("jobs.Plain", Job)
        self.queue.register("jobs.Unique", Unique, queue="mails", unique=lambda job: job.n % 11)
        self.queue.register("jobs.Retried", Retried, queue="orders")
        self.queue.register("jobs.Snoozed", Snoozed, queue="slow", unique=lambda job: job.n % 5)
        self._held = server.client().register_script(HELD)

    def start(self, number: int = 0, **_: Any) -> Any:
        served = SERVED[number % len(SERVED)]
        words = ["queue:work", "--app", "app", "--workers", "2", "--lease", "1", "--queue", served, "--json"]
        process = self.started([*words, "--redis-url", self.server.url])
        self.processes.append(process)
        return process

    def done(self) -> set[str]:
        """The ids of the jobs that ran to their end."""
        notes = self.directory / "ran.txt"
        lines = [line.split() for line in notes.read_text().splitlines()] if notes.exists() else []
        return {job_id for end, _, job_id in lines if end == "1"}

    def at_work(self) -> list[Any]:
        notes = self.directory / "ran.txt"
        ran = Counter(line.split()[1] for line in notes.read_text().splitlines()) if notes.exists() else Counter()
        return [process for process in self.processes if process.poll() is None and ran[str(process.pid)] >= 2]

    def keys(self) -> tuple[dict[str, str], dict[str, str]]:
        """The keys of the jobs that are on a queue or with a worker, and the keys on the server, each with its job."""
        found, flat = self._held(args=["kashvi:queue"])
        envelopes = {lock_of(one) for one in map(read, found) if one.unique}
        return dict(envelopes), {flat[i].decode(): flat[i + 1].decode() for i in range(0, len(flat), 2)}


def kill(fleet: Fleet, kills: int, seed: int = 17) -> Counter[str]:
    """Kill, stop and start workers, and cancel jobs; then let the others end the work. Returns what happened."""
    rng, seen = random.Random(seed), Counter[str]()
    sent: list[str] = []
    cancelled: dict[str, str] = {}
    for number in range(3):
        fleet.start(number)
    for n in range(kills):
        kinds: list[type[Job]] = [Job, Unique, Retried, Snoozed]
        jobs = [kind(12 * n + k) for k in range(3) for kind in kinds]
        rng.shuffle(jobs)
        for one, job in zip(fleet.queue.dispatch_many(jobs), jobs, strict=True):
            duplicate = isinstance(one, Dispatched) and one.duplicate
            seen[f"{type(job).__name__}, {'duplicate' if duplicate else 'sent'}"] += 1
            if not duplicate:
                sent.append(str(one))
        for job_id in rng.sample(sent[-40:], 2):
            outcome = fleet.queue.cancel(job_id)
            seen[f"cancel: {outcome}"] += 1
            if outcome != "unknown":
                cancelled[job_id] = outcome
        until_true(fleet.at_work, 60, "no process started a job")
        until_true(lambda: rng.random() < 0.2, 60)
        victim = rng.choice(fleet.at_work())
        how = rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM])
        seen[how.name] += 1
        os.kill(victim.pid, how)
        victim.wait()
        fleet.start(n)
        expected, there = fleet.keys()
        assert expected == there, f"after {how.name} {n + 1}: jobs have {expected}, and the keys are {there}"
    fleet.start(0)
    until_true(fleet.empty, 180, "jobs are left")
    assert fleet.keys() == ({}, {}), "keys without a job"
    lost = set(sent) - fleet.done() - cancelled.keys()
    assert not lost, f"{len(lost)} of {len(sent)} jobs are lost: {sorted(lost)[:5]}"
    assert fleet.failed() == []
    return seen


@pytest.fixture
def fleet(valkey: RedisServer, tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(valkey, tmp_path)
    yield fleet
    fleet.stop()


def test_kills_and_stops_of_workers_of_four_queues_lose_no_job_and_strand_no_key(fleet: Fleet) -> None:
    """After each, keys are there exactly while their jobs are."""
    seen = kill(fleet, kills=8)
    assert seen["Unique, duplicate"]
    assert seen["cancel: removed"]


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--kills", type=int, default=200)
    words.add_argument("--seed", type=int, default=17)
    given = words.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        server = RedisServer("valkey-9", Path(directory) / "server").start()
        (app := Path(directory) / "app").mkdir()
        fleet = Fleet(server, app)
        try:
            for what, count in sorted(kill(fleet, given.kills, given.seed).items()):
                print(f"{what:24} {count:6}")
        finally:
            fleet.stop()
            server.stop()


if __name__ == "__main__":
    main()
