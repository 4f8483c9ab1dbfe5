"""Hooks around attempts, where the clause's example does not reach: tracebacks, forks, values that are no hook."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from kashvi.errors import InvalidSetting
from kashvi.events import HookFailed, JobFailed, JobSnoozed
from kashvi.queue import Queue
from kashvi.registry import Registry
from kashvi.retries import GiveUp, Snooze
from kashvi.worker.hooks import Attempt

ENDS = (HookFailed, JobFailed, JobSnoozed)


@dataclass
class Does:
    what: str
    path: str = ""

    def handle(self) -> None:
        if self.what == "raises":
            raise ValueError("no card")
        if self.what == "gives up":
            raise GiveUp("no such order")
        if self.what == "is falsy":
            raise Falsy("nothing")
        if self.what == "forks" and (child := os.fork()):
            os.waitpid(child, 0)


class Falsy(Exception):
    """As an exception of an app may be, that is a list too."""

    def __len__(self) -> int:
        return 0


@pytest.fixture
def queue() -> Queue:
    queue = Queue(registry=Registry(), max_attempts=1)
    queue.register("jobs.Does", Does)
    return queue


@contextmanager
def plain(attempt: Attempt) -> Iterator[None]:
    yield


def test_the_traceback_begins_in_the_code_that_raised(queue: Queue) -> None:
    """Of a handler inside hooks, and of a hook."""
    queue.around(plain)
    queue.dispatch(Does("raises"))
    queue.work(stop_when_empty=True)

    @queue.around
    @contextmanager
    def breaks(attempt: Attempt) -> Iterator[None]:
        yield
        raise RuntimeError("the database is away")

    queue.dispatch(Does("returns"))
    queue.work(stop_when_empty=True)
    first, second = (failed.traceback for failed in queue.failed_jobs())
    assert first.splitlines()[1].endswith("in handle")
    assert "in breaks" in second
    assert "kashvi/worker" not in first + second


def test_an_exception_that_is_falsy_is_one_all_the_same(queue: Queue) -> None:
    """With hooks and without."""
    for _ in range(2):
        queue.dispatch(Does("is falsy"))
        queue.work(stop_when_empty=True)
        queue.around(plain)
    assert [failed.error for failed in queue.failed_jobs()] == ["Falsy: nothing"] * 2


def test_a_forked_child_leaves_no_hook(queue: Queue, tmp_path: Path) -> None:
    """Its parent has the session, and commits once."""
    log = tmp_path / "log"

    @queue.around
    @contextmanager
    def session(attempt: Attempt) -> Iterator[None]:
        yield
        with log.open("a") as file:
            file.write("commit ")

    queue.dispatch(Does("forks"))
    queue.work(stop_when_empty=True)
    assert log.read_text() == "commit "


def test_what_is_no_context_manager_fails_the_attempt_with_its_value(queue: Queue) -> None:
    """And what is no function is refused at once."""
    with pytest.raises(InvalidSetting, match="5"):
        queue.around(5)  # type: ignore[type-var]
    queue.around(lambda attempt: "no manager")  # type: ignore[arg-type, return-value]
    queue.dispatch(Does("returns"))
    queue.work(stop_when_empty=True)
    [failed] = queue.failed_jobs()
    assert "'no manager'" in failed.error
    assert "a context manager" in failed.error


def test_a_hook_may_snooze_or_give_up_and_the_handlers_word_goes_before_its(queue: Queue) -> None:
    """As any error of the attempt."""
    told: list[str] = []
    wanted: list[Exception] = [Snooze(0), GiveUp("the tenant is gone")]

    @contextmanager
    def fails_on_the_way_out(attempt: Attempt) -> Iterator[None]:
        try:
            yield
        finally:
            if wanted:
                raise wanted.pop(0)

    queue.set_max_retry(3)
    queue.around(fails_on_the_way_out)
    queue.observe(lambda event: told.append(type(event).__name__) if isinstance(event, ENDS) else None)
    queue.dispatch(Does("returns"))
    queue.work(stop_when_empty=True)
    assert told == ["JobSnoozed", "JobFailed"]
    assert [one.error for one in queue.failed_jobs()] == ["GiveUp: the tenant is gone"]

    told.clear()
    wanted[:] = [ValueError("the commit fails")]
    queue.dispatch(Does("gives up"))
    queue.work(stop_when_empty=True)
    assert told == ["HookFailed", "JobFailed"]
    assert queue.failed_jobs()[-1].error == "GiveUp: no such order"
