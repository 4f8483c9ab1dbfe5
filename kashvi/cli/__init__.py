"""The command line. Commands are imported when they are called; other packages add theirs by entry point."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import entry_points, version
from typing import Any, NoReturn

import click

from ..errors import KashviError

COMMANDS = {
    "demo": ("kashvi.cli.demo:demo", "Run sample jobs in memory and show what happens (3 s)."),
    "queue:work": ("kashvi.cli.work:work", "Run jobs from the queue."),
    "queue:failed": ("kashvi.cli.failed:failed", "List failed jobs."),
    "queue:retry": ("kashvi.cli.failed:retry", "Send failed jobs back to the queue."),
    "queue:forget": ("kashvi.cli.failed:forget", "Delete failed jobs."),
    "queue:flush": ("kashvi.cli.failed:flush", "Delete all failed jobs, at once and for good."),
}

EXAMPLES = """
\b
Examples:
  kashvi demo
  kashvi queue:work --workers=5 --app myapp.jobs --redis-url redis://localhost:6379/0
  kashvi queue:failed
  kashvi queue:retry all --redis-url redis://localhost:6379/0
"""


class Commands(click.Group):
    """Finds a command by name: ours in the table above, others in the entry points ``kashvi.commands``."""

    def _others(self) -> dict[str, Any]:
        return {point.name: point for point in entry_points(group="kashvi.commands")}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *sorted(set(self._others()) - set(COMMANDS))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in COMMANDS:
            module, _, name = COMMANDS[cmd_name][0].partition(":")
            found: click.Command = getattr(import_module(module), name)
            return found
        point = self._others().get(cmd_name)
        return point.load() if point else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, text) for name, (_, text) in COMMANDS.items()]
        for name in self.list_commands(ctx)[len(COMMANDS) :]:
            command = self.get_command(ctx, name)
            rows.append((name, command.get_short_help_str(80) if command else ""))
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@click.group(
    cls=Commands, epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(version("kashvi"), prog_name="kashvi")
def cli() -> None:
    """kashvi: a background-job queue whose every promise can be run."""


def main() -> NoReturn:
    """The ``kashvi`` command. Exit codes: 0 done, 1 it failed, 2 wrong usage."""
    try:
        cli()
    except KashviError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("kashvi", "kashvi_sim", "kashvi_spec"):
            raise
        click.echo(f"Error: this command needs {error.name}: pip install 'kashvi[sim]'.", err=True)
        sys.exit(1)
    except OSError as error:
        click.echo(f"Error: {error.strerror or error}", err=True)
        sys.exit(1)
    sys.exit(0)
