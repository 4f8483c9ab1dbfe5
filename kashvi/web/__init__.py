"""The dashboard: what is in the queue, why a job failed, and what to do about it. Needs the extra ``web``.

``app`` is an ASGI app to mount in FastAPI, Starlette or Django; ``wsgi_app`` is the same for Flask and others.
``kashvi dashboard`` serves it. It reads through ``kashvi.view.View`` when a browser asks, and keeps nothing but the
figures of the last second: while no page is open it costs nothing. ``docs/dashboard.md`` has recipes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from starlette.types import ASGIApp

from ..view.live import LiveView
from .access import ACTIONS, Authorize, everything, read_only
from .guard import guarded
from .routes import routed
from .shown import Redact
from .site import Site
from .wsgi import PerProcess, WsgiApp

if TYPE_CHECKING:
    from ..queues import Queue

__all__ = ["ACTIONS", "Authorize", "Redact", "app", "everything", "read_only", "wsgi_app"]


def app(
    queue: Queue,
    *,
    authorize: Authorize,
    allowed_hosts: str | Sequence[str],
    origins: Sequence[str] = (),
    redact: Redact | None = None,
) -> ASGIApp:
    """The dashboard of a queue.

    authorize: a function of the request and ``"view"`` or one of ACTIONS, async or not; what it does not answer with
        True is refused (403). ``read_only`` is a ready one.
    allowed_hosts: the names, without ports, by which browsers reach it, such as ``["ops.example.com"]``; ``"*"``: any,
        if a proxy checks them. Another name is refused, or a foreign page could read all by DNS rebinding.
    origins: where a proxy changes ``Host``, the origins of its own pages, such as ``["https://ops.example.com"]``.
    redact: a function of a job's type, the part (``"payload"``, ``"error"`` or ``"traceback"``) and its text; returns
        the text to show instead. If it fails, nothing of that part is shown.
    Raises InvalidSetting.
    """
    return guarded(routed(Site(queue, LiveView(queue), authorize, redact)), allowed_hosts, origins)


def wsgi_app(
    queue: Queue,
    *,
    authorize: Authorize,
    allowed_hosts: str | Sequence[str],
    origins: Sequence[str] = (),
    redact: Redact | None = None,
) -> WsgiApp:
    """``app`` for WSGI; ``authorize`` finds the WSGI environment in ``request.scope["wsgi_environ"]``.

    It may be made before a server forks.
    """
    inner = app(queue, authorize=authorize, allowed_hosts=allowed_hosts, origins=origins, redact=redact)
    return PerProcess(inner, queue._runtime)
