"""``kashvi sim:explore``: all possible runs of a small scope, through the real code."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click
import msgspec

from kashvi.cli.options import examples, json_option
from kashvi.text import json_line, visible

from ..search.scope import ATTEMPTS_MAX, JOBS_MAX, WORKERS_MAX
from . import options
from .options import driver_option, redis_option

if TYPE_CHECKING:
    from ..search.explore import Explored
    from ..search.search import Broken
    from ..search.values import Searched

LIMITED = 3
"""Exit code of a search that did not reach its end."""


@examples(
    """
kashvi sim:explore --workers 2 --jobs 2 --crashes 1
kashvi sim:explore --workers 3 --jobs 2 --crashes 0 --max-retry 3
kashvi sim:explore --workers 1 --threads 2 --jobs 3 --crashes 0
kashvi sim:explore --driver fakeredis --json
"""
)
@click.command("sim:explore")
@click.option("--workers", type=click.IntRange(1, WORKERS_MAX), default=2, show_default=True, help="Processes.")
@click.option("--jobs", type=click.IntRange(1, JOBS_MAX), default=2, show_default=True)
@click.option(
    "--max-retry", type=click.IntRange(1, ATTEMPTS_MAX), default=2, show_default=True, help="Attempts in all."
)
@click.option(
    "--crashes", type=click.IntRange(0), default=1, show_default=True, help="The most processes that are killed."
)
@click.option("--threads", type=click.IntRange(1, 4), default=1, show_default=True, help="Of each worker.")
@click.option(
    "--follow-ups",
    type=click.IntRange(0, 3),
    default=0,
    show_default=True,
    help="Follow-ups of the first job; needs --threads.",
)
@click.option("--stuck", is_flag=True, help="The first job hangs, under a time limit; needs --threads.")
@driver_option
@redis_option
@click.option(
    "--limit", type=click.IntRange(1), default=200_000, show_default=True, help="The most runs; of threads, states."
)
@json_option
def explore_command(
    workers: int,
    jobs: int,
    max_retry: int,
    crashes: int,
    threads: int,
    follow_ups: int,
    stuck: bool,
    driver: str,
    redis_url: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """Search all possible runs: each order of the workers' steps, each outcome of an attempt, each crash.

    It ends with the first violation, shrunk to the few choices that matter and printed as a token for sim:run.
    Exit codes: 0 searched to the end and every promise kept, 1 one is broken, 2 wrong usage, 3 the limit was reached
    first, so that nothing is proven: reduce the scope, or raise the limit.

    With several threads it searches states instead of runs, in memory, and judges what the server has done: each job
    is settled for good once, after its attempts, and can always end. It prints the steps that break this.
    """
    from rich.console import Console

    if threads > 1:
        if driver != "memory":
            raise click.UsageError("several threads are searched in memory: leave --threads or --driver out")
        from ..search import values

        scope = values.Scope(workers, threads, jobs, max_retry, crashes, follow_ups=follow_ups)
        if stuck:
            scope = msgspec.structs.replace(scope, hangs=True, timeout_s=0.25, takes_s=1.0)
        searched = values.search(scope, limit)
        if as_json:
            click.echo(json_line(searched._asdict() | {"scope": msgspec.to_builtins(searched.scope), "limit": limit}))
        else:
            _show_steps(searched, limit)
        sys.exit(1 if searched.broken else 0 if searched.exhausted else LIMITED)

    if follow_ups or stuck:
        raise click.UsageError("--follow-ups and --stuck are searched with several threads: add --threads 2")
    from ..search.explore import explore
    from ..search.scope import Scope
    from ..search.search import Search
    from ..world.connect import connect

    with (
        connect(driver, redis_url) as place,
        Console(stderr=True, quiet=as_json).status("searching") as status,
    ):

        def look(search: Search) -> None:
            status.update(f"{search.executions:,} executions, {search.states:,} states")

        explored = explore(Scope(workers, jobs, max_retry, crashes), place, limit, look)
    if as_json:
        click.echo(json_line(_plain(explored, driver, limit)))
    else:
        _show(explored, driver, limit)
    sys.exit(1 if explored.broken else 0 if explored.exhausted else LIMITED)


def _show_steps(searched: Searched, limit: int) -> None:
    click.echo(f"{searched.states:,} states, {searched.steps:,} steps between them")
    if searched.broken:
        click.secho(visible(f"BROKEN  {searched.broken}"), fg="red", bold=True)
        for number, step in enumerate(searched.path, 1):
            click.echo(visible(f"{number:>5}  {step}"))
    elif searched.exhausted:
        click.secho("  every promise kept in all of them", fg="green")
    else:
        click.secho(f"  not proven: {limit:,} states were not enough; search less, or raise --limit", fg="yellow")


def _repeat(explored: Explored, broken: Broken, driver: str) -> str:
    from ..world.tape import token_of

    place = "" if driver == "memory" else f" --driver {driver}"
    return f"{options.KASHVI} sim:run {explored.scope.name} --faults kill{place} --token {token_of(broken.choices)}"


def _plain(explored: Explored, driver: str, limit: int) -> dict[str, object]:
    from ..world.tape import token_of

    scope = explored.scope
    return {
        "workers": scope.workers,
        "jobs": scope.jobs,
        "max_retry": scope.attempts,
        "crashes": scope.crashes,
        "driver": driver,
        "executions": explored.executions,
        "states": explored.states,
        "exhausted": explored.exhausted,
        "limit": limit,
        "violations": [
            violation._asdict()
            | {
                "choices": len(broken.choices),
                "token": token_of(broken.choices),
                "repeat": _repeat(explored, broken, driver),
            }
            for broken in explored.broken
            for violation in broken.violations
        ],
        "elapsed_s": round(explored.wall_s, 3),
        "states_per_s": round(explored.states / explored.wall_s, 1),
    }


def _show(explored: Explored, driver: str, limit: int) -> None:
    from rich.console import Console
    from rich.table import Table

    scope = explored.scope
    table = Table(show_header=False, box=None)
    for row in (
        ("scope", f"{scope.workers} workers, {scope.jobs} jobs, {scope.attempts} attempts, {scope.crashes} crashes"),
        ("driver", driver),
        ("executions", f"{explored.executions:,}"),
        ("states", f"{explored.states:,}, {explored.states / explored.wall_s:,.0f}/s"),
        ("exhausted", "yes" if explored.exhausted else "no"),
        ("time", f"{explored.wall_s:,.2f} s"),
    ):
        table.add_row(*row)
    Console().print(table)
    for broken in explored.broken:
        for violation in broken.violations:
            told = visible(f"BROKEN  {violation.predicate}: {violation.job_id} {violation.why}")
            click.secho(f"\n{told}", fg="red", bold=True)
        click.echo(f"  {len(broken.choices)} choices that matter: {_repeat(explored, broken, driver)}")
    if explored.exhausted:
        click.secho("  every promise kept in all runs", fg="green")
    elif not explored.broken:
        click.secho(f"  not proven: {limit:,} executions were not enough; search less, or raise --limit", fg="yellow")
