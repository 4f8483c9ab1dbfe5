"""A driver that answers otherwise than the port says is seen at its first such answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from kashvi_sim.commands.options import workload_named
from kashvi_sim.runs.play import play

from kashvi.drivers import lines
from kashvi.drivers.memory import MemoryDriver
from kashvi.ports import Exchange

Plant = Callable[[pytest.MonkeyPatch], None]


def other_answers(**others: Callable[[Any], Any]) -> Plant:
    def plant(patch: pytest.MonkeyPatch) -> None:
        real = MemoryDriver._answer

        def answer(self: MemoryDriver, *args: Any) -> Exchange:
            said = real(self, *args)
            return said._replace(**{name: change(getattr(said, name)) for name, change in others.items()})

        patch.setattr(MemoryDriver, "_answer", answer)

    return plant


def listed_newest_first(listing: tuple[list[bytes], list[bytes]] | None) -> tuple[list[bytes], list[bytes]] | None:
    return listing and (listing[0][::-1], listing[1][::-1])


def lost_oldest_first(patch: pytest.MonkeyPatch) -> None:
    real = MemoryDriver.expired

    def expired(self: MemoryDriver, limit: int) -> Any:
        found = real(self, limit)
        return found._replace(lost=found.lost[::-1])

    patch.setattr(MemoryDriver, "expired", expired)


BUGS: dict[str, Plant] = {
    "one is promoted at a time": lambda patch: patch.setattr(lines, "PROMOTE_MAX", 1),
    "nothing is left ready": other_answers(ready=lambda n: 0),
    "the next due time is a second late": other_answers(next_due_s=lambda s: s and s + 1.0),
    "a listing with the newest first": other_answers(listing=listed_newest_first),
    "nothing was refused": other_answers(refused=lambda refused: ()),
    "the oldest of the dead first": lost_oldest_first,
}


@pytest.mark.parametrize("bug", BUGS)
def test_an_answer_that_is_wrong_is_seen(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a storm, within 200 seeds."""
    BUGS[bug](monkeypatch)
    for seed in range(200):
        violations = play(workload_named("storm"), seed=seed, faults="all").violations
        if any(one.predicate == "answers as the port says" for one in violations):
            return
    pytest.fail("no answer was found wrong")
