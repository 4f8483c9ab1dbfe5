"""Traces for OpenTelemetry, by its conventions for messaging: a span for each dispatch, attempt and settlement."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, StatusCode, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from .. import __version__, events
from ..dispatch import Outgoing
from ..queues import Queue
from ..retries import Snooze
from ..worker.hooks import Attempt

W3C = TraceContextTextMapPropagator()


class Spans:
    """The spans of one queue; ``instrument`` makes it."""

    def __init__(self, provider: TracerProvider | None, *, parent: bool) -> None:
        self._tracer = trace.get_tracer("kashvi", __version__, provider)
        self._parent = parent
        self._processed: dict[str, SpanContext] = {}
        """By job, until it is settled."""

    def create(self, outgoing: Outgoing) -> dict[str, str] | None:
        """A span for the job, whose context the job carries."""
        about = _about("dispatch", "create", outgoing.queue, outgoing.job_id, outgoing.type)
        span = self._tracer.start_span(f"dispatch {outgoing.queue}", kind=SpanKind.PRODUCER, attributes=about)
        carried: dict[str, str] = {}
        W3C.inject(carried, trace.set_span_in_context(span))
        span.end()
        return carried or None

    @contextmanager
    def process(self, attempt: Attempt) -> Iterator[None]:
        """A span for the attempt, with a link to the dispatch; it is the parent of what the handler does."""
        origin = W3C.extract(attempt.trace, Context())
        created = trace.get_current_span(origin).get_span_context()
        about = _about("process", "process", attempt.queue, attempt.job_id, attempt.type)
        with self._tracer.start_as_current_span(
            f"process {attempt.queue}",
            origin if self._parent and attempt.attempt == 1 and created.is_valid else None,
            kind=SpanKind.CONSUMER,
            attributes=about | {"kashvi.attempt": attempt.attempt},
            links=[Link(created)] if created.is_valid else (),
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            self._processed[attempt.job_id] = span.get_span_context()
            try:
                yield
            except Snooze:
                raise
            except BaseException as error:
                span.record_exception(error)
                span.set_status(StatusCode.ERROR)
                span.set_attribute("error.type", type(error).__qualname__)
                raise

    def __call__(self, event: events.AnyEvent) -> None:
        """A span for the settlement of an attempt that this process made."""
        outcome = events.OUTCOMES.get(type(event), "refused" if isinstance(event, events.SettleRefused) else None)
        if outcome is None or not isinstance(event, events.JobEvent):
            return
        processed = self._processed.pop(event.job_id, None)
        if processed is None:
            return
        queue: str = getattr(event, "queue", "")
        about = _about("settle", "settle", queue, event.job_id, event.type) | {"kashvi.outcome": outcome}
        span = self._tracer.start_span(
            f"settle {queue}".rstrip(),
            trace.set_span_in_context(NonRecordingSpan(processed), Context()),
            kind=SpanKind.CLIENT,
            attributes=about,
        )
        if outcome == "refused":
            span.set_status(StatusCode.ERROR)
            span.set_attribute("error.type", "fenced")
        span.end()


def _about(operation: str, kind: str, queue: str, job_id: str, job_type: str) -> dict[str, str | int]:
    return {
        "messaging.system": "kashvi",
        "messaging.operation.name": operation,
        "messaging.operation.type": kind,
        "messaging.destination.name": queue,
        "messaging.message.id": job_id,
        "kashvi.job.type": job_type,
    }


def instrument(queue: Queue, tracer_provider: TracerProvider | None = None, *, parent: bool = False) -> None:
    """Trace this queue: call it in each process that dispatches or works.

    tracer_provider: by default the global one. parent: True makes the dispatch the parent of a job's first attempt, so
    that both are one trace; by default each attempt begins a trace of its own, with a link to the dispatch.
    """
    spans = Spans(tracer_provider, parent=parent)
    queue.tracing(spans.create)
    queue.around(spans.process)
    queue.observe(spans)
