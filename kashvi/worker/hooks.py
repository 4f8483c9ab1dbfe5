"""What surrounds ``handle()``: hooks, and the running attempt for ``current()``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from types import TracebackType
from typing import Any, NamedTuple

from ..errors import InvalidSetting, NoAttempt
from .settle import Delivery


class Attempt(NamedTuple):
    """The running attempt, as handlers and hooks see it (JOBS-11)."""

    job_id: str
    """The same at every attempt and after a takeover, so an idempotency key."""
    type: str
    attempt: int
    """Counted from 1."""


Hook = Callable[[Attempt], AbstractContextManager[Any]]
RUNNING: ContextVar[Delivery | None] = ContextVar("the running attempt", default=None)


def current() -> Attempt:
    """The attempt that this code belongs to: its handler, a hook around it, or a task that copied its context.

    Raises NoAttempt elsewhere (JOBS-11).
    """
    d = RUNNING.get()
    if d is None:
        raise NoAttempt
    return Attempt(d.job_id, d.type, d.attempts + 1)


def enclosed(
    hooks: Sequence[Hook],
    handle: Callable[[], object],
    ended: Callable[[BaseException | None], None],
    passed_over: Callable[[Hook, BaseException], None],
) -> BaseException | None:
    """Call ``handle`` inside the hooks, the first outermost; returns what the attempt raised (JOBS-13).

    ``ended`` is called when ``handle`` is over, before any hook is left. ``passed_over`` is called with the error of a
    hook after one of ``handle`` or of an inner hook, which decides.
    """
    inside: list[tuple[Hook, AbstractContextManager[Any]]] = []
    error: BaseException | None = None
    try:
        attempt = current()
        for hook in hooks:
            manager = hook(attempt)
            if not isinstance(manager, AbstractContextManager):
                raise InvalidSetting("what a hook returns", manager, "a context manager")
            manager.__enter__()
            inside.append((hook, manager))
        handle()
    except BaseException as raised:
        error = raised
    ended(error)
    for hook, manager in reversed(inside):
        try:
            _leave(manager, error)
        except BaseException as own:
            if error is None:
                error = own
            elif own is not error:
                passed_over(hook, own)
    return None if error is None else error.with_traceback(_from_outside(error.__traceback__))


def _leave(manager: AbstractContextManager[Any], error: BaseException | None) -> None:
    """What it returns is ignored: no hook makes a success of a failure."""
    if error is None:
        manager.__exit__(None, None, None)
    else:
        manager.__exit__(type(error), error, error.__traceback__)


def _from_outside(trace: TracebackType | None) -> TracebackType | None:
    """Without the frames of kashvi at its beginning."""
    at = trace
    while at is not None and at.tb_frame.f_globals.get("__name__", "").startswith("kashvi.worker."):
        at = at.tb_next
    return at or trace
