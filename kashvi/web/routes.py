"""Which page or action has which path; each is asked for by ``authorize`` first, and runs in a thread."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from . import actions, pages
from .access import ACTIONS, VIEW, allowed
from .site import Site

FORM_MAX_BYTES = 256 * 1024
Read = Callable[..., Response]


class Static(StaticFiles):
    """Files of this version; browsers may keep them for an hour."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "max-age=3600"
        return response


def routed(site: Site) -> Starlette:
    """The app without its guard."""

    def get(path: str, read: Read) -> Route:
        async def endpoint(request: Request) -> Response:
            if not await allowed(site.authorize, request, VIEW):
                return await refused(request, VIEW)
            may = frozenset([one for one in ACTIONS if await allowed(site.authorize, request, one)])
            return await run_in_threadpool(site.answer, request, read, may)

        return Route(path, endpoint)

    def post(path: str, action: str, act: Read) -> Route:
        async def endpoint(request: Request) -> Response:
            if not (await allowed(site.authorize, request, VIEW) and await allowed(site.authorize, request, action)):
                return await refused(request, action)
            form = await read_form(request)
            return await run_in_threadpool(site.answer, request, act, form)

        return Route(path, endpoint, methods=["POST"])

    async def refused(request: Request, action: str) -> Response:
        why = "You may not see this dashboard." if action == VIEW else f"You may not {action} jobs here."
        do = "The function authorize of the program that shows this page decides it."
        return await run_in_threadpool(site.wrong, request, 403, why, do=do)

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return await run_in_threadpool(site.wrong, request, error.status_code, error.detail)

    routes = [
        get("/", pages.overview),
        get("/queues/{queue}", pages.queue),
        get("/job", pages.job),
        get("/failures", pages.failures),
        get("/failures/{row}", pages.failure),
        get("/schedule", pages.schedule),
        get("/workers", pages.workers),
        get("/traffic", pages.traffic),
        get("/traffic.json", pages.traffic_json),
        post("/queues/{queue}/pause", "pause", actions.pause),
        post("/queues/{queue}/resume", "resume", actions.resume),
        post("/queues/{queue}/clear", "clear", actions.clear),
        post("/job/cancel", "cancel", actions.cancel),
        post("/failures/retry", "retry", actions.retry),
        post("/failures/forget", "forget", actions.forget),
        Mount("/static", Static(packages=[("kashvi.web", "static")])),
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: http_error})


async def read_form(request: Request) -> list[tuple[str, str]]:
    """The fields of a form, in their order. Raises HTTPException for one that is too long."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > FORM_MAX_BYTES:
            raise HTTPException(413, f"this form is over {FORM_MAX_BYTES:,} bytes")
    return parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)
