"""Bugs of commands about failed jobs: sent back twice or never, rows deleted too early."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from unittest import mock

from kashvi import retrying
from kashvi.cli import failed, listing, options
from kashvi.drivers.redis import RedisDriver
from kashvi.failures.sql import SqlFailures
from kashvi.ports import PREFIX
from kashvi.queues import Queue
from kashvi.worker import recorder, row

from . import Patch, exhibit, where


@exhibit(
    "pushed, then forgotten, without a note",
    "an interruption between the two sends the job twice",
    "COMMANDS-6",
    source="Laravel: RetryCommand",
    also="REDIS-4 REDIS-5",
)
def _(patch: Patch) -> None:
    def push_retried(self: RedisDriver, failure: str, envelope: bytes, queue: str = "default", *lock: Any) -> bool:
        return self.push([envelope], 0.0, [queue]) is None

    patch.setattr(RedisDriver, "push_retried", push_retried)


@exhibit("a job that is sent back is the old one", "with its id and its attempts", "COMMANDS-6")
def _(patch: Patch) -> None:
    real, job_of = retrying.send_back, row.job_of

    def send_back(store: SqlFailures, driver: RedisDriver, rows: Sequence[Any]) -> retrying.SentBack:
        ids = iter([one.job_id for one in rows])
        with mock.patch.object(
            retrying, "job_of", lambda name, payload, extra, _: job_of(name, payload, extra, next(ids))
        ):
            return real(store, driver, rows)

    patch.setattr(failed, "send_back", send_back)


@exhibit(
    "forgotten, then pushed", "an interruption between the two loses the job", "COMMANDS-6", source="Laravel #24549"
)
def _(patch: Patch) -> None:
    real = retrying.send_back

    def send_back(store: SqlFailures, driver: RedisDriver, rows: Sequence[Any]) -> retrying.SentBack:
        here = [one for one in rows if row.prefix_of(one.extra) == driver.prefix]
        store.remove([(one.id, one.job_id) for one in here])
        return real(store, driver, rows)

    patch.setattr(failed, "send_back", send_back)


@exhibit("sent back into memory", "to a queue that ends with the command", "COMMANDS-7", also="COMMANDS-19")
def _(patch: Patch) -> None:
    retry_alone(patch, lambda store, rows: store.remove(rows))


@exhibit("without Redis nothing happens", "the command reports a success", "COMMANDS-7", also="COMMANDS-19")
def _(patch: Patch) -> None:
    retry_alone(patch, lambda store, rows: None)


def retry_alone(patch: Patch, do: Any) -> None:
    """Replace ``queue:retry`` without a Redis."""
    real = failed.retry.callback
    assert real is not None

    def retry(ids: tuple[str, ...], app: str | None, redis_url: str | None, **rest: Any) -> None:
        if redis_url:
            real(ids=ids, app=app, redis_url=redis_url, **rest)
            return
        store = failed._store(options.load_app(app), rest["database_url"])
        do(store, [(row.id, row.job_id) for row in store.rows()])

    patch.setattr(failed.retry, "callback", retry)


@exhibit("forget takes its neighbours along", "it deletes all older rows, too", "COMMANDS-8")
def _(patch: Patch) -> None:
    real = failed._names

    def names(ids: Sequence[str]) -> tuple[list[int], list[str]]:
        numbers, jobs = real(ids)
        return [*range(1, max(numbers, default=0) + 1)], jobs

    patch.setattr(failed, "_names", names)


@exhibit("looking makes a database", "a typing error in the URL makes a file", "COMMANDS-8")
def _(patch: Patch) -> None:
    def store(queue: Queue, url: str | None) -> Any:
        options.choose_database(queue, url)
        return queue.store

    patch.setattr(failed, "_store", store)


@exhibit(
    "cells are cut in a pipe",
    "to eighty columns, although there is no terminal",
    "COMMANDS-18",
    source="kashvi, before",
)
def _(patch: Patch) -> None:
    real = listing._cells
    patch.setattr(listing, "_cells", lambda row: tuple(cell[:30] for cell in real(row)))


@exhibit("filters are heeded one at a time", "with --type, all other filters are ignored", "COMMANDS-18")
def _(patch: Patch) -> None:
    real = listing.wanted
    patch.setattr(failed, "wanted", lambda name, error, since, queue: real(name, None if name else error, since, queue))


@exhibit("all go to the queue that is asked", "jobs of another queue too", "COMMANDS-19", source="kashvi, before")
def _(patch: Patch) -> None:
    where(patch, retrying, "prefix_of", lambda extra: "prefix" in (extra or ""), lambda real, extra: "bank")


@exhibit("the row does not say where it came from", "its queue is unknown", "COMMANDS-19")
def _(patch: Patch) -> None:
    where(
        patch, recorder, "failure_of",
        lambda entry, prefix=None: prefix not in (None, PREFIX),
        lambda real, entry, prefix=None: real(entry),
    )  # fmt: skip
