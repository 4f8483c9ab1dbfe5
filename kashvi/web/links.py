"""The paths of pages, below whatever prefix the app is mounted at: paths alone, never a scheme or a host."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote, urlencode

from starlette.requests import Request


class Links:
    """Makes the links of one answer."""

    def __init__(self, request: Request) -> None:
        self.root = quote(request.scope.get("root_path", "").rstrip("/"))
        self.here = quote(request.url.path)
        self._asked = request.query_params.multi_items()

    def __call__(self, path: str, **query: object) -> str:
        """The page at this path of the app, with those parameters that are neither None nor empty."""
        asked = {name: value for name, value in query.items() if value not in (None, "")}
        return self.root + quote(path) + ("?" + urlencode(asked) if asked else "")

    def again(self, **changed: object) -> str:
        """This page, with some of its parameters changed; None or "" takes one away."""
        asked: Mapping[str, object] = dict(self._asked) | changed
        kept = {name: value for name, value in asked.items() if value not in (None, "")}
        return self.here + ("?" + urlencode(kept) if kept else "")
