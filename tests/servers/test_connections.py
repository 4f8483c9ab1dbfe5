"""The driver's connections: as the client's are, wherever the server's address leads, and in a process that forks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import redis

from kashvi.drivers.redis import RedisDriver
from kashvi.errors import CommandRefused, DriverError, DriverUnavailable, ReplyLost, SettingsRefused
from kashvi.queue import Queue

from .forwarder import Forwarder
from .launch import RedisServer, until_true
from .test_redis import Count, queue_on, ran


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Callable[..., RedisServer]]:
    """Servers of a test's own."""
    started: list[RedisServer] = []

    def start(*options: str, name: str = "valkey-9") -> RedisServer:
        started.append(RedisServer(name, tmp_path / f"s{len(started)}", *options).start())
        return started[-1]

    yield start
    for server in started:
        server.stop()


def connections(server: RedisServer, name: str) -> list[dict[str, str]]:
    """Those with this name."""
    clients: Any = server.client().client_list()
    return [client for client in clients if client["name"] == name]


def test_the_clients_own_settings_hold(valkey: RedisServer) -> None:
    """Name, database, user, password and protocol, as the server sees them."""
    valkey.client().acl_setuser("someone", enabled=True, passwords=["+secret"], categories=["+@all"], keys=["*"])
    client = valkey.client(client_name="mine", db=3, username="someone", password="secret", protocol=2)
    queue = queue_on(client)
    queue.dispatch(Count(1))
    [seen] = connections(valkey, "mine")
    assert (seen["db"], seen["user"], seen["resp"]) == ("3", "someone", "2")
    assert valkey.client(db=3).llen("kashvi:queue:jobs") == 1


def test_a_silent_server_is_waited_for_as_long_as_the_client_says(servers: Callable[..., RedisServer]) -> None:
    """A web request that dispatches has its own idea of how long is too long."""
    server = servers()
    queue = queue_on(server.client(socket_timeout=0.3))
    queue.dispatch(Count(1))
    assert server.process
    server.process.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    try:
        with pytest.raises(ReplyLost, match="Timeout"):
            queue.dispatch(Count(2))
    finally:
        server.process.send_signal(signal.SIGCONT)
    assert 0.3 <= time.monotonic() - began < 3


def test_a_worker_may_wait_for_longer_than_a_reply_may_take(redis_server: RedisServer) -> None:
    """A short socket_timeout is about the server's answers; an idle server has none to give."""
    driver = RedisDriver(redis_server.client(socket_timeout=0.1))
    assert driver.wait("w", 0.4) is None
    driver.push([b"a"])
    assert driver.wait("w", 0.4) == b"a"


@pytest.mark.parametrize("limit", [1, 3])
def test_no_more_connections_are_opened_than_the_client_may_have(valkey: RedisServer, limit: int) -> None:
    """A call waits for a free one; where there is one alone, no worker keeps it for itself."""
    client = valkey.client(client_name=f"few-{limit}", max_connections=limit)
    queue = queue_on(client)
    most = 0

    def dispatch() -> None:
        for n in range(20):
            queue.dispatch(Count(n))

    threads = [Thread(target=dispatch) for _ in range(10)]
    with queue.start_workers(5), queue.start_workers(5):
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads) or len(ran) < 200:
            most = max(most, len(connections(valkey, f"few-{limit}")))
    assert 1 <= most <= limit
    assert sorted(ran) == sorted([*range(20)] * 10)


def test_a_pool_that_blocks_blocks_for_as_long_as_it_says(valkey: RedisServer) -> None:
    """Its limit and its patience are the client's."""
    pool = redis.BlockingConnectionPool(port=valkey.port, max_connections=1, timeout=0.1)
    queue = queue_on(redis.Redis(connection_pool=pool))
    taken = queue.driver._server.pool().get_connection()  # type: ignore[attr-defined]
    with pytest.raises(DriverUnavailable, match="No connection available"):
        queue.dispatch(Count(1))
    queue.driver._server.pool().release(taken)  # type: ignore[attr-defined]
    queue.dispatch(Count(1))


