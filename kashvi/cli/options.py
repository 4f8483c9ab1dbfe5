"""Options and set-up shared by commands: the user's app, its queue, the driver and the failure table."""

from __future__ import annotations

import logging
import math
import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

import click
from click.core import ParameterSource

from ..delays import DELAY_MAX_S
from ..errors import InvalidSetting
from ..names import queue_name
from .shadows import shadow
from .stdout import elsewhere, others_out

if TYPE_CHECKING:
    from ..failures.sql import SqlFailures
    from ..queue import Queue

DATABASE_FILE = "kashvi.db"
DATABASE_URL = f"sqlite:///{DATABASE_FILE}"

redis_option = click.option(
    "--redis-url", envvar="KASHVI_REDIS_URL", show_envvar=True, help="redis://, rediss:// or unix:// URL of the queue."
)
database_option = click.option(
    "--database-url",
    envvar="KASHVI_DATABASE_URL",
    show_envvar=True,
    help=f"SQLAlchemy URL of the failure table.  [default: {DATABASE_URL}]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="JSON, for programs.")


app_option = click.option(
    "--app", envvar="KASHVI_APP", show_envvar=True, help="Module that registers the jobs, or module:queue_object."
)


def a_queue(context: click.Context, parameter: click.Parameter, name: str | None) -> str | None:
    """The name of a queue, checked."""
    try:
        return None if name is None else queue_name(name)
    except InvalidSetting as error:
        raise click.BadParameter(str(error)) from None


def load_app(app: str | None) -> Queue:
    """Import the user's module; returns its queue (``module:attribute``) or the default one."""
    from ..queue import Queue, default
    from ..worker.attempt import describe

    app = (app or "").strip()
    if not app:
        return default()
    module_name, _, attribute = app.partition(":")
    found = _imported(module_name)
    if not attribute:
        return default()
    try:
        for part in attribute.split("."):
            found = getattr(found, part)
    except Exception as error:
        raise _wrong(f"{app!r} is not there ({describe(error)})") from error
    if not isinstance(found, Queue):
        raise _wrong(f"{app!r} is not a kashvi Queue, but of type {type(found).__name__}")
    return found


def _imported(name: str) -> Any:
    """The module, from the directory the command was started in."""
    if os.sep in name or name.startswith(".") or (name.endswith(".py") and Path(name).is_file()):
        raise _wrong(f"{name!r} is no module{_meant(name)}")
    from ..worker.attempt import describe

    try:
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    except FileNotFoundError:
        raise _wrong("the directory that this command was started in is gone") from None
    context = click.get_current_context()
    if as_json := context.params.get("as_json"):
        context.call_on_close(others_out)
    try:
        with elsewhere() if as_json else nullcontext():
            return import_module(name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        hint = shadow() if isinstance(error, ImportError | AttributeError) else ""
        if not isinstance(error, ModuleNotFoundError) and not hint and (frames := _of_the_app(error)) is not None:
            about = (type(error), error, frames)
            logging.getLogger("kashvi").error("%s failed while it was imported", name, exc_info=about)
        raise _wrong(f"can't import {name!r}: {hint or describe(error)}") from error


def _wrong(why: str) -> click.BadParameter:
    return click.BadParameter(why, param_hint="--app")


def _meant(name: str) -> str:
    """``./myapp/jobs.py`` is a file, and its module ``myapp.jobs``."""
    parts = Path(os.path.relpath(name if os.sep in name else name.lstrip("."))).with_suffix("").parts
    return f"; did you mean {'.'.join(parts)!r}?" if all(part.isidentifier() for part in parts) else ""


def _of_the_app(error: BaseException) -> TracebackType | None:
    """The traceback from the app's first line on; None if no code of the app was reached."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_globals.get("__name__", "").startswith(("importlib", __name__)):
        frames = frames.tb_next
    return frames


def choose_driver(queue: Queue, redis_url: str | None) -> None:
    """Set the driver unless the app did: from the option or its variable, else memory."""
    overruled("redis_url", queue.driver_chosen, "queue.set_driver")
    if not queue.driver_chosen and redis_url:
        from ..drivers.redis import RedisDriver

        queue.set_driver(RedisDriver(redis_url))


def choose_database(queue: Queue, database_url: str | None) -> None:
    """Set the failure table unless the app did: from the option or its variable, else the default."""
    overruled("database_url", queue.database_chosen, "queue.use_db")
    if not queue.database_chosen:
        queue.use_db(database_url or DATABASE_URL)


def failure_table(queue: Queue, database_url: str | None) -> SqlFailures:
    """The failure table of commands that only read: they make and change none."""
    from ..failures.sql import SqlFailures

    overruled("database_url", queue.database_chosen, "queue.use_db")
    return cast("SqlFailures", queue.store) if queue.database_chosen else SqlFailures(database_url or DATABASE_URL)


def overruled(option: str, chosen: bool, by: str) -> None:
    """Warn if the app overrules a typed option."""
    typed = click.get_current_context().get_parameter_source(option) is ParameterSource.COMMANDLINE
    if typed and chosen:
        click.echo(f"Warning: --{option.replace('_', '-')} is not used: the app calls {by}.", err=True)


class Seconds(click.FloatRange):
    """A range of floats, up to 100 years: beyond that, clocks and servers do not count."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        seconds: float = super().convert(value, param, ctx)
        if not math.isfinite(seconds):
            self.fail(f"{value!r} is not a finite number of seconds.", param, ctx)
        if seconds > DELAY_MAX_S:
            self.fail(f"{value!r} seconds are over 100 years.", param, ctx)
        return seconds


def examples(text: str) -> Callable[[Any], Any]:
    """Add examples below a command's help, unwrapped."""

    def add(command: click.Command) -> click.Command:
        lines = "\n".join("  " + line for line in text.strip().splitlines())
        command.epilog = f"\b\nExamples:\n{lines}"
        return command

    return add
