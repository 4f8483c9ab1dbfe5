"""``queue:work --processes N``: worker processes, each with a lease of its own, started and kept up by this one."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from types import FrameType

import click

from ..runtime import SystemRuntime

LOOK_S = 0.1
REST_S = 1.0
"""How long the place of a process that died stays empty."""


class Processes:
    """A signal goes to all of them, as one that means to stop. Caught from the start, so that none is missed."""

    def __init__(self, count: int, words: Sequence[str]) -> None:
        self._count = count
        self._command = [sys.executable, "-c", "from kashvi.cli import main; main()", *words, "--processes=1"]
        self._caught: list[int] = []
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._catch)

    def run(self) -> int:
        """Until all have ended; returns the exit code. One that dies is replaced."""
        runtime = SystemRuntime()
        running = [self._start() for _ in range(self._count)]
        starts_at: list[float] = []
        forwarded = 0
        while running or starts_at:
            runtime.sleep(LOOK_S)
            for child in running[:]:
                if child.poll() is not None:
                    running.remove(child)
                    if child.returncode and not self._caught:
                        _tell(child)
                        starts_at.append(runtime.monotonic() + REST_S)
            if self._caught:
                starts_at.clear()
            elif starts_at and starts_at[0] <= runtime.monotonic():
                starts_at.pop(0)
                running.append(self._start())
            for _ in self._caught[forwarded:]:
                forwarded += 1
                for child in running:
                    child.terminate()
        return 128 + self._caught[1] if len(self._caught) > 1 else 0

    def _start(self) -> subprocess.Popen[bytes]:
        # In a group of its own: Ctrl-C in a terminal reaches it once, through this process.
        return subprocess.Popen(self._command, stdin=subprocess.DEVNULL, process_group=0)

    def _catch(self, number: int, frame: FrameType | None) -> None:
        self._caught.append(number)


def _tell(child: subprocess.Popen[bytes]) -> None:
    code = child.returncode
    how = f"exit code {code}" if code > 0 else f"signal {-code}"
    click.echo(f"Worker process {child.pid} died ({how}); another takes its place.", err=True)
