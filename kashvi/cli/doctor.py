"""``queue:doctor`` checks what a queue depends on; ``queue:stats`` counts its jobs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import click

from ..drivers.memory import MemoryDriver
from ..drivers.redis import RedisDriver
from ..errors import CommandRefused, KashviError, RedisRequired, StoreUnavailable
from ..names import DEFAULT
from ..ports import Checking, Pausing
from ..queue import Queue
from ..text import json_line, visible
from .options import (
    DATABASE_FILE,
    app_option,
    choose_driver,
    database_option,
    examples,
    failure_table,
    json_option,
    load_app,
    redis_option,
)
from .output import folded, padded
from .relaying import Found, in_words, look

if TYPE_CHECKING:
    from ..drivers.health import Health
    from ..queued import QueueState

OLDEST = (6, 2)
"""The oldest server that has the commands a worker needs."""
NEARLY_FULL = 0.9
RELAYED_AFTER_S = 60.0
"""Rows that are older have no relay, or one whose server or database is away."""

Mark = Literal["ok", "note", "wrong"]
COLOURS = {"ok": "green", "note": "yellow", "wrong": "red"}


class Finding(NamedTuple):
    """One line of a doctor's report."""

    mark: Mark
    about: str
    says: str


@examples(
    """
kashvi queue:doctor --app myapp.jobs --redis-url redis://localhost:6379/0
kashvi queue:doctor --app myapp.jobs --json
"""
)
@click.command("queue:doctor")
@app_option
@redis_option
@database_option
@json_option
def doctor(app: str | None, redis_url: str | None, database_url: str | None, as_json: bool) -> None:
    """Check what a queue depends on; changes nothing.

    Checks the app and its job types, the server (reachable, new enough, a primary, scripts allowed, no eviction, free
    memory), that ready jobs have a worker, the failure table, and the outboxes. Exit codes: 0 nothing is wrong, 1
    something is.
    """
    findings = list(_examine(app, redis_url, database_url))
    wrong = any(finding.mark == "wrong" for finding in findings)
    if as_json:
        checks = [finding._asdict() for finding in findings]
        click.echo(json_line({"ok": not wrong, "checks": checks}))
    else:
        for mark, about, says in findings:
            line = folded(f"  {mark:<5}  {about:<8}  {visible(says)}", 19)
            click.echo(line.replace(mark, click.style(mark, fg=COLOURS[mark], bold=True), 1))
    raise SystemExit(1 if wrong else 0)


@examples(
    """
kashvi queue:stats --redis-url redis://localhost:6379/0
kashvi queue:stats --app myapp.jobs --json
"""
)
@click.command("queue:stats")
@app_option
@redis_option
@json_option
def stats(app: str | None, redis_url: str | None, as_json: bool) -> None:
    """Count the jobs that are ready, delayed, held by workers, and failed but not in the table yet; then of each queue.

    Counts as workers those with a lease, and dead ones that still hold jobs or died less than an hour ago. The age of
    a queue's oldest ready job counts from its dispatch, by the server's clock: its delay and its retries are part of
    it. A job that another program made has none.
    """
    queue = load_app(app)
    choose_driver(queue, redis_url)
    if isinstance(queue.driver, MemoryDriver):
        raise RedisRequired("queue:stats")
    counts, states = asdict(queue.stats()), queue.queue_stats()
    outboxes = list(look(queue))
    since = queue.paused_since() if isinstance(queue.driver, Pausing) else None
    if as_json:
        facts = counts | {"paused_since": since, "queues": [asdict(state) for state in states]}
        if outboxes:
            facts["outboxes"] = [_counted(one) for one in outboxes]
        click.echo(json_line(facts))
        return
    for name, count in counts.items():
        click.echo(f"  {name:<10}  {count:>11,}")
    if since:
        click.echo(f"  paused since {since:%Y-%m-%d %H:%M:%S} UTC; queue:resume ends it")
    click.echo(f"\n  {'queue':<20}  {'ready':>11}  {'delayed':>11}")
    for one in states:
        click.echo(f"  {padded(one.name, 20)}  {one.ready:>11,}  {one.delayed:>11,}{_notes(one)}")
    if outboxes:
        click.echo()
    for found in outboxes:
        click.echo(visible(f"  {found}"))


def _counted(found: Found) -> dict[str, object]:
    """For programs; ``rows``: of this queue, None if the outbox can't be read."""
    mine = found.mine
    rows = None if found.error else mine.rows if mine else 0
    return {"outbox": found.outbox, "rows": rows, "oldest_s": mine.oldest_s if mine else None, "error": found.error}


def _notes(one: QueueState) -> str:
    notes = ["paused"] if one.paused else []
    if one.oldest_age_s is not None:
        notes.append(f"oldest {timedelta(seconds=int(one.oldest_age_s))}")
    if _nobody_serves(one):
        notes.append("no worker serves it")
    return "".join(f"  {note}" for note in notes)


def _nobody_serves(one: QueueState) -> bool:
    return bool(one.ready or one.delayed) and not one.served


