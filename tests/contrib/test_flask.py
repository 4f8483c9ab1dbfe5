"""kashvi.contrib.flask: an app context for each attempt."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from flask import Flask, current_app, g, has_app_context

from kashvi.contrib.flask import in_app_context
from kashvi.drivers.memory import MemoryDriver
from kashvi.queues import Queue
from kashvi.registry import Registry
from kashvi.retries import Retry

seen: list[tuple[str, str, bool]] = []


@dataclass
class Note:
    text: str

    def handle(self) -> None:
        seen.append((self.text, current_app.name, "text" in g))
        g.text = self.text
        if self.text == "bad":
            raise ValueError("bad")


@dataclass
class Async:
    async def handle(self) -> None:
        await asyncio.gather(self._inside())

    async def _inside(self) -> None:
        seen.append(("async", current_app.name, "text" in g))


def test_each_attempt_has_a_context_of_its_own_which_ends_with_it() -> None:
    """Also an async one; teardown functions see the exception."""
    seen.clear()
    app, torn_down = Flask("shop"), []
    app.teardown_appcontext(lambda error: torn_down.append(repr(error)))
    queue = Queue(MemoryDriver(), registry=Registry())
    queue.register("jobs.Note", Note, retry=Retry(attempts=1))
    queue.register("jobs.Async", Async)
    in_app_context(queue, app)
    queue.dispatch_many([Note("fine"), Note("bad"), Async()])
    queue.work(drain=True)
    assert seen == [("fine", "shop", False), ("bad", "shop", False), ("async", "shop", False)]
    assert torn_down == ["None", "ValueError('bad')", "None"]
    assert not has_app_context()
