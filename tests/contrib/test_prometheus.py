"""kashvi.contrib.prometheus: what is counted, under which names and labels."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from kashvi import events
from kashvi.contrib.prometheus import Metrics, measure, serve
from kashvi.drivers.memory import MemoryDriver
from kashvi.drivers.redis import RedisDriver
from kashvi.errors import InvalidSetting
from kashvi.queues import Queue
from kashvi.registry import Registry
from kashvi.retries import Fixed, Retry, Snooze
from tests.servers.launch import free_port

BOARD = Path(__file__).parents[2] / "deploy" / "grafana.json"


@dataclass
class Note:
    text: str = ""

    def handle(self) -> None:
        if self.text == "snooze":
            self.text = ""
            raise Snooze(3600)
        if self.text:
            raise ValueError(self.text)


@pytest.fixture
def queue() -> Queue:
    queue = Queue(MemoryDriver(), registry=Registry())
    queue.register("jobs.Note", Note, retry=Retry(attempts=2, backoff=Fixed(0, jitter=False)))
    queue.register("jobs.Mail", type("Mail", (Note,), {}), queue="mail")
    return queue


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(queue: Queue, registry: CollectorRegistry) -> Metrics:
    return measure(queue, registry, names_max=3)


def test_jobs_are_counted_by_queue_type_and_outcome(
    queue: Queue, registry: CollectorRegistry, metrics: Metrics
) -> None:
    """A settlement each, so a job that is tried twice counts twice."""
    queue.dispatch_many([Note(), Note("fails"), Note("snooze")])
    queue.dispatch(Note(), queue="mail")
    queue.work(stop_when_empty=True, queues="default,mail")
    queue.work(stop_when_empty=True)
    counted = {
        tuple(sample.labels[name] for name in ("queue", "type", "outcome")): sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "kashvi_jobs_total"
    }
    assert counted == {
        ("default", "jobs.Note", "done"): 1,
        ("mail", "jobs.Note", "done"): 1,
        ("default", "jobs.Note", "retried"): 1,
        ("default", "jobs.Note", "failed"): 1,
        ("default", "jobs.Note", "snoozed"): 1,
    }
    assert registry.get_sample_value("kashvi_attempt_duration_seconds_count", {"type": "jobs.Note"}) == 5


def test_a_job_waits_until_it_is_claimed_and_is_late_if_it_had_a_due_time(
    queue: Queue, registry: CollectorRegistry, metrics: Metrics
) -> None:
    """Only the first attempt waits; a retry is late."""
    queue.dispatch(Note("fails"))
    queue.work(drain=True)
    labels = {"queue": "default", "type": "jobs.Note"}
    assert registry.get_sample_value("kashvi_wait_seconds_count", labels) == 1
    assert registry.get_sample_value("kashvi_lateness_seconds_count", labels) == 1
    metrics(
        events.RetryScheduled(job_id="a", type="jobs.Note", attempts=1, wait_s=5.0, due=100.0),
    )
    metrics(events.AttemptStarted(job_id="a", type="jobs.Note", attempt=2, worker="w", claim="wait", server_at=142.0))
    assert registry.get_sample_value("kashvi_lateness_seconds_sum", labels) == pytest.approx(42, abs=1)


def test_deaths_fences_and_outages_are_counted(registry: CollectorRegistry, metrics: Metrics) -> None:
    """One each."""
    metrics(events.AttemptLost(job_id="a", type="jobs.Note", attempt=1, owner="w"))
    metrics(events.SettleRefused(job_id="a", type="jobs.Note", move="done", owner="w"))
    metrics(events.ServerLost(error="gone"))
    for name in ("attempts_lost", "settle_refused", "server_lost"):
        assert registry.get_sample_value(f"kashvi_{name}_total") == 1


def test_gauges_are_read_from_the_server_when_they_are_scraped(
    queue: Queue, registry: CollectorRegistry, metrics: Metrics
) -> None:
    """Of all queues, without a worker in this process."""
    queue.dispatch_many([Note(), Note()])
    queue.dispatch_after(Note(), 60, queue="mail")
    assert registry.get_sample_value("kashvi_ready", {"queue": "default"}) == 2
    assert registry.get_sample_value("kashvi_delayed", {"queue": "mail"}) == 1
    assert registry.get_sample_value("kashvi_oldest_ready_seconds", {"queue": "mail"}) == 0
    for name in ("held", "unrecorded", "workers"):
        assert registry.get_sample_value(f"kashvi_{name}") == 0
    assert registry.get_sample_value("kashvi_up") == 1


def test_no_id_is_a_label_and_names_are_bounded(queue: Queue, registry: CollectorRegistry, metrics: Metrics) -> None:
    """Types come from other programs, and an app may have a queue for each of its customers."""
    for n in range(50):
        metrics(
            events.JobFailed(
                job_id=f"id-{n}", type=f"hostile-{n}", attempts=1, max_attempts=1, error="x", queue=f"q{n}"
            )
        )
        queue.dispatch(Note(), queue=f"q{n}")
    shown = generate_latest(registry).decode()
    assert "id-" not in shown
    assert "hostile" not in shown
    assert (
        registry.get_sample_value("kashvi_jobs_total", {"queue": "other", "type": "other", "outcome": "failed"}) == 47
    )
    assert registry.get_sample_value("kashvi_ready", {"queue": "other"}) == 47


def test_a_scrape_answers_while_the_server_is_away(registry: CollectorRegistry) -> None:
    """Also the registration does."""
    measure(Queue(RedisDriver(f"redis://127.0.0.1:{free_port()}/0"), registry=Registry()), registry)
    assert registry.get_sample_value("kashvi_up") == 0
    assert registry.get_sample_value("kashvi_held") is None


def test_each_process_takes_a_port_of_the_range(registry: CollectorRegistry) -> None:
    """The first that is free."""
    port = free_port()
    with serve([port], registry=registry) as first, serve([port, 0], registry=registry) as second:
        assert first.server_port == port
        assert second.server_port not in (0, port)
        with pytest.raises(InvalidSetting, match="a port for each process"):
            serve([port], registry=registry)
        first.shutdown()
        second.shutdown()


@pytest.fixture
def names(metrics: Metrics, registry: CollectorRegistry) -> Iterator[set[str]]:
    return {sample.name for family in registry.collect() for sample in family.samples} | {
        f"{family.name}{end}"
        for family in registry.collect()
        for end in {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ())
    }


def test_each_query_of_the_board_has_its_metrics(names: set[str]) -> None:
    """And each metric is on the board."""
    queries = [one["expr"] for panel in json.loads(BOARD.read_text())["panels"] for one in panel["targets"]]
    asked = {name for query in queries for name in re.findall(r"kashvi_\w+", query)}
    assert asked - names == set()
    family = {re.sub("_(total|bucket|sum|count|created)$", "", name) for name in names}
    assert family - {re.sub("_(total|bucket|sum|count)$", "", name) for name in asked} == set()
