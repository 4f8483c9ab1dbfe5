"""Who may see and do what: the app's ``authorize``, asked on the server before each page and each action."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

VIEW: Final = "view"
ACTIONS: Final = ("cancel", "clear", "forget", "pause", "resume", "retry")
"""All that a page can change. Each is asked for by this name."""

Authorize = Callable[[Request, str], bool | Awaitable[bool]]
"""Given the request and ``"view"`` or one of ACTIONS; only the answer True allows it. May be async."""


def read_only(request: Request, action: str) -> bool:
    """An ``authorize`` that lets every visitor see all, and change nothing."""
    return action == VIEW


def everything(request: Request, action: str) -> bool:
    """An ``authorize`` that lets every visitor do all."""
    return True


async def allowed(authorize: Authorize, request: Request, action: str) -> bool:
    """Whether the app allows it. A function that is not async is called in a thread, since it may ask a database."""
    answer = await run_in_threadpool(authorize, request, action)
    return (await answer if isawaitable(answer) else answer) is True
