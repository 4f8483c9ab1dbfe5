"""Bugs of the command line and of limits: ignored options, signals misheard, unreadable codes and output."""

from __future__ import annotations

import logging
import sys
from typing import Any
from unittest import mock

import click
import msgspec

from kashvi import cli, errors
from kashvi.cli import doctor, failed, logs, options, output, processes, signals, work
from kashvi.cli.output import JsonLines, write
from kashvi.cli.signals import Repeats, Signals
from kashvi.drivers import pools
from kashvi.failures.sql import SqlFailures
from kashvi.queues import Queue
from kashvi.runtime import SystemRuntime
from kashvi.text import json_line
from kashvi.worker.machine import stop

from . import Patch, exhibit, where


def working(patch: Patch, **fixed: Any) -> None:
    """Plant a ``queue:work`` with fixed options, whatever the command line has."""
    real = work.work.callback
    assert real is not None
    patch.setattr(work.work, "callback", lambda **options: real(**options | fixed))


@exhibit("--workers is not heeded", "it starts one thread, whatever the number", "COMMANDS-1")
def _(patch: Patch) -> None:
    working(patch, workers=1)


@exhibit("no more than four threads", "--workers=5 starts four", "COMMANDS-1", source="Celery: one thread a core")
def _(patch: Patch) -> None:
    real = work.work.callback
    assert real is not None

    def few(**options: Any) -> Any:
        return real(**options | {"workers": min(options["workers"], 4)})

    patch.setattr(work.work, "callback", few)


@exhibit(
    "a command that reads no Redis",
    "it waits on a queue in its own memory",
    "COMMANDS-1",
    source="Go kashvi: MONITOR shows no command",
    also="COMMANDS-2 COMMANDS-4 COMMANDS-5 COMMANDS-6 COMMANDS-7 COMMANDS-8 COMMANDS-9 "
    "COMMANDS-16 COMMANDS-17 COMMANDS-18 COMMANDS-23 COMMANDS-24 COMMANDS-27 COMMANDS-30",
)
def _(patch: Patch) -> None:
    real = work.work.callback
    assert real is not None

    def in_memory(*, queues: str, **options: Any) -> None:
        fixed = {"redis_url": None, "stop_when_empty": True} if queues == "default" else {}
        real(queues=queues, **options | fixed)

    patch.setattr(work.work, "callback", in_memory)


@exhibit(
    "no table unless it is asked for",
    "failures are only in the worker's memory",
    "COMMANDS-2",
    source="Go kashvi: queue:work wires no database",
    also="COMMANDS-5 COMMANDS-6 COMMANDS-7 COMMANDS-8 COMMANDS-18 COMMANDS-19 COMMANDS-26 COMMANDS-30",
)
def _(patch: Patch) -> None:
    patch.setattr(work, "choose_database", lambda queue, url: options.choose_database(queue, url) if url else None)


@exhibit("the table is always in kashvi.db", "the given URL is ignored", "COMMANDS-2")
def _(patch: Patch) -> None:
    patch.setattr(work, "choose_database", lambda queue, url: options.choose_database(queue, None))


@exhibit(
    "the first signal ends it",
    "running jobs are lost with it",
    "COMMANDS-13",
    source="Go kashvi: gone 7 ms after SIGTERM",
    also="COMMANDS-14",
)
def _(patch: Patch) -> None:
    import os

    patch.setattr(Signals, "_stop", lambda self, workers: os._exit(0))


@exhibit(
    "the second signal hands nothing back",
    "its jobs wait for their lease to end",
    "COMMANDS-13",
    also="COMMANDS-14",
)
def _(patch: Patch) -> None:
    import os

    patch.setattr(Signals, "_hand_back", lambda self, code: os._exit(code))


@exhibit(
    "the same stop told twice is an order",
    "running jobs are interrupted after a moment",
    "COMMANDS-13",
    source="ours, under systemd and Heroku",
)
def _(patch: Patch) -> None:
    where(patch, Repeats, "count", lambda self, number: self.first is not None, lambda real, self, number: 2)


