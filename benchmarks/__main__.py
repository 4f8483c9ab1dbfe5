"""``python -m benchmarks``: install the peers, run the same work on each in alternation, write the report."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import click
from rich.console import Console

from benchmarks import measure, peers, report, work
from benchmarks.install import BUILD, install
from benchmarks.server import Server
from benchmarks.subject import QUICK, Sizes, Subject


@click.command()
@click.option("--quick", is_flag=True, help="2,000 jobs instead of 20,000, and less of everything else.")
@click.option("--only", multiple=True, type=click.Choice(peers.NAMES), help="These beside kashvi; may be repeated.")
@click.option("--part", multiple=True, type=click.Choice([p.__name__ for p in measure.PARTS]), help="These parts only.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="How often all take their turn.")
@click.option("--limit", type=click.FloatRange(1), help="Seconds after which a slow peer is judged by what it did.")
@click.option("--json", "as_json", is_flag=True, help="Print every single figure as JSON; write no report.")
@click.option("--out", type=click.Path(path_type=Path), default=Path(__file__).parent, help="Where the report goes.")
def main(
    quick: bool,
    only: tuple[str, ...],
    part: tuple[str, ...],
    rounds: int,
    limit: float | None,
    as_json: bool,
    out: Path,
) -> None:
    """Measure kashvi beside its peers."""
    console = Console(stderr=True)
    BUILD.mkdir(parents=True, exist_ok=True)
    sizes = QUICK if quick else Sizes()
    sizes = replace(sizes, limit_s=limit or sizes.limit_s)
    started = work.slots(BUILD / "started")
    names = [name for name in peers.NAMES if not only or name in ("kashvi", *only)]
    result = report.Result(sizes, rounds)
    with Server(BUILD) as server:
        result.server = server.version
        subjects = []
        for name in names:
            peer = peers.load(name).PEER
            at = install(name, peer)
            result.peers[name] = (peer, at)
            console.print(f"{peer.title}: {at.version or at.why_not}")
            if not at.why_not:
                subjects.append(Subject(name, peer, at, server, sizes, started))
        for turn in range(rounds):
            for measured in measure.PARTS:
                if part and measured.__name__ not in part:
                    continue
                for subject in subjects[turn % len(subjects) :] + subjects[: turn % len(subjects)]:
                    _measure(measured, subject, result, console, turn)
            result.memory.append(measure.memory_driver(sizes.jobs))
    if as_json:
        click.echo(json.dumps(result.plain()))
        return
    Console().print(report.table(result))
    report.write(result, out)


def _measure(measured: measure.Part, subject: Subject, result: report.Result, console: Console, turn: int) -> None:
    """What fails is said, and its place in the table stays empty."""
    began = time.monotonic()
    try:
        figures = measured(subject)
    except Exception as error:
        result.failed[subject.name, measured.__name__] = f"{type(error).__name__}: {error}"
        console.print(f"[red]{subject.name} {measured.__name__}: {error!r}, see {BUILD / subject.name}.log")
        return
    for name, figure in figures.items():
        result.figures[subject.name][name].append(figure)
    shown = ", ".join(f"{name} {figure:,.2f}" for name, figure in figures.items())
    console.print(f"{turn + 1} {subject.name} {measured.__name__} ({time.monotonic() - began:.0f} s): {shown}")


if __name__ == "__main__":
    main(prog_name="benchmarks")
