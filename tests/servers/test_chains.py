"""Chains on a real server: worker processes that are killed, and a failed link that is sent back."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kashvi.drivers.redis import RedisDriver
from kashvi.jobs.envelope import bytes_of, queue_in, read
from kashvi.queue import Queue
from kashvi.registry import Registry
from kashvi.retries import Retry
from kashvi.worker.row import job_of

from .launch import RedisServer, until_true

APP = """
import os, sys
from dataclasses import dataclass
from kashvi import queue

HELD, READY = 2, 3

def note(*what):
    fd = os.open("ran.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, " ".join(map(str, what)).encode() + b"\\n")
    os.close(fd)

@queue.job("jobs.Link", queue="links")
@dataclass
class Link:
    n: int
    k: int

    def handle(self):
        note(os.getpid(), self.n, self.k, 0)
        if os.path.exists(f"hold.{os.getpid()}"):
            note(os.getpid(), self.n, self.k, HELD)
            os.open("gate", os.O_RDONLY)  # nobody opens its other end: until the kill
        note(os.getpid(), self.n, self.k, 1)

queue.set_driver(sys.argv[1])
queue.set_max_retry(9)
queue.default().lease_s = 1.0
workers = queue.start_workers(2, queues="links,default")
note(os.getpid(), 0, 0, READY)
workers.join(120)
"""
HELD, READY = 2, 3
"""Notes: a link is in its handler, and stays there; a process waits for jobs."""
KILLS, CHAINS, LINKS = 6, 60, 4


@dataclass
class Link:
    n: int
    k: int

    def handle(self) -> None:
        if self.n < 0:
            raise ValueError("fails")
        ran.append(self.k)


ran: list[int] = []


@pytest.fixture
def start(valkey: RedisServer, tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    processes: list[subprocess.Popen[bytes]] = []
    (tmp_path / "app.py").write_text(APP)
    os.mkfifo(tmp_path / "gate")

    def started() -> subprocess.Popen[bytes]:
        processes.append(subprocess.Popen([sys.executable, "app.py", valkey.url], cwd=tmp_path))
        return processes[-1]

    yield started
    for one in processes:
        one.kill()
        one.wait()


def test_killed_workers_leave_each_link_of_a_chain_once(
    valkey: RedisServer, tmp_path: Path, start: Callable[[], subprocess.Popen[bytes]]
) -> None:
    """In order. A link that ended and was not settled yet runs again, if its process was killed.

    Each second kill comes in a handler, the others at any moment.
    """
    queue = Queue(RedisDriver(valkey.url), registry=Registry())
    queue.register("jobs.Link", Link, queue="links")
    notes = tmp_path / "ran.txt"

    def seen() -> list[list[int]]:
        return [[int(word) for word in line.split()] for line in notes.read_text().splitlines()]

    def noted(process: subprocess.Popen[bytes], what: int) -> bool:
        return notes.exists() and any((pid, said) == (process.pid, what) for pid, _, _, said in seen())

    def empty() -> bool:
        stats = queue.stats()
        return stats.ready + stats.delayed + stats.held + stats.unrecorded == 0

    rng, killed = random.Random(5), set[int]()
    alive = [start(), start()]
    for kill in range(KILLS):
        until_true(lambda: all(noted(one, READY) for one in alive), 60)
        victim = alive.pop(rng.randrange(2))
        if kill % 2:
            (tmp_path / f"hold.{victim.pid}").touch()
        for n in range(kill * CHAINS, kill * CHAINS + CHAINS):
            queue.chain(*[Link(n, k) for k in range(LINKS)])
        alive.append(start())
        until_true(lambda kill=kill, victim=victim: noted(victim, HELD if kill % 2 else 0), 60)  # type: ignore[misc]
        victim.kill()
        killed.add(victim.pid)
    until_true(empty, 60)
    ended = defaultdict[tuple[int, int], list[int]](list)
    for pid, n, k, what in seen():
        assert k == 0 or ended[n, k - 1], "a link started before the one before it had ended"
        if what == 1:
            ended[n, k].append(pid)
    assert ended.keys() == {(n, k) for n in range(KILLS * CHAINS) for k in range(LINKS)}
    assert [where for where, pids in ended.items() if not killed.issuperset(pids[:-1])] == []


def test_a_failed_link_that_is_sent_back_goes_on_with_its_chain(valkey: RedisServer, tmp_path: Path) -> None:
    """Under a new id, on its queue."""
    ran.clear()
    queue = Queue(RedisDriver(valkey.url), registry=Registry(), database=f"sqlite:///{tmp_path}/failed.db")
    queue.register("jobs.Link", Link, queue="links", retry=Retry(attempts=1))
    ids = queue.chain(Link(-1, 0), Link(1, 1), Link(1, 2))
    queue.work(queues="links", drain=True)
    store, driver = queue.store, RedisDriver(valkey.url)
    [[row]] = store.pages()  # type: ignore[union-attr]
    assert (row.job_id, ran) == (ids[0], [])
    again = job_of(row.job_type, bytes_of(row.payload).replace(b"-1", b"1"), row.extra, "again")
    assert driver.push_retried("once", again, queue_in(read(again)))
    assert not driver.push_retried("once", again, queue_in(read(again)))
    queue.work(queues="links", drain=True)
    assert ran == [0, 1, 2]