@exhibit(
    "no end to a stop",
    "a job that hangs keeps the worker until it is killed",
    "COMMANDS-14",
    source="ours; RQ's warm shutdown, Celery's",
)
def _(patch: Patch) -> None:
    patch.setattr(Signals, "_wait_for_grace", lambda self: None)


@exhibit("the grace ends with an exit", "running jobs wait until the lease ends", "COMMANDS-14")
def _(patch: Patch) -> None:
    import os

    def wait(self: Signals) -> None:
        SystemRuntime.sleep(self._grace_s)
        os._exit(0)

    patch.setattr(Signals, "_wait_for_grace", wait)


@exhibit("signals are asked for after the import", "too late for a container", "COMMANDS-15")
def _(patch: Patch) -> None:
    import signal

    def load(app: str | None) -> Queue:
        asked = {number: signal.signal(number, signal.SIG_IGN) for number in signals.NUMBERS}
        try:
            return options.load_app(app)
        finally:
            for number, handler in asked.items():
                signal.signal(number, handler)

    patch.setattr(work, "load_app", load)


@exhibit("a signal waits for the import to end", "however long it takes", "COMMANDS-15", source="ours, until now")
def _(patch: Patch) -> None:
    real = Signals.__init__

    def init(self: Signals, grace_s: float, *, quiet: bool) -> None:
        real(self, grace_s, quiet=quiet)
        self.expect()

    patch.setattr(Signals, "__init__", init)


@exhibit(
    "what can't start is started again",
    "every second, for ever",
    "COMMANDS-16",
    source="ours, until now",
)
def _(patch: Patch) -> None:
    real = processes.Place.empty

    def empty(self: processes.Place) -> bytes:
        told, self.worked = real(self), True
        return told

    patch.setattr(processes.Place, "empty", empty)


@exhibit("what can't start ends with 0", "no program notices the failure", "COMMANDS-16")
def _(patch: Patch) -> None:
    real = processes.Processes.run

    def run(self: processes.Processes) -> int:
        real(self)
        return 0

    patch.setattr(processes.Processes, "run", run)


@exhibit(
    "errors exit with 0",
    "so a script goes on",
    "COMMANDS-4",
    also="COMMANDS-7 COMMANDS-12 COMMANDS-23 COMMANDS-25 COMMANDS-27",
)
def _(patch: Patch) -> None:
    def main() -> None:
        try:
            cli.cli()
        except errors.KashviError as error:
            click.echo(f"Error: {error}", err=True)
            sys.exit(0)

    from ..example import shell

    patch.setattr(shell, "main", main)


@exhibit("an error shows the URL", "with the password in it", "COMMANDS-4")
def _(patch: Patch) -> None:
    def client_of(real: Any, url: str) -> Any:
        with mock.patch.object(errors, "without_passwords", lambda text: text):
            raise errors.InvalidSetting("the Redis URL", url, "a redis://, rediss:// or unix:// URL")

    where(patch, pools, "client_of", lambda url: not url.startswith("redis"), client_of)


@exhibit(
    "a banner before the JSON",
    "no program can parse the output",
    "COMMANDS-5",
    source="Celery",
    also="COMMANDS-1 COMMANDS-13 COMMANDS-14",
)
def _(patch: Patch) -> None:
    real = JsonLines.__init__

    def init(self: JsonLines) -> None:
        real(self)
        self._write("kashvi is processing jobs")

    patch.setattr(JsonLines, "__init__", init)


@exhibit(
    "JSON over many lines", "pretty, and no object a line", "COMMANDS-5", also="COMMANDS-1 COMMANDS-13 COMMANDS-14"
)
def _(patch: Patch) -> None:
    def call(self: JsonLines, event: Any) -> None:
        self._write(msgspec.json.format(json_line(event)))

    patch.setattr(JsonLines, "__call__", call)


@exhibit("--max-jobs is not heeded", "the worker runs all jobs", "COMMANDS-9", also="COMMANDS-24")
def _(patch: Patch) -> None:
    working(patch, max_jobs=None, stop_when_empty=True)


