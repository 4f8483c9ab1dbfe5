"""``queue:failed``, ``queue:retry``, ``queue:forget``, ``queue:flush``: the failure table from the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from ..envelope import bytes_of
from ..errors import RedisRequired
from ..queue import Queue
from ..row import job_of
from ..runtime import SystemRuntime
from ..text import json_line, visible
from .setup import (
    DATABASE_FILE,
    app_option,
    choose_database,
    choose_driver,
    database_option,
    examples,
    json_option,
    load_app,
    redis_option,
)

if TYPE_CHECKING:
    from ..drivers.redis import RedisDriver
    from ..failures.sql import SqlFailures
    from ..failures.table import FailedJobRecord

SHOWN = 50
BATCH = 100


@examples(
    """
kashvi queue:failed
kashvi queue:failed --database-url postgresql://localhost/app --json
"""
)
@click.command("queue:failed")
@app_option
@database_option
@json_option
def failed(app: str | None, database_url: str | None, as_json: bool) -> None:
    """List failed jobs, newest first."""
    store = _store(load_app(app), database_url)
    if as_json:
        click.echo(json_line([_plain(row) for row in store.rows()]))
        return
    rows, total = store.rows(limit=SHOWN), store.count()
    if not rows:
        click.echo(f"No failed jobs in {store!r}.")
        return
    print_rows(rows)
    if total > len(rows):
        click.echo(f"The newest {len(rows)} of {total:,}; --json has all.")


@examples(
    """
kashvi queue:retry 5 6
kashvi queue:retry all --redis-url redis://localhost:6379/0
kashvi queue:retry all --app myapp.jobs
"""
)
@click.command("queue:retry")
@click.argument("ids", nargs=-1, required=True, metavar="ID...|all")
@redis_option
@app_option
@database_option
@json_option
def retry(
    ids: tuple[str, ...], app: str | None, redis_url: str | None, database_url: str | None, as_json: bool
) -> None:
    """Send failed jobs back to the queue, as new jobs with all their attempts.

    Interrupted, it can be repeated: no job is lost, none is sent twice. ID is a row's number or the job's id.
    """
    queue = load_app(app)
    choose_driver(queue, redis_url)
    if not queue.driver_chosen or not hasattr(queue.driver, "push_retried"):
        raise RedisRequired("queue:retry")
    store = _store(queue, database_url)
    rows = store.rows()[::-1] if list(ids) == ["all"] else _chosen(store, ids)
    for start in range(0, len(rows), BATCH):
        send_back(store, cast("RedisDriver", queue.driver), rows[start : start + BATCH])
    _tell("sent back", rows, ids, as_json)


@examples(
    """
kashvi queue:forget 5
"""
)
@click.command("queue:forget")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@app_option
@database_option
@json_option
def forget(ids: tuple[str, ...], app: str | None, database_url: str | None, as_json: bool) -> None:
    """Delete failed jobs. ID is a row's number or the job's id."""
    store = _store(load_app(app), database_url)
    rows = _chosen(store, ids)
    gone = store.remove([(row.id, row.job_id) for row in rows])
    _tell("deleted", [row for row in rows if row.id in gone], ids, as_json)


@examples(
    """
kashvi queue:flush
"""
)
@click.command("queue:flush")
@app_option
@database_option
@json_option
def flush(app: str | None, database_url: str | None, as_json: bool) -> None:
    """Delete all failed jobs, at once and for good."""
    count = _store(load_app(app), database_url).clear()
    click.echo(
        json_line({"deleted": count}) if as_json else f"{count:,} failed job{'' if count == 1 else 's'} deleted."
    )


def send_back(store: SqlFailures, driver: RedisDriver, rows: Sequence[FailedJobRecord]) -> None:
    """Push each job once, however often this is repeated, then delete their rows."""
    new_id = SystemRuntime().new_id
    sent: list[tuple[int, str | None]] = []
    for row in rows:
        failed_id = row.job_id or store.identify(row.id, new_id())
        envelope = job_of(row.job_type, bytes_of(row.payload), row.extra, new_id())
        driver.push_retried(f"{row.id} {failed_id} {row.failed_at and row.failed_at.isoformat()}", envelope)
        sent.append((row.id, failed_id))
    store.remove(sent)


def print_rows(rows: Sequence[FailedJobRecord]) -> None:
    """A table for people."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("id", "type", "payload", "error", "attempts", "failed at", box=box.SIMPLE)
    for row in rows:
        at = row.failed_at.strftime("%Y-%m-%d %H:%M:%S") if row.failed_at else ""
        cells = (str(row.id), row.job_type or "(not an envelope)", row.payload[:120], (row.error or "")[:200])
        table.add_row(*(Text(visible(cell)) for cell in (*cells, str(row.attempts), at)))
    Console().print(table)


def _store(queue: Queue, database_url: str | None) -> SqlFailures:
    """The app's own choice first, then the option or its variable, then the default, if it is there."""
    if not queue.database_chosen and not database_url and not Path(DATABASE_FILE).exists():
        raise click.BadParameter(
            f"there is no {DATABASE_FILE} in this directory (queue:work makes it); say where the table is, "
            "such as postgresql://host/app",
            param_hint="--database-url",
        )
    choose_database(queue, database_url)
    return cast("SqlFailures", queue.store)


def _chosen(store: SqlFailures, ids: Sequence[str]) -> list[FailedJobRecord]:
    """The rows named by number or job id, oldest first."""
    numbers = [int(text) for text in ids if text.isascii() and text.isdigit() and len(text) < 19 and text[0] != "0"]
    jobs = [text for text in ids if text not in map(str, numbers)]
    return sorted(store.rows(numbers, jobs), key=lambda row: row.id)


def _plain(row: FailedJobRecord) -> dict[str, Any]:
    names = ("id", "job_type", "payload", "error", "attempts", "failed_at", "job_id", "traceback", "queue", "extra")
    return {name: getattr(row, name) for name in names}


def _tell(what: str, rows: Sequence[FailedJobRecord], asked: Sequence[str], as_json: bool) -> None:
    """Say what was done; exit with 1 if a job that was named is not there."""
    done = [row.id for row in rows]
    known = {str(row.id) for row in rows} | {row.job_id for row in rows}
    missing = (
        len([word for word in set(asked) if word not in known]) if what != "sent back" or list(asked) != ["all"] else 0
    )
    if as_json:
        click.echo(json_line({what.replace(" ", "_"): done, "missing": missing}))
    else:
        click.echo(f"{len(done):,} failed job{'' if len(done) == 1 else 's'} {what}.")
    if missing:
        click.echo(f"Error: {missing} of those named are not in the failure table; see kashvi queue:failed.", err=True)
        raise SystemExit(1)
