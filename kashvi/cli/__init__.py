"""The command line. A command is imported when it is called; other packages add commands by entry point."""

from __future__ import annotations

import sys
from difflib import get_close_matches
from importlib import import_module
from typing import NoReturn

import click

from .. import __version__
from ..errors import KashviError, SettingsRefused
from ..text import narrow, no_colour, visible, without_passwords
from .shadows import shadow

COMMANDS = {
    "demo": ("kashvi.cli.demo:demo", "Run sample jobs in memory and show what happens (3 s)."),
    "dashboard": ("kashvi.cli.dashboard:dashboard", "Show the queue in a browser."),
    "queue:work": ("kashvi.cli.work:work", "Run jobs from the queue."),
    "queue:stats": ("kashvi.cli.doctor:stats", "Count the jobs that are ready, delayed and held, of each queue."),
    "queue:list": ("kashvi.cli.queued:list_jobs", "List the jobs that are ready, delayed and running."),
    "queue:clear": ("kashvi.cli.clearing:clear", "Remove the ready and delayed jobs of a queue, for good."),
    "queue:unlock": ("kashvi.cli.clearing:unlock", "Free the key of a unique job that is on no queue."),
    "queue:cancel": ("kashvi.cli.cancelling:cancel", "Cancel jobs by their ids."),
    "queue:pause": ("kashvi.cli.pausing:pause", "Let no job of a queue start, in any worker, until queue:resume."),
    "queue:resume": ("kashvi.cli.pausing:resume", "End the pause: jobs start again."),
    "queue:relay": ("kashvi.cli.relaying:relay", "Push committed jobs from an outbox, without a worker."),
    "queue:schedule": ("kashvi.cli.schedule:schedule", "List the cron entries, with their last and next ticks."),
    "queue:doctor": ("kashvi.cli.doctor:doctor", "Check the app, the server and the failure table."),
    "queue:failed": ("kashvi.cli.failed:failed", "List failed jobs."),
    "queue:retry": ("kashvi.cli.failed:retry", "Send failed jobs back to their queues."),
    "queue:forget": ("kashvi.cli.failed:forget", "Delete failed jobs."),
    "queue:flush": ("kashvi.cli.failed:flush", "Delete all failed jobs, at once and for good."),
}

COMPANIONS = ("sim", "spec")
OF_SIM = frozenset(
    ("fakeredis", "greenlet", "jinja2", "junitparser", "lupa", "markdown_it", "plotly", "rich", "time_machine")
)
"""The packages that the extra brings."""
INSTALL = "pip install 'kashvi[sim]'"

EXAMPLES = """
\b
Examples:
  kashvi demo
  kashvi queue:work --workers=5 --app myapp.jobs --redis-url redis://localhost:6379/0
  kashvi queue:failed
  kashvi queue:retry all --redis-url redis://localhost:6379/0
"""


class Commands(click.Group):
    """Finds a command by name, in the table above or in those of the entry points ``kashvi.commands``."""

    def _table(self) -> dict[str, tuple[str, str]]:
        from importlib.metadata import entry_points  # slow, and not needed for kashvi's own commands

        table = dict(COMMANDS)
        for point in sorted(entry_points(group="kashvi.commands")):
            table = point.load() | table
        return table

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            error.message = visible(without_passwords(error.message))  # type: ignore[misc]
            raise

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            names = self.list_commands(ctx)
            close = [name for name in names if name.endswith(f":{args[0]}")] or get_close_matches(args[0], names, 2)
            family = args[0].partition(":")[0]
            if family in COMPANIONS and not any(name.startswith(f"{family}:") for name in names):
                error.message += f" Its commands come with {INSTALL}."  # type: ignore[misc]
            elif close and "Did you mean" not in error.format_message():
                error.message += f" Did you mean {' or '.join(close)}?"  # type: ignore[misc]
            raise

    def list_commands(self, ctx: click.Context) -> list[str]:
        others = self._table().keys() - COMMANDS.keys()
        return [*COMMANDS, *sorted(others)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place, _ = COMMANDS.get(cmd_name) or self._table().get(cmd_name, ("", ""))
        if not place:
            return None
        module, _, name = place.partition(":")
        found: click.Command = getattr(import_module(module), name)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        table = self._table()
        with formatter.section("Commands"):
            formatter.write_dl([(name, table[name][1]) for name in self.list_commands(ctx)])


@click.group(
    cls=Commands, epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="kashvi")
def cli() -> None:
    """kashvi: a background-job queue whose every promise can be run."""


def _said(error: OSError) -> str:
    """The error's text with the file's name."""
    return ": ".join(str(part) for part in (error.filename, error.strerror or error) if part)


def main() -> NoReturn:
    """The ``kashvi`` command. Exit codes: 0 done, 1 it failed, 2 wrong usage, 128 + n: ended by signal n."""
    narrow(sys.stdout)
    narrow(sys.stderr)
    try:
        cli(color=False if no_colour() else None)
    except KashviError as error:
        click.echo(visible(f"Error: {error}"), err=True)
        sys.exit(2 if isinstance(error, SettingsRefused) else 1)
    except (ImportError, AttributeError) as error:
        if why := shadow():
            click.echo(visible(f"Error: {why}"), err=True)
            sys.exit(2)
        missing = error.name.partition(".")[0] if isinstance(error, ModuleNotFoundError) and error.name else ""
        if missing not in OF_SIM:
            raise
        click.echo(f"Error: this command needs {missing}: {INSTALL}.", err=True)
        sys.exit(1)
    except OSError as error:
        click.echo(visible(f"Error: {without_passwords(_said(error))}"), err=True)
        sys.exit(1)
    sys.exit(0)