FORK = """
import os, sys, threading
from dataclasses import dataclass
from kashvi import queue

@queue.job("jobs.Note")
@dataclass
class Note:
    n: int
    def handle(self): ...

queue.set_driver(queue.RedisDriver(sys.argv[1]))
queue.dispatch(Note(1))
pool = queue.default().driver._server._pool
locks = [pool._lock, pool._fork_lock]
held, over = threading.Event(), threading.Event()

def hold():
    for lock in locks:
        lock.acquire()
    held.set()
    over.wait()

threading.Thread(target=hold, daemon=True).start()
held.wait()
child = os.fork()
if not child:
    queue.dispatch(Note(2))
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_that_is_forked_while_a_lock_is_held_dispatches(valkey: RedisServer) -> None:
    """The thread that held it is not in the child, so no thread would ever let it go."""
    command = [sys.executable, "-c", FORK, valkey.url]
    assert subprocess.run(command, timeout=20, check=False).returncode == 0
    assert valkey.client().llen("kashvi:queue:jobs") == 2


def failover(old: RedisServer, new: RedisServer, address: Forwarder) -> None:
    """``new`` is in step with ``old``, becomes the primary and gets the address; ``old`` follows it and lives on."""
    clients: Any = old.client(), new.client()
    until_true(lambda: clients[0].wait(1, 1000) == 1, 20)
    address.target = new.port
    clients[1].execute_command("REPLICAOF", "NO", "ONE")
    clients[0].execute_command("REPLICAOF", "127.0.0.1", str(new.port))


@pytest.fixture(params=["valkey-9", "redis-6.2", "redis-8"])
def pair(request: pytest.FixtureRequest, servers: Callable[..., RedisServer]) -> tuple[RedisServer, RedisServer]:
    """A primary and its replica."""
    at_once = ("--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0")
    old = servers(*at_once, name=request.param)
    new = servers(*at_once, "--replicaof", "127.0.0.1", str(old.port), name=request.param)
    client: Any = new.client()
    until_true(lambda: client.info("replication")["master_link_status"] == "up", 20)
    return old, new


def test_a_failover_behind_one_address_is_followed(pair: tuple[RedisServer, RedisServer]) -> None:
    """The old primary keeps its connections, and says READONLY to all that comes: producer and worker leave it."""
    old, new = pair
    with Forwarder(old.port) as address:
        url = f"redis://127.0.0.1:{address.port}/0"
        queue, producer = queue_on(url), queue_on(url)
        queue.lease_s = 2
        with queue.start_workers(3):
            for n in range(400):
                if n == 200:
                    failover(old, new, address)
                until_true(partial(dispatched, producer, n), 10)
            until_true(lambda: set(ran) == set(range(400)), 20)
        stats = producer.stats()
        assert (stats.ready, stats.held, stats.workers) == (0, 0, 0)


def dispatched(queue: Queue, n: int) -> bool:
    """Whether it was taken."""
    try:
        queue.dispatch(Count(n))
    except DriverError:
        return False
    return True


@pytest.mark.parametrize(
    "error",
    [
        "READONLY You can't write against a read only replica.",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "LOADING Redis is loading the dataset in memory",
        "CLUSTERDOWN The cluster is down",
        "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
        "NOREPLICAS Not enough good replicas to write.",
        "MISCONF Redis is configured to save RDB snapshots, but it is currently not able to persist on disk.",
        "ERR upstream failure",
    ],
)
def test_an_error_about_the_server_gives_its_connections_up(valkey: RedisServer, error: str) -> None:
    """All of them: the others lead to the same server. An error about the command keeps them."""
    client: Any = valkey.client()
    word = error.split(maxsplit=1)[0]
    driver = RedisDriver(valkey.client(client_name=word))
    driver.push([b"a"])
    [first] = connections(valkey, word)
    with pytest.raises(CommandRefused, match="WRONGTYPE"):
        driver._server.call("EVAL", "return redis.error_reply('WRONGTYPE of the command')", 0)
    driver.push([b"a"])
    assert [kept["id"] for kept in connections(valkey, word)] == [first["id"]]
    with pytest.raises(CommandRefused, match=word.replace("ERR", "upstream")):
        driver._server.call("EVAL", "return redis.error_reply(ARGV[1])", 0, error)
    driver.push([b"a"])
    until_true(lambda: len(connections(valkey, word)) == 1, 20)
    assert [new["id"] for new in connections(valkey, word)] != [first["id"]]
    assert client.llen("kashvi:queue:jobs") == 3


@pytest.mark.parametrize("database", ["/99"])
def test_a_server_that_does_not_take_the_settings_says_which(valkey: RedisServer, database: str) -> None:
    """There is no such database, however often a worker asks."""
    with pytest.raises(SettingsRefused, match="DB index"):
        queue_on(valkey.url.replace("/0", database)).dispatch(Count(1))
