"""Pages of the failure table."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from ..failures.sql import SqlFailures
from ..failures.table import FailedJobRecord
from ..names import DEFAULT
from ..worker.row import queue_of
from .values import SEARCHED_MAX, Failed, FailedPage, FailureFilter

_Row = FailedJobRecord


def page(store: SqlFailures, wanted: FailureFilter, before: int | None, limit: int) -> FailedPage:
    """Rows newest first, and how many match among the newest 10,000. Raises StoreUnavailable."""
    oldest = store.first(sa.select(_Row.id).order_by(_Row.id.desc()).offset(SEARCHED_MAX).limit(1))
    newest = [] if oldest is None else [_Row.id > oldest.id]
    matches = _matches(store, wanted)
    counted = store.first(sa.select(sa.func.count().label("n")).select_from(_Row).where(*matches, *newest))
    names = [getattr(_Row, name) for name in ("queue", "extra") if store.has(name)]
    query = sa.select(_Row.id, _Row.job_id, _Row.job_type, _Row.error, _Row.attempts, _Row.failed_at, *names)
    query = query.where(*matches, *(newest if wanted.error else []))
    if before is not None:
        query = query.where(_Row.id < before)
    rows = store.read(query.order_by(_Row.id.desc()).limit(limit + 1))
    found = tuple(map(_failed, rows[:limit]))
    next_before = found[-1].row_id if len(rows) > limit else None
    return FailedPage(found, next_before, counted.n if counted else 0, oldest is not None)


def whole(row: FailedJobRecord) -> Failed:
    """All of a row."""
    return Failed(
        row.id, row.job_id or "", row.job_type, queue_of(row.queue, row.extra), row.error or "", row.attempts,
        row.failed_at, row.payload, row.traceback or "", row.extra or "",
    )  # fmt: skip


def _failed(row: Any) -> Failed:
    queue = queue_of(getattr(row, "queue", None), getattr(row, "extra", None))
    return Failed(row.id, row.job_id or "", row.job_type, queue, row.error or "", row.attempts, row.failed_at)


def _matches(store: SqlFailures, wanted: FailureFilter) -> list[sa.ColumnElement[bool]]:
    found: list[sa.ColumnElement[bool]] = []
    if "\0" in wanted.type + wanted.error:
        return [sa.false()]  # no row has it, and PostgreSQL refuses to look
    if wanted.type:
        found.append(_Row.job_type == wanted.type)
    if wanted.error:
        found.append(_Row.error.icontains(wanted.error, autoescape=True))
    if wanted.queue and store.has("queue"):
        of_default = sa.or_(_Row.queue.is_(None), _Row.queue.in_(("", DEFAULT)))
        found.append(of_default if wanted.queue == DEFAULT else _Row.queue == wanted.queue)
    elif wanted.queue and wanted.queue != DEFAULT:
        found.append(sa.false())  # the table does not say
    if wanted.since is not None:
        found.append(_time(store, _Row.failed_at) >= _time(store, wanted.since))
    if wanted.until is not None:
        found.append(_time(store, _Row.failed_at) < _time(store, wanted.until))
    return found


def _time(store: SqlFailures, at: Any) -> Any:
    """SQLite keeps times as text, and the Go program's have another zone: compared as numbers."""
    if store.engine.dialect.name != "sqlite":
        return at
    if isinstance(at, datetime):
        at = at.astimezone(UTC).isoformat(" ", "microseconds")
    return sa.func.julianday(at, type_=sa.Float())
