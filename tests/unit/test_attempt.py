"""What handle() returns, and whether it ran."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from functools import partial, partialmethod
from typing import Any

import pytest

from kashvi.queue import Queue
from kashvi.registry import Registry

ran: list[str] = []


async def _async(self: object = None) -> None:
    ran.append("async")


def _generator(self: object = None) -> Iterator[None]:
    ran.append("generator")
    yield


async def _async_generator(self: object = None) -> AsyncIterator[None]:
    ran.append("async generator")
    yield


class Awaitable:
    def __await__(self) -> Iterator[None]:
        ran.append("awaitable")
        yield


def logged(handle: Callable[..., Any]) -> Callable[..., Any]:
    """An ordinary decorator."""
    return lambda self: handle(self)  # noqa: PLW0108


class Callable_:
    """An object with a __call__ that says nothing."""

    def __call__(self, *args: object) -> Any:
        return _async()


def _future(self: object) -> asyncio.Future[None]:
    with closing(asyncio.new_event_loop()) as loop:
        return loop.create_future()


def handled(handle: Any) -> tuple[list[str], int]:
    """The errors of a job with that handle(), and how often it was tried."""
    job_class = dataclass(type("Job", (), {"handle": handle}))
    queue = Queue(registry=Registry(), max_attempts=1)
    queue.register("jobs.Job", job_class)
    queue.dispatch(job_class())
    queue.work(stop_when_empty=True)
    return [failed.error for failed in queue.failed_jobs()], sum(failed.attempts for failed in queue.failed_jobs())


@pytest.mark.parametrize(
    ("handle", "what"),
    [
        (logged(_generator), "a generator"),
        (logged(_async_generator), "an async_generator"),
        (contextmanager(_generator), "a _GeneratorContextManager"),
        (asynccontextmanager(_async_generator), "a _AsyncGeneratorContextManager"),
        (lambda self: [_async(), _async()], "a list of coroutines"),
        (lambda self: (_generator(),), "a tuple of generators"),
        (lambda self: map(ran.append, [1]), "a map"),
        (lambda self: filter(ran.append, [1]), "a filter"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_would_still_have_to_run_is_a_failed_attempt(handle: Any, what: str) -> None:
    """Also behind a decorator; Python does not warn that it was never awaited."""
    ran.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        errors, attempts = handled(handle)
        gc.collect()
    assert (ran, attempts) == ([], 1)
    [error] = errors
    assert error.startswith(f"HandleNotRun: handle() returned {what}, and its code did not run.")


@pytest.mark.parametrize(
    ("handle", "what"),
    [
        (_async, "async"),
        (logged(_async), "async"),
        (logged(lambda self: Awaitable()), "awaitable"),
        (partialmethod(logged(_async)), "async"),
        (staticmethod(partial(logged(_async), None)), "async"),
        (Callable_(), "async"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_can_be_awaited_is_run(handle: Any, what: str) -> None:
    """Also behind a decorator."""
    ran.clear()
    assert handled(handle) == ([], 0)
    assert ran == [what]


def test_a_future_of_another_loop_is_a_failed_attempt() -> None:
    """The worker can't tell whether it ran."""
    errors, attempts = handled(logged(_future))
    assert attempts == 1
    assert "different loop" in errors[0]


VALUES: list[Any] = [None, 0, False, "x", [1], [], iter([1]), ValueError(), Future(), open, object()]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_any_other_value_is_a_success(value: object) -> None:
    """The worker ignores it."""
    assert handled(lambda self: value) == ([], 0)
