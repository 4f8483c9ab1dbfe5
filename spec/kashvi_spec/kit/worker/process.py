"""Worker processes, started by their command line. Each leads a process group, which the kit ends."""

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
"""The most bytes shown of a process's output."""
GONE_S = 5.0
LOOK_S = 0.02


class CutShort(Exception):
    """A further process did not run a job. The story until then is judged."""


class CannotJudge(Exception):
    """There is nothing to judge. The message says what to do; ``option`` is the cause."""

    def __init__(self, why: str, option: str = "--command") -> None:
        self.option = option
        super().__init__(why)


def words_of(command: str, values: Mapping[str, str]) -> list[str]:
    """The command's words, with ``{redis_url}`` and the like replaced, without a shell. Raises CannotJudge."""
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
        """Send a signal to the whole group, as a terminal does; ignored if it has ended."""
        self.asked_to_end |= number in (signal.SIGTERM, signal.SIGKILL)
        if not self._gone:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def code(self) -> int | None:
        """The exit code; None while it runs."""
        return self._process.poll()

    def ended(self) -> bool:
        """True if it has ended; after a stop, only with its whole group: a shell around it may end long before."""
        if self.code() is None:
            return False
        self._gone = self._gone or not _lives(self._process.pid)
        return self._gone or not self.asked_to_end

    def end(self) -> None:
        """Kill the whole group."""
        self.send(signal.SIGKILL)
        self._process.wait(GONE_S)

    def tail(self) -> str:
        """The end of its output."""
        with self._output.open("rb") as printed:
            printed.seek(max(printed.seek(0, os.SEEK_END) - TAIL, 0))
            return printed.read(TAIL).decode("utf-8", "replace").strip()


def _lives(group: int) -> bool:
    """True if the group has a live process. A zombie is not one."""
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
    """Sleep between two looks."""
    SystemRuntime().sleep(LOOK_S)
