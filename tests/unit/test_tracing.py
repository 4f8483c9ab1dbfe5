"""The trace of a job: given at its dispatch, there at each attempt (JOBS-24)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from kashvi import current
from kashvi.drivers.memory import MemoryDriver
from kashvi.errors import InvalidSetting
from kashvi.queues import Queue
from kashvi.registry import Registry

seen: list[dict[str, str]] = []


@dataclass
class Note:
    def handle(self) -> None:
        seen.append(current().trace)


@pytest.fixture
def queue() -> Queue:
    seen.clear()
    queue = Queue(MemoryDriver(), registry=Registry())
    queue.register("jobs.Note", Note)
    queue.register("jobs.Link", type("Link", (Note,), {}), queue="links")
    return queue


def test_the_trace_is_stored_in_an_outbox_with_its_job(queue: Queue, tmp_path: Path) -> None:
    """The relay, in another process, has no context of the caller."""
    engine = sa.create_engine(f"sqlite:///{tmp_path}/app.db")
    queue.outbox(engine)
    queue.tracing(lambda outgoing: {"traceparent": outgoing.queue})
    with engine.begin() as connection:
        queue.dispatch(Note(), session=connection)
    queue.work(drain=True)
    engine.dispose()
    assert seen == [{"traceparent": "default"}]


@pytest.mark.parametrize("trace", [7, [], None, {"a": 1}, "text", [[[]]]])
def test_a_trace_that_is_none_fails_no_job(queue: Queue, trace: Any) -> None:
    """Another program may write anything there."""
    envelope = {"id": "a", "type": "jobs.Note", "payload": {}, "trace": trace}
    queue.driver.push([json.dumps(envelope).encode()])
    queue.work(drain=True)
    assert seen == [{}]
    assert queue.failed_jobs() == []


@pytest.mark.parametrize("given", [7, "text", ["a"], {"a": 1}, {1: "a"}, {"a": "\ud800"}, {"\ud800": "a"}])
def test_a_hook_that_gives_no_texts_makes_the_dispatch_raise(queue: Queue, given: Any) -> None:
    """[JOBS-24] Half a surrogate pair is no text: no JSON can hold it. Nothing is sent."""
    queue.tracing(lambda outgoing: given)
    with pytest.raises(InvalidSetting, match="a hook for traces"):
        queue.dispatch(Note())
    assert queue.stats().ready == 0


def test_the_hooks_of_several_tracers_add_up(queue: Queue) -> None:
    """And one may have nothing to say."""
    queue.tracing(lambda outgoing: {"a": "1"})
    queue.tracing(lambda outgoing: None)
    queue.tracing(lambda outgoing: {"b": "2"})
    queue.dispatch(Note())
    queue.work(drain=True)
    assert seen == [{"a": "1", "b": "2"}]


def test_the_first_link_of_a_chain_alone_has_a_trace(queue: Queue) -> None:
    """Workers of an older version refuse a later link with a field that they do not know."""
    queue.tracing(lambda outgoing: {"a": outgoing.job_id})
    link = queue.registry.named("jobs.Link").job_class
    first, _ = queue.chain(link(), link())
    queue.work(drain=True, queues="links")
    assert seen == [{"a": first}, {}]


def test_what_is_no_hook_is_refused(queue: Queue) -> None:
    """At once."""
    with pytest.raises(InvalidSetting, match="a function of the outgoing job"):
        queue.tracing("no")  # type: ignore[type-var]
