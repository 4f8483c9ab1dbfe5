"""Flask: each attempt runs in an app context of its own."""

from __future__ import annotations

from flask import Flask
from flask.ctx import AppContext

from ..queues import Queue
from ..worker.hooks import Attempt


def in_app_context(queue: Queue, app: Flask) -> None:
    """Push a context of ``app`` around each attempt of this queue, so that ``current_app``, ``g`` and extensions work.

    Functions of ``app.teardown_appcontext`` are called after each attempt, with its exception.
    """

    def app_context(attempt: Attempt) -> AppContext:
        return app.app_context()

    queue.around(app_context)
