"""Replaces a ``queue:work`` that has a stuck attempt by a new program, and ends one whose interpreter stands still."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import click

from ..worker.pool import Workers
from .signals import Signals

FAILED = 75
"""The exit code if the process can't be replaced (EX_TEMPFAIL): the supervisor starts another."""


def watch(seconds: float) -> None:
    """End this process, with a traceback of its threads, unless ``watch`` or ``unwatch`` is called within this time;
    0: never.

    A handler that holds the interpreter's lock (a regular expression that does not end) lets no other thread run.
    """
    with contextlib.suppress(OSError, ValueError):  # standard error is closed
        if seconds and sys.__stderr__ is not None:
            faulthandler.dump_traceback_later(seconds, exit=True, file=sys.__stderr__)


def unwatch() -> None:
    faulthandler.cancel_dump_traceback_later()


class Program(NamedTuple):
    """What this process was started with: the app may change ``sys.argv`` and the directory."""

    words: Sequence[str]
    """Of the command."""
    command: Sequence[str]
    """Of the interpreter, and those."""
    directory: Path | None
    """None: it was gone already."""


def started() -> Program:
    """This process's program. Called before the app is imported."""
    words = sys.argv[1:]
    was_started_so = sys.orig_argv[-len(words) :] == words  # or forked
    directory = None
    with contextlib.suppress(OSError):
        directory = Path.cwd()
    return Program(words, sys.orig_argv[1:] if was_started_so else ["-P", "-m", "kashvi", *words], directory)


def replace(
    program: Program, signals: Signals, running: Workers, max_jobs: int | None, max_time_s: float | None
) -> None:
    """Put a new program in the place of this one, with what is left of its limits; returns if a signal has come.

    The process keeps its id, so a supervisor notices nothing. Its open files are closed, but for standard streams.
    """
    if not signals.release():
        return
    words = list(program.command)
    while re.match("--max-(jobs|time)=", words[-1]):
        words.pop()
    if max_jobs is not None:
        words.append(f"--max-jobs={max(max_jobs - running.taken, 1)}")
    if max_time_s is not None:
        words.append(f"--max-time={max(max_time_s, 0.001)}")
    click.echo("  A job does not end after its time limit: a new process takes the place of this one.", err=True)
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        if program.directory is not None:
            os.chdir(program.directory)
        if os.name != "nt":  # there a new process would get another number, and nothing would wait for it
            os.execv(sys.executable, [sys.executable, *words])
    except OSError as error:
        click.echo(f"This process can't be replaced ({error}).", err=True)
    os._exit(FAILED)
