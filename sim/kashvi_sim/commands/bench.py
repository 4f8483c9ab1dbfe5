"""``kashvi sim:bench``: the simulator's speed on this machine. Figures, not a test."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import click

from kashvi.cli.options import examples, json_option
from kashvi.text import json_line

from .options import workload_named

if TYPE_CHECKING:
    from ..runs.play import Played
    from ..runs.workload import Workload


class Figure(NamedTuple):
    what: str
    value: float
    unit: str


@examples("kashvi sim:bench\nkashvi sim:bench --json")
@click.command("sim:bench")
@click.option("--jobs", type=click.IntRange(100), default=20_000, show_default=True)
@json_option
def bench(jobs: int, as_json: bool) -> None:
    """Measure the simulator on this machine, one core."""
    figures = [_switches(), *_events(jobs), _direct(jobs), *_seeds(), *_both(), _fakeredis(max(jobs // 20, 100))]
    if as_json:
        click.echo(json_line({figure.what: round(figure.value, 1) for figure in figures}))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table("what", "a second", box=box.SIMPLE)
    table.columns[1].justify = "right"
    for figure in figures:
        table.add_row(figure.what, f"{figure.value:,.0f} {figure.unit}")
    Console().print(table)


def _timed(run: Callable[[], Played]) -> tuple[Played, float]:
    began = time.perf_counter()
    played = run()
    return played, time.perf_counter() - began


def _switches() -> Figure:
    from ..world.kernel import Kernel

    kernel, rounds = Kernel(), 100_000

    def turn() -> None:
        for _ in range(rounds):
            kernel.sleep(1.0)

    for _ in range(2):
        kernel.spawn(turn)
    began = time.perf_counter()
    kernel.run()
    return Figure("task switches", 2 * rounds / (time.perf_counter() - began), "switches")


def _steady(jobs: int) -> Workload:
    from ..runs.arrivals import AtOnce
    from ..runs.durations import Fixed
    from ..runs.workload import Crew, JobKind, Workload

    return Workload(
        name="bench",
        about="",
        arrivals=AtOnce(jobs=jobs),
        job=(JobKind(type="jobs.Work", takes=Fixed(seconds=0.01)),),
        workers=Crew(processes=2, threads=4),
    )


def _events(jobs: int) -> list[Figure]:
    """Job events: dispatched, started, ended, settled."""
    from ..runs.play import play

    played, wall_s = _timed(lambda: play(_steady(jobs), seed=1))
    began = time.perf_counter()
    assert played.trace_sha256
    hashing_s = time.perf_counter() - began
    count = len(played.world.events)
    return [
        Figure("job events, dispatch to judgement", count / wall_s, "events"),
        Figure("job events, with the hash of the trace", count / (wall_s + hashing_s), "events"),
        Figure("jobs on the memory driver", jobs / wall_s, "jobs"),
    ]


def _direct(jobs: int) -> Figure:
    from ..runs.play import play

    _, wall_s = _timed(lambda: play(_steady(jobs), seed=1, direct=True))
    return Figure("jobs on the memory driver, by the direct shell", jobs / wall_s, "jobs")


def _both() -> list[Figure]:
    """Seeds with the faults that both shells take, in alternation."""
    from ..runs.play import INSIDE, play
    from ..world.faults import RULES

    storm, seeds, wall_s = workload_named("storm"), 40, [0.0, 0.0]
    faults = ",".join(rule.name for rule in RULES if rule.name not in INSIDE)
    for seed in range(seeds):
        for direct in (False, True):
            _, took_s = _timed(partial(play, storm, seed=seed, faults=faults, direct=direct))
            wall_s[direct] += took_s
    return [
        Figure("storm seeds in greenlets", seeds / wall_s[False], "seeds"),
        Figure("storm seeds by the direct shell", seeds / wall_s[True], "seeds"),
    ]


def _seeds() -> list[Figure]:
    from ..runs.play import play

    storm, seeds = workload_named("storm"), 40
    began = time.perf_counter()
    struck = sum(play(storm, seed=seed, faults="all").world.struck.total() for seed in range(seeds))
    wall_s = time.perf_counter() - began
    return [
        Figure("storm seeds with all faults", seeds / wall_s, "seeds"),
        Figure("faults", struck / wall_s, "faults"),
    ]


def _fakeredis(jobs: int) -> Figure:
    from ..runs.play import play
    from ..world.connect import connect

    with connect("fakeredis") as place:
        _, wall_s = _timed(lambda: play(_steady(jobs), seed=1, **place))
    return Figure("jobs on fakeredis", jobs / wall_s, "jobs")
