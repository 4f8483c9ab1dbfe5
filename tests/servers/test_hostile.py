"""What a real process, server or operating system does to a worker, and it must bear."""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis

from kashvi.drivers.redis import RedisDriver
from kashvi.errors import DriverUnavailable, InvalidSetting
from kashvi.queue import Queue
from kashvi.registry import Registry
from kashvi.worker.shell import Worker

from .launch import RedisServer, until_true


@dataclass
class Forks:
    """The child comes back from ``handle()``, or ends as a program does."""

    directory: str
    n: int
    how: str

    def handle(self) -> None:
        with Path(self.directory, "ran.txt").open("a") as notes:
            notes.write(f"{self.n}\n")
        child = os.fork()
        if child == 0:
            if self.how == "exits":
                sys.exit(7)
            if self.how == "raises":
                raise ValueError("in the child")
            return
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        with Path(self.directory, "children.txt").open("a") as notes:
            notes.write(f"{status}\n")


def queue_on(server: RedisServer, *classes: type, **settings: Any) -> Queue:
    registry = Registry()
    for one in classes:
        registry.register(f"jobs.{one.__name__}", one)
    return Queue(RedisDriver(server.url), registry=registry, **settings)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize(("how", "code"), [("returns", 0), ("exits", 7), ("raises", 1)])
def test_a_child_that_a_handler_forks_is_no_worker(valkey: RedisServer, tmp_path: Path, how: str, code: int) -> None:
    """It ends where the handler does, and the parent settles the job."""
    queue = queue_on(valkey, Forks)
    queue.dispatch_many([Forks(str(tmp_path), n, how) for n in range(3)])
    queue.work(stop_when_empty=True)
    assert (tmp_path / "ran.txt").read_text().split() == ["0", "1", "2"]
    assert (tmp_path / "children.txt").read_text().split() == [str(code)] * 3
    assert queue.stats().held == queue.stats().workers == 0


def test_an_owner_that_is_no_worker_of_ours_is_passed_over(valkey: RedisServer) -> None:
    """Another program wrote into our key; the keeper lives."""
    ran: list[int] = []

    @dataclass
    class Count:
        n: int

        def handle(self) -> None:
            ran.append(self.n)

    valkey.client().zadd("kashvi:queue:workers", {b"\xff": 1.0})
    queue = queue_on(valkey, Count, lease_s=0.3)
    with queue.start_workers(2):
        for n in range(3):
            queue.dispatch(Count(n))
        until_true(lambda: len(ran) == 3, 20)
    assert sorted(ran) == [0, 1, 2]


@pytest.mark.parametrize("url", ["redis://localhost:6379/0?foo=bar", "redis://localhost:6379/0?socket_timeout=x"])
def test_options_that_no_connection_knows_are_refused_at_once(url: str) -> None:
    """Not at the first job."""
    with pytest.raises(InvalidSetting, match="the Redis URL"):
        RedisDriver(url)


def test_a_name_that_no_host_can_have_is_a_server_that_cannot_be_reached() -> None:
    """As clear as a refused connection."""
    with pytest.raises(DriverUnavailable):
        RedisDriver("redis://a..b:6379").stats()


def test_credentials_that_cannot_be_had_are_a_server_that_cannot_be_reached(valkey: RedisServer) -> None:
    """A provider of the user's own may raise anything."""

    class Broken(redis.CredentialProvider):
        def get_credentials(self) -> Any:
            raise RuntimeError("the vault is sealed")

    client = redis.Redis(port=valkey.port, credential_provider=Broken())
    with pytest.raises(DriverUnavailable, match="the vault is sealed"):
        RedisDriver(client).stats()


def test_no_thread_is_left_behind_when_there_are_no_more_to_be_had(
    valkey: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller gets the error, and the queue is as before."""
    queue = queue_on(valkey)
    real, started = threading.Thread.start, []

    def start(self: threading.Thread) -> None:
        if len(started) == 4:
            raise RuntimeError("can't start new thread")
        started.append(self)
        real(self)

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        queue.start_workers(9)
    for thread in started:
        thread.join(20)
    assert not any(thread.is_alive() for thread in started)
    assert queue.stats().workers == 0
    queue.set_driver(RedisDriver(valkey.url))


def test_work_that_is_interrupted_before_it_begins_leaves_nothing_behind(
    valkey: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C may come at any moment."""
    queue = queue_on(valkey)
    before = threading.active_count()

    def interrupted(self: Worker) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Worker, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        queue.work()
    assert threading.active_count() == before
    queue.set_driver(RedisDriver(valkey.url))


def test_threads_that_dispatch_first_share_one_memory_queue() -> None:
    """None of them makes one of its own."""

    @dataclass
    class Job:
        n: int

        def handle(self) -> None:
            """Not run here."""

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(50):
            registry = Registry()
            registry.register("jobs.Job", Job)
            queue = Queue(registry=registry)
            ready = threading.Barrier(8)

            def dispatch(n: int, queue: Queue = queue, ready: threading.Barrier = ready) -> None:
                ready.wait()
                queue.dispatch(Job(n))

            threads = [threading.Thread(target=dispatch, args=(n,)) for n in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert queue.stats().ready == 8
    finally:
        sys.setswitchinterval(interval)
