"""Failed jobs printed: one line each, one in full, or counts by type and error."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from itertools import chain
from typing import TYPE_CHECKING, Any

import click

from ..text import json_line, visible
from ..worker.row import queue_of
from .output import padded, shortened, terminal_width

if TYPE_CHECKING:
    from ..failures.table import FailedJobRecord

    Pages = Iterable[list[FailedJobRecord]]

COLUMNS = ("id", "job_type", "payload", "error", "attempts", "failed_at", "job_id", "traceback", "queue", "extra")
GROUPS_MAX = 10_000
"""The most groups kept: errors that each contain another number must not fill the memory."""


def print_lines(rows: Iterable[FailedJobRecord]) -> None:
    """Print one line a failure: cut to a terminal's width, whole in a pipe."""
    width = terminal_width()
    if width is None:
        for row in rows:
            number, name, tries, at, error = map(visible, _cells(row))
            click.echo(f"{number}  {name}  {tries}  {at.replace(' ', 'T')}Z  {error}")
        return
    click.echo(shortened(f"{'id':>6}  {'type':20}  tries  {'failed at, UTC':19}  error", width))
    for row in rows:
        number, name, tries, at, error = map(visible, _cells(row))
        click.echo(shortened(f"{number:>6}  {padded(name, 20)}  {tries:>5}  {at[:19]:19}  {error}", width))


def print_whole(row: FailedJobRecord) -> None:
    """Print all fields of one failure."""
    shown = {
        "id": row.id,
        "job id": row.job_id,
        "type": row.job_type or "(not an envelope)",
        "attempts": row.attempts,
        "failed at": _time(row.failed_at) + (" UTC" if row.failed_at else ""),
        "queue": queue_of(row.queue, row.extra),
        "error": row.error,
        "payload": row.payload,
        "extra": row.extra,
    }
    for name, value in shown.items():
        if value not in (None, ""):
            click.echo(f"{name:10} {visible(str(value))}")
    if row.traceback:
        click.echo("traceback")
        for line in row.traceback.splitlines():
            click.echo(f"  {visible(line)}")


def print_json(pages: Pages) -> None:
    """Print one JSON array, a row a line, page by page."""
    click.echo("[", nl=False)
    for number, row in enumerate(chain.from_iterable(pages)):
        click.echo((",\n" if number else "") + json_line({name: getattr(row, name) for name in COLUMNS}), nl=False)
    click.echo("]")


def print_groups(pages: Pages, as_json: bool) -> None:
    """Print how often each type failed with each error, most frequent first, with the newest row of each."""
    groups: dict[tuple[str, str], list[Any]] = {}
    for row in chain.from_iterable(pages):  # the newest first
        kind = (row.job_type, row.error or "")
        if kind not in groups and len(groups) >= GROUPS_MAX:
            kind = ("", "(other errors)")
        groups.setdefault(kind, [0, row.id, row.failed_at])[0] += 1
    ordered = sorted(groups.items(), key=lambda group: -group[1][0])
    if as_json:
        names = ("count", "newest_id", "newest_at")
        told = [{"job_type": k[0], "error": k[1], **dict(zip(names, about, strict=True))} for k, about in ordered]
        click.echo(json_line(told))
        return
    width = terminal_width()
    if width is not None:
        click.echo(shortened(f"{'count':>6}  {'newest':>6}  {'type':20}  error", width))
    for kind, (count, newest, _) in ordered:
        name, error = visible(kind[0]) or "(not an envelope)", visible(kind[1])
        if width is not None:
            click.echo(shortened(f"{count:>6}  {newest:>6}  {padded(name, 20)}  {error}", width))
        else:
            click.echo(f"{count}  {newest}  {name}  {error}")


def wanted(
    job_type: str | None, error: str | None, since: float | None, queue: str | None = None
) -> Callable[[Any], bool]:
    """A filter for rows of this type, whose error contains this text, that failed since this time (Unix seconds), of
    this queue."""

    def is_wanted(row: Any) -> bool:
        if job_type is not None and row.job_type != job_type:
            return False
        if error is not None and error.lower() not in (row.error or "").lower():
            return False
        if queue is not None and queue_of(getattr(row, "queue", None), getattr(row, "extra", None)) != queue:
            return False
        return since is None or (row.failed_at is not None and row.failed_at.timestamp() >= since)

    return is_wanted


def _cells(row: FailedJobRecord) -> tuple[str, ...]:
    name = row.job_type or "(not an envelope)"
    return str(row.id), name, str(row.attempts), _time(row.failed_at), row.error or ""


def _time(at: datetime | None) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S") if at else ""
