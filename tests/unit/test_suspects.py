"""What becomes of the jobs of a dead process, and when a worker starts them again."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import pytest

from kashvi import settle
from kashvi.books import Books, Limits
from kashvi.envelope import COUNT_MAX, read, seal
from kashvi.ports import LostDelivery, Place
from kashvi.settle import Delivery
from kashvi.suspects import Turns, after_death

LEASE_S = 2.0


def envelope(name: str, lost: int) -> bytes:
    sealed = seal(name, b'"t"', b"{}")
    return sealed[:-1] + b',"lost":%d}' % lost if lost else sealed


def told(*jobs: tuple[Place, str, int], whole: bool = True) -> list[tuple[str, str, int]]:
    """Each job's id, what becomes of it, and how grave a suspect it is then; ``jobs``: as a driver reads them."""
    found = [LostDelivery("dead", place, envelope(name, lost)) for place, name, lost in jobs]
    made = after_death(found, whole, 0.0, map(str, count()).__next__, 3, 0.0)
    return [(one.delivery.job_id, one.move, read(one.new).lost) for one in made]


def test_a_death_is_charged_to_an_announced_job_that_was_alone_with_suspects_that_waited() -> None:
    """They go back as they are."""
    assert told(("running", "a", 1), ("held", "b", 2)) == [("b", "return", 2), ("a", "retry", 2)]


def test_what_is_fresh_may_have_been_to_blame() -> None:
    """It becomes a suspect, and goes back behind the one that was announced, which is two degrees graver."""
    assert told(("running", "a", 1), ("held", "b", 0)) == [("b", "return", 1), ("a", "return", 3)]


def test_of_several_that_were_announced_the_last_is_the_gravest_and_goes_first() -> None:
    """The last to be returned is the head of the queue."""
    assert told(("running", "last", 1), ("running", "first", 1)) == [("first", "return", 2), ("last", "return", 3)]


def test_while_more_is_to_be_read_the_announced_job_stays_where_it_is() -> None:
    """Suspects that waited say nothing of it, so they may go; what is fresh decides at once."""
    assert told(("running", "a", 1), ("held", "b", 1), whole=False) == [("b", "return", 1)]
    assert told(("running", "a", 1), ("held", "b", 0), whole=False) == [("b", "return", 1), ("a", "return", 3)]
    assert told(("running", "a", 1), whole=False) == [("a", "retry", 2)]  # one of `held` is read, if there is any


def test_no_count_goes_beyond_what_an_envelope_can_hold() -> None:
    """Whoever wrote it."""
    assert told(("running", "a", COUNT_MAX), ("held", "b", 0))[1] == ("a", "return", COUNT_MAX)


# -- whose turn it is -----------------------------------------------------------------------------


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def suspect(name: str, lost: int) -> Delivery:
    return settle.delivery(envelope(name, lost), "w", str, 0.0)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def turns(clock: Clock) -> Turns:
    return Turns(LEASE_S, clock)


def test_the_gravest_starts_first_however_they_came(turns: Turns) -> None:
    """A wait and an exchange may overtake each other."""
    for name, lost in (("a", 1), ("b", 3), ("c", 1), ("d", 3), ("e", 2)):
        turns.add(suspect(name, lost))
    assert [d.job_id for d in turns.waiting] == ["b", "d", "e", "a", "c"]


@pytest.mark.parametrize(("lost", "leases"), [(1, 10), (2, 20), (3, 40), (COUNT_MAX, 10 * 2**20)])
def test_a_suspect_is_alone_for_ten_leases_doubled_with_each_death(
    turns: Turns, clock: Clock, lost: int, leases: int
) -> None:
    """Then, or when it has ended, the next may start."""
    turns.begin(suspect("a", lost))
    turns.add(suspect("b", 1))
    began = clock.now
    assert turns.next_at() == began + leases * LEASE_S
    clock.now = began + leases * LEASE_S - 0.01
    assert not turns.may_start(running=1, free=1)
    clock.now += 0.02
    assert turns.may_start(running=1, free=1)


@pytest.mark.parametrize(("lost", "leases"), [(1, 0), (2, 1), (3, 2), (4, 4)])
def test_a_grave_suspect_waits_for_what_runs_but_not_for_ever(
    turns: Turns, clock: Clock, lost: int, leases: int
) -> None:
    """And where nothing runs, not at all. Meanwhile nothing fresh starts."""
    turns.add(suspect("a", lost))
    began = clock.now
    assert turns.keeps_fresh_out() == (lost > 1)
    assert turns.may_start(running=0, free=1)
    assert turns.may_start(running=1, free=1) == (not leases)
    clock.now = began + leases * LEASE_S
    assert turns.may_start(running=1, free=1)
    assert not turns.may_start(running=1, free=0)


def test_a_graver_one_that_comes_waits_its_own_time(turns: Turns, clock: Clock) -> None:
    """Fresh jobs may have started since the other came."""
    turns.add(suspect("a", 1))
    clock.now += 100
    turns.add(suspect("b", 2))
    assert not turns.may_start(running=1, free=1)
    assert turns.next_at() == clock.now + LEASE_S


def books(clock: Callable[[], float]) -> Books:
    found = Books(2, Limits(), LEASE_S, clock)
    found.look = False
    return found


def test_a_suspect_claimed_beside_a_wait_starts_when_the_wait_is_over(clock: Clock) -> None:
    """The wait may have claimed what was ahead of it; one that begins later can't have."""
    mine = books(clock)
    mine.waiting = True
    mine.admit(suspect("a", 1))
    assert mine.choose() is None
    mine.waited()
    mine.waiting = True
    assert mine.choose() == "exchange"


def test_fresh_jobs_at_hand_go_back_when_a_grave_suspect_comes(clock: Clock) -> None:
    """In the exchange that announces it: of its death, nothing else is to be known."""
    mine = books(clock)
    mine.admit(suspect("fresh", 0))
    mine.admit(suspect("grave", 2))
    assert mine.choose() == "exchange"
    batch, want = mine.sending(claim=True)
    assert [(one.move, one.delivery.job_id) for one in batch] == [("return", "fresh"), ("start", "grave")]
    assert want == 0


def test_suspects_that_all_threads_are_too_busy_for_go_back(clock: Clock) -> None:
    """For others, as other claimed jobs do; and what is at hand while jobs end and start stays."""
    mine = books(clock)
    for n in range(2):
        mine.admit(suspect(f"long {n}", 0))
        mine.choose()
    mine.admit(suspect("a", 1))
    for _ in range(2):
        mine.release_hostages()
        assert mine.outbox == []
        clock.now += 0.6
    mine.release_hostages()
    assert [(one.move, one.delivery.job_id) for one in mine.outbox] == [("return", "a")]
