"""A worker's events as lines: aligned for people, one JSON object a line for programs."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime

import click

from .. import events
from ..text import json_line, visible

WIDTH = 92


class JsonLines:
    """Every event, as it is."""

    def __call__(self, event: events.Event) -> None:
        write(json_line(event))

    def close(self) -> None:
        """Nothing to add."""


class Lines:
    """RUNNING and DONE or FAIL a job, with its duration; and a count at the end."""

    def __init__(self, verbose: bool = False) -> None:
        self._verbose = verbose
        self._done = self._failed = self._retried = 0

    def __call__(self, event: events.Event) -> None:
        match event:
            case events.AttemptStarted():
                self._job(event, "RUNNING", "yellow")
            case events.AttemptSucceeded():
                self._job(event, f"{took(event.duration_s)} DONE", "green")
                self._done += 1
            case events.AttemptFailed():
                self._job(event, f"{took(event.duration_s)} FAIL", "red", event.error)
            case events.RetryScheduled():
                self._retried += 1
                if self._verbose:
                    self._job(event, f"RETRY in {event.wait_s:g} s", "yellow")
            case events.JobPostponed() if self._verbose:
                self._job(event, f"TYPE UNKNOWN, again in {event.wait_s:g} s", "yellow")
            case events.JobFailed():
                self._failed += 1
                made = f"after {event.attempts} attempts" if event.attempts != 1 else "after 1 attempt"
                self._job(event, f"GAVE UP {made}", "red", event.error if event.attempts == 0 else "")
            case events.AttemptLost():
                self._job(event, f"LOST in attempt {event.attempt}", "red", f"worker {event.owner} died")
            case events.SettleRefused():
                self._job(event, "NO LONGER OURS", "red", "its lease ran out and it was given to another worker")
            case events.FailureRecorded() if self._verbose:
                self._job(event, "RECORDED", "yellow")
            case _:
                pass

    def close(self) -> None:
        write(f"  {self._done} done, {self._retried} retried, {self._failed} failed.")

    def _job(self, event: events.JobEvent, what: str, color: str, detail: str = "") -> None:
        at = datetime.fromtimestamp(event.at, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        left = f"  {at} {visible(event.type) or '(not an envelope)'} "
        job_id = visible(event.job_id)
        dots = "." * max(WIDTH - len(left) - len(what) - len(job_id) - 2, 2)
        line = f"{left}{job_id} {dots} {click.style(what, fg=color, bold=True)}"
        if detail:
            line += "\n" + " " * 22 + click.style(visible(" ".join(detail.split())[:300]), fg=color)
        write(line)


def took(seconds: float) -> str:
    return f"{seconds * 1000:,.2f}ms" if seconds < 1 else f"{seconds:,.2f}s"


def write(line: str) -> None:
    """One line to standard output, at once; quietly nothing when its reader has gone, or the disk is full."""
    try:
        click.echo(line)
    except OSError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123
