"""``kashvi spec:walk``: walk traces through the model."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from kashvi.cli.options import examples, json_option
from kashvi.errors import InvalidSetting
from kashvi.events import Event, JobEvent
from kashvi.text import json_line, visible

from ...traces import KINDS, NotATrace, read

if TYPE_CHECKING:
    from ...model.explore import Kind
    from ...model.walk import Walked

ROLLED_BACK = "ServerRolledBack"
PAUSES_LOST = ("restart", "failover", "server_back", "server_forward")
"""Faults after which a pause may be lost, or its times may not be those of claims."""
ENOUGH = 10
"""Rejected jobs."""


class Trace(NamedTuple):
    """A trace to walk."""

    name: str
    events: Sequence[Event]
    limit: int | None
    """The limit of attempts; None if unknown."""
    excused: Collection[str]
    set_back_s: float
    """The total seconds by which the server's clock was set back."""
    pauses: bool = True
    """False if the server may have lost one, or if its clock was set."""


@examples(
    """
kashvi spec:walk --seeds 300
kashvi spec:walk --workload poison --seeds 50 --faults kill --json
kashvi sim:run storm --seed 7 --trace t.jsonl && kashvi spec:walk t.jsonl
"""
)
@click.command("spec:walk")
@click.argument("traces", nargs=-1, type=click.Path(path_type=Path, dir_okay=False, exists=True), metavar="[TRACE]...")
@click.option("--seeds", type=click.IntRange(0), default=0, show_default=True, help="The number of simulated traces.")
@click.option("--first", type=click.IntRange(0), default=0, show_default=True, help="The first seed.")
@click.option("--workload", default="storm", show_default=True, help="A .toml file, or the name of one of kashvi's.")
@click.option("--faults", default="all", show_default=True, metavar="none|all|NAME,…", help="Faults to simulate.")
@json_option
def walk_command(traces: tuple[Path, ...], seeds: int, first: int, workload: str, faults: str, as_json: bool) -> None:
    """Walk traces through the model of the queue (spec/model.md): files of events, or simulated ones.

    It ends with the trace in which the tenth job is rejected.

    Job by job, each event must be a step that the model allows. Jobs whose data the server lost with its last second,
    and jobs sent twice under one id, are excused and counted. A file does not tell which jobs those are, so all its
    jobs are excused.

    Exit codes: 0 all are accepted, 1 one is not, 2 wrong usage.
    """
    from ...model.walk import FEW, LOOK_MAX, CannotWalk, Rejected, Walked, walk

    if not traces and not seeds:
        raise click.UsageError("nothing to walk: pass a TRACE or --seeds")
    total, count = Walked(), 0
    failing: list[tuple[str, Rejected]] = []
    try:
        for trace in chain(_files(traces), _simulated(range(first, first + seeds), workload, faults)):
            try:
                walked = walk(*trace[1:4], FEW if failing else LOOK_MAX, trace.set_back_s, trace.pauses)
            except CannotWalk as error:
                raise click.BadParameter(f"{trace.name}: {error}", param_hint="TRACE") from error
            total.add(walked)
            count += 1
            failing += [(trace.name, rejected) for rejected in walked.rejected]
            if len(failing) >= ENOUGH:
                break
    except InvalidSetting as error:
        raise click.UsageError(str(error)) from error
    never = [str(kind) for kind in _all_kinds() if kind not in total.kinds]
    if as_json:
        found = {
            "traces": count,
            "jobs": total.jobs,
            "excused": total.excused,
            "rejected": [{"trace": name, **rejected._asdict()} for name, rejected in failing],
            "kinds": {str(kind): n for kind, n in sorted(total.kinds.items())},
            "never_taken": never,
        }
        click.echo(json_line(found))
    else:
        _show(total, count, never)
        for name, rejected in failing:
            told = visible(f"REJECTED  {name}: {rejected.job_id}: {rejected.why}")
            click.secho(f"\n{told}", fg="red", bold=True)
    if failing:
        sys.exit(1)


def _files(traces: tuple[Path, ...]) -> Iterator[Trace]:
    from kashvi_sim.world.faults import SET_BACK_S
    from kashvi_sim.world.trace import FaultStruck

    for path in traces:
        passed_over: Counter[str] = Counter()
        try:
            with path.open("rb") as lines:
                told = list(read(lines, passed_over, [], {**KINDS, FaultStruck.__name__: FaultStruck}))
        except NotATrace as error:
            raise click.BadParameter(f"{path}: {error}", param_hint="TRACE") from error
        struck = Counter(event.fault for event in told if isinstance(event, FaultStruck))
        found = [event for event in told if not isinstance(event, FaultStruck)]
        if not found:
            raise click.BadParameter(f"{path} holds no event of kashvi", param_hint="TRACE")
        ids_are_unsure = passed_over[ROLLED_BACK] or struck["repeated_id"]
        excused = {event.job_id for event in found if isinstance(event, JobEvent)} if ids_are_unsure else ()
        pauses = not any(struck[fault] for fault in PAUSES_LOST)
        yield Trace(str(path), found, None, excused, SET_BACK_S * struck["server_back"], pauses)


def _simulated(seeds: range, workload: str, faults: str) -> Iterator[Trace]:
    from kashvi_sim.commands.options import workload_named
    from kashvi_sim.runs.play import play

    script = workload_named(workload)
    for seed in seeds:
        world = play(script, seed=seed, faults=faults).world
        excused = {*world.rolled_back, *world.others.repeated}
        pauses = not any(world.struck[fault] for fault in PAUSES_LOST)
        yield Trace(f"seed {seed}", world.events, script.workers.max_attempts, excused, world.set_back_s, pauses)


def _all_kinds() -> list[Kind]:
    """All kinds of steps that concern a single job."""
    from ...model.explore import Scope, explore

    scopes = Scope(2, 1, 2, 2, 3), Scope(2, 1, 2, 1, 3, pauses=1, cancels=1)
    quits = explore(Scope(1, 1, 0, cancels=1), reduce=False).kinds
    return sorted({*quits, *(kind for scope in scopes for kind in explore(scope).kinds)})


def _show(total: Walked, count: int, never: list[str]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("step", "taken", box=None, header_style="bold", pad_edge=False)
    table.columns[1].justify = "right"
    for kind, n in sorted(total.kinds.items()):
        table.add_row(str(kind), f"{n:,}")
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    click.echo(f"\nnever taken: {', '.join(never) or 'none'}")
    accepted = total.jobs - total.excused - len(total.rejected)
    click.echo(f"{count:,} traces, {total.jobs:,} jobs: {accepted:,} accepted, {total.excused:,} excused")
