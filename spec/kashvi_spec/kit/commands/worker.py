"""``kashvi spec:worker``: test a worker, in any language, against the clauses."""

from __future__ import annotations

import math
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kashvi.cli.options import examples, json_option
from kashvi.drivers.address import client_of
from kashvi.errors import InvalidSetting, KashviError
from kashvi.runtime import SystemRuntime
from kashvi.text import visible

from .conformance import FILE, MARKS, folder_is_there

if TYPE_CHECKING:
    from ..driver.report import Column

NAME_MAX = 40
"""The most characters of a command in the name of its column."""
ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
WORDS = {"passed": "kept", "failed": "broken", "unobserved": "not observable"}
OF_KASHVI = "kashvi queue:work --app kashvi_spec.kit.worker.jobs --workers {threads} --lease {lease} --unknown-for 0"


def _finite(context: click.Context, option: click.Parameter, seconds: float) -> float:
    if not math.isfinite(seconds):
        raise click.BadParameter(f"{seconds} is not a number of seconds")
    return seconds


@examples(
    f"""
kashvi spec:worker --redis-url redis://localhost:6379/9 --command "node worker.js"
kashvi spec:worker --redis-url redis://localhost:6379/9 --command "./worker --threads {{threads}}" --threads 8 --json
kashvi spec:worker --redis-url redis://localhost:6379/9 --lease 3 --html worker.html \\
    --command "{OF_KASHVI}"
kashvi spec:worker --redis-url redis://localhost:6379/9 --lease 3 --command "./worker" \\
    --beside "{OF_KASHVI}"
"""
)
@click.command("spec:worker")
@click.option("--redis-url", required=True, help="redis://, rediss:// or unix:// URL of a database for the kit alone.")
@click.option("--command", required=True, help="Starts one worker process, without a shell.")
@click.option("--beside", default="", help="Starts workers of another kind: the two commands' processes take turns.")
@click.option(
    "--database-url",
    default="",
    help="SQLAlchemy URL for the failure table.  [default: a SQLite file that is deleted afterwards]",
)
@click.option(
    "--threads",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    help="The number of jobs that the command runs at once.",
)
@click.option(
    "--lease",
    "lease_s",
    type=click.FloatRange(0.5),
    default=30.0,
    callback=_finite,
    show_default=True,
    help="The worker's lease in seconds. The run takes about 50 s and five leases.",
)
@json_option
@click.option("--html", type=FILE, callback=folder_is_there, help="Write the report as a page.")
def worker_command(
    redis_url: str,
    command: str,
    beside: str,
    database_url: str,
    threads: int,
    lease_s: float,
    as_json: bool,
    html: Path | None,
) -> None:
    """Test a worker, in any language, against every clause that is observable through Redis.

    The kit starts, stops and kills the command, several times and two at a time. The worker must run the job types of
    spec/worker-kit.md. It gets the server in KASHVI_REDIS_URL and the failure table in KASHVI_DATABASE_URL; the kit
    also replaces {redis_url}, {database_url}, {threads} and {lease} in the command.

    With --beside, every second process is of the other command, and each kind is killed beside the other: one fleet,
    judged as a whole.

    The kit writes to kashvi:queue:… and kashvi-spec:…, refuses to start if there is a queue, and clears up at the end.
    It blocks all writing on the server for two seconds: use a server for the kit alone.

    Exit codes: 0 no MUST is broken, 1 one is, or the run was cut short, 2 wrong usage, or nothing could be judged.
    """
    before = {number: signal.getsignal(number) for number in ENDING if signal.getsignal(number) != signal.SIG_IGN}
    for number in before:
        signal.signal(number, _end)
    try:
        column, cut_short = _judged(redis_url, command, beside, database_url, threads, lease_s, quiet=as_json)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if html:
        from ..driver.matrix import write_html

        write_html([column], html)
    if as_json:
        from ..driver import report

        click.echo(report.as_json([column], strict=False))
    else:
        _show(column)
    if cut_short:
        click.secho(f"cut short: {cut_short}", fg="red", err=True)
    if cut_short or not column.conforms(strict=False):
        sys.exit(1)


def _end(number: int, frame: object) -> None:
    """On a signal, let the bench end the workers and clear up, undisturbed by further signals."""
    for other in ENDING:
        signal.signal(other, signal.SIG_IGN)
    sys.exit(128 + number)


def _judged(
    redis_url: str, command: str, beside: str, database_url: str, threads: int, lease_s: float, *, quiet: bool
) -> tuple[Column, str]:
    """The verdicts, and the reason if the run was cut short. Raises click.BadParameter."""
    import redis

    from ..driver.report import Column
    from ..worker.bench import Bench
    from ..worker.process import CannotJudge
    from ..worker.script import play
    from ..worker.verdicts import verdicts_on

    def tell(scene: str) -> None:
        if not quiet:
            click.secho(f"{monotonic() - began:5.1f} s  {scene}", err=True, dim=True)

    monotonic = SystemRuntime().monotonic
    began = monotonic()
    try:
        _reach(redis_url)
        with Bench(redis_url, command, database_url, threads, lease_s, beside) as bench:
            story = play(bench, tell)
    except CannotJudge as why:
        raise click.BadParameter(str(why), param_hint=why.option) from None
    except KashviError as error:
        raise click.BadParameter(str(error), param_hint="--database-url") from None
    except redis.RedisError as error:
        raise click.BadParameter(f"the server did not answer as it should: {error}", param_hint="--redis-url") from None
    verdicts = {one.clause.id: one for one in verdicts_on(story)}
    name = " ".join(Path(word).name for word in command.split())[:NAME_MAX]
    return Column(name, verdicts, monotonic() - began), story.cut_short


def _reach(redis_url: str) -> None:
    """Raises click.BadParameter."""
    import redis

    try:
        client_of(redis_url).ping()
    except (redis.RedisError, InvalidSetting, OSError, TypeError) as error:  # TypeError: of an option
        raise click.BadParameter(str(error), param_hint="--redis-url") from None


def _show(column: Column) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("clause", "", "", box=None, header_style="bold", pad_edge=False)
    unobserved: dict[str, list[str]] = {}
    for id_, verdict in column.verdicts.items():
        if verdict.outcome == "unobserved":
            unobserved.setdefault(verdict.reasons[0], []).append(id_)
        else:
            mark, style = MARKS[verdict.outcome]
            table.add_row(id_, f"[{style}]{mark}[/]", Text(verdict.clause.sentence))
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    for id_, verdict in column.verdicts.items():
        if verdict.outcome == "passed" and verdict.evidence:
            unseen = visible(f"of {id_}, a part was not observed: {'; '.join(verdict.evidence)}")
            click.secho(f"\n{unseen}", fg="yellow")
        if verdict.outcome == "failed":
            for reason in verdict.reasons:
                click.secho("\n" + visible(f"breaks {id_}: {reason}"), fg="red")
            for line in verdict.evidence:
                click.secho(visible(f"    {line}"), dim=True)
    click.secho("\nnot observable:", fg="yellow")
    for reason, ids in unobserved.items():
        click.echo(click.wrap_text(f"{', '.join(ids)}: {reason}", 118, "  ", "    "))
    counted = column.counted()
    said = ", ".join(f"{counted[outcome]} {word}" for outcome, word in WORDS.items())
    click.echo(f"\n{column.name}: {said} in {column.seconds:.1f} s")
