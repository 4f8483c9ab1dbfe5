"""What all pages share: the queue and its view, figures kept for a second, templates, and pages for what goes wrong."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from ..errors import DriverError, InvalidSetting, KashviError, StoreError
from ..text import visible
from ..view import Missing, View
from . import shown
from .access import Authorize
from .links import Links
from .told import told

if TYPE_CHECKING:
    from ..queues import Queue

FRESH_S = 1.0
"""How long a figure is kept."""
TITLES = {400: "That can't be shown", 403: "Not allowed", 404: "Not found", 405: "Not allowed", 413: "Too much"}

log = logging.getLogger("kashvi")


class Site:
    """One dashboard in one process. Its methods block, but for ``may``."""

    def __init__(self, queue: Queue, view: View, authorize: Authorize, redact: shown.Redact | None) -> None:
        self.queue = queue
        self.view = view
        self.authorize = authorize
        self.texts = shown.Texts(redact)
        self._runtime = queue._runtime
        self._forked()
        self._runtime.at_fork(self._forked)
        self._pages = Environment(
            loader=PackageLoader("kashvi.web"), autoescape=True, undefined=StrictUndefined, auto_reload=False,
            trim_blocks=True, lstrip_blocks=True,
        )  # fmt: skip
        self._pages.globals |= {name: getattr(shown, name) for name in ("span", "distance", "clock", "rate", "within")}
        self._pages.globals |= {"texts": self.texts, "missing": lambda value: isinstance(value, Missing)}
        self._pages.filters |= {"visible": visible, "n": "{:,}".format}

    def _forked(self) -> None:
        self._lock = self._runtime.condition()
        self._kept: dict[str, tuple[float, Any]] = {}

    def figure(self, name: str, read: Callable[[], Any]) -> Any:
        """The answer of ``read``, shared by all who ask within a second; an error of kashvi's, too."""
        with self._lock:  # so that many tabs make one call
            at, value = self._kept.get(name, (-FRESH_S, None))
            now = self._runtime.monotonic()
            if not 0 <= now - at < FRESH_S:
                try:
                    value = read()
                except KashviError as error:
                    value = error
                now = self._runtime.monotonic()
                self._kept = {kept: one for kept, one in self._kept.items() if now - one[0] < FRESH_S}
                self._kept[name] = (now, value)
        if isinstance(value, KashviError):
            raise value
        return value

    def forget_figures(self) -> None:
        """After an action, so that the next page shows it."""
        with self._lock:
            self._kept = {}

    def page(self, request: Request, name: str, may: frozenset[str], status: int = 200, **values: Any) -> Response:
        """A page."""
        link = Links(request)
        known: Mapping[str, Any] = {
            "link": link, "may": may, "section": name, "told": told(request.query_params), "search": "",
            "server": visible(repr(self.queue.driver)), "now": self.view_now() if status == 200 else None,
        }  # fmt: skip
        return HTMLResponse(self._pages.get_template(f"{name}.html").render({**known, **values}), status)

    def view_now(self) -> Any:
        """The server's time."""
        return self.figure("now", self.view.now)

    def wrong(self, request: Request, status: int, why: str, title: str = "", do: str = "") -> Response:
        """A page that says what went wrong, and what to do."""
        title = title or TITLES.get(status, "Something went wrong")
        return self.page(request, "wrong", frozenset(), status, title=title, why=visible(why), do=do)

    def answer(self, request: Request, read: Callable[..., Response], *arguments: Any) -> Response:
        """What ``read`` answers, or a page about its error."""
        wrong = partial(self.wrong, request)
        try:
            return read(self, request, *arguments)
        except DriverError as error:
            do = (
                "The jobs are safe. Start the server, or check the URL this dashboard was given; this page looks again."
            )
            return wrong(503, str(error), "The server does not answer", do)
        except StoreError as error:
            do = "Failed jobs wait on the server until the database is back. Check its URL; this page looks again."
            return wrong(503, str(error), "The database of failed jobs does not answer", do)
        except (InvalidSetting, ValueError) as error:
            return wrong(400, str(error))
        except KashviError as error:
            return wrong(400, str(error))
