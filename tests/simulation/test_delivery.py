"""What was promised, and what the specification adds, in virtual time, on memory, fakeredis and a real server."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest

from kashvi.errors import DriverUnavailable, ReplyLost
from kashvi.events import AttemptStarted, FailureRecorded, JobFailed, JobReturned, JobSucceeded, SettleRefused
from kashvi.jobs.envelope import read
from kashvi.registry import Registry
from kashvi.worker.machine.choose import BATCH_MAX

from .conftest import NewWorld


class Scene:
    """A world, a process in it, and what ran when."""

    def __init__(self, new_world: NewWorld, registry: Registry, **settings: Any) -> None:
        scene = self
        self.ran: list[tuple[float, int]] = []

        @dataclass
        class Job:
            n: int = 0
            takes: int | float = 0.0
            fails: bool = False
            kills: bool = False

            def handle(self) -> None:
                scene.ran.append((round(scene.world.kernel.time - scene.start, 6), self.n))
                if self.kills:
                    current = scene.world.kernel.current
                    assert current is not None
                    current.process.kill()  # type: ignore[attr-defined]
                if self.takes:
                    scene.world.kernel.sleep(self.takes)
                if self.fails:
                    raise ValueError(f"job {self.n} fails")

        self.job = Job
        registry.register("jobs.Job", Job)
        self.world = new_world(**settings)
        self.start = self.world.kernel.time
        self.queue = self.world.process()

    def order(self) -> list[int]:
        return [n for _, n in self.ran]

    def ended(self) -> None:
        assert self.world.violations() == []
        stats = self.queue.stats()
        assert (stats.ready, stats.delayed, stats.held) == (0, 0, 0)


@pytest.fixture
def scene(new_world: NewWorld, registry: Registry) -> Scene:
    return Scene(new_world, registry)


def test_jobs_run_in_the_order_they_were_dispatched_in(scene: Scene) -> None:
    """First in, first out, one by one and in bulk."""
    for n in range(5):
        scene.queue.dispatch(scene.job(n))
    scene.queue.dispatch_many([scene.job(n) for n in range(5, 300)])
    scene.world.drain()
    assert scene.order() == list(range(300))
    scene.ended()


def test_delayed_jobs_run_in_order_of_due_time_then_of_dispatch_and_never_early(scene: Scene) -> None:
    """Ties go by id, which ascends within a process."""
    for n, delay in enumerate([3, 1, 2, 1, 0, 2.5, 1]):
        scene.queue.dispatch_after(scene.job(n), delay)
    scene.world.drain()
    assert scene.ran == [(0, 4), (1, 1), (1, 3), (1, 6), (2, 2), (2.5, 5), (3, 0)]
    scene.ended()


def test_two_identical_delayed_jobs_both_run(scene: Scene) -> None:
    """In the original they were one member of the sorted set."""
    for _ in range(5):
        scene.queue.dispatch_after(scene.job(7), 1)
    scene.world.drain()
    assert scene.ran == [(1, 7)] * 5


@pytest.mark.parametrize(
    ("limit", "times"), [(1, [0]), (2, [0, 1]), (3, [0, 1, 3]), (5, [0, 1, 3, 6, 10])], ids=["1", "2", "3", "5"]
)
def test_backoff_is_linear_and_no_wait_follows_the_last_attempt(
    new_world: NewWorld, registry: Registry, limit: int, times: list[float]
) -> None:
    """The failure is recorded at once; a good job behind it runs at once."""
    scene = Scene(new_world, registry, max_attempts=limit)
    scene.queue.dispatch(scene.job(1, fails=True))
    scene.queue.dispatch(scene.job(2))
    scene.world.drain(scene.queue)
    assert [at for at, n in scene.ran if n == 1] == times
    assert [at for at, n in scene.ran if n == 2] == [0]
    (failed,) = scene.queue.failed_jobs()
    assert (failed.attempts, failed.error) == (limit, "ValueError: job 1 fails")
    assert failed.failed_at.timestamp() == pytest.approx(scene.start + times[-1])
    scene.ended()


def test_jobs_of_a_killed_process_run_elsewhere_once_after_its_lease(scene: Scene) -> None:
    """Nothing before the lease ends; everything after it, in order."""
    worker = scene.world.process()
    worker.start_workers(2)
    scene.queue.dispatch_many([scene.job(n, takes=5) for n in range(4)])
    scene.world.run(for_s=1)
    scene.world.kill(worker)
    other = scene.world.process()
    other.start_workers(1)
    scene.world.run(for_s=80)
    assert scene.order()[:2] == [0, 1]
    assert sorted(scene.order()[2:]) == [0, 1, 2, 3]
    assert min(at for at, n in scene.ran[2:] if n < 2) >= 30
    scene.ended()


def test_fresh_jobs_go_on_while_long_suspects_wait_for_their_turn(scene: Scene) -> None:
    """Four jobs of five minutes lose their process; a hundred of a second share the threads that are left."""
    worker = scene.world.process()
    worker.start_workers(4)
    scene.queue.dispatch_many([scene.job(n, takes=300.0) for n in range(4)])
    scene.world.run(for_s=5)
    scene.world.kill(worker)
    scene.world.process().start_workers(4)
    scene.world.run(for_s=40)
    scene.queue.dispatch_many([scene.job(n, takes=1.0) for n in range(100, 200)])
    scene.world.run(for_s=2000)
    assert max(at for at, n in scene.ran if n >= 100) < 45 + 100 / 2
    assert Counter(scene.order()) == {**dict.fromkeys(range(4), 2), **dict.fromkeys(range(100, 200), 1)}
    scene.ended()


@pytest.mark.parametrize("batch", [10, 30, 100, BATCH_MAX])
def test_a_poison_job_is_recorded_and_none_of_its_neighbours_is(
    new_world: NewWorld, registry: Registry, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It starts four times, as its first death is free, and perhaps once more, beside fresh jobs."""
    monkeypatch.setattr("kashvi.worker.machine.choose.BATCH_MAX", batch)
    scene = Scene(new_world, registry, lease_s=3.0)
    jobs = [scene.job(n) for n in range(2001)]
    jobs[950] = scene.job(-1, kills=True)
    scene.queue.dispatch_many(jobs)
    for _ in range(6):
        worker = scene.world.process()
        worker.start_workers(10)
        scene.world.run(for_s=30)
    assert scene.order().count(-1) in (4, 5)
    failed = [event for event in scene.world.events if isinstance(event, JobFailed)]
    assert [(event.attempts, event.error) for event in failed] == [(3, "the process died during attempt 3")]
    assert {n for n in scene.order() if n >= 0} == {n for n in range(2001) if n != 950}
    scene.ended()


