"""Reports to Sentry: jobs that have failed for good, with their exception; and a transaction for each attempt."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import msgspec
import sentry_sdk
from sentry_sdk.scope import Scope, should_send_default_pii, use_isolation_scope

from .. import events
from ..dispatch import Outgoing
from ..queues import Queue
from ..retries import Snooze
from ..worker.hooks import Attempt

FLUSH_S = 2.0
"""How long a process that is about to go waits for a report to be sent."""
PAYLOAD_MAX = 10_000
GONE = (
    events.RetryScheduled,
    events.JobReturned,
    events.JobCancelled,
    events.JobSnoozed,
    events.JobSucceeded,
    events.SettleRefused,
)
"""The job has not failed for good, or is no longer this worker's."""


class _Failed(NamedTuple):
    """An attempt that failed; whether for good shows when it is settled."""

    scope: Scope | None
    exception: BaseException | None
    timed_out: str


def _headers(outgoing: Outgoing) -> dict[str, str] | None:
    found = {"sentry-trace": sentry_sdk.get_traceparent(), "baggage": sentry_sdk.get_baggage()}
    return {name: value for name, value in found.items() if value} or None


class Reports:
    """The reports of one queue; ``report`` makes it."""

    def __init__(self) -> None:
        self._scopes: dict[str, Scope] = {}
        self._failed: dict[str, _Failed] = {}

    @contextmanager
    def around(self, attempt: Attempt) -> Iterator[None]:
        """A scope of its own for each attempt, without the last one's breadcrumbs."""
        with sentry_sdk.isolation_scope() as scope:
            scope.clear_breadcrumbs()
            scope.set_tag("kashvi.job.type", attempt.type)
            scope.set_tag("kashvi.queue", attempt.queue)
            scope.set_context("kashvi", _context(attempt))
            transaction = sentry_sdk.continue_trace(
                attempt.trace, op="queue.process", name=attempt.type, source="task", origin="auto.queue.kashvi"
            )
            with sentry_sdk.start_transaction(transaction):
                transaction.set_data("messaging.message.id", attempt.job_id)
                transaction.set_data("messaging.destination.name", attempt.queue)
                transaction.set_data("messaging.message.retry.count", attempt.attempt - 1)
                try:
                    yield
                    transaction.set_status("ok")
                except Snooze:
                    transaction.set_status("ok")
                except BaseException:  # no hook makes a success of it (JOBS-13)
                    transaction.set_status("internal_error")
                    self._scopes[attempt.job_id] = scope

    def __call__(self, event: events.AnyEvent) -> None:
        if isinstance(event, events.AttemptFailed):
            scope = self._scopes.pop(event.job_id, None)
            self._failed[event.job_id] = _Failed(scope, event.exception, event.timed_out)
        elif isinstance(event, events.JobFailed):
            self._report(event, self._failed.pop(event.job_id, _Failed(None, None, "")))
        elif isinstance(event, GONE):
            self._scopes.pop(event.job_id, None)
            self._failed.pop(event.job_id, None)

    def _report(self, event: events.JobFailed, failed: _Failed) -> None:
        with use_isolation_scope(failed.scope) if failed.scope else sentry_sdk.isolation_scope() as scope:
            if failed.scope is None:
                scope.clear_breadcrumbs()
                scope.set_tag("kashvi.job.type", event.type)
                scope.set_tag("kashvi.queue", event.queue)
                scope.set_context("kashvi", {"job_id": event.job_id, "attempts": event.attempts})
            if failed.timed_out:
                scope.fingerprint = ["kashvi", "TimedOut", event.type]
            if failed.exception is not None:
                sentry_sdk.capture_exception(failed.exception)
            else:  # its process died, or it could not be read
                sentry_sdk.capture_message(f"{event.type} failed: {event.error}", "error")
        if failed.timed_out == "stuck":
            sentry_sdk.flush(FLUSH_S)


def _context(attempt: Attempt) -> dict[str, Any]:
    context: dict[str, Any] = {"job_id": attempt.job_id, "attempt": attempt.attempt, "queue": attempt.queue}
    envelope = attempt._running.delivery.envelope
    if should_send_default_pii() and envelope is not None and len(bytes(envelope.payload)) <= PAYLOAD_MAX:
        context["payload"] = msgspec.json.decode(envelope.payload)
    return context


def report(queue: Queue) -> None:
    """Report this queue's failures, and give the jobs that are dispatched here the trace of the caller.

    Call ``sentry_sdk.init`` first. A payload is sent only with ``send_default_pii=True``.
    """
    reports = Reports()
    queue.tracing(_headers)
    queue.around(reports.around)
    queue.observe(reports)
