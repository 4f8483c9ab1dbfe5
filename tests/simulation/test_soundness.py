"""What is true of a worker's machine after every call, in storms: a field that goes wrong shows before it does harm."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from kashvi_sim.commands.options import workload_named
from kashvi_sim.runs.play import play

from kashvi.worker.machine import Machine
from kashvi.worker.machine.state import BACKOFF_MAX
from kashvi.worker.machine.steps import Request, micros

CALLS = (
    "free", "woken", "roused", "interrupted", "fewer", "hand_back", "keep", "reaped", "recorded", "due", "waited",
    "wait_lost", "answered", "lost", "unanswered", "stop", "one_try",
)  # fmt: skip


def unsound(m: Machine) -> Iterator[str]:
    """What can't be, whatever has happened."""
    limit, stopping = m.limits.max_jobs, m.stopping_at is not None
    owed = [*m.outbox, *(m.open.settlings if m.open else ())]
    here = [*m.ready, *m.running.values(), *(one.delivery for one in owed)]
    places = [d.place for d in m.ready]
    grave = [d.lost for d in m.suspects]
    for wrong, why in (
        (any(a < b for a, b in pairwise(grave)), f"suspects wait in the order {grave}"),
        (m.watched is not None and not m.idle, "a thread watches, and none is idle"),
        (m.called and not m.idle, "a thread is called, and none is idle"),
        (not 0 <= m.idle + m.waiting <= m.threads, f"{m.idle} idle of {m.threads}"),
        (len(m.running) > m.threads, f"{len(m.running)} run on {m.threads} threads"),
        (limit is not None and m.taken > limit, f"{m.taken} taken, of {limit}"),
        (m.full != (limit is not None and m.taken >= limit), f"full: {m.full}, with {m.taken} of {limit}"),
        (m.full and not stopping, "it is full, and goes on"),
        (m.suspect is not None and not any(d is m.suspect for d in here), "its last suspect is nowhere"),
        (bool(m.outbox) and m.owed_since < micros(m.outbox[0].ended_at) - 1, "it owes for longer than there is work"),
        (m.overtaking and not m.waiting, "a wait is overtaken, and there is none"),
        (m.urgent and not m.outbox, "nothing is urgent"),
        (m.gave_up and not stopping, "it gave up, and does not stop"),
        (stopping and bool(m.ready or m.suspects), "it stops, and keeps what has not started"),
        (m.unsettled != sum(one.move != "leave" for one in owed), f"{m.unsettled} unsettled of {len(owed)}"),
        (m.backoff > BACKOFF_MAX, f"it pauses for {m.backoff}"),
        (m.phase == "over" and not m.away and bool(m.outbox), "it is over, and owes"),
        (bool(places) and places[0] == "held" and "running" in places, "a fresh job is ahead of an announced one"),
    ):
        if wrong:
            yield why


@pytest.fixture
def faults_found(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was found unsound after a call from outside, and after an exchange that began."""
    found: list[str] = []
    depth = [0]

    def watched(name: str) -> Any:
        real = getattr(Machine, name)

        def call(self: Machine, *args: Any, **named: Any) -> Any:
            depth[0] += 1
            try:
                step = real(self, *args, **named)
            finally:
                depth[0] -= 1
            if not depth[0]:
                found.extend(f"after {name}: {why}" for why in unsound(self))
                if isinstance(step, Request) and step is self.open and self.waited_at is not None:
                    found.append(f"after {name}: it owes a sign of life, and gives one")
            return step

        return call

    for name in CALLS:
        monkeypatch.setattr(Machine, name, watched(name))
    return found


@pytest.mark.parametrize(("workload", "seeds"), [("storm", 50), ("neighbours", 30)])
def test_every_state_of_a_storm_is_sound(workload: str, seeds: int, faults_found: list[str]) -> None:
    """Whatever strikes."""
    script = workload_named(workload)
    for seed in range(seeds):
        play(script, seed=seed, faults="all")
        assert faults_found == [], f"seed {seed}"
