"""A dashboard in this process, asked without a socket."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest

from kashvi import web
from kashvi.ports import Failure
from kashvi.queue import Queue
from kashvi.registry import Registry
from tests.servers.launch import RedisServer

collect_ignore = [] if find_spec("playwright") or os.environ.get("CI") else ["test_browser.py"]
HOST = "ops.example.com"
OURS = {"Sec-Fetch-Site": "same-origin"}
WHEN = datetime(2026, 11, 27, 10, 0, tzinfo=UTC)


class Browser:
    """Asks an app, as a browser on one of its pages does unless ``headers`` say otherwise."""

    def __init__(self, app: Any, host: str = HOST) -> None:
        self._app = app
        self._host = host

    def get(self, path: str, **headers: str) -> httpx.Response:
        return asyncio.run(self._ask("GET", path, headers))

    def post(self, path: str, fields: dict[str, Any] | None = None, **headers: str) -> httpx.Response:
        return asyncio.run(self._ask("POST", path, headers or OURS, fields or {}))

    async def _ask(
        self, method: str, path: str, headers: dict[str, str], fields: dict[str, Any] | None = None
    ) -> httpx.Response:
        transport = httpx.ASGITransport(self._app)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{self._host}") as client:
            return await client.request(method, path, headers=named, data=fields)


@dataclass
class Mail:
    to: str

    def handle(self) -> None: ...


def failure(n: int, error: str = "ValueError: no card", payload: str = "", **other: Any) -> Failure:
    """The n-th failed job, a minute after the one before."""
    about = {"job_type": "jobs.Mail", "traceback": "", "queue": ""} | other
    body = payload or f'{{"to":"{n}@example.com"}}'
    failed_at = WHEN + timedelta(minutes=n)
    return Failure(
        f"job-{n}", about["job_type"], body.encode(), error, 3, failed_at, about["traceback"], about["queue"]
    )


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    """In memory, with a failure table."""
    made = Queue(registry=Registry(), database=f"sqlite:///{tmp_path}/failed.db")
    made.register("jobs.Mail", Mail)
    yield made
    made.store.engine.dispose()  # type: ignore[union-attr]


@pytest.fixture
def on_redis(queue: Queue, valkey: RedisServer) -> Queue:
    """The same on a server, to which failed jobs can be sent back."""
    queue.set_driver(valkey.url)
    return queue


Made = Callable[..., Browser]


@pytest.fixture
def open_app() -> Made:
    """Makes a dashboard and opens it; everything is allowed unless ``authorize`` says otherwise."""

    def made(queue: Queue, authorize: web.Authorize = web.everything, **settings: Any) -> Browser:
        return Browser(web.app(queue, authorize=authorize, **({"allowed_hosts": [HOST]} | settings)))

    return made
