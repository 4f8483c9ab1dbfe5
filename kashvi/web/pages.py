"""The pages that only show."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import cast

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..delays import moment
from ..errors import StoreError
from ..names import queue_name
from ..ports import WHERE, Where
from ..view import FailureFilter, Minute, Missing
from .seen import seen_of_job, seen_of_row
from .shown import WHOLE_MAX
from .site import Site
from .traffic import HOUR, SPANS, rates, summed, table, trends

May = frozenset[str]


def overview(site: Site, request: Request, may: May) -> Response:
    """Each queue: depth, the age of its oldest job, rates and waits."""
    queues = site.figure("queues", site.view.queues)
    minutes, now = _minutes(site, HOUR), site.view_now()
    try:
        failed = site.figure("failed", lambda: site.view.failures(limit=1))
        trouble = ""
    except StoreError as error:
        failed, trouble = None, str(error)
    return site.page(
        request, "overview", may,
        stats=site.figure("stats", site.view.stats), queues=queues, failed=failed, trouble=trouble,
        outboxes=site.figure("outboxes", site.view.outboxes), offered=not isinstance(minutes, Missing),
        hour=summed(minutes), rates=rates(minutes, now), trends=trends(minutes, now),
    )  # fmt: skip


def queue(site: Site, request: Request, may: May) -> Response:
    """One queue, and a page of its jobs."""
    name = queue_name(request.path_params["queue"])
    where = cast("Where", request.query_params.get("where", "ready"))
    if where not in WHERE:
        raise ValueError(f"there are jobs that are {', '.join(WHERE)}; not {where!r}")
    after = request.query_params.get("after", "")
    found = site.figure(f"jobs {where} {name} {after}", lambda: site.view.jobs(where, name, after=after))
    states = {one.name: one for one in site.figure("queues", site.view.queues)}
    minutes = _minutes(site, HOUR)
    return site.page(
        request, "queue", may, section="overview", queue=name, state=states.get(name), where=where, page=found,
        after=after, hour=summed(minutes, name), offered=not isinstance(minutes, Missing),
    )  # fmt: skip


def job(site: Site, request: Request, may: May) -> Response:
    """Where one job is, and what happened to it."""
    job_id = request.query_params.get("id", "").strip()
    story = site.view.story(job_id)
    return site.page(
        request, "job", may, section="overview", search=job_id, story=story, seen=seen_of_job(story),
        most=_most(request),
    )  # fmt: skip


def failures(site: Site, request: Request, may: May) -> Response:
    """A page of failed jobs, filtered by what the URL says."""
    asked = request.query_params
    wanted = filter_of(asked.get, site.view_now())
    before = number(text) if (text := asked.get("before", "")) else None
    page = site.view.failures(wanted, before=before)
    filtered = wanted != FailureFilter()
    return site.page(
        request, "failures", may, asked=asked, wanted=wanted, page=page, before=before, filtered=filtered,
        seen=seen_of_row,
    )  # fmt: skip


def failure(site: Site, request: Request, may: May) -> Response:
    """One failed job."""
    try:
        row_id = number(request.path_params["row"])
    except ValueError as error:
        return site.wrong(request, 404, str(error))
    found = site.view.failure(row_id)
    if found is None or isinstance(found, Missing):
        why = f"There is no failed job of the number {row_id}: it was sent back, deleted, or never there."
        return site.wrong(request, 404, why)
    return site.page(
        request, "failure", may, section="failures", row=found, seen=seen_of_row(found), most=_most(request)
    )


def schedule(site: Site, request: Request, may: May) -> Response:
    """The cron entries."""
    return site.page(request, "schedule", may, entries=site.figure("schedule", site.view.schedule))


def workers(site: Site, request: Request, may: May) -> Response:
    """The workers, and what each runs."""
    return site.page(request, "workers", may, workers=site.figure("workers", site.view.workers))


def traffic(site: Site, request: Request, may: May) -> Response:
    """What ended, and how long it took, in the last hour or day."""
    span, minutes = _asked_minutes(site, request)
    return site.page(
        request, "traffic", may, span=span, spans=list(SPANS), offered=not isinstance(minutes, Missing),
        types=[] if isinstance(minutes, Missing) else table(minutes), sum=summed(minutes),
    )  # fmt: skip


def traffic_json(site: Site, request: Request, may: May) -> Response:
    """The same as columns for a chart: Unix seconds, then numbers by outcome."""
    span, minutes = _asked_minutes(site, request)
    columns = trends(minutes, site.view_now(), SPANS[span], 60 if span == "hour" else 96).get("", [])
    return JSONResponse({
        "at": [slot.at.timestamp() for slot in columns], "done": [slot.done for slot in columns],
        "retried": [slot.retried for slot in columns], "failed": [slot.failed for slot in columns],
    })  # fmt: skip


def filter_of(asked: Callable[[str, str], str], now: datetime) -> FailureFilter:
    """The filter in a URL or a form. Raises ValueError."""

    def at(name: str) -> datetime | None:
        text = asked(name, "").strip()
        try:
            return datetime.fromtimestamp(moment(text, now.timestamp()), UTC) if text else None
        except (ValueError, OverflowError, OSError):
            wanted = "neither a duration such as 30m, 2h or 7d nor a time such as 2026-11-24T12:00 (UTC)"
            raise ValueError(f"{text!r} is {wanted}") from None

    name = asked("queue", "").strip()
    return FailureFilter(
        asked("type", "").strip(), asked("error", ""), queue_name(name) if name else "", at("since"), at("until")
    )


def _minutes(site: Site, minutes: int) -> list[Minute] | Missing:
    found: list[Minute] | Missing = site.figure(f"counts {minutes}", lambda: site.view.counts(minutes))
    return found


def _asked_minutes(site: Site, request: Request) -> tuple[str, list[Minute] | Missing]:
    span = request.query_params.get("span", "hour")
    if span not in SPANS:
        raise ValueError(f"the span is {' or '.join(SPANS)}; not {span!r}")
    return span, _minutes(site, SPANS[span])


def _most(request: Request) -> int | None:
    """How many characters of a text are shown; None: all."""
    return None if request.query_params.get("whole") else WHOLE_MAX


def number(text: str) -> int:
    """The number of a row, or of rows. Raises ValueError for text that is none, or for more than a database counts."""
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise ValueError(f"{text[:40]!r} is not the number of a row")
    return int(text)
