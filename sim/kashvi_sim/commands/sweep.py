"""``kashvi sim:sweep``: many seeds over all cores; ``kashvi sim:faults``: the list of faults."""

from __future__ import annotations

import shlex
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from kashvi.cli.options import examples, json_option
from kashvi.text import json_line, visible

from . import options
from .options import driver_option, faults_option, redis_option, workload_named

if TYPE_CHECKING:
    from ..runs.sweep import Swept

THIN = 3
"""Exit code of a sweep without violations that left faults, situations or clauses out."""


@examples(
    """
kashvi sim:sweep --seeds 500 --faults all
kashvi sim:sweep --seeds 10000 --state sweep.jsonl
kashvi sim:sweep --seeds 300 --driver fakeredis --json
"""
)
@click.command("sim:sweep")
@click.option("--workload", default="storm", show_default=True, help="A .toml file, or the name of one of kashvi's.")
@click.option("--seeds", type=click.IntRange(1), default=500, show_default=True)
@click.option("--first", type=click.IntRange(0), default=0, show_default=True, help="The first seed.")
@driver_option
@redis_option
@faults_option("all")
@click.option("--cores", type=click.IntRange(1), help="Processes to use.  [default: one for each core]")
@click.option(
    "--state", type=click.Path(path_type=Path, dir_okay=False), help="Save finished seeds in this file, to go on later."
)
@json_option
def sweep_command(
    workload: str,
    seeds: int,
    first: int,
    driver: str,
    redis_url: str | None,
    faults: str,
    cores: int | None,
    state: Path | None,
    as_json: bool,
) -> None:
    """Run many seeds, faults first and then quiet, and judge every event.

    A failing seed is shrunk to the few choices that matter and printed as a token for sim:run.
    Exit codes: 0 all promises kept, 1 one is broken, 2 wrong usage, 3 none is broken, but a fault never struck, a
    situation never occurred or a clause was never judged, so that it proves little: run more seeds.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from ..runs.sweep import Job, Swept, sweep
    from ..world.faults import rules_named

    rules_named(faults)
    job = Job(workload_named(workload), driver, faults, redis_url, options.DIRECT)
    began = time.perf_counter()
    swept = Swept()
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=Console(stderr=True), disable=as_json,
    )  # fmt: skip
    with bar:
        task = bar.add_task("seeds", total=seeds)
        for block in sweep(job, first, seeds, state=state, cores=cores):
            swept.add(block)
            bar.update(task, advance=block.seeds, description=f"seeds, {len(swept.failing)} failing")
    wall_s = time.perf_counter() - began
    gaps = swept.missing(faults)
    place = "" if driver == "memory" else f" --driver {driver}"
    again = f"{options.KASHVI} sim:run {shlex.quote(workload)} --faults {faults}{place} --token "
    if as_json:
        click.echo(json_line(_plain(swept, driver, faults, wall_s, gaps, again)))
    else:
        _show(swept, wall_s, gaps, again)
    sys.exit(1 if swept.failing else THIN if gaps else 0)


@examples("kashvi sim:faults")
@click.command("sim:faults")
@json_option
def faults_command(as_json: bool) -> None:
    """List the faults with their places, effects and excuses."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from ..world.faults import RULES

    rows = [
        (rule.name, rule.about, sorted(rule.calls), list(rule.moments), rule.excuses, list(rule.drivers))
        for rule in RULES
    ]
    if as_json:
        names = ("name", "about", "calls", "moments", "excuses", "drivers")
        click.echo(json_line([dict(zip(names, row, strict=True)) for row in rows]))
        return
    table = Table("fault", "what happens", "at", "drivers", "excuses", box=box.SIMPLE)
    for name, about, calls, moments, excuses, drivers in rows:
        where = f"{' and '.join(moments)} {', '.join(calls)}"
        table.add_row(name, about, where, ", ".join(drivers), excuses or "nothing")
    Console().print(table)


def _plain(swept: Swept, driver: str, faults: str, wall_s: float, gaps: list[str], again: str) -> dict[str, object]:
    return {
        "seeds": swept.seeds,
        "driver": driver,
        "faults": faults,
        "jobs": swept.jobs,
        "failing": [msgspec.to_builtins(one) | {"repeat": again + one.token} for one in swept.failing],
        "struck": dict(sorted(swept.struck.items())),
        "seen": dict(sorted(swept.seen.items())),
        "judged": _by_clause(swept.judged),
        "excused": dict(sorted(swept.excused.items())),
        "missing": gaps,
        "wall_s": round(wall_s, 3),
        "seeds_per_s": round(swept.seeds / wall_s, 1),
    }


def _by_clause(judged: Counter[str]) -> dict[str, int]:
    from kashvi_spec.clauses import ids_by_predicate

    ids = ids_by_predicate()
    return {ids[predicate]: times for predicate, times in sorted(judged.items(), key=lambda one: ids[one[0]])}


def _show(swept: Swept, wall_s: float, gaps: list[str], again: str) -> None:
    click.echo(f"{swept.seeds:,} seeds, {swept.jobs:,} jobs in {wall_s:,.1f} s ({swept.seeds / wall_s:,.1f} seeds/s).")
    for title, counts in (
        ("struck", swept.struck),
        ("seen", swept.seen),
        ("clauses judged", Counter(_by_clause(swept.judged))),
        ("excused", swept.excused),
    ):
        _counts(title, counts)
    for one in swept.failing:
        click.secho("\n" + visible(f"BROKEN in seed {one.seed}: {one.why}"), fg="red", bold=True)
        click.echo(f"  {one.choices} choices that matter: {again}{one.token}")
    for gap in gaps:
        click.secho(f"  {gap}", fg="yellow")
    if not swept.failing:
        click.secho(
            "  every promise kept" + (", but too few situations occurred to prove much" if gaps else ""), fg="green"
        )


def _counts(title: str, counts: Counter[str]) -> None:
    from rich.columns import Columns
    from rich.console import Console

    if counts:
        click.secho(f"\n{title}", bold=True)
        Console().print(Columns([f"{name} {n:,}" for name, n in sorted(counts.items())], padding=(0, 3)))
