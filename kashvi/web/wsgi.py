"""The dashboard as a WSGI app, for Flask and Django."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from starlette.types import ASGIApp

from ..ports import Runtime

Environ = dict[str, Any]
WsgiApp = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]


class PerProcess:
    """Makes the inner app at the first request of each process.

    a2wsgi starts a thread when it is made. ``gunicorn --preload`` forks after that, and its child, without the thread,
    would never answer.
    """

    def __init__(self, app: ASGIApp, runtime: Runtime) -> None:
        self._app = app
        self._runtime = runtime
        self._forked()
        runtime.at_fork(self._forked)

    def _forked(self) -> None:
        self._lock = self._runtime.condition()
        self._inner: WsgiApp | None = None

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        with self._lock:
            if self._inner is None:
                from a2wsgi import ASGIMiddleware

                self._inner = ASGIMiddleware(self._app)  # type: ignore[arg-type, assignment]
            inner = self._inner
        assert inner is not None
        return inner(environ, start_response)
