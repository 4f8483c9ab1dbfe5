"""What a page can change. Each job is named by its id and a mark of what the page showed: one that moved is left."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, Literal

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from .. import events
from ..errors import InvalidSetting, RedisRequired
from ..names import queue_name
from ..ports import Retrying
from ..retrying import remove, send_back
from ..text import visible
from ..view import Missing
from ..view.failed_rows import whole
from ..view.values import LIMIT_MAX
from ..worker.row import queue_of
from .links import Links
from .pages import filter_of, number
from .seen import seen_of_job, seen_of_row
from .site import Site

if TYPE_CHECKING:
    from ..failures.sql import SqlFailures
    from ..failures.table import FailedJobRecord

Form = list[tuple[str, str]]
What = Literal["retry", "forget"]
AT_ONCE = 500
"""The most rows of one request of a bulk action; the page asks on."""

log = logging.getLogger("kashvi")


def pause(site: Site, request: Request, form: Form) -> Response:
    """Let no job of the queue start."""
    name = _queue(request)
    site.queue.pause(name)
    return _done(site, request, f"/queues/{name}", f"paused the queue {name}", told="paused")


def resume(site: Site, request: Request, form: Form) -> Response:
    """End the pause."""
    name = _queue(request)
    site.queue.resume(name)
    return _done(site, request, f"/queues/{name}", f"resumed the queue {name}", told="resumed")


def clear(site: Site, request: Request, form: Form) -> Response:
    """Remove the queue's ready and delayed jobs."""
    name = _queue(request)
    gone = sum(site.queue.clear(name))
    return _done(site, request, f"/queues/{name}", f"cleared the queue {name}: {gone}", told="cleared", n=gone)


def cancel(site: Site, request: Request, form: Form) -> Response:
    """Cancel one job, if it is where the page showed it."""
    asked = dict(form)
    job_id = asked.get("id", "")
    if seen_of_job(site.view.story(job_id)) != asked.get("seen"):
        return _done(site, request, "/job", f"did not cancel {job_id}, which had moved", id=job_id, told="moved")
    outcome = site.queue.cancel(job_id)
    told = {"removed": "cancelled", "asked": "asked", "unknown": "ended"}[outcome]
    return _done(site, request, "/job", f"cancelled {job_id}: {outcome}", id=job_id, told=told)


def retry(site: Site, request: Request, form: Form) -> Response:
    """Send failed jobs back: those that are ticked, or all that match a filter."""
    return _with_failures(site, request, form, "retry")


def forget(site: Site, request: Request, form: Form) -> Response:
    """Delete failed jobs: those that are ticked, or all that match a filter."""
    return _with_failures(site, request, form, "forget")


def _with_failures(site: Site, request: Request, form: Form, what: What) -> Response:
    asked = dict(form)
    store = _store(site)
    if asked.get("all"):
        return _all(site, request, asked, what, store)
    named = [text.partition(":")[::2] for name, text in form if name == "row"]
    if not named:
        return _back(request, asked, told="none")
    if len(named) > LIMIT_MAX:
        raise ValueError(f"{len(named)} rows are ticked, of {LIMIT_MAX} at most")
    rows = store.rows([number(row_id) for row_id, _ in named])
    seen = {number(row_id): mark for row_id, mark in named}
    same = [row for row in rows if seen_of_row(whole(row)) == seen[row.id]]
    counts = _do(site, store, what, same)
    counts["late"] += len(named) - len(same)
    log.info("kashvi: the dashboard: %s: %s", _past(what), visible(", ".join(str(row.id) for row in same)))
    site.forget_figures()
    return _back(request, asked, **counts, told=_past(what) if counts["n"] else "")


def _all(site: Site, request: Request, asked: dict[str, str], what: What, store: SqlFailures) -> Response:
    """The next rows that match, newest first, of those up to the one that the page showed first."""
    wanted = filter_of(asked.get, site.view_now())
    upto, before = number(asked.get("upto", "")), asked.get("before", "")
    counts = Counter({name: number(asked.get(name, "0")) for name in ("n", "late", "held", "other")})
    next_row: int | None = number(before) if before else upto + 1
    ids: list[int] = []
    while next_row is not None and len(ids) < AT_ONCE:
        page = site.view.failures(wanted, before=next_row, limit=min(LIMIT_MAX, AT_ONCE - len(ids)))
        if isinstance(page, Missing):
            break
        ids += [row.row_id for row in page.rows]
        next_row = page.next
    for rows in store.pages((ids, [])):
        counts += _do(site, store, what, rows)
    log.info("kashvi: the dashboard: %s all that match, %d so far", _past(what), counts["n"])
    if next_row is None:
        site.forget_figures()
        return _back(request, asked, **counts, told=_past(what))
    fields = {name: text for name, text in asked.items() if name in FILTER} | {"upto": str(upto), "all": "1"}
    fields |= {"before": str(next_row), "of": asked.get("of", "0")} | {name: str(n) for name, n in counts.items()}
    return site.page(
        request, "asking", frozenset(), section="failures", what=what, fields=fields, done=counts.total(),
        of=max(number(asked.get("of", "0")), counts.total()),
    )  # fmt: skip


def _do(site: Site, store: SqlFailures, what: What, rows: list[FailedJobRecord]) -> Counter[str]:
    """What became of the rows: ``n`` were done, ``late`` were not there, ``held`` and ``other`` stay."""
    if what == "forget":
        gone = remove(store, rows)
        for row in rows:
            if row.id in gone:
                about = {"type": row.job_type, "queue": queue_of(row.queue, row.extra)}
                site.queue._stream.emit(events.FailureForgotten, job_id=row.job_id or "", **about)
        return Counter(n=len(gone), late=len(rows) - len(gone))
    driver = site.queue.driver
    if not isinstance(driver, Retrying):
        raise RedisRequired("to retry a job")

    def told(row: FailedJobRecord, job_id: str, queue: str) -> None:
        site.queue._stream.emit(events.JobDispatched, job_id=job_id, type=row.job_type, queue=queue)

    found = send_back(store, driver, rows, told)
    return Counter(n=len(found.sent), held=len(found.held), other=found.elsewhere.total())


FILTER = ("type", "error", "queue", "since", "until")


def _back(request: Request, asked: dict[str, str], **told: object) -> Response:
    """To the list, filtered as before."""
    kept = {name: asked.get(name, "") for name in FILTER}
    return RedirectResponse(Links(request)("/failures", **kept, **told), 303)


def _done(site: Site, request: Request, path: str, what: str, **query: object) -> Response:
    """To the page that shows what was done."""
    log.info("kashvi: the dashboard %s", visible(what))
    site.forget_figures()
    return RedirectResponse(Links(request)(path, **query), 303)


def _store(site: Site) -> SqlFailures:
    from ..failures.sql import SqlFailures

    if not isinstance(store := site.queue.store, SqlFailures):
        raise InvalidSetting("the database", store, "one with the table kashvi_failed_jobs: queue.use_db(url)")
    return store


def _queue(request: Request) -> str:
    return queue_name(request.path_params["queue"])


def _past(what: What) -> str:
    return {"retry": "retried", "forget": "forgotten"}[what]
