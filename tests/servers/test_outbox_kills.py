"""Relays and workers are killed while an app commits and rolls back: exactly what it committed is queued, and runs.

``kill(kills=200, rows=20_000, …)`` is the long version; the test is a short one.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from kashvi.drivers.redis import RedisDriver
from kashvi.jobs.envelope import read
from kashvi.queues import Queue
from kashvi.registry import Registry

from .databases import Database
from .launch import RedisServer, until_true

PROCESS = """
import os, signal, sys, threading
from dataclasses import dataclass
from kashvi.drivers import relays
from kashvi.drivers.redis import RedisDriver
from kashvi.outbox import relay
from kashvi.outbox.database import Outbox
from kashvi.queues import Queue
from kashvi.registry import Registry

redis_url, database_url, works, ran, dies = sys.argv[1:]
relays.RELAY_S = relay.RENEW_S = 0.3  # another relay is let in sooner: more of them take over
relay.POLL_S = 0.01
relay.BATCH = 40

def moment(name):
    if name == dies:
        os.kill(os.getpid(), signal.SIGKILL)

class Quick(RedisDriver):
    def relay(self, outbox, token, n, rows, gone, for_s=0.3):
        if rows:
            moment("before a push")
        answer = super().relay(outbox, token, n, rows, gone, for_s)
        if rows:
            moment("after a push")
        return answer

delete = Outbox.delete

def deletes(self, job_ids):
    delete(self, job_ids)
    moment("after a deletion")

Outbox.delete = deletes

@dataclass
class Note:
    n: int

    def handle(self):
        os.write(notes, b"%d\\n" % self.n)

notes = os.open(ran, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
queue = Queue(Quick(redis_url), registry=Registry(), lease_s=0.5)
queue.register("jobs.Note", Note)
queue.outbox(database_url)
print("ready", flush=True)
if works == "works":
    queue.start_workers(2)
    threading.Event().wait()
else:
    queue.relays()[0].run()
"""


MOMENTS = ("before a push", "after a push", "after a deletion", "")
"""When a process is killed; the last: at any time."""


@dataclass
class Note:
    n: int

    def handle(self) -> None: ...


class App:
    """Commits and rolls back, until all rows are made."""

    def __init__(self, queue: Queue, engine: sa.Engine, rows: int) -> None:
        self.committed: list[int] = []
        self._queue, self._engine, self._rows = queue, engine, rows
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        chance, n = random.Random(7), 0
        while n < self._rows:
            many = chance.randint(1, 30)
            with Session(self._engine) as session:
                self._queue.dispatch_many([Note(k) for k in range(n, n + many)], session=session)
                if chance.random() < 0.3:
                    session.rollback()
                else:
                    session.commit()
                    self.committed += range(n, n + many)
            n += many


def kill(queue: Queue, database: Database, ran: Path, *, kills: int, rows: int, works: bool, at_once: int = 3) -> App:
    """Keep some processes alive, each until it is killed, at a bad moment if it comes to one; then let others end
    the work."""
    assert isinstance(queue.driver, RedisDriver)
    where = queue.driver._server.server
    role = "works" if works else "relays"
    command = [sys.executable, "-c", PROCESS, f"redis://{where}", database.url, role, str(ran)]
    engine = sa.create_engine(database.engine.url)
    app, chance = App(queue, engine, rows), random.Random(11)

    def start(dies: str = "") -> subprocess.Popen[str]:
        return subprocess.Popen([*command, dies], stdout=subprocess.PIPE, text=True)

    moments = [MOMENTS[n % len(MOMENTS)] for n in range(kills)]
    running = [start(moment) for moment in moments[:at_once]]
    app.thread.start()
    for n in range(kills):
        victim = running.pop(0)
        assert victim.stdout is not None
        victim.stdout.readline()
        with suppress(subprocess.TimeoutExpired):
            victim.wait(chance.choice([0.1, 0.3, 0.6]))
        victim.send_signal(signal.SIGKILL)
        victim.communicate()
        running.append(start(*moments[n + at_once : n + at_once + 1]))
    app.thread.join()
    engine.dispose()
    [outbox] = queue.outboxes()
    until_true(lambda: not outbox.counted(), 120, "rows are left")
    if works:
        until_true(lambda: not any((queue.stats().ready, queue.stats().held)), 120, "jobs are left")
    for process in running:
        process.kill()
        process.communicate()
    outbox.rest()
    return app


@pytest.fixture
def queue(valkey: RedisServer, database: Database) -> Queue:
    queue = Queue(RedisDriver(valkey.url), registry=Registry())
    queue.register("jobs.Note", Note)
    queue.outbox(database.url)
    return queue


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_relays_that_are_killed_queue_each_committed_job_once(queue: Queue, database: Database, tmp_path: Path) -> None:
    """And none that was rolled back; each transaction in its order."""
    app = kill(queue, database, tmp_path / "ran.txt", kills=5, rows=800, works=False)
    shown = [read(one.envelope).payload for one in queue.driver.show("ready", 1_000_000)]  # type: ignore[attr-defined]
    queued = [int(bytes(payload).strip(b'{"n:}')) for payload in shown]
    assert sorted(queued) == app.committed
    assert len(queued) > 300


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_workers_that_are_killed_run_what_is_committed(queue: Queue, database: Database, tmp_path: Path) -> None:
    """Some jobs twice, as their workers died; none that was rolled back."""
    app = kill(queue, database, tmp_path / "ran.txt", kills=2, rows=300, works=True)
    ran = {int(line) for line in (tmp_path / "ran.txt").read_text().split()}
    assert sorted(ran) == app.committed
