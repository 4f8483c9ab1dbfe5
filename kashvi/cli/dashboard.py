"""``dashboard``: the pages of ``kashvi.web``, served from this process."""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path

import click

from ..text import visible
from .options import (
    DATABASE_FILE,
    app_option,
    choose_driver,
    database_option,
    examples,
    failure_table,
    load_app,
    redis_option,
)

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
INSTALL = "pip install 'kashvi[web]'"
OF_WEB = ("starlette", "jinja2", "uvicorn", "a2wsgi")


@examples(
    """
kashvi dashboard --redis-url redis://localhost:6379/0
kashvi dashboard --app myapp.jobs --database-url postgresql://localhost/app --allow-actions
kashvi dashboard --app myapp.jobs --host 10.0.0.5 --port 9000
"""
)
@click.command("dashboard")
@app_option
@redis_option
@database_option
@click.option("--host", default="127.0.0.1", show_default=True, help="The address, or the name, that browsers use.")
@click.option(
    "--port", default=8550, show_default=True, type=click.IntRange(0, 65535), help="The port; 0: any that is free."
)
@click.option("--allow-actions", is_flag=True, help="Let every visitor pause, cancel, retry, forget and clear.")
def dashboard(
    app: str | None, redis_url: str | None, database_url: str | None, host: str, port: int, allow_actions: bool
) -> None:
    """Show the queue in a browser, until Ctrl-C: its jobs, failures, workers, schedule and traffic.

    Read-only, and on this machine alone, unless you say otherwise. It asks for no password: to show it to others,
    mount it in your app, which knows who they are (docs/dashboard.md).
    """
    try:
        import uvicorn

        from .. import web
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in OF_WEB:
            raise
        click.echo(f"Error: the dashboard needs {missing}: {INSTALL}.", err=True)
        raise SystemExit(1) from None
    queue = load_app(app)
    choose_driver(queue, redis_url)
    if queue.database_chosen or database_url or Path(DATABASE_FILE).exists():
        queue._store = failure_table(queue, database_url)  # not use_db, which makes the table: looking changes nothing
    shown_host = f"[{host}]" if ":" in host else host
    pages = web.app(
        queue,
        authorize=web.everything if allow_actions else web.read_only,
        allowed_hosts=sorted({*LOOPBACK, shown_host}),
    )
    try:
        listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, TypeError, UnicodeError) as error:  # a TypeError: no IDNA name
        why = getattr(error, "strerror", None) or error
        raise click.UsageError(
            f"can't listen on {host}, port {port} ({why}): choose another --port or --host"
        ) from None
    with listening, suppress(KeyboardInterrupt):
        click.echo(f"kashvi dashboard: http://{shown_host}:{listening.getsockname()[1]}/  (Ctrl-C ends it)")
        click.echo(f"It shows {visible(repr(queue.driver))}, {'with actions' if allow_actions else 'read-only'}.")
        config = uvicorn.Config(pages, lifespan="off", access_log=False, log_config=None, server_header=False)
        uvicorn.Server(config).run(sockets=[listening])