def _examine(app: str | None, redis_url: str | None, database_url: str | None) -> Iterator[Finding]:
    try:
        queue = load_app(app)
        yield _types(app, queue)
    except click.BadParameter as error:
        yield Finding("wrong", "app", error.message)
        queue = load_app(None)
    try:
        choose_driver(queue, redis_url)
        yield from _server(queue)
    except KashviError as error:
        yield Finding("wrong", "server", str(error))
    try:
        yield _table(queue, database_url)
    except KashviError as error:
        yield Finding("wrong", "table", str(error))
    try:
        for found in look(queue):
            late = found.mine is not None and found.mine.oldest_s > RELAYED_AFTER_S
            no_relay = "; no relay pushes them: start a worker, or kashvi queue:relay" if late else ""
            yield Finding("wrong" if found.error else "note" if late else "ok", "outbox", f"{found}{no_relay}")
            for one in found.others:
                yield Finding("note", "outbox", f"{found.outbox}: of the queue {one.target}: {in_words(one)}")
    except KashviError as error:
        yield Finding("wrong", "outbox", str(error))


def _types(app: str | None, queue: Queue) -> Finding:
    names = queue.registry.names()
    if names:
        return Finding("ok", "app", f"{len(names)} job types: {', '.join(names)}")
    if app is None:
        return Finding("note", "app", "not checked: pass the module that registers your jobs with --app")
    return Finding("wrong", "app", f"{app} registers no job types, so a worker has none to run")


def _server(queue: Queue) -> Iterator[Finding]:
    driver = queue.driver
    if isinstance(driver, MemoryDriver):
        yield Finding("note", "server", "none: jobs wait in each process's own memory; set --redis-url to share them")
        return
    if isinstance(driver, RedisDriver):
        try:
            yield from _health(repr(driver), driver.health())
        except CommandRefused as error:
            yield Finding("note", "server", f"INFO is refused, so version, role and memory are not checked: {error}")
    if isinstance(driver, Checking):
        # raises where a right is missing that workers need
        driver.check(relays=True) if queue.outboxes() else driver.check()
    counts = queue.stats()  # its script reads every list, and so also checks that scripts and keys are allowed
    text = ", ".join(f"{count:,} {name}" for name, count in asdict(counts).items())
    waits = counts.ready and not counts.workers
    if isinstance(driver, Pausing) and (since := queue.paused_since()):
        yield Finding(
            "note", "pause", f"the queue has been paused since {since:%Y-%m-%d %H:%M:%S} UTC; queue:resume ends it"
        )
    yield Finding("note" if waits else "ok", "jobs", text + ("; start a worker: kashvi queue:work" if waits else ""))
    for one in queue.queue_stats():
        if one.name != DEFAULT and _nobody_serves(one):
            count = f"{one.ready + one.delayed:,} jobs of the queue {one.name} wait, and no worker serves it"
            yield Finding("note", "queue", f"{count}; start one: kashvi queue:work --queue {one.name}")


def _health(server: str, health: Health) -> Iterator[Finding]:
    if health.version >= OLDEST:
        yield Finding("ok", "server", f"{health.product}, {server}")
    else:
        yield Finding("wrong", "server", f"{health.product}, {server}: kashvi needs Redis 6.2 or later, or Valkey")
    if not health.primary:
        yield Finding("wrong", "role", "a replica, which takes no writes; connect to the primary")
    if health.evicts:
        yield Finding("wrong", "eviction", f"{health.policy}: a full server drops jobs; set noeviction")
    if health.maxmemory and health.used_memory > NEARLY_FULL * health.maxmemory:
        used, limit = health.used_memory / 2**20, health.maxmemory / 2**20
        yield Finding("wrong", "memory", f"{used:,.1f} of {limit:,.1f} MiB are used; a full server refuses jobs")


def _table(queue: Queue, database_url: str | None) -> Finding:
    if not queue.database_chosen and not database_url and not Path(DATABASE_FILE).exists():
        return Finding("note", "table", f"no {DATABASE_FILE} in this directory; queue:work makes it")
    import sqlalchemy as sa

    from ..failures.table import TABLE, obstacle
    from ..failures.trouble import TROUBLE, why

    store = failure_table(queue, database_url)
    try:
        if not store.exists():
            return Finding("note", "table", f"{store!r} has no {TABLE} yet; queue:work makes it")
        with store.engine.connect() as connection:
            if why_not := obstacle(sa.inspect(connection)):
                return Finding("wrong", "table", f"{TABLE} in {store!r} takes no rows: {why_not}")
            count = connection.scalar(sa.select(sa.func.count()).select_from(sa.table(TABLE)))
        store.try_insert()
    except TROUBLE as error:
        return Finding("wrong", "table", f"{store!r} can't be used: {why(error)}")
    except StoreUnavailable as error:
        return Finding("wrong", "table", f"{TABLE} in {store!r} takes no rows: {error}")
    return Finding("ok", "table", f"{count:,} failed jobs in {store!r}")