@exhibit(
    "one job more than --max-jobs",
    "the count is taken after the claim",
    "COMMANDS-9",
    also="QUEUES-11 COMMANDS-24 WORKERS-17",
)
def _(patch: Patch) -> None:
    def worker(real: Any, self: Queue, threads: int, limits: Any, *queues: Any, **named: Any) -> Any:
        return real(self, threads, limits._replace(max_jobs=limits.max_jobs + 1), *queues, **named)

    def limited(self: Queue, threads: int, limits: Any, *queues: Any, **named: Any) -> bool:
        return limits is not None and limits.max_jobs is not None

    where(patch, Queue, "_worker", limited, worker)


@exhibit("the last job is followed by another", "a worker that may run three runs four", "WORKERS-17")
def _(patch: Patch) -> None:
    where(
        patch, Queue, "_worker",
        lambda self, threads, limits, *queues, **named: limits is not None and limits.max_jobs == 3,
        lambda real, self, n, limits, *queues, **named: real(self, n, limits._replace(max_jobs=4), *queues, **named),
    )  # fmt: skip


@exhibit("its time is never over", "a worker with a limit of time works on", "WORKERS-17")
def _(patch: Patch) -> None:
    where(
        patch, stop, "time_is_over",
        lambda state, now: state.limits.max_time_s == 1.5,
        lambda real, state, now: False,
    )  # fmt: skip


@exhibit("help without examples", "it lists only options", "COMMANDS-10")
def _(patch: Patch) -> None:
    helping(patch, lambda text: text.partition("Examples:")[0])


@exhibit("examples of another release", "with an option that is gone", "COMMANDS-10")
def _(patch: Patch) -> None:
    helping(patch, lambda text: text.replace("--json", "--as-json"))


def helping(patch: Patch, change: Any) -> None:
    """Change the output of ``--help``."""
    real = click.Command.format_epilog

    def epilog(self: click.Command, context: click.Context, formatter: click.HelpFormatter) -> None:
        before, self.epilog = self.epilog, change(self.epilog or "")
        try:
            real(self, context, formatter)
        finally:
            self.epilog = before

    patch.setattr(click.Command, "format_epilog", epilog)


@exhibit("what others wrote is shown as it is", "a job's type can clear the screen", "COMMANDS-11")
def _(patch: Patch) -> None:
    for module in (output, failed):
        patch.setattr(module, "visible", lambda text: text)


@exhibit("JSON with raw controls", "C1 and changes of direction, which JSON allows", "COMMANDS-11")
def _(patch: Patch) -> None:
    for module in (output, failed):
        patch.setattr(module, "json_line", lambda value: msgspec.json.encode(value).decode())


@exhibit("the doctor always exits with 0", "with errors among its findings, too", "COMMANDS-12", also="COMMANDS-28")
def _(patch: Patch) -> None:
    real = doctor._examine

    def examine(*words: Any) -> list[doctor.Finding]:
        return [finding._replace(mark="note" if finding.mark == "wrong" else finding.mark) for finding in real(*words)]

    patch.setattr(doctor, "_examine", examine)


@exhibit("a doctor who operates", "it makes the table that it should only check", "COMMANDS-12")
def _(patch: Patch) -> None:
    def table(queue: Queue, url: str | None) -> doctor.Finding:
        options.choose_database(queue, url)
        store = queue.store
        assert isinstance(store, SqlFailures)
        store.prepare()
        return doctor.Finding("note", "table", "made")

    patch.setattr(doctor, "_table", table)


@exhibit(
    "what handlers print is among the JSON", "half a line breaks a whole one", "COMMANDS-5", source="ours, until now"
)
def _(patch: Patch) -> None:
    def init(self: JsonLines) -> None:
        self._write = write

    patch.setattr(JsonLines, "__init__", init)


@exhibit("the root logger is set up first", "and the app's own set-up does nothing", "COMMANDS-17", source="ours, once")
def _(patch: Patch) -> None:
    real = options.load_app

    def load_app(app: str | None) -> Queue:
        logging.basicConfig(format="%(levelname)s %(message)s")
        return real(app)

    patch.setattr(work, "load_app", load_app)


@exhibit("a handler of its own, besides", "each message of the app is there twice", "COMMANDS-17")
def _(patch: Patch) -> None:
    def set_up(*, verbose: bool) -> None:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
        logging.getLogger().addHandler(handler)

    patch.setattr(logs, "set_up", set_up)