def test_a_full_batch_outlives_a_lost_reply_and_the_death_of_its_worker(
    new_world: NewWorld, registry: Registry
) -> None:
    """What was settled when the reply got lost does not run again; what was not when the worker died does, once."""
    lost: list[int] = []

    def fault(point: str, process: object) -> None:
        if point == "after exchange" and len(scene.ran) > 400 and not lost:
            lost.append(len(scene.ran))
            raise ReplyLost("timed out")

    scene = Scene(new_world, registry, fault=fault, lease_s=3.0)
    worker = scene.world.process()
    worker.start_workers(10)
    scene.queue.dispatch_many([scene.job(n, takes=0.0005) for n in range(2000)])
    while len(scene.ran) < 1000:
        scene.world.run(for_s=0.01)
    assert lost
    assert scene.order() == list(range(len(scene.ran)))
    left = scene.queue.stats()
    assert left.held >= BATCH_MAX
    scene.world.kill(worker)
    scene.world.process().start_workers(10)
    scene.world.run(for_s=60)
    again = Counter(scene.order())
    assert len(again) == 2000
    assert sum(again.values()) <= 2000 + left.held
    assert not [event for event in scene.world.events if isinstance(event, JobFailed | SettleRefused)]
    scene.ended()


def test_a_worker_taken_for_dead_can_settle_nothing(new_world: NewWorld, registry: Registry) -> None:
    """Cut off for longer than its lease, it comes back: its settle is refused, the other's stands."""
    cut: set[object] = set()

    def fault(point: str, process: object) -> None:
        if process in cut:
            raise DriverUnavailable("cut off")

    scene = Scene(new_world, registry, fault=fault, lease_s=5.0)
    slow = scene.world.process()
    slow.start_workers(1)
    scene.queue.dispatch(scene.job(1, takes=20))
    scene.world.run(for_s=1)
    cut.add(scene.world.runtime_of(slow))
    other = scene.world.process()
    other.start_workers(1)
    scene.world.run(for_s=24)
    cut.clear()
    scene.world.run(for_s=40)
    kinds = [type(event) for event in scene.world.events]
    assert kinds.count(SettleRefused) == 1
    assert kinds.count(JobSucceeded) == 1
    scene.ended()


def test_clocks_off_by_an_hour_start_nothing_early_and_steal_no_lease(scene: Scene) -> None:
    """Only the server's clock counts."""
    workers = [scene.world.process(skew_s=skew) for skew in (3600, -3600, 0)]
    for worker in workers:
        worker.start_workers(2)
    for skew in (3600, -3600):
        producer = scene.world.process(skew_s=skew)
        producer.dispatch_after(scene.job(skew), 5)
        producer.dispatch(scene.job(1, takes=100))
    scene.world.run(for_s=200)
    assert [at for at, n in scene.ran if abs(n) == 3600] == [5, 5]
    assert not [event for event in scene.world.events if isinstance(event, JobReturned | SettleRefused)]
    scene.ended()


def test_two_processes_promoting_the_same_due_jobs_run_each_once(scene: Scene) -> None:
    """In the original, both moved them."""
    scene.queue.dispatch_many([])
    for n in range(1000):
        scene.queue.dispatch_after(scene.job(n), 1)
    for _ in range(2):
        scene.world.process().start_workers(2)
    scene.world.run(for_s=10)
    assert sorted(scene.order()) == list(range(1000))
    scene.ended()


