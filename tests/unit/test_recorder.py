"""When the recorder reads what waits for the table, and what it reads again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kashvi.drivers.memory import MemoryDriver
from kashvi.jobs.envelope import seal
from kashvi.ports import Failure, Refusal, Unrecorded
from kashvi.runtime import SystemRuntime
from kashvi.stream import EventStream
from kashvi.worker.recorder import BATCH, PAUSE_MAX_S, Recorder


class Clock(SystemRuntime):
    """A clock that a test sets."""

    at = 1000.0

    def monotonic(self) -> float:  # type: ignore[override]
        return self.at


class Server(MemoryDriver):
    """Notes each read."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[int] = []

    def unrecorded(self, limit: int, skip: int = 0) -> list[Unrecorded]:
        self.reads.append(skip)
        return super().unrecorded(limit, skip)


class Table:
    """Refuses some rows for their content."""

    def __init__(self, *refused: str) -> None:
        self.refused = set(refused)
        self.rows: list[str] = []

    def record(self, failures: Sequence[Failure]) -> dict[str, Refusal]:
        refused = {one.job_id: Refusal("a NUL in it") for one in failures if one.job_id in self.refused}
        self.rows += [one.job_id for one in failures if one.job_id not in refused]
        return refused


def exhausted(server: Server, *names: str) -> None:
    """These jobs fail for good, in this order."""
    for name in names:
        server.store.unrecorded[seal(name, b'"t"', b"{}")] = float(len(server.store.unrecorded))


def made(table: Table) -> tuple[Recorder, Server, Clock]:
    clock, server = Clock(), Server()
    stream = EventStream("p", clock.now, clock.interruptible)
    unused: Any = None
    return Recorder(server, table, clock, stream, unused), server, clock


def test_while_only_refused_rows_wait_the_recorder_reads_twice_a_minute() -> None:
    """Not at each call; and not never, for the count of a server may hide one that came as another went."""
    recorder, server, clock = made(Table("bad"))
    exhausted(server, "bad")
    assert not recorder.run(1)
    reads = len(server.reads)
    clock.at += PAUSE_MAX_S - 1
    assert not recorder.run(1)
    assert len(server.reads) == reads
    clock.at += 2
    assert not recorder.run(1)
    assert len(server.reads) > reads


def test_a_new_row_is_read_without_all_that_the_table_has_refused() -> None:
    """They are the oldest: the read starts at the last of them."""
    table = Table("a", "b", "c")
    recorder, server, _ = made(table)
    exhausted(server, "a", "b", "c")
    recorder.run(3)
    server.reads.clear()
    exhausted(server, "good")
    assert not recorder.run(4)
    assert (server.reads, table.rows) == ([2], ["good"])


def test_a_refused_row_that_another_worker_has_recorded_is_forgotten() -> None:
    """Then nothing is put off any more."""
    recorder, server, clock = made(Table("bad"))
    exhausted(server, "bad")
    assert not recorder.run(1)
    server.store.unrecorded.clear()
    clock.at += PAUSE_MAX_S + 1
    assert recorder.run(0)


def test_all_that_waits_is_read_in_one_run_of_several_batches() -> None:
    """The rows refused in the first batch are not read again with the second."""
    names = [f"{n:04d}" for n in range(BATCH + 3)]
    table = Table(*names[:2])
    recorder, server, _ = made(table)
    exhausted(server, *names)
    assert not recorder.run(len(names))
    assert (server.reads, sorted(table.rows)) == ([0, 2], names[2:])
