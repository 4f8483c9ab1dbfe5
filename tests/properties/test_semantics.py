"""Delayed order, backoff and failures as properties, in virtual time, on memory, fakeredis and a real server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import fakeredis
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kashvi_sim.world.world import World

from kashvi.failures.sql import SqlFailures
from kashvi.registry import Registry
from tests.servers.launch import RedisServer

# One server for all examples: each starts by emptying it.
examples = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(params=["memory", "fakeredis", "valkey-9"])
def client(request: pytest.FixtureRequest, redis_servers: Callable[[str], RedisServer]) -> Any:
    if request.param == "memory":
        return None
    return fakeredis.FakeRedis() if request.param == "fakeredis" else redis_servers(request.param).client()


class Scene:
    """A world with one kind of job, which fails as often as it is told."""

    def __init__(self, client: Any, **options: Any) -> None:
        scene = self
        self.ran: list[tuple[float, int]] = []

        @dataclass
        class Job:
            n: int
            failures: int = 0

            def handle(self) -> None:
                scene.ran.append((scene.world.kernel.time - scene.start, self.n))
                if sum(n == self.n for _, n in scene.ran) <= self.failures:
                    raise ValueError("told to fail")

        self.job = Job
        registry = Registry()
        registry.register("jobs.Job", Job)
        if client is not None:
            client.flushall()
        self.world = World(client=client, registry=registry, **options)
        self.start = self.world.kernel.time
        self.queue = self.world.process()


@examples
@given(delays=st.lists(st.floats(0, 60) | st.sampled_from([0, 1, 1, 2.5]), min_size=1, max_size=12))
def test_delayed_jobs_start_in_order_of_due_time_then_dispatch_and_never_early(
    client: Any, delays: list[float]
) -> None:
    """For any delays, ties included."""
    scene = Scene(client)
    for n, delay in enumerate(delays):
        scene.queue.dispatch_after(scene.job(n), delay)
    scene.world.drain()
    dues = [scene.start + delay for delay in delays]
    assert [n for _, n in scene.ran] == sorted(range(len(delays)), key=lambda n: (delays[n] > 0, dues[n], n))
    assert all(scene.start + at >= dues[n] for at, n in scene.ran)
    assert scene.world.violations() == []


@examples
@given(limit=st.integers(1, 12), failures=st.integers(0, 14))
def test_attempt_n_plus_one_starts_n_seconds_after_attempt_n(client: Any, limit: int, failures: int) -> None:
    """For any limit; no job gets more attempts, and each has the seconds of linear backoff before it."""
    scene = Scene(client, max_attempts=limit)
    scene.queue.dispatch(scene.job(1, failures))
    scene.world.drain()
    made = min(failures + 1, limit)
    assert [at for at, _ in scene.ran] == pytest.approx([n * (n - 1) / 2 for n in range(1, made + 1)], abs=1e-3)
    assert scene.world.violations() == []


@examples
@given(failures=st.lists(st.integers(0, 5), min_size=1, max_size=8), limit=st.integers(1, 4))
def test_a_failure_is_recorded_if_and_only_if_the_job_is_exhausted(
    client: Any, failures: list[int], limit: int
) -> None:
    """Once each, with the attempts made, in the table as in memory."""
    engine = SqlFailures("sqlite://").engine
    scene = Scene(client, max_attempts=limit, database=engine)
    ids = [scene.queue.dispatch(scene.job(n, count)) for n, count in enumerate(failures)]
    scene.world.drain(scene.queue)
    exhausted = sorted(job_id for job_id, count in zip(ids, failures, strict=True) if count >= limit)
    with engine.connect() as connection:
        rows = connection.execute(sa.text("SELECT job_id, attempts FROM kashvi_failed_jobs ORDER BY job_id")).all()
    engine.dispose()
    assert [(job_id, attempts) for job_id, attempts in rows] == [(job_id, limit) for job_id in exhausted]
    assert sorted(failed.id for failed in scene.queue.failed_jobs()) == exhausted
    assert scene.world.violations() == []
