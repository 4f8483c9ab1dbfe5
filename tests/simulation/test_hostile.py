"""Jobs, observers, drivers, servers and databases that do what they must not, in virtual time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
from kashvi_sim.world.runtime import SimRuntime

from kashvi.errors import DriverError
from kashvi.events import Event, JobFailed, SettleRefused
from kashvi.registry import Registry

from .conftest import NewWorld
from .test_delivery import Scene


class Quits(Exception):
    def __str__(self) -> str:
        raise SystemExit("from __str__")


class Odd(str):
    __slots__ = ()

    def __format__(self, spec: str) -> str:
        raise SystemExit("from __format__")


class Formats(Exception):
    def __str__(self) -> str:
        return Odd("odd")


@dataclass
class Raises:
    which: int

    def handle(self) -> None:
        raise (Quits(), Formats(), GeneratorExit(), asyncio.CancelledError(), KeyboardInterrupt())[self.which]


armed = False


@dataclass
class RaisesWhenMade:
    which: int

    def __post_init__(self) -> None:
        if armed:
            raise (KeyboardInterrupt(), asyncio.CancelledError(), SystemExit("made"))[self.which]

    def handle(self) -> None:
        """It never comes to that."""


@pytest.fixture
def scene(new_world: NewWorld, registry: Registry) -> Scene:
    registry.register("jobs.Raises", Raises)
    registry.register("jobs.RaisesWhenMade", RaisesWhenMade)
    return Scene(new_world, registry, max_attempts=1, lease_s=5.0)


def test_whatever_a_handler_raises_is_a_failed_attempt(scene: Scene) -> None:
    """Also what raises again when it is asked for its text; the worker goes on."""
    worker = scene.world.process()
    worker.start_workers(1)
    scene.queue.dispatch_many([Raises(n) for n in range(5)])
    scene.queue.dispatch(scene.job(9))
    scene.world.run(for_s=5)
    assert [job.error.partition(":")[0] for job in worker.failed_jobs()] == [
        "Quits", "Formats", "GeneratorExit", "CancelledError", "KeyboardInterrupt",
    ]  # fmt: skip
    assert scene.order() == [9]
    scene.ended()


def test_whatever_a_job_raises_when_it_is_made_is_recorded_at_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No attempt can be made; no worker dies of it."""
    worker = scene.world.process()
    worker.start_workers(1)
    scene.queue.dispatch_many([RaisesWhenMade(n) for n in range(3)])
    monkeypatch.setitem(globals(), "armed", True)
    scene.queue.dispatch(scene.job(9))
    scene.world.run(for_s=5)
    assert [job.attempts for job in worker.failed_jobs()] == [0, 0, 0]
    assert scene.order() == [9]
    scene.ended()


@pytest.mark.parametrize("error", [SystemExit("no"), ValueError("no"), GeneratorExit()], ids=repr)
def test_an_observer_that_raises_does_no_harm(scene: Scene, error: BaseException) -> None:
    """It is logged; threads and keeper go on."""

    def observer(event: Event) -> None:
        raise error

    worker = scene.world.process()
    worker.observe(observer)
    worker.start_workers(2)
    scene.queue.dispatch_many([scene.job(n) for n in range(4)])
    scene.world.run(for_s=30)
    assert sorted(scene.order()) == [0, 1, 2, 3]
    scene.ended()


def test_a_driver_that_raises_what_it_must_not_is_taken_for_a_server_that_is_away(
    new_world: NewWorld, registry: Registry
) -> None:
    """In every call; the worker keeps trying and loses nothing."""
    away = False

    def fault(point: str, process: SimRuntime) -> None:
        if away and process.name != "p0" and "push" not in point:
            raise RuntimeError("a credential provider of the user's own")

    scene = Scene(new_world, registry, fault=fault, lease_s=5.0)
    scene.world.process().start_workers(2)
    scene.queue.dispatch(scene.job(0))
    scene.world.run(for_s=1)
    away = True
    scene.world.run(for_s=3)
    scene.queue.dispatch_many([scene.job(n) for n in range(1, 4)])
    scene.world.run(for_s=20)
    away = False
    scene.world.run(for_s=20)
    assert sorted(scene.order()) == [0, 1, 2, 3]
    scene.ended()


def test_a_job_claimed_from_a_server_that_forgot_the_worker_is_not_stranded(scene: Scene) -> None:
    """A wait makes no lease, so an exchange follows soon, and another worker finds the job."""
    worker = scene.world.process()
    worker.start_workers(1)
    scene.world.run(for_s=0.7)
    scene.world.server.clear()  # as FLUSHALL does
    scene.queue.dispatch(scene.job(7, takes=1.0))
    scene.world.run(for_s=0.2)
    assert scene.order() == [7]
    scene.world.kill(worker)
    scene.world.process().start_workers(1)
    scene.world.run(for_s=30)
    assert scene.order() == [7, 7]
    scene.ended()


