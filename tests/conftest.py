"""What all tests share: the servers, started once each."""

from __future__ import annotations

import gc
import logging
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.servers.launch import REDIS_BINARIES, RedisServer

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _process_as_before() -> Iterator[None]:
    """Tests run in any order: none may leave the log silent, or the collection of garbage off, for the next."""
    log = logging.getLogger("kashvi")
    before = log.level, log.disabled, log.handlers[:], gc.isenabled()
    yield
    assert (log.level, log.disabled, log.handlers, gc.isenabled()) == before


@pytest.fixture(scope="session")
def redis_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], RedisServer]]:
    """Give it a name of REDIS_BINARIES, get the one running server of that kind."""
    running: dict[str, RedisServer] = {}

    def get(name: str) -> RedisServer:
        if name not in running:
            running[name] = RedisServer(name, tmp_path_factory.mktemp(name)).start()
        return running[name]

    yield get
    for server in running.values():
        server.stop()


@pytest.fixture(params=sorted(REDIS_BINARIES))
def redis_server(request: pytest.FixtureRequest, redis_servers: Callable[[str], RedisServer]) -> RedisServer:
    """Each kind of server in turn, empty."""
    server = redis_servers(request.param)
    server.client().flushall()
    return server


@pytest.fixture
def valkey(redis_servers: Callable[[str], RedisServer]) -> RedisServer:
    """One real server, empty."""
    server = redis_servers("valkey-9")
    server.client().flushall()
    return server


@pytest.fixture
def server_dir(tmp_path: Path) -> Path:
    return tmp_path / "server"
