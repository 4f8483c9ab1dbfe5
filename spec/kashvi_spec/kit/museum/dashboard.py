"""Bugs of dashboards: buttons hidden and actions open, foreign pages that act, another job than the one shown."""

from __future__ import annotations

from typing import Any

from . import Patch, exhibit


@exhibit(
    "read-only hides the buttons alone",
    "the server does what a form asks for, though the reader may only look",
    "COMMANDS-29",
    source="bull-board #780, #941",
)
def _(patch: Patch) -> None:
    from kashvi.web import routes

    async def allowed(authorize: Any, request: Any, action: str) -> bool:
        return True

    patch.setattr(routes, "allowed", allowed)


@exhibit("a foreign page may send a form", "it clears a queue from another tab", "COMMANDS-29")
def _(patch: Patch) -> None:
    from kashvi.web.guard import SameOrigin

    patch.setattr(SameOrigin, "_own", lambda self, headers: True)


@exhibit("any name leads to the dashboard", "a foreign page reads payloads by DNS rebinding", "COMMANDS-29")
def _(patch: Patch) -> None:
    from kashvi import web
    from kashvi.web import guard

    real = guard.guarded
    patch.setattr(web, "guarded", lambda app, hosts, origins: real(app, "*", origins))


@exhibit("a job is cancelled wherever it went", "the page showed another state of it", "COMMANDS-30")
def _(patch: Patch) -> None:
    from kashvi.web import actions, pages

    for module in (actions, pages):
        patch.setattr(module, "seen_of_job", lambda story: story.job_id)


@exhibit("a row is forgotten by its number alone", "another failure has the number by now", "COMMANDS-30")
def _(patch: Patch) -> None:
    from kashvi.web import actions, pages

    for module in (actions, pages):
        patch.setattr(module, "seen_of_row", lambda row: str(row.row_id))