def test_stopping_hands_back_what_has_not_started_in_order(scene: Scene) -> None:
    """Uncounted, at the head of the queue."""
    worker = scene.world.process()
    handle = worker.start_workers(1)
    scene.queue.dispatch_many([scene.job(0)] * 20 + [scene.job(n, takes=2) for n in range(1, 6)])
    scene.world.run(for_s=1)
    scene.world.runtime_of(worker).spawn(handle.request_stop, "stop")
    scene.world.run(for_s=10)
    scene.world.drain()
    assert scene.order() == [0] * 20 + [1, 2, 3, 4, 5]
    assert all(event.attempt == 1 for event in scene.world.events if isinstance(event, AttemptStarted))
    scene.ended()


def test_two_identical_envelopes_without_ids_are_two_jobs_through_their_retries(scene: Scene) -> None:
    """As the Go program pushes them; they get their ids when they are settled first."""
    raw = b'{"type":"jobs.Job","payload":{"n":3,"fails":true},"trace":"kept"}'
    scene.queue.driver.push([raw, raw])
    scene.world.drain(scene.queue)
    assert scene.order() == [3] * 6
    assert len({failed.id for failed in scene.queue.failed_jobs()}) == 2
    waiting = scene.queue.driver.unrecorded(10)
    assert all(b'"trace":"kept"' in entry.envelope and read(entry.envelope).attempts == 3 for entry in waiting)


def test_a_failure_waits_for_a_database_that_is_down_and_no_handler_runs_again(
    new_world: NewWorld, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settled first, recorded after, once."""
    from kashvi.errors import StoreUnavailable
    from kashvi.failures.sql import SqlFailures

    scene = Scene(new_world, registry, max_attempts=1, database="sqlite://")
    worker = scene.world.process()
    real = SqlFailures.record

    def down(self: Any, failures: Any) -> Any:
        raise StoreUnavailable("the database is down")

    monkeypatch.setattr(SqlFailures, "record", down)
    worker.start_workers(1)
    scene.queue.dispatch_many([scene.job(n, fails=True) for n in range(3)])
    scene.world.run(for_s=100)
    assert scene.queue.stats().unrecorded == 3
    monkeypatch.setattr(SqlFailures, "record", real)
    scene.world.run(for_s=100)
    assert scene.queue.stats().unrecorded == 0
    assert SqlFailures(scene.world.database).count() == 3
    assert scene.order() == [0, 1, 2]


def test_a_row_is_told_of_also_when_nobody_hears_that_it_was_taken_off(new_world: NewWorld, registry: Registry) -> None:
    """It is in the table, whatever came of the request after that."""
    lost: list[str] = []

    def lose(point: str, process: object) -> None:
        if point == "after recorded" and not lost:
            lost.append(point)
            raise ReplyLost("nobody knows", "the server")

    scene = Scene(new_world, registry, max_attempts=1, database="sqlite://", fault=lose)
    scene.queue.dispatch(scene.job(1, fails=True))
    scene.world.drain()
    assert lost
    assert sum(isinstance(event, FailureRecorded) for event in scene.world.events) == 1
    scene.ended()


def test_bytes_that_are_no_envelope_are_recorded_and_the_worker_lives(scene: Scene) -> None:
    """Each of them; a good job behind them runs."""
    garbage = [bytes([n % 256, n // 256, 0xFF]) + b"garbage" for n in range(500)]
    scene.queue.driver.push(garbage)
    scene.queue.dispatch(scene.job(1))
    scene.world.drain(scene.queue)
    assert scene.order() == [1]
    assert len(scene.queue.failed_jobs()) == 500
    assert all(failed.error.startswith("not an envelope: ") for failed in scene.queue.failed_jobs())


@pytest.mark.parametrize(("limit", "starts"), [(1, 1), (2, 2), (5, 5)])
def test_the_limit_is_read_anew_at_each_failure(scene: Scene, limit: int, starts: int) -> None:
    """Lowered or raised while a retry waits; attempts are counted, not guessed."""
    scene.queue.dispatch(scene.job(1, fails=True))
    scene.queue.start_workers(1)
    scene.queue.set_max_retry(limit + 1)
    scene.world.run(for_s=0.5)
    scene.queue.set_max_retry(limit)
    scene.world.run(for_s=30)
    (failed,) = scene.queue.failed_jobs()
    assert failed.attempts == scene.order().count(1) == max(starts, 2)


def test_jobs_that_dispatch_many_jobs_neither_block_nor_deadlock(new_world: NewWorld, registry: Registry) -> None:
    """In the original the 1,001st dispatch blocked, and two such jobs stopped all."""
    scene = Scene(new_world, registry)

    @dataclass
    class Parent:
        first: int

        def handle(self) -> None:
            scene.queue.dispatch_many([scene.job(self.first + n) for n in range(1500)])

    registry.register("jobs.Parent", Parent)
    scene.queue.dispatch_many([Parent(0), Parent(1500)])
    scene.queue.start_workers(2)
    scene.world.run(for_s=20)
    assert sorted(scene.order()) == list(range(3000))
    scene.ended()
