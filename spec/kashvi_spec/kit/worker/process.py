"""Worker processes, through the command line alone: each leads a process group, which the kit ends."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from kashvi.runtime import SystemRuntime

TAIL = 2_000
"""Bytes of a process's output that are shown."""
GONE_S = 5.0
LOOK_S = 0.02


class CutShort(Exception):
    """A further process did not come to work. What was seen until then is judged."""


class CannotJudge(Exception):
    """There is nothing to judge. The message says what to do, and ``option`` which one is to blame."""

    def __init__(self, why: str, option: str = "--command") -> None:
        self.option = option
        super().__init__(why)


def words_of(command: str, values: Mapping[str, str]) -> list[str]:
    """The command's words, with ``{redis_url}`` and its like filled in. No shell is involved. Raises CannotJudge."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise CannotJudge(f"{command!r} can't be split into words: {error}") from None
    if not words:
        raise CannotJudge("it is empty")
    for name, value in values.items():
        words = [word.replace(f"{{{name}}}", value) for word in words]
    return words


class WorkerProcess:
    """One process, and those that it starts in its group."""

    def __init__(self, name: str, words: list[str], environment: Mapping[str, str], output: Path) -> None:
        self.name = name
        self.asked_to_end = False
        self._gone = False
        self._output = output
        with output.open("wb") as out:
            try:
                self._process = subprocess.Popen(
                    words,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    start_new_session=True,
                    env={**os.environ, **environment, "KASHVI_SPEC_WORKER": name},
                )
            except OSError as error:
                raise CannotJudge(f"can't start {words[0]!r}: {error.strerror or error}") from None

    def send(self, number: signal.Signals) -> None:
        """To the whole group, as a terminal would; nothing where it has gone."""
        self.asked_to_end |= number in (signal.SIGTERM, signal.SIGKILL)
        if not self._gone:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def code(self) -> int | None:
        """How it exited; None while it runs."""
        return self._process.poll()

    def ended(self) -> bool:
        """If somebody asked it to, with all of its group: a shell around a worker may be gone long before it."""
        if self.code() is None:
            return False
        self._gone = self._gone or not _lives(self._process.pid)
        return self._gone or not self.asked_to_end

    def end(self) -> None:
        """Whatever it is doing, and what it has started."""
        self.send(signal.SIGKILL)
        self._process.wait(GONE_S)

    def tail(self) -> str:
        """The last of what it printed."""
        with self._output.open("rb") as printed:
            printed.seek(max(printed.seek(0, os.SEEK_END) - TAIL, 0))
            return printed.read(TAIL).decode("utf-8", "replace").strip()


def _lives(group: int) -> bool:
    """A zombie that nobody has taken leave of does not."""
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    members = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, of_group = stat.read_text(errors="replace").rpartition(")")[2].split()[:3]
            members += [state] if int(of_group) == group else []
    return any(state not in "ZX" for state in members) or not Path("/proc/self/stat").exists()


def pause() -> None:
    """Between two looks."""
    SystemRuntime().sleep(LOOK_S)
