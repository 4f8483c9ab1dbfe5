"""``queue:work --processes N``: a parent that starts worker processes, each with its own lease, and replaces them.

A process that dies is replaced, later each time. If one ends before it could claim jobs, the command ends: the next
would do the same. A process reports its state to the parent through a pipe.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import click

from ..runtime import SystemRuntime
from .replacing import Program
from .signals import NUMBERS, Repeats

LOOK_S = 0.1
REST_FIRST_S, REST_MAX_S = 1.0, 30.0
"""The first and the longest delay before a dead process is replaced: it doubles each time."""
STEADY_S = 60.0
"""The death of a process that lived this long starts the delays anew."""
WORKS, REFUSED, FULL, ENDED = b"w", b"r", b"m", b"e"
"""The states a process reports: about to claim jobs; failed to start after all; ended after its --max-jobs; ended for
another reason."""


def tell(fd: int | None, what: bytes) -> None:
    """Report a state to the parent process, if there is one."""
    if fd is not None:
        with contextlib.suppress(OSError):
            os.write(fd, what)


class Place:
    """The slot of one worker process and its replacements."""

    def __init__(self) -> None:
        self.child: subprocess.Popen[bytes] | None = None
        self.starts_at: float | None = 0.0
        """When the next process starts; None: never."""
        self.worked = False
        """True if any of them was about to claim jobs."""
        self._rest_s = REST_FIRST_S
        self._born_at = 0.0
        self._pipe = -1

    def start(self, command: Sequence[str], directory: Path | None, now: float) -> None:
        read, write = os.pipe()
        try:
            # In a group of its own: Ctrl-C in a terminal reaches it once, through this process.
            self.child = subprocess.Popen(
                [*command, f"--tell-fd={write}"],
                stdin=subprocess.DEVNULL,
                process_group=0,
                pass_fds=[write],
                cwd=directory,
            )
        except OSError:
            os.close(read)
            raise
        finally:
            os.close(write)
        self._pipe, self._born_at, self.starts_at = read, now, None

    def empty(self) -> bytes:
        """Remove the process that has ended; returns what it reported."""
        self.child = None
        os.set_blocking(self._pipe, False)
        try:
            told = os.read(self._pipe, 100)
        except BlockingIOError:  # a child of the process still holds the other end
            told = b""
        os.close(self._pipe)
        self.worked = self.worked or (WORKS in told and REFUSED not in told)
        return told

    def rest(self, now: float) -> float:
        """Start the next process later; returns in how many seconds."""
        seconds = REST_FIRST_S if now - self._born_at >= STEADY_S else self._rest_s
        self._rest_s = min(seconds * 2, REST_MAX_S)
        self.starts_at = now + seconds
        return seconds


class Processes:
    """All worker processes. A signal is passed on to them as SIGTERM. ``max_time_s``: after this, none is started.

    ``passes_on_hangup``: SIGHUP is passed on as SIGHUP and stops nothing.
    """

    def __init__(
        self, count: int, program: Program, max_time_s: float | None = None, *, passes_on_hangup: bool = False
    ) -> None:
        self._command = [sys.executable, "-P", "-m", "kashvi", *program.words, "--processes=1"]
        self._directory = program.directory
        self._places = [Place() for _ in range(count)]
        self._ends_at = None if max_time_s is None else SystemRuntime.monotonic() + max_time_s
        self._repeats = Repeats()
        self._stopping = False
        self._code = 0
        handlers = dict.fromkeys(NUMBERS, self._catch)
        if passes_on_hangup and hasattr(signal, "SIGHUP"):
            handlers[signal.SIGHUP] = self._pass_on
        self._before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        SystemRuntime().at_fork(self._forked)

    def _forked(self) -> None:
        """In a child that the app forks: restore the signal handlers from before this command."""
        for number, before in self._before.items():
            if signal.getsignal(number) in (self._catch, self._pass_on):
                signal.signal(number, before or signal.SIG_DFL)

    def run(self) -> int:
        """Run until all have ended. Returns the exit code: a second signal's, else the highest of the processes."""
        while any(place.child or place.starts_at is not None for place in self._places):
            now = SystemRuntime.monotonic()
            for place in self._places:
                if place.child is not None and place.child.poll() is not None:
                    self._bury(place, place.child, now)
                elif place.starts_at is not None and place.starts_at <= now:
                    self._start(place, now)
            SystemRuntime.sleep(LOOK_S)
        return self._code

    def _start(self, place: Place, now: float) -> None:
        left = [] if self._ends_at is None else [f"--max-time={self._ends_at - now}"]
        if self._stopping or (self._ends_at is not None and now >= self._ends_at):
            place.starts_at = None
            return
        try:
            place.start([*self._command, *left], self._directory, now)
        except OSError as error:  # no memory, or too many processes
            click.echo(f"No worker process could be started ({error}); again in {place.rest(now):g} s.", err=True)
        if self._stopping and place.child is not None:  # a signal came meanwhile
            place.child.terminate()

    def _bury(self, place: Place, child: subprocess.Popen[bytes], now: float) -> None:
        told, code = place.empty(), child.returncode
        if self._stopping or ENDED in told:
            self._code = max(self._code, code)
        elif FULL in told and code == 0:
            place.starts_at = now
        elif place.worked:
            _say(child, f"another replaces it in {place.rest(now):g} s")
        else:
            _say(child, "it could not start to work, so all end")
            self._code = 128 - code if code < 0 else code or 1
            self._stop()

    def _catch(self, number: int, frame: FrameType | None) -> None:
        count = self._repeats.count(number)
        if count == 2:
            self._code = 128 + number
        if count:
            self._stop()

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        for place in self._places:
            if place.child is not None:
                place.child.send_signal(number)

    def _stop(self) -> None:
        self._stopping = True
        for place in self._places:
            place.starts_at = None
            if place.child is not None:
                place.child.terminate()


def _say(child: subprocess.Popen[bytes], what: str) -> None:
    code = child.returncode
    how = f"exit code {code}" if code >= 0 else f"signal {-code}"
    click.echo(f"Worker process {child.pid} ended ({how}); {what}.", err=True)
