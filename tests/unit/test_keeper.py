"""What a keeper makes of what the dead held, where that was too much for one look."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from kashvi.jobs.envelope import seal
from kashvi.ports import Expired, LostDelivery, Place
from kashvi.runtime import SystemRuntime
from kashvi.stream import EventStream
from kashvi.worker.keeper import Keeper


def had(owner: str, place: Place, name: str, lost: int = 1) -> LostDelivery:
    sealed = seal(name, b'"t"', b"{}")
    return LostDelivery(owner, place, sealed[:-1] + b',"lost":%d}' % lost if lost else sealed)


def made_of(found: Expired) -> list[tuple[str, str, str]]:
    """Owner, job and move of each settling."""
    runtime = SystemRuntime()
    worker: Any = SimpleNamespace(id="me", server_now=lambda: 0.0)
    unused: Any = None
    stream = EventStream("p", runtime.now, runtime.interruptible)
    keeper = Keeper(worker, unused, unused, runtime, stream, lambda: 3, lambda d: 0)
    return [(one.delivery.owner, one.delivery.job_id, one.move) for one in keeper._after_deaths(found)]


ANNOUNCED_BESIDE_A_SUSPECT = [had("a", "running", "a1"), had("a", "held", "a2")]


def test_a_worker_that_was_read_whole_is_judged_and_the_last_of_several_waits_for_the_next_look() -> None:
    """Of the last there may be more."""
    found = [*ANNOUNCED_BESIDE_A_SUSPECT, had("b", "held", "b1")]
    a = [("a", "a2", "return"), ("a", "a1", "retry")]
    assert made_of(Expired(found, [], more=True)) == a
    assert made_of(Expired(found, [], more=False)) == [*a, ("b", "b1", "return")]


def test_an_announced_job_of_one_that_was_read_in_part_stays_where_it_is() -> None:
    """What has not been read may be fresh, and to blame."""
    assert made_of(Expired(ANNOUNCED_BESIDE_A_SUSPECT, [], more=True)) == [("a", "a2", "return")]
    assert made_of(Expired(ANNOUNCED_BESIDE_A_SUSPECT, [], more=False)) == [("a", "a2", "return"), ("a", "a1", "retry")]


def test_a_keeper_takes_nothing_from_its_own_worker() -> None:
    """Which is late, and not dead; nor does it take it off the list."""
    found = [had("me", "held", "m1"), had("a", "held", "a1", lost=0)]
    assert made_of(Expired(found, ["me", "b"])) == [("b", "", "leave"), ("a", "a1", "return")]
