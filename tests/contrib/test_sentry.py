"""kashvi.contrib.sentry, with the real SDK, whose envelopes a server on this host takes."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest
import sentry_sdk

from kashvi import events
from kashvi.contrib.sentry import Reports, report
from kashvi.drivers.memory import MemoryDriver
from kashvi.queues import Queue
from kashvi.registry import Registry
from kashvi.retries import Fixed, GiveUp, Retry, Snooze

tried: list[str] = []


@dataclass
class Note:
    text: str

    def handle(self) -> None:
        tried.append(self.text)
        sentry_sdk.add_breadcrumb(message=f"{self.text} {len(tried)}")
        if self.text == "snooze" and tried.count("snooze") == 1:
            raise Snooze(0)
        if self.text == "give up":
            raise GiveUp("not this one")
        if self.text == "once" and tried.count("once") > 1:
            return
        if self.text not in ("fine", "snooze"):
            raise ValueError(self.text)


@dataclass
class Slow:
    async def handle(self) -> None:
        import asyncio

        await asyncio.sleep(60)


class Sink:
    """What the SDK sent over HTTP."""

    def __init__(self) -> None:
        self.items: list[tuple[str, dict[str, Any]]] = []
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                lines = [json.loads(line) for line in body.splitlines() if line]
                sink.items += [(header["type"], item) for header, item in zip(lines[1::2], lines[2::2], strict=True)]
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *args: Any) -> None:
                """Nothing."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.dsn = f"http://key@127.0.0.1:{self.server.server_port}/1"

    def of(self, kind: str) -> list[dict[str, Any]]:
        sentry_sdk.flush(10)
        return [item for found, item in self.items if found == kind]


@pytest.fixture
def sink() -> Iterator[Sink]:
    sink = Sink()
    thread = Thread(target=sink.server.serve_forever, args=(0.01,))
    thread.start()
    yield sink
    sentry_sdk.get_client().close(2)
    sentry_sdk.get_global_scope().set_client(None)
    sink.server.shutdown()
    thread.join()
    sink.server.server_close()


def opened(sink: Sink, **options: Any) -> Queue:
    tried.clear()
    sentry_sdk.init(sink.dsn, default_integrations=False, **options)
    queue = Queue(MemoryDriver(), registry=Registry())
    queue.register("jobs.Note", Note, retry=Retry(attempts=2, backoff=Fixed(0, jitter=False)))
    queue.register("jobs.Slow", Slow, retry=Retry(attempts=1), timeout=0.05)
    report(queue)
    return queue


def test_only_jobs_that_failed_for_good_are_reported_with_their_exception(sink: Sink) -> None:
    """Not what succeeds at a retry, nor a snooze."""
    queue = opened(sink)
    queue.dispatch_many([Note("fine"), Note("bad"), Note("once"), Note("snooze"), Note("give up")])
    queue.work(drain=True)
    found = sink.of("event")
    assert sorted(one["exception"]["values"][-1]["value"] for one in found) == ["bad", "not this one"]
    [bad] = [one for one in found if one["exception"]["values"][-1]["type"] == "ValueError"]
    assert bad["exception"]["values"][-1]["stacktrace"]["frames"][-1]["function"] == "handle"
    assert bad["tags"] == {"kashvi.job.type": "jobs.Note", "kashvi.queue": "default"}
    assert bad["contexts"]["kashvi"]["attempt"] == 2


def test_breadcrumbs_are_those_of_the_attempt_that_failed_for_good(sink: Sink) -> None:
    """Not those of the one before it, nor of other jobs of the thread."""
    queue = opened(sink)
    queue.dispatch_many([Note("fine"), Note("bad")])
    queue.work(drain=True)
    [event] = sink.of("event")
    assert [one["message"] for one in event["breadcrumbs"]["values"]] == ["bad 3"]


@pytest.mark.filterwarnings("ignore:The send_default_pii option is deprecated")
@pytest.mark.parametrize("pii", [False, True])
def test_a_payload_is_sent_only_where_personal_data_may_be(sink: Sink, pii: bool) -> None:
    """It may hold a name or a card's number."""
    queue = opened(sink, send_default_pii=pii, include_local_variables=False)
    queue.dispatch(Note("bad"))
    queue.work(drain=True)
    [event] = sink.of("event")
    assert event["contexts"]["kashvi"].get("payload") == ({"text": "bad"} if pii else None)


def test_timeouts_of_a_type_are_one_issue(sink: Sink) -> None:
    """Wherever the handler was."""
    queue = opened(sink)
    queue.dispatch(Slow())
    queue.work(drain=True)
    [event] = sink.of("event")
    assert event["fingerprint"] == ["kashvi", "TimedOut", "jobs.Slow"]


def test_a_job_whose_process_died_is_reported_as_a_message(sink: Sink) -> None:
    """There is no exception."""
    opened(sink)
    died = events.JobFailed(job_id="a", type="jobs.Note", attempts=3, max_attempts=3, error="the process died")
    Reports()(died)
    [event] = sink.of("event")
    assert (event["message"], event["level"]) == ("jobs.Note failed: the process died", "error")


def test_an_attempt_is_a_transaction_in_the_trace_of_its_dispatch(sink: Sink) -> None:
    """The transaction of the request that dispatched it is in the same trace."""
    queue = opened(sink, traces_sample_rate=1.0)
    with sentry_sdk.start_transaction(name="request", op="http.server"):
        queue.dispatch(Note("fine"))
    queue.work(drain=True)
    request, job = sink.of("transaction")
    assert (job["transaction"], job["contexts"]["trace"]["op"]) == ("jobs.Note", "queue.process")
    assert job["contexts"]["trace"]["trace_id"] == request["contexts"]["trace"]["trace_id"]
    assert job["contexts"]["trace"]["status"] == "ok"
    assert job["contexts"]["trace"]["data"]["messaging.destination.name"] == "default"
