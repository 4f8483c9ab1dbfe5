"""What the shell does around the machine's decisions."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from kashvi.drivers.memory import MemoryDriver
from kashvi.jobs.envelope import seal
from kashvi.ports import Exchange, Task
from kashvi.runtime import SystemRuntime
from kashvi.stream import EventStream
from kashvi.worker import Limits, settle
from kashvi.worker.keeper import Keeper
from kashvi.worker.machine import Machine
from kashvi.worker.machine.steps import Record, Request, Wait
from kashvi.worker.shell import Worker


class Still(SystemRuntime):
    """Notes each sleep, and does not sleep."""

    def __init__(self) -> None:
        self.sleeps: list[float] = []

    def monotonic(self) -> float:  # type: ignore[override]
        return 1000.0

    def sleep(self, seconds: float) -> None:  # type: ignore[override]
        self.sleeps.append(seconds)

    def spawn(self, run: Callable[[], None], name: str) -> Task:
        raise RuntimeError("can't start new thread")


class Server(MemoryDriver):
    """Notes whom it wakes; its wait does not wait."""

    def __init__(self) -> None:
        super().__init__()
        self.woken: list[str] = []

    def wake(self, worker: str) -> None:
        self.woken.append(worker)

    def wait(self, worker: str, seconds: float) -> bytes | float | None:
        return None


class Remembered:
    def __init__(self) -> None:
        self.jobs: list[str] = []

    def remember(self, settling: settle.Settling, failed_at: float) -> None:
        self.jobs.append(settling.delivery.job_id)


def made() -> tuple[Worker, Server, Still, Remembered]:
    runtime, server, remembered = Still(), Server(), Remembered()
    machine = Machine.new("me", 1, 30.0, Limits(), 1000_000_000, has_store=True)
    stream = EventStream("p", runtime.now, runtime.interruptible)
    attempts: Any = SimpleNamespace(interruptible=False)
    recorder: Any = remembered
    worker = Worker(machine, attempts, driver=server, runtime=runtime, stream=stream, recorder=recorder)
    return worker, server, runtime, remembered


def test_a_wait_that_does_not_wait_is_followed_by_a_short_sleep() -> None:
    """A driver whose wait returns at once must not make an idle worker spin."""
    worker, _, runtime, _ = made()
    worker.machine.waiting = True
    worker._wait(Wait(600_000, 1000_000_000))
    assert runtime.sleeps == [0.05]


def test_each_stop_ends_a_wait_that_is_under_way() -> None:
    """The first one is told, by the news; a later one may be the first that the driver hears."""
    worker, server, _, _ = made()
    worker.stop()
    assert server.woken == ["me"]
    worker.stop()
    assert server.woken == ["me", "me"]


def test_only_a_failure_that_the_server_has_accepted_is_remembered() -> None:
    """A refused one is settled by another worker."""
    worker, _, _, remembered = made()
    found = [settle.delivery(seal(name, b'"t"', b"{}"), "me", str, 0.0) for name in ("a", "b")]
    request = Request(1, [settle.failed(d, 0.0, "x", 1) for d in found], 0, False, True, 0)
    worker.tell(request, Exchange(0.0, 0.0, (0,), [], 0, 0, 0, None), 0.0)
    assert remembered.jobs == ["b"]


def test_a_recorder_that_could_not_be_started_is_started_later() -> None:
    """What waits for the table is not taken as recorded."""
    worker, server, runtime, recorder = made()
    machine = worker.machine
    machine.unrecorded = 5
    step = machine._record()
    assert isinstance(step, Record)
    anything: Any = recorder
    keeper = Keeper(worker, server, anything, runtime, worker._stream, lambda: 3, lambda d: 0)
    with pytest.raises(RuntimeError):
        keeper.start_recorder(step)
    assert (machine.recording, machine.unrecorded) == (False, 5)
