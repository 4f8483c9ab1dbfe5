"""Options and set-up shared by commands: the user's app, its queue, the driver and the failure table."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from .shadows import shadow
from .stdout import elsewhere, others_out

if TYPE_CHECKING:
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


def load_app(app: str | None) -> Queue:
    """Import the user's module; returns its queue (``module:attribute``) or the default one."""
    from ..attempt import describe
    from ..queue import Queue, default

    if not app:
        return default()
    app = app.strip()
    module_name, _, attribute = app.partition(":")
    sys.path.insert(0, os.getcwd())  # noqa: PTH109
    context = click.get_current_context()
    as_json = context.params.get("as_json")
    if as_json:
        context.call_on_close(others_out)
    try:
        with elsewhere() if as_json else nullcontext():
            found: Any = import_module(module_name)
    except (Exception, SystemExit) as error:
        if not isinstance(error, ImportError | ValueError | TypeError):
            logging.getLogger("kashvi").error("%s failed while it was imported", module_name, exc_info=error)
        why = describe(error)
        hint = shadow() if isinstance(error, ImportError | AttributeError) else ""
        raise click.BadParameter(f"can't import {module_name!r}: {hint or why}", param_hint="--app") from error
    for part in attribute.split(".") if attribute else ():
        found = getattr(found, part, None)
    if not attribute:
        return default()
    if not isinstance(found, Queue):
        raise click.BadParameter(f"{app!r} is not a kashvi Queue but {found!r}", param_hint="--app")
    return found


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


def overruled(option: str, chosen: bool, by: str) -> None:
    """Warn if the app overrules a typed option."""
    typed = click.get_current_context().get_parameter_source(option) is ParameterSource.COMMANDLINE
    if typed and chosen:
        click.echo(f"Warning: --{option.replace('_', '-')} is not used: the app calls {by}.", err=True)


def examples(text: str) -> Callable[[Any], Any]:
    """Add examples below a command's help, unwrapped."""

    def add(command: click.Command) -> click.Command:
        lines = "\n".join("  " + line for line in text.strip().splitlines())
        command.epilog = f"\b\nExamples:\n{lines}"
        return command

    return add
