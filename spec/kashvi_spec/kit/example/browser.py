"""A browser for examples of the dashboard: it asks an ASGI app, without a socket."""

from __future__ import annotations

import asyncio
import re
from html import unescape
from types import TracebackType
from typing import Any, NamedTuple
from unittest.mock import patch
from urllib.parse import urlencode


class Answer(NamedTuple):
    """The answer to a request."""

    status: int
    text: str
    location: str
    """Where it leads to, after an action."""


class Browser:
    """``with Browser() as browser: kashvi("dashboard")``: the command's server hands over its app, and ends at once."""

    app: Any

    def __enter__(self) -> Browser:
        def run(server: Any, sockets: Any) -> None:
            self.app, self.address = server.config.app, sockets[0].getsockname()[0]

        self._patch = patch("uvicorn.Server.run", run)
        self._patch.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._patch.stop()

    def get(self, path: str, host: str = "localhost") -> Answer:
        """Open a page."""
        return self._ask("GET", path, {"host": host})

    def post(self, path: str, fields: dict[str, str] | None = None, site: str = "same-origin") -> Answer:
        """Send a form, from a page of this site."""
        body = urlencode(fields or {}).encode()
        return self._ask("POST", path, {"host": "localhost", "sec-fetch-site": site}, body)

    def fields(self, page: str, path: str) -> dict[str, str]:
        """The fields of a page's form, by the path that it is sent to."""
        [form] = re.findall(rf'action="{path}".*?</form>', page, re.DOTALL)
        return {name: unescape(value) for name, value in re.findall(r'name="(\w+)" value="([^"]*)"', form)}

    def _ask(self, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> Answer:
        path, _, query = path.partition("?")
        scope = {
            "type": "http", "method": method, "path": path, "root_path": "", "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()], "scheme": "http",
            "http_version": "1.1", "server": ("localhost", 80),
        }  # fmt: skip
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        asyncio.run(self.app(scope, receive, send))
        text = b"".join(one.get("body", b"") for one in sent[1:]).decode()
        location = dict(sent[0]["headers"]).get(b"location", b"").decode()
        return Answer(sent[0]["status"], text, location)
