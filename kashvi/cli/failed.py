"""``queue:failed``, ``queue:retry``, ``queue:forget``, ``queue:flush``: the failure table from the command line."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..delays import moment
from ..errors import RedisRequired
from ..ports import Retrying
from ..queue import Queue
from ..retrying import remove, send_back
from ..runtime import SystemRuntime
from ..text import json_line, visible
from .listing import print_groups, print_json, print_lines, print_whole, wanted
from .options import (
    DATABASE_FILE,
    a_queue,
    app_option,
    choose_driver,
    database_option,
    examples,
    failure_table,
    json_option,
    load_app,
    redis_option,
)
from .output import terminal_width

if TYPE_CHECKING:
    from ..failures.sql import SqlFailures
    from ..failures.table import FailedJobRecord

SHOWN = 50


@examples(
    """
kashvi queue:failed
kashvi queue:failed 12
kashvi queue:failed --type jobs.Email --error timeout --since 2h
kashvi queue:failed --queue payments
kashvi queue:failed --group
kashvi queue:failed --database-url postgresql://localhost/app --json
"""
)
@click.command("queue:failed")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--type", "job_type", help="Only jobs of this type.")
@click.option("--error", help="Only jobs whose error contains this text.")
@click.option(
    "--since",
    metavar="TIME",
    help="Only jobs that failed since then: 30m, 2h or 7d ago, or a time such as 2026-11-24T12:00 (UTC).",
)
@click.option("-q", "--queue", "name", callback=a_queue, metavar="NAME", help="Only jobs of this queue.")
@click.option("--group", is_flag=True, help="Count how often each type failed with each error.")
@app_option
@database_option
@json_option
def failed(
    ids: tuple[str, ...],
    job_type: str | None,
    error: str | None,
    since: str | None,
    name: str | None,
    group: bool,
    app: str | None,
    database_url: str | None,
    as_json: bool,
) -> None:
    """List failed jobs, newest first; with an ID, show all of one.

    A terminal gets the newest 50, a line each; a pipe gets all, with whole values. Times are UTC.
    """
    try:
        after = None if since is None else moment(since, SystemRuntime().now())
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f"{since!r} is neither a duration such as 30m, 2h or 7d nor a time", param_hint="--since"
        ) from None
    store = _store(load_app(app), database_url)
    these = _names(ids) if ids else None
    pages = store.pages(these, newest_first=True, wanted=wanted(job_type, error, after, name))
    if group:
        print_groups(pages, as_json)
    elif as_json:
        print_json(pages)
    elif ids:
        _show_each(pages, ids)
    else:
        _list(store, pages, filtered=(job_type, error, since, name) != (None, None, None, None))


def _show_each(pages: Iterable[Sequence[FailedJobRecord]], ids: Sequence[str]) -> None:
    known: set[str | None] = set()
    for row in chain.from_iterable(pages):
        if known:
            click.echo()
        print_whole(row)
        known |= {str(row.id), row.job_id}
    _tell_missing(len(set(ids) - known))


def _list(store: SqlFailures, pages: Iterable[list[FailedJobRecord]], *, filtered: bool) -> None:
    rows = chain.from_iterable(pages)
    if (newest := next(rows, None)) is None:
        click.echo(f"No failed jobs {'like that ' if filtered else ''}in {store!r}.")
        return
    terminal = terminal_width() is not None
    print_lines(chain([newest], islice(rows, SHOWN - 1) if terminal else rows))
    if terminal and (more := next(rows, None)) is not None:
        count = "" if filtered else f" of {store.count():,}"
        click.echo(f"The newest {SHOWN}{count}; | cat shows all, queue:failed {more.id} all of one.")


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
    """Send failed jobs back, each to its own queue, as new jobs with all their attempts.

    Idempotent: repeated after an interruption, it loses no job and sends none twice. ID is a row's number or the job's
    id.
    """
    queue = load_app(app)
    choose_driver(queue, redis_url)
    driver = queue.driver if queue.driver_chosen else None
    if not isinstance(driver, Retrying):
        raise RedisRequired("queue:retry")
    store = _store(queue, database_url)
    sent, known, elsewhere = array("q"), set[str | None](), Counter[str]()
    everything = list(ids) == ["all"]
    held: dict[int, str] = {}
    for page in store.pages(None if everything else _names(ids)):
        done = send_back(store, driver, page)
        sent.extend(done.sent)
        held |= done.held
        elsewhere.update(done.elsewhere)
        if not everything:
            known |= {name for row in page for name in (str(row.id), row.job_id)}
    _tell("sent back", sent, 0 if everything else len(set(ids) - known), as_json)
    for prefix, count in elsewhere.items():
        click.echo(
            f"{'Note' if everything else 'Error'}: {count:,} of the queue {visible(prefix)!r} not sent back: "
            f"this is {driver.prefix!r}; pass the app of that queue with --app.",
            err=True,
        )
    for row_id, holder in held.items():
        click.echo(
            f"{'Note' if everything else 'Error'}: {row_id} not sent back: the job {visible(holder)} has its key.",
            err=True,
        )
    if (elsewhere or held) and not everything:
        raise SystemExit(1)


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
    gone, known = array("q"), set[str | None]()
    for page in store.pages(_names(ids)):
        removed = remove(store, page)
        gone.extend(row.id for row in page if row.id in removed)
        known |= {name for row in page if row.id in removed for name in (str(row.id), row.job_id)}
    _tell("deleted", gone, len(set(ids) - known), as_json)


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


def _store(queue: Queue, database_url: str | None) -> SqlFailures:
    """The failure table: the app's choice, else the option or its variable, else the default file if it exists."""
    if not queue.database_chosen and not database_url and not Path(DATABASE_FILE).exists():
        raise click.BadParameter(
            f"there is no {DATABASE_FILE} in this directory (queue:work makes it); pass the table's URL, "
            "such as postgresql://host/app",
            param_hint="--database-url",
        )
    from ..failures.table import TABLE

    store = failure_table(queue, database_url)
    if not store.exists():
        raise click.BadParameter(f"{store!r} has no table {TABLE} (queue:work makes it)", param_hint="--database-url")
    return store


def _names(ids: Sequence[str]) -> tuple[list[int], list[str]]:
    """The typed IDs, split into row numbers and job ids."""
    numbers = [int(text) for text in ids if text.isascii() and text.isdigit() and len(text) < 19 and text[0] != "0"]
    return numbers, [text for text in ids if text not in set(map(str, numbers))]


def _tell(what: str, done: Sequence[int], missing: int, as_json: bool) -> None:
    """Print how many were done; exit with 1 if a named job is missing."""
    if as_json:
        click.echo(json_line({what.replace(" ", "_"): list(done), "missing": missing}))
    else:
        click.echo(f"{len(done):,} failed job{'' if len(done) == 1 else 's'} {what}.")
    _tell_missing(missing)


def _tell_missing(missing: int) -> None:
    if missing:
        click.echo(f"Error: {missing} of those named are not in the failure table; see kashvi queue:failed.", err=True)
        raise SystemExit(1)
