"""A worker's events as lines of text for people, or of JSON for programs."""

from __future__ import annotations

import os
import re
import shutil
import sys
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime
from typing import assert_never

import click

from .. import events
from ..text import json_line, no_colour, visible
from .stdout import JsonStdout

ID_SHOWN = 8
NARROW = 60
"""On fewer columns the outcome of a job comes first, then as much of the rest as fits."""


class JsonLines:
    """Prints every event as a JSON object."""

    def __init__(self) -> None:
        self._write = JsonStdout().write

    def __call__(self, event: events.Event) -> None:
        self._write(json_line(event))

    def close(self) -> None:
        """Do nothing."""


class Lines:
    """Prints DONE or FAIL for each attempt with its duration, other events of jobs, and counts at the end.

    At a terminal, lines are cut to its width and show the end of the job's id; elsewhere every value is whole.
    Times are UTC. ``max_attempts`` returns how many attempts a job gets in all.
    """

    def __init__(self, max_attempts: Callable[[], int], verbose: bool = False) -> None:
        self._max_attempts = max_attempts
        self._verbose = verbose
        self._ours: set[str] = set()
        self._limits: dict[str, int] = {}
        """The limits of types that have their own."""
        self._done = self._failed = self._retried = 0

    def __call__(self, event: events.AnyEvent) -> None:
        if isinstance(event, events.AttemptStarted):
            self._limits[event.type] = event.type_limit
        match event:
            case events.WorkerStarted():
                self._ours.add(event.worker)
            case events.AttemptStarted() if self._verbose:
                self._job(event, "RUNNING", "yellow", attempt=event.attempt)
            case events.AttemptSucceeded():
                self._job(
                    event, f"{took(event.duration_s)} DONE" + ", late" * event.late, "green", attempt=event.attempt
                )
                self._done += 1
            case events.AttemptFailed():
                self._job(event, f"{took(event.duration_s)} FAIL", "red", event.error, attempt=event.attempt)
            case events.AttemptStuck():
                self._job(event, f"{took(event.duration_s)} STUCK", "red", attempt=event.attempt)
            case events.RetryScheduled():
                self._retried += 1
                if self._verbose:
                    self._job(event, f"RETRY in {event.wait_s:g} s", "yellow")
            case events.AttemptSnoozed():
                what = f"{took(event.duration_s)} SNOOZED for {event.wait_s:g} s"
                self._job(event, what, "yellow", attempt=event.attempt)
            case events.PolicyIgnored():
                self._job(event, "POLICY IGNORED", "red", event.why, attempt=event.attempt)
            case events.JobPostponed() if self._verbose:
                self._job(event, f"TYPE UNKNOWN, again in {event.wait_s:g} s", "yellow")
            case events.JobFailed():
                self._failed += 1
                made = f"after {event.attempts} attempts" if event.attempts != 1 else "after 1 attempt"
                self._job(event, f"GAVE UP {made}", "red", event.error if event.attempts == 0 else "")
            case events.AttemptLost():
                self._job(event, "LOST", "red", f"worker {event.owner} died", attempt=event.attempt)
            case events.JobReturned() if event.owner not in self._ours:
                self._job(event, "TAKEN OVER", "yellow", f"worker {event.owner} died")
            case events.JobReturned() | events.JobCancelled():
                self._job(event, "CANCELLED" if isinstance(event, events.JobCancelled) else "HANDED BACK", "yellow")
            case events.SettleRefused():
                self._job(event, "NO LONGER OURS", "red", "its lease ran out, and another worker took it over")
            case events.FailureRecorded() if self._verbose:
                self._job(event, "RECORDED", "yellow")
            case events.AttemptStarted() | events.JobPostponed() | events.FailureRecorded():
                pass  # shown with -v
            case (
                events.JobDuplicate()
                | events.JobDispatched()
                | events.JobStored()
                | events.JobSucceeded()
                | events.WorkerStopping()
                | events.WorkerStopped()
            ):
                pass
            case (
                events.ServerLost()
                | events.ServerBack()
                | events.StoreLost()
                | events.StoreBack()
                | events.RelayLost()
                | events.RelayBack()
                | events.JobRefused()
                | events.QueuePaused()
                | events.QueueResumed()
                | events.TicksMissed()
                | events.TickRefused()
                | events.ScheduleReset()
                | events.CancelAsked()
                | events.ChainCancelled()
            ):
                pass  # the log has most of these, and the next
            case (
                events.FailureRefused()
                | events.FailureForgotten()
                | events.HookFailed()
                | events.JobSnoozed()
                | events.FollowUpKept()
            ):
                pass  # the attempts of the last two are shown
            case _:
                assert_never(event)

    def close(self) -> None:
        write(f"  {self._done} done, {self._retried} retried, {self._failed} failed.")

    def _job(self, event: events.JobEvent, what: str, color: str, detail: str = "", attempt: int = 0) -> None:
        at = datetime.fromtimestamp(event.at, UTC)
        name, job_id = visible(event.type) or "(not an envelope)", visible(event.job_id)
        width = terminal_width()
        if width is not None:
            job_id = job_id[-ID_SHOWN:]
        if attempt:
            job_id += f" {attempt}/{self._limits.get(event.type) or self._max_attempts()}"
        detail = visible(" ".join(detail.split()))
        if width is None:
            write(f"  {at:%Y-%m-%dT%H:%M:%SZ} {name} {job_id} {what}" + (f"  {detail}" if detail else ""))
            return
        short, right = f" …{job_id} ", f" {what}" + (f"  {detail}" if detail else "")
        if width < NARROW:
            write(click.style(shortened(f"{what} {name}{short}{detail}", width - 1), fg=color, bold=True))
            return
        left = shortened(f"  {at:%H:%M:%SZ} {name}", max(width - len(short) - min(columns(right), width // 2) - 2, 12))
        room = width - columns(left) - len(short) - 1
        right = shortened(right, max(room - 1, len(what) + 1))
        write(f"{left}{short}{'.' * (room - columns(right))}{click.style(right, fg=color, bold=True)}")


def took(seconds: float) -> str:
    return f"{seconds * 1000:,.2f}ms" if seconds < 1 else f"{seconds:,.2f}s"


def terminal_width() -> int | None:
    """The width of standard output's terminal; None for a pipe, a file or a closed output, which get whole lines."""
    try:
        return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    except (AttributeError, ValueError):
        return None


def columns(text: str) -> int:
    """The number of terminal columns of a text: a Chinese letter takes two, a combining accent none."""
    if text.isascii():
        return len(text)
    return sum(map(_columns_of, text))


def _columns_of(letter: str) -> int:
    if unicodedata.category(letter) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in ("W", "F") else 1


def shortened(text: str, width: int) -> str:
    """The text cut to ``width`` columns, with an ellipsis."""
    if columns(text) <= width:
        return text
    kept, room = 0, width - 1
    for letter in text:
        room -= _columns_of(letter)
        if room < 0:
            break
        kept += 1
    return text[:kept] + "…"


def padded(text: str, width: int) -> str:
    """The text cut, or filled with blanks, to ``width`` columns."""
    text = shortened(text, width)
    return text + " " * (width - columns(text))


def folded(line: str, indent: int = 0) -> str:
    """The line folded between words at a terminal's width, later lines indented by ``indent``; elsewhere whole."""
    width = terminal_width()
    if width is None or len(line) <= width:
        return line
    text = line.lstrip(" ")
    before, after = " " * (len(line) - len(text)), " " * min(indent, width // 2)
    parts = re.split(r"(?<=\S)( +)(?=\S)", text)  # words, and the blanks between them, which may align
    lines = [before + parts[0]]
    for blanks, word in zip(parts[1::2], parts[2::2], strict=True):
        if len(lines[-1]) + len(blanks) + len(word) > width:
            lines.append(after + word)
        else:
            lines[-1] += blanks + word
    return "\n".join(lines)


def write(line: str) -> None:
    """Write one line to standard output and flush. A closed pipe or a full disk is ignored."""
    try:
        click.echo(line, color=False if no_colour() else None)
    except OSError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123
