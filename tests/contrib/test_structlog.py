"""kashvi.contrib.structlog: what a handler logs says whose it is."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog
from structlog.contextvars import get_contextvars
from structlog.testing import LogCapture

from kashvi.contrib.structlog import bind
from kashvi.drivers.memory import MemoryDriver
from kashvi.queue import Limits, Queue
from kashvi.registry import Registry

captured = LogCapture()
log = structlog.wrap_logger(None, [structlog.contextvars.merge_contextvars, captured])


@dataclass
class Note:
    n: int

    def handle(self) -> None:
        log.info("sync", n=self.n)
        structlog.contextvars.bind_contextvars(left="behind")


@dataclass
class Async:
    async def handle(self) -> None:
        await asyncio.gather(asyncio.sleep(0), self._logs())

    async def _logs(self) -> None:
        log.info("async")


def test_each_line_has_the_job_of_its_attempt_and_none_of_another() -> None:
    """In threads and tasks; what a handler binds ends with it."""
    captured.entries.clear()
    queue = Queue(MemoryDriver(), registry=Registry())
    queue.register("jobs.Note", Note)
    queue.register("jobs.Async", Async, queue="mail")
    bind(queue)
    ids = queue.dispatch_many([Note(0), Note(1), Async()])
    queue.start_workers(2, queues="default,mail", limits=Limits("empty")).join()
    lines = {entry["job_id"]: entry for entry in captured.entries}
    assert lines.keys() == set(ids)
    assert [lines[one]["n"] for one in ids[:2]] == [0, 1]
    assert [(lines[one]["type"], lines[one]["attempt"], lines[one]["queue"]) for one in ids] == [
        ("jobs.Note", 1, "default"),
        ("jobs.Note", 1, "default"),
        ("jobs.Async", 1, "mail"),
    ]
    assert not any("left" in line for line in lines.values())
    assert get_contextvars() == {}
