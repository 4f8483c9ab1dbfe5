"""``kashvi demo``: sample jobs in memory, in about three seconds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import click

from .. import events
from ..queue import MemoryDriver, Queue
from ..registry import Registry
from ..text import json_line, visible
from .listing import print_lines
from .options import examples, json_option
from .output import write

_tried: set[int] = set()


@dataclass
class WelcomeEmailJob:
    """Works at once."""

    user_id: int
    email: str

    def handle(self) -> None:
        pass


@dataclass
class FlakyPaymentJob:
    """Fails the first time."""

    order_id: int

    def handle(self) -> None:
        if self.order_id not in _tried:
            _tried.add(self.order_id)
            raise TimeoutError("the payment provider did not answer")


@dataclass
class BrokenReportJob:
    """Fails every time."""

    report: str

    def handle(self) -> None:
        raise ValueError(f"no data for report {self.report!r}")


@examples(
    """
kashvi demo
kashvi demo --json
"""
)
@click.command("demo")
@json_option
def demo(as_json: bool) -> None:
    """Run immediate, delayed, retried and failing jobs on the memory driver, with failures in an SQLite file.

    Prints a timeline, then the failure table, read back with SQLAlchemy.
    """
    _tried.clear()
    database = Path(mkdtemp(prefix="kashvi-demo-")) / "kashvi.db"
    registry = Registry()
    for job_class in (WelcomeEmailJob, FlakyPaymentJob, BrokenReportJob):
        registry.register(f"jobs.{job_class.__name__}", job_class)
    queue = Queue(MemoryDriver(), registry=registry, database=f"sqlite:///{database}")
    timeline = Timeline(quiet=as_json)
    queue.observe(timeline)

    queue.dispatch(WelcomeEmailJob(user_id=42, email="a@example.com"))
    queue.dispatch_after(WelcomeEmailJob(user_id=43, email="b@example.com"), 2)
    queue.dispatch(FlakyPaymentJob(order_id=1001))
    queue.dispatch(BrokenReportJob(report="november"))
    queue.work(drain=True)

    rows = _read_back(database)
    if as_json:
        counts = {"succeeded": timeline.succeeded, "failed": timeline.failed, "rows": len(rows)}
        click.echo(json_line(counts | {"database": str(database)}))
        return
    write(f"\n  kashvi_failed_jobs in {database}:")
    print_lines(rows)


def _read_back(database: Path) -> list[Any]:
    import sqlalchemy as sa
    from sqlalchemy.orm import Session

    from ..failures.table import FailedJobRecord

    engine = sa.create_engine(f"sqlite:///{database}")
    with Session(engine) as session:
        rows = list(session.scalars(sa.select(FailedJobRecord).order_by(FailedJobRecord.failed_at.desc())))
    engine.dispose()
    return rows


class Timeline:
    """An observer that prints events as lines: time, job, what happened."""

    def __init__(self, *, quiet: bool) -> None:
        self.succeeded = self.failed = 0
        self._quiet = quiet
        self._began: float | None = None

    def __call__(self, event: events.Event) -> None:
        match event:
            case events.JobDispatched(due=None):
                self._line(event, "dispatched", "cyan")
            case events.JobDispatched(due=due) if due is not None:
                self._line(event, f"dispatched, due in {due - event.at:.0f} s", "cyan")
            case events.AttemptStarted():
                self._line(event, f"attempt {event.attempt}", "yellow")
            case events.AttemptFailed():
                self._line(event, visible(f"failed: {event.error}"), "red")
            case events.JobSucceeded():
                self.succeeded += 1
                self._line(event, "done", "green")
            case events.RetryScheduled():
                self._line(event, f"waits {event.wait_s:g} s, holding no worker", "yellow")
            case events.JobFailed():
                self.failed += 1
                self._line(event, f"exhausted after {event.attempts} attempts", "red")
            case events.FailureRecorded():
                self._line(event, "recorded in kashvi_failed_jobs", "red")
            case _:
                pass

    def _line(self, event: events.JobEvent, what: str, color: str) -> None:
        self._began = event.at if self._began is None else self._began
        if not self._quiet:
            name = f"{event.type} …{event.job_id[-4:]}"
            write(f"  {event.at - self._began:7.3f} s  {name:<28}  {click.style(what, fg=color)}")
