"""The command line as a user calls it: a process of its own, in a directory of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

APP = """
import os, time
from dataclasses import dataclass
from kashvi import queue

@queue.job("jobs.Note")
@dataclass
class Note:
    n: int
    takes: float = 0.0

    def handle(self):
        with open("ran.txt", "a") as notes:
            notes.write(f"{self.n}\\n")
        time.sleep(self.takes)
        with open("ended.txt", "a") as notes:
            notes.write(f"{self.n}\\n")

@queue.job("jobs.Quit")
@dataclass
class Quit:
    def handle(self):
        raise SystemExit("no")
"""

MAIN = [sys.executable, "-c", "from kashvi.cli import main; main()"]


class Shell:
    """Runs ``kashvi``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "myapp.py").write_text(APP)
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("KASHVI_")}
        self.running: list[subprocess.Popen[str]] = []

    def __call__(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*MAIN, *words],
            cwd=self.directory,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def start(self, *words: str, stdout: Any = subprocess.PIPE) -> subprocess.Popen[str]:
        process = subprocess.Popen([*MAIN, *words], cwd=self.directory, env=self.environment, stdout=stdout, text=True)
        self.running.append(process)
        return process

    def lines(self, name: str) -> list[str]:
        path = self.directory / name
        return path.read_text().split() if path.exists() else []


@pytest.fixture
def kashvi(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    for process in shell.running:
        if process.poll() is None:
            process.kill()
        process.communicate()
