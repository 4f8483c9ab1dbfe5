"""``kashvi sim:explore``: all possible runs of a small scope, through the real code."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click
import msgspec

from kashvi.cli.options import examples, json_option
from kashvi.text import json_line, visible

from . import options

if TYPE_CHECKING:
    from ..search import Played, Scope, Searched

LIMITED = 3
"""Exit code of a search that did not reach its end."""


@examples(
    """
kashvi sim:explore --workers 2 --jobs 2 --crashes 1
kashvi sim:explore --workers 1 --threads 2 --jobs 3 --crashes 0
kashvi sim:explore --workers 1 --jobs 2 --crashes 0 --lost 1 --delayed 1 --long
kashvi sim:explore --workers 1 --threads 2 --crashes 0 --stuck --json
kashvi sim:explore --workers 2 --jobs 1 --token e1-…
"""
)
@click.command("sim:explore")
@click.option("--workers", type=click.IntRange(1, 9), default=2, show_default=True, help="Processes.")
@click.option("--threads", type=click.IntRange(1, 4), default=1, show_default=True, help="Of each worker.")
@click.option("--jobs", type=click.IntRange(1, 9), default=2, show_default=True)
@click.option("--max-retry", type=click.IntRange(1, 9), default=2, show_default=True, help="Attempts in all.")
@click.option(
    "--crashes", type=click.IntRange(0), default=1, show_default=True, help="The most processes that are killed."
)
@click.option(
    "--lost", type=click.IntRange(0), default=0, show_default=True, help="The most requests and replies that are lost."
)
@click.option("--delayed", type=click.IntRange(0, 9), default=0, show_default=True, help="So many jobs have a delay.")
@click.option("--long", is_flag=True, help="Any attempt may take longer than a lease.")
@click.option(
    "--follow-ups", type=click.IntRange(0, 3), default=0, show_default=True, help="Follow-ups of the first job."
)
@click.option("--stuck", is_flag=True, help="The first job hangs, under a time limit.")
@click.option("--limit", type=click.IntRange(1), default=200_000, show_default=True, help="The most states.")
@click.option("--token", help="Play one run of this scope instead, as printed by a search.")
@json_option
def explore_command(
    workers: int,
    threads: int,
    jobs: int,
    max_retry: int,
    crashes: int,
    lost: int,
    delayed: int,
    long: bool,
    follow_ups: int,
    stuck: bool,
    limit: int,
    token: str | None,
    as_json: bool,
) -> None:
    """Search all possible runs: each order of steps, each outcome of an attempt, each crash, each lost message.

    It ends with the first violation, which has the fewest steps, and prints a token that plays it again.
    Exit codes: 0 searched to the end and every promise kept, 1 one is broken, 2 wrong usage, 3 the limit was reached
    first, so that nothing is proven: reduce the scope, or raise the limit.
    """
    from rich.console import Console

    from ..search import Scope, play, search
    from ..search.search import path_of

    if delayed > jobs:
        raise click.UsageError(f"--delayed {delayed} is more than there are jobs: {jobs}")
    scope = Scope(workers, threads, jobs, max_retry, crashes, lost, delayed, long, follow_ups=follow_ups)
    if stuck:
        scope = msgspec.structs.replace(scope, hangs=True, timeout_s=0.25, takes_s=1.0)
    if token is not None:
        played = play(scope, path_of(token))
        _show_run(played, scope, as_json)
        sys.exit(1 if played.broken else 0)
    began = time.perf_counter()
    with Console(stderr=True, quiet=as_json).status("searching") as status:
        searched = search(scope, limit, lambda states: status.update(f"{states:,} states"))
    wall_s = time.perf_counter() - began
    if as_json:
        click.echo(json_line(_plain(searched, limit, wall_s)))
    else:
        _show(searched, limit, wall_s)
    sys.exit(1 if searched.broken else 0 if searched.exhausted else LIMITED)


def _repeat(searched: Searched) -> str:
    from ..search.search import token_of

    scope, given = searched.scope, []
    for option, value, usual in (
        ("workers", scope.workers, 2), ("threads", scope.threads, 1), ("jobs", scope.jobs, 2),
        ("max-retry", scope.attempts, 2), ("crashes", scope.crashes, 1), ("lost", scope.lost, 0),
        ("delayed", scope.delayed, 0), ("follow-ups", scope.follow_ups, 0),
    ):  # fmt: skip
        if value != usual:
            given.append(f" --{option} {value}")
    flags = f"{' --long' if scope.long else ''}{' --stuck' if scope.hangs else ''}"
    return f"{options.KASHVI} sim:explore{''.join(given)}{flags} --token {token_of(searched.path)}"


def _plain(searched: Searched, limit: int, wall_s: float) -> dict[str, object]:
    broken = searched.broken
    return {
        "scope": msgspec.to_builtins(searched.scope),
        "states": searched.states,
        "steps": searched.steps,
        "exhausted": searched.exhausted,
        "limit": limit,
        "violations": [broken._asdict() | {"repeat": _repeat(searched)}] if broken else [],
        "elapsed_s": round(wall_s, 3),
        "states_per_s": round(searched.states / wall_s, 1),
    }


def _show(searched: Searched, limit: int, wall_s: float) -> None:
    click.echo(f"{searched.states:,} states, {searched.steps:,} moves between them, {wall_s:,.2f} s")
    if searched.broken:
        _show_broken(searched.broken.predicate, searched.broken.job_id, searched.broken.why)
        click.echo(f"  to see it: {_repeat(searched)}")
    elif searched.exhausted:
        click.secho("  every promise kept in all of them", fg="green")
    else:
        click.secho(f"  not proven: {limit:,} states were not enough; search less, or raise --limit", fg="yellow")


def _show_broken(predicate: str, job_id: str, why: str) -> None:
    told = f"job {job_id} {why}" if job_id else why
    click.secho(visible(f"BROKEN  {predicate}: {told}"), fg="red", bold=True)


def _show_run(played: Played, scope: Scope, as_json: bool) -> None:
    """The steps, each with the events that it told."""
    from ..search.search import in_world_time
    from ..show.timeline import Timeline

    events = in_world_time(played.events)
    if as_json:
        told = played.broken._asdict() if played.broken else None
        click.echo(json_line({"scope": msgspec.to_builtins(scope), "steps": [name for _, name in played.steps],
                              "events": [msgspec.to_builtins(event) for event in events], "broken": told}))  # fmt: skip
        return
    timeline = Timeline({f"p{n}": f"w{n}" for n in range(len(events))})
    for _, line in timeline.lines([event.at for event in events], events):
        click.echo(line)
    click.echo(f"\n{len(played.steps)} steps, the last: {visible(played.steps[-1][1]) if played.steps else 'none'}")
    if played.broken:
        _show_broken(*played.broken)
    else:
        click.secho("  every promise kept", fg="green")
