"""The real clock, threads and chance."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass

import freezegun
import pytest
import time_machine

from kashvi.errors import ClockStandsStill
from kashvi.queue import Queue
from kashvi.registry import Registry

FORKED = """
import os
from kashvi.runtime import SystemRuntime

new_id = SystemRuntime().new_id
new_id()
if child := os.fork():
    os.waitpid(child, 0)
print("\\n".join(new_id() for _ in range(100)), flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
def test_ids_are_new_in_a_forked_process() -> None:
    """Their chance, too: that of uuid-utils before 0.14 was its parent's, and only the time told them apart."""
    ran = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, check=True)
    chance = [one[-12:] for one in ran.stdout.split()]
    assert len(set(chance)) == len(chance) == 200


@dataclass
class Later:
    def handle(self) -> None:
        """Done."""


@pytest.mark.parametrize("library", ["freezegun", "time-machine"])
def test_draining_under_a_frozen_clock_is_an_error(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it waited for ever. The job is still there, and runs when the clock goes on."""
    monkeypatch.setattr("kashvi.worker.shell.STILL_S", 0.2)
    queue = Queue(registry=Registry())
    queue.register("jobs.Later", Later)
    frozen = (
        freezegun.freeze_time("2026-02-28 21:20:41.5")
        if library == "freezegun"
        else time_machine.travel("2026-02-28T21:20:41.5Z", tick=False)
    )
    with frozen:
        queue.dispatch_after(Later(), 0.05)
        with pytest.raises(ClockStandsStill, match="the queue's clock has not moved"):
            queue.work(drain=True)
        assert queue.stats().delayed == 1
        queue.dispatch(Later())
        queue.work(stop_when_empty=True)
    queue.work(drain=True)
    assert queue.stats().delayed == 0
