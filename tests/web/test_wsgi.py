"""The dashboard as a WSGI app, also in a server that forks after it has loaded the app."""

from __future__ import annotations

import io
import os
import signal
from typing import Any

from kashvi import web
from kashvi.queue import Queue

from .conftest import Mail


def ask(app: Any, path: str, **extra: Any) -> tuple[str, str]:
    """One request as a WSGI server makes it."""
    said: list[Any] = []
    environ = {
        "REQUEST_METHOD": "GET", "SCRIPT_NAME": "/ops", "PATH_INFO": path, "QUERY_STRING": "", "SERVER_NAME": "x",
        "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1", "HTTP_HOST": "x", "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http", "wsgi.input": io.BytesIO(), "wsgi.errors": io.StringIO(), "wsgi.multithread": True,
        "wsgi.multiprocess": True, "wsgi.run_once": False,
    }  # fmt: skip
    body = b"".join(app(environ | extra, lambda status, headers, exc=None: said.append((status, dict(headers)))))
    assert "content-security-policy" in {name.lower() for name in said[0][1]}
    return said[0][0], body.decode()


def test_a_wsgi_server_shows_it_below_its_prefix(queue: Queue) -> None:
    """And ``authorize`` finds the environment."""

    def authorize(request: Any, action: str) -> bool:
        return request.scope["wsgi_environ"].get("REMOTE_USER") == "ada"

    queue.dispatch(Mail("a"))
    app = web.wsgi_app(queue, authorize=authorize, allowed_hosts=["x"])
    assert ask(app, "/")[0].startswith("403")
    status, page = ask(app, "/", REMOTE_USER="ada")
    assert status == "200 OK"
    assert 'href="/ops/queues/default"' in page
    assert ask(app, "/static/dashboard.css")[0] == "200 OK"


def test_after_a_fork_the_child_answers_too(queue: Queue) -> None:
    """As with ``gunicorn --preload``: a thread of the parent is not in the child."""
    app = web.wsgi_app(queue, authorize=web.read_only, allowed_hosts=["x"])
    assert ask(app, "/")[0] == "200 OK"
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # if it never answers
        try:
            os._exit(0 if ask(app, "/")[0] == "200 OK" else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
