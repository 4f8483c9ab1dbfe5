"""Metrics for Prometheus: counters and durations of this process, and the state of all queues at each scrape.

Times are seconds. No label has an id: types that the queue does not know are ``other``, as names beyond a limit are.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from wsgiref.simple_server import WSGIServer

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from .. import events
from ..errors import DriverError, InvalidSetting
from ..jobs.envelope import made_s
from ..queues import Queue

OTHER = "other"
PORTS = range(9464, 9480)
DUE_MAX = 10_000
"""The most due times that are remembered: of the jobs that this process delayed."""
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600)
ENDS = (events.AttemptSucceeded, events.AttemptFailed, events.AttemptSnoozed)


class _Names:
    """The values of a label: the first ``names_max``, then ``other``."""

    def __init__(self, names_max: int) -> None:
        self._names_max = names_max
        self._seen: set[str] = set()

    def label(self, name: str) -> str:
        if name not in self._seen:
            if len(self._seen) >= self._names_max:
                return OTHER
            self._seen.add(name)
        return name


class Metrics(Collector):
    """The metrics of one queue; ``measure`` makes it. Observes the queue's events, and reads its state when scraped."""

    def __init__(self, queue: Queue, registry: CollectorRegistry, names_max: int) -> None:
        self._queue = queue
        self._types, self._queues = _Names(names_max), _Names(names_max)
        self._due: dict[str, float] = {}
        by_job = ("queue", "type")
        self._jobs = Counter(
            "kashvi_jobs", "What this process settled, by outcome.", (*by_job, "outcome"), registry=registry
        )
        self._took = Histogram(
            "kashvi_attempt_duration_seconds",
            "Of handle() and its hooks.",
            ("type",),
            registry=registry,
            buckets=BUCKETS,
        )
        self._waited = Histogram(
            "kashvi_wait_seconds", "From dispatch to the first claim.", by_job, registry=registry, buckets=BUCKETS
        )
        self._late = Histogram(
            "kashvi_lateness_seconds", "From the due time to the claim.", by_job, registry=registry, buckets=BUCKETS
        )
        self._lost = Counter("kashvi_attempts_lost", "Attempts that died with their process.", registry=registry)
        self._refused = Counter("kashvi_settle_refused", "Settlements of jobs that others had.", registry=registry)
        self._server_lost = Counter("kashvi_server_lost", "Times that the server was out of reach.", registry=registry)
        registry.register(self)

    def __call__(self, event: events.AnyEvent) -> None:
        kind = type(event)
        if isinstance(event, events.AttemptStarted):
            self._started(event)
        elif isinstance(event, ENDS):
            self._took.labels(self._type(event.type)).observe(event.duration_s)
        elif outcome := events.OUTCOMES.get(kind):
            self._settled(event, outcome)
        elif kind is events.AttemptLost:
            self._lost.inc()
        elif kind is events.SettleRefused:
            self._refused.inc()
        elif kind is events.ServerLost:
            self._server_lost.inc()
        if isinstance(event, events.RetryScheduled | events.JobSnoozed | events.JobPostponed | events.JobDispatched):
            self._falls_due(event.job_id, event.due)

    def _type(self, name: str) -> str:
        return self._types.label(name) if self._queue.registry.find(name) else OTHER

    def _settled(self, event: events.AnyEvent, outcome: str) -> None:
        assert isinstance(event, events.JobEvent)
        queue = self._queues.label(getattr(event, "queue", ""))
        self._jobs.labels(queue, self._type(event.type), outcome).inc()

    def _falls_due(self, job_id: str, due: float | None) -> None:
        if due is not None:
            if len(self._due) >= DUE_MAX:  # other processes have started them
                self._due.clear()
            self._due[job_id] = due

    def _started(self, event: events.AttemptStarted) -> None:
        due = self._due.pop(event.job_id, None)
        if event.server_at is None:
            return
        labels = (self._queues.label(event.queue), self._type(event.type))
        if due is not None:
            self._late.labels(*labels).observe(max(event.server_at - due, 0.0))
        elif event.attempt == 1 and not event.lost and (made := made_s(event.job_id)) is not None:
            self._waited.labels(*labels).observe(max(event.server_at - made, 0.0))

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Nothing: ``collect`` asks the server, which may be away when this is registered."""
        return ()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The state of the queues, read from the server; ``kashvi_up`` alone is 0 if that fails."""
        try:
            stats, queues = self._queue.stats(), self._queue.queue_stats()
        except DriverError:
            yield GaugeMetricFamily("kashvi_up", "1 if the queue's server answers.", 0)
            return
        yield GaugeMetricFamily("kashvi_up", "1 if the queue's server answers.", 1)
        yield GaugeMetricFamily("kashvi_workers", "Workers with a lease.", stats.workers)
        yield GaugeMetricFamily("kashvi_held", "Jobs that workers have.", stats.held)
        yield GaugeMetricFamily("kashvi_unrecorded", "Failed jobs without a row yet.", stats.unrecorded)
        counts: dict[str, list[float]] = {}
        for one in queues:
            row = counts.setdefault(self._queues.label(one.name), [0, 0, 0])
            row[:] = row[0] + one.ready, row[1] + one.delayed, max(row[2], one.oldest_age_s or 0.0)
        for n, (name, about) in enumerate(
            (
                ("ready", "Jobs that wait for a worker."),
                ("delayed", "Jobs that are not due yet."),
                ("oldest_ready_seconds", "Since the dispatch of the job that is claimed next; 0 if none is."),
            )
        ):
            family = GaugeMetricFamily(f"kashvi_{name}", about, labels=("queue",))
            for queue, row in counts.items():
                family.add_metric((queue,), row[n])
            yield family


def measure(queue: Queue, registry: CollectorRegistry = REGISTRY, *, names_max: int = 200) -> Metrics:
    """Measure this queue in this process, for ``registry``. names_max: the most values of a label."""
    metrics = Metrics(queue, registry, names_max)
    queue.observe(metrics)
    return metrics


def serve(ports: Iterable[int] = PORTS, host: str = "127.0.0.1", registry: CollectorRegistry = REGISTRY) -> WSGIServer:
    """Serve ``/metrics`` in a thread, on the first of the ports that is free: each worker process of a host gets one.

    Returns the server. Raises InvalidSetting if none is free, and OSError for a host that is not this one's.
    """
    for port in ports:
        try:
            return start_http_server(port, host, registry)[0]
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    raise InvalidSetting("the ports for metrics", ports, "a range with one that is free: a port for each process")
