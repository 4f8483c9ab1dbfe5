"""kashvi.contrib.otel, with the SDK's exporter in memory."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from kashvi import current
from kashvi.contrib.otel import instrument
from kashvi.drivers.memory import MemoryDriver
from kashvi.queues import Queue
from kashvi.registry import Registry
from kashvi.retries import Fixed, Retry, Snooze

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
tracer = provider.get_tracer("the app")
tried: list[str] = []


@dataclass
class Note:
    text: str = ""

    def handle(self) -> None:
        tried.append(self.text)
        if self.text == "snooze" and len(tried) == 1:
            raise Snooze(0)
        if self.text == "once" and len(tried) == 1:
            raise ValueError("again")
        if self.text == "parent":
            current().dispatch(Note())
        with tracer.start_as_current_span("inside"):
            pass


@dataclass
class Async:
    async def handle(self) -> None:
        await asyncio.gather(*(self._inside() for _ in range(2)))

    async def _inside(self) -> None:
        await asyncio.sleep(0)
        with tracer.start_as_current_span("inside"):
            pass


def a_queue() -> Queue:
    exporter.clear()
    tried.clear()
    queue = Queue(MemoryDriver(), registry=Registry())
    queue.register("jobs.Note", Note, retry=Retry(backoff=Fixed(0, jitter=False)))
    queue.register("jobs.Async", Async)
    return queue


@pytest.fixture
def queue() -> Queue:
    queue = a_queue()
    instrument(queue, provider)
    return queue


def spans(name: str) -> list[ReadableSpan]:
    return [one for one in exporter.get_finished_spans() if one.name == name]


def ids(span: ReadableSpan) -> tuple[int, int]:
    return span.context.trace_id, span.context.span_id


def links(span: ReadableSpan) -> list[tuple[int, int]]:
    return [(link.context.trace_id, link.context.span_id) for link in span.links]


def test_a_job_has_spans_for_its_dispatch_its_attempt_and_its_settlement(queue: Queue) -> None:
    """The attempt is a trace of its own, with a link to the dispatch, which is part of the caller's trace."""
    with tracer.start_as_current_span("request") as request:
        job_id = queue.dispatch(Note())
    queue.work(drain=True)
    [created], [processed], [settled], [inside] = map(
        spans, ("dispatch default", "process default", "settle default", "inside")
    )
    assert (created.kind, processed.kind, settled.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER, SpanKind.CLIENT)
    assert created.context.trace_id == request.get_span_context().trace_id
    assert (links(processed), processed.parent) == ([ids(created)], None)
    for child in (settled, inside):
        assert child.parent
        assert (child.parent.trace_id, child.parent.span_id) == ids(processed)
    assert dict(processed.attributes or {}) == {
        "messaging.system": "kashvi",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "default",
        "messaging.message.id": job_id,
        "kashvi.job.type": "jobs.Note",
        "kashvi.attempt": 1,
    }
    assert (settled.attributes or {})["kashvi.outcome"] == "done"
    assert processed.status.status_code is StatusCode.UNSET


def test_each_retry_links_to_the_dispatch(queue: Queue) -> None:
    """So no trace grows for weeks. The failed attempt has the exception."""
    queue.dispatch(Note("once"))
    queue.work(drain=True)
    [created], (first, second) = spans("dispatch default"), spans("process default")
    assert links(first) == links(second) == [ids(created)]
    assert first.context.trace_id != second.context.trace_id
    assert (first.status.status_code, (first.attributes or {})["error.type"]) == (StatusCode.ERROR, "ValueError")
    assert [event.name for event in first.events] == ["exception"]
    assert [(one.attributes or {})["kashvi.outcome"] for one in spans("settle default")] == ["retried", "done"]


def test_a_snooze_is_no_error(queue: Queue) -> None:
    """The handler wants to be called later."""
    queue.dispatch(Note("snooze"))
    queue.work(drain=True)
    assert {one.status.status_code for one in spans("process default")} == {StatusCode.UNSET}


def test_the_dispatch_may_be_the_parent_of_the_first_attempt() -> None:
    """A retry is still a trace of its own."""
    queue = a_queue()
    instrument(queue, provider, parent=True)
    queue.dispatch(Note("once"))
    queue.work(drain=True)
    [created], (first, second) = spans("dispatch default"), spans("process default")
    assert first.parent
    assert (first.parent.trace_id, first.parent.span_id) == ids(created)
    assert (second.parent, links(second)) == (None, [ids(created)])


def test_spans_of_async_handlers_and_of_several_threads_belong_to_their_attempts(queue: Queue) -> None:
    """Two children each."""
    queue.dispatch_many([Async() for _ in range(6)])
    with queue.start_workers(3):
        queue.work(drain=True)
    processed = {ids(one) for one in spans("process default")}
    parents = [(one.parent.trace_id, one.parent.span_id) for one in spans("inside") if one.parent]
    assert len(processed) == 6
    assert sorted(parents) == sorted([*processed] * 2)


def test_a_follow_up_is_dispatched_in_the_trace_of_its_attempt(queue: Queue) -> None:
    """Its own attempt links there."""
    queue.dispatch(Note("parent"))
    queue.work(drain=True)
    (parent, child), (_, created) = spans("process default"), spans("dispatch default")
    assert created.context.trace_id == parent.context.trace_id
    assert links(child) == [ids(created)]


def test_a_job_of_an_outbox_links_to_the_dispatch_in_the_transaction(queue: Queue, tmp_path: Path) -> None:
    """Not to its relay."""
    engine = sa.create_engine(f"sqlite:///{tmp_path}/app.db")
    queue.outbox(engine)
    with tracer.start_as_current_span("request"), engine.begin() as connection:
        queue.dispatch(Note(), session=connection)
    queue.work(drain=True)
    engine.dispose()
    [created], [processed] = spans("dispatch default"), spans("process default")
    assert links(processed) == [ids(created)]


def test_without_a_tracer_the_envelope_has_no_trace() -> None:
    """A program that has no SDK pays for no field."""
    queue = a_queue()
    instrument(queue, trace.NoOpTracerProvider())
    queue.dispatch(Note())
    assert b"trace" not in next(queue.driver.show("ready", 1)).envelope  # type: ignore[attr-defined]
