"""``kashvi spec:try``: run an example of one's own, again each time that it is saved."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kashvi.cli.options import examples, json_option
from kashvi.cli.output import folded
from kashvi.cli.stdout import elsewhere, others_out
from kashvi.events import JobEvent
from kashvi.text import json_line, visible

from ...clauses import ids_by_predicate
from .planting import named

if TYPE_CHECKING:
    from ..example.own import Tried

FILE = click.Path(path_type=Path, dir_okay=False)
LOOK_S = 0.2
"""How often ``--watch`` looks at the file."""


@examples(
    """
kashvi spec:try mine.toml
kashvi spec:try mine.py --watch
kashvi spec:try mine.toml --plant "constant backoff"
kashvi spec:try mine.toml --html mine.html
echo 'jobs = [{ outcomes = ["fail", "ok"] }]' | kashvi spec:try -
"""
)
@click.command("spec:try")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True, allow_dash=True))
@click.option("--watch", is_flag=True, help="Run it again each time that FILE is saved, until Ctrl-C.")
@click.option("--plant", metavar="BUG", help="Run it with a known bug in kashvi; spec:plant lists them.")
@click.option("--html", type=FILE, help="Write the run as a page.")
@json_option
def try_command(file: Path, watch: bool, plant: str | None, html: Path | None, as_json: bool) -> None:
    """Run the example in FILE in virtual time, as a timeline, and judge it by every predicate.

    FILE is TOML, as in the clauses (kashvi spec:show RETRY-2), a page of clauses (.md), or - for standard input. Or it
    is Python (.py) that registers jobs with kashvi.queue and has a function story(sim); sim is that of the tests.

    Exit codes: 0 all is as expected and no promise is broken, 1 something is not, 2 wrong usage.
    """
    bug = None if plant is None else named(plant, "--plant")
    if watch and str(file) == "-":
        raise click.UsageError("--watch needs a file: standard input is read once")
    if html is not None and not html.parent.is_dir():
        raise click.BadParameter(f"there is no folder {str(html.parent)!r}", param_hint="--html")

    def once() -> int:
        from ..example.own import NotAnExample, of_text, tried

        with nullcontext() if bug is None else bug.planted(), elsewhere() if as_json else nullcontext():
            try:
                ran = [of_text(sys.stdin.read())] if str(file) == "-" else tried(file)
            except NotAnExample as error:
                if error.raised:
                    click.echo(_in_lines(error.raised), err=True)
                raise click.BadParameter(visible(f"{file}: {error}"), param_hint="FILE") from error
        if as_json:
            click.echo(json_line({"file": str(file), "bug": plant, "runs": [_plain(one) for one in ran]}))
            others_out()
        else:
            if bug is not None:
                click.secho(folded(f"with the bug {bug.name!r}: {bug.about}", 2), fg="magenta")
            for one in ran:
                _show(one)
        if html is not None:
            _write(html, ran, file)
        return 0 if all(one.good for one in ran) else 1

    sys.exit(_watch(file, once) if watch else once())


def _watch(file: Path, once: Any) -> int:
    """Run it in a process of its own each time: Python that is imported twice would register its jobs twice."""
    from kashvi.runtime import SystemRuntime

    from ..fork import forked

    def run() -> None:
        try:
            sys.exit(once())
        except click.UsageError as error:
            error.show()
            sys.exit(error.exit_code)

    seen, code, runtime = "", 0, SystemRuntime()
    try:
        while True:
            now = _version(file)
            if now == seen:
                runtime.sleep(LOOK_S)
                continue
            if seen:
                click.secho(f"\n-- {file} was {'saved' if now else 'removed'}", fg="cyan")
            seen = now
            if now:
                process = forked(run)
                process.join()
                code = process.exitcode or 0
    except KeyboardInterrupt:
        return code


def _version(file: Path) -> str:
    try:
        about = file.stat()
    except OSError:
        return ""
    return f"{about.st_mtime_ns} {about.st_size}"


def _in_lines(text: str) -> str:
    return "\n".join(map(visible, text.splitlines()))


def _timeline(one: Tried) -> tuple[list[str], dict[str, str]]:
    """The lines, and the short names of the jobs in them, by id."""
    from kashvi_sim.show.timeline import Timeline

    timeline, lines, names = Timeline(one.world.names), [], dict[str, str]()
    for event, line in timeline.lines(one.world.times, one.world.events):
        lines.append(line)
        if isinstance(event, JobEvent):
            names.setdefault(event.job_id, timeline.name(event))
    return lines, names


def _plain(one: Tried) -> dict[str, Any]:
    ids = ids_by_predicate()
    return {
        "timeline": _timeline(one)[0],
        "mistakes": one.mistakes,
        "violations": [{"clause": ids.get(v.predicate), **v._asdict()} for v in one.violations],
        "judged": {name: count for name, count in sorted(one.judged.items()) if count},
        "expects": one.expects,
        "error": one.error or None,
        "escapes": one.escapes,
    }


def _show(one: Tried) -> None:
    lines, names = _timeline(one)
    for line in lines:
        click.secho(folded(line, 47), dim=True)
    ids = ids_by_predicate()
    broken = [
        f"{v.predicate} ({ids.get(v.predicate, '-')}): {names.get(v.job_id, v.job_id)} {v.why}" for v in one.violations
    ]
    for what in (*one.mistakes, *broken):
        click.secho(folded(visible(f"  BROKEN  {what}"), 4), fg="red", bold=True)
    for escape in one.escapes:
        click.secho(_in_lines(f"  a handler left virtual time: {escape}"), fg="red")
    if one.error:
        click.secho(_in_lines(one.error), fg="red")
    predicates = sum(1 for count in one.judged.values() if count)
    judged = f"judged {sum(one.judged.values()):,} times by {predicates} predicates"
    if one.good:
        expected = "as expected" if one.expects else "no promise broken, and nothing else expected"
        click.secho(f"  {expected}; {judged}", fg="green")
    else:
        click.echo(f"  {judged}")


def _write(html: Path, ran: list[Tried], file: Path) -> None:
    if len(ran) > 1:
        raise click.BadParameter(f"{file} has {len(ran)} examples, and a page shows one", param_hint="--html")
    from kashvi_sim.runs.figures import figures_of
    from kashvi_sim.show.lanes import picture_of
    from kashvi_sim.show.report import write_report

    [one] = ran
    world = one.world
    write_report(
        html,
        picture_of(world.times, world.events, world.names),
        figures_of(world.times, world.events, world.elapsed_s),
        name=file.name,
        about="An example, run in virtual time.",
        broken=[*one.mistakes, *(f"{v.predicate}: {v.job_id} {v.why}" for v in one.violations)],
    )