def test_a_suspect_whose_announcement_the_server_forgot_is_run_again(scene: Scene) -> None:
    """Its settlement is refused, and the worker finds it still held. Found by the simulator."""
    dying = scene.world.process()
    dying.start_workers(1)
    scene.queue.dispatch(scene.job(1, takes=2.0))
    scene.world.run(for_s=1)
    scene.world.kill(dying)
    worker = scene.world.process()
    worker.start_workers(1)
    scene.world.run(until=lambda: len(scene.ran) == 2)
    _forget_the_announcement(scene, worker.handles[0].id)
    scene.world.run(for_s=60)
    assert scene.order() == [1, 1, 1]
    assert any(isinstance(event, SettleRefused) for event in scene.world.events)
    stats = scene.queue.stats()
    assert (stats.ready, stats.delayed, stats.held) == (0, 0, 0)


def _forget_the_announcement(scene: Scene, owner: str) -> None:
    """As a server does that comes back as it was a moment earlier."""
    if scene.world.client is not None:
        scene.world.client.rename(f"kashvi:queue:running:{owner}", f"kashvi:queue:held:{owner}")
    else:
        store = scene.world.store
        store.held[owner], store.running[owner] = store.running[owner], []


def test_stopping_does_not_wait_for_ever_for_a_database_that_never_answers(
    new_world: NewWorld, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row waits in the queue, for a worker whose database does."""
    from kashvi.failures.sql import SqlFailures

    scene = Scene(new_world, registry, max_attempts=1, database="sqlite://")
    real = SqlFailures.record

    def never(self: Any, failures: Any) -> Any:
        scene.world.kernel.sleep(1e9)

    monkeypatch.setattr(SqlFailures, "record", never)
    worker = scene.world.process()
    handle = worker.start_workers(1)
    scene.queue.dispatch(scene.job(1, fails=True))
    scene.world.run(for_s=5)
    stopped: list[bool] = []
    worker.process.spawn(lambda: stopped.append(handle.stop()), "stop")
    scene.world.run(for_s=15)
    assert stopped == [True]
    monkeypatch.setattr(SqlFailures, "record", real)
    scene.world.process().start_workers(1)
    scene.world.run(for_s=15)
    assert SqlFailures(scene.world.database).count() == 1  # type: ignore[arg-type]
    scene.ended()


def test_max_time_ends_a_worker_whose_server_is_away(new_world: NewWorld, registry: Registry) -> None:
    """A lease later at the most, though nothing can be settled: and it says so."""
    away = False

    def fault(point: str, process: SimRuntime) -> None:
        if away:
            raise RuntimeError("away")

    scene = Scene(new_world, registry, fault=fault, lease_s=3.0)
    worker = scene.world.process()
    ended: list[float] = []

    def work() -> None:
        with pytest.raises(DriverError):
            worker.work(max_time=2)
        ended.append(scene.world.elapsed_s)

    scene.queue.dispatch(scene.job(1, takes=1.0))
    worker.process.spawn(work, "work")
    scene.world.run(for_s=0.5)
    away = True
    scene.world.run(for_s=60)
    assert len(ended) == 1
    assert ended[0] < 15


def test_a_job_that_stops_its_own_workers_succeeds(scene: Scene) -> None:
    """It can't wait for itself: stop() says so by returning False."""
    said: list[bool] = []

    @dataclass
    class Stops:
        def handle(self) -> None:
            said.append(worker.handles[0].stop())

    scene.world.registry.register("jobs.Stops", Stops)
    worker = scene.world.process()
    worker.start_workers(2)
    scene.queue.dispatch(Stops())
    scene.world.run(for_s=20)
    assert said == [False]
    assert not worker.handles[0].is_alive()
    assert not [event for event in scene.world.events if isinstance(event, JobFailed)]
    scene.ended()


def test_attempts_beyond_what_an_envelope_holds_are_recorded_all_the_same(scene: Scene) -> None:
    """Another program wrote that envelope."""
    scene.queue.driver.push([b'{"id":"x","type":"jobs.Job","payload":{"fails":true},"attempts":2147483647}'])
    worker = scene.world.process()
    worker.start_workers(1)
    scene.world.run(for_s=5)
    ((failed),) = worker.failed_jobs()
    assert (failed.id, failed.attempts, failed.error) == ("x", 2147483647, "ValueError: job 0 fails")
