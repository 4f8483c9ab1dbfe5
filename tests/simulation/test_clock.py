"""Handlers live in virtual time, whatever name they know it by; what escapes is reported."""

from __future__ import annotations

import asyncio
import datetime as dt
import queue as stdlib_queue
import random
import socket
import threading
import time
import uuid
from dataclasses import dataclass
from datetime import datetime
from time import monotonic, perf_counter, sleep
from time import sleep as nap
from typing import Any

import pytest
from kashvi_sim.world.kernel import EPOCH, Condition, Deadlock, Kernel
from kashvi_sim.world.world import World

from kashvi.registry import Registry

said: list[Any] = []


@dataclass
class Sleeps:
    """By names imported long before the simulation."""

    n: int = 0

    def handle(self) -> None:
        began, began_mono, began_perf = time.time(), monotonic(), perf_counter()
        sleep(10)
        nap(20)
        time.sleep(30)
        said.append((time.time() - began, monotonic() - began_mono, perf_counter() - began_perf))


@dataclass
class Tells:
    def handle(self) -> None:
        said.append((time.time(), datetime.now(dt.UTC).timestamp(), type(datetime.now()) is datetime))


@dataclass
class Draws:
    def handle(self) -> None:
        said.append((random.random(), str(uuid.uuid4())))


@dataclass
class Threads:
    def handle(self) -> None:
        thread = threading.Thread(target=lambda: None)
        thread.start()
        thread.join()


@dataclass
class Connects:
    port: int

    def handle(self) -> None:
        with socket.create_connection(("127.0.0.1", self.port)):
            """That is all."""


@dataclass
class Waits:
    def handle(self) -> None:
        try:
            stdlib_queue.Queue[int]().get(timeout=0.7)
        except stdlib_queue.Empty:
            said.append("waited")


@dataclass
class Hangs:
    """An event loop asks a clock that stands still whether its time has come."""

    def handle(self) -> None:
        asyncio.run(asyncio.sleep(1))


@pytest.fixture
def world() -> World:
    said.clear()
    registry = Registry()
    for one in (Sleeps, Tells, Draws, Threads, Connects, Waits, Hangs):
        registry.register(f"jobs.{one.__name__}", one)
    return World(registry=registry)


def run(world: World, job: object, skew_s: float = 0.0) -> None:
    world.process().dispatch(job)
    world.drain(world.process(skew_s=skew_s))


def test_sleeping_takes_virtual_time_by_any_name(world: World) -> None:
    """A minute passes in an instant."""
    began = time.perf_counter()
    run(world, Sleeps())
    assert said == [(60, 60, 60)]
    assert world.elapsed_s >= 60
    assert time.perf_counter() - began < 10
    assert world.escapes == []


def test_handlers_of_two_processes_sleep_at_the_same_time(world: World) -> None:
    """Virtual time is shared, threads are many."""
    for _ in range(2):
        world.process().start_workers(2)
    world.process().dispatch_many([Sleeps(n) for n in range(4)])
    world.run(for_s=61)
    assert len(said) == 4


def test_a_handler_sees_the_wall_clock_of_its_process(world: World) -> None:
    """Skewed by an hour there, and of the real type."""
    run(world, Tells(), skew_s=3600.0)
    ((now, also_now, real_type),) = said
    assert now == also_now == pytest.approx(EPOCH + 3600, abs=1.5)
    assert real_type


def test_outside_handlers_time_is_real() -> None:
    """The patch looks whether a simulated handler is asking."""
    assert abs(time.time() - EPOCH) > 1_000_000
    before = time.perf_counter()
    time.sleep(0.001)
    assert 0 < time.perf_counter() - before < 5


def test_chance_in_a_handler_comes_from_the_seed(world: World) -> None:
    """Twice the same, and the test's own random numbers are left alone."""
    random.seed(7)
    expected = random.random()
    random.seed(7)
    run(world, Draws())
    assert random.random() == expected
    first = said[:]
    said.clear()
    again = World(registry=world.registry)
    run(again, Draws())
    assert said == first


def test_a_real_thread_is_reported_with_its_stack(world: World) -> None:
    """It would run outside the simulation."""
    run(world, Threads())
    (escape,) = world.escapes
    assert "a real thread was started" in escape.what
    assert "thread.start()" in escape.stack


def test_a_real_connection_is_reported_with_its_stack(world: World) -> None:
    """Its answer would come in real time."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        run(world, Connects(listener.getsockname()[1]))
    assert "a connection to" in world.escapes[0].what
    assert "create_connection" in world.escapes[0].stack
    assert "kashvi/worker" not in world.escapes[0].stack, "it begins with the app's own frame"


def test_a_real_wait_is_reported_with_its_stack(world: World) -> None:
    """A lock's timeout is out of our reach; a watchdog sees that a step does not end."""
    run(world, Waits())
    assert said == ["waited"]
    assert "real time" in world.escapes[0].what
    assert "handle" in world.escapes[0].stack


def test_a_wait_that_would_never_end_is_ended(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The attempt fails, and says why."""
    monkeypatch.setattr("kashvi_sim.world.clock.HOPELESS_S", 0.5)
    world.process().dispatch(Hangs())
    worker = world.process()
    world.drain(worker)
    assert [job.error for job in worker.failed_jobs()] == ["Escaped"]
    assert world.escapes


# -- the kernel ------------------------------------------------------------------------------


def test_a_killed_process_runs_no_finally() -> None:
    """Nor when its task is collected."""
    world = World(registry=Registry())
    queue = world.process()
    ran: list[str] = []

    def work() -> None:
        try:
            world.kernel.sleep(10)
        finally:
            ran.append("finally")

    queue.process.spawn(work, "work")
    world.run(for_s=1)
    world.kill(queue)
    world.run(for_s=20)
    assert ran == []


def test_a_paused_process_stands_still_while_time_goes_on() -> None:
    """All its tasks; then they go on."""
    world = World(registry=Registry())
    queue = world.process()
    at: list[float] = []

    def work() -> None:
        for _ in range(3):
            world.kernel.sleep(1)
            at.append(world.elapsed_s)

    queue.process.spawn(work, "work")
    world.run(for_s=1.5)
    queue.process.paused_until = world.kernel.time + 10
    world.run(for_s=20)
    assert at == [1, 11.5, 12.5]


def test_a_lock_that_is_held_across_a_wait_is_an_error() -> None:
    """No call leaves a process while it holds a lock; here is who sees to it."""
    kernel = Kernel()
    lock = Condition(kernel)

    def holder() -> None:
        with lock:
            kernel.sleep(1)

    kernel.spawn(holder, "holder")
    kernel.spawn(holder, "second")
    with pytest.raises(Deadlock, match="holder waited while it held a lock"):
        kernel.run()


def test_an_error_in_a_task_says_which_and_when() -> None:
    """And ends the run."""
    kernel = Kernel()

    def fails() -> None:
        kernel.sleep(2)
        raise ValueError("oh")

    kernel.spawn(fails, "the task")
    with pytest.raises(ValueError, match="oh") as caught:
        kernel.run()
    assert caught.value.__notes__ == ["in the simulated task the task, at 2.000000 s"]
