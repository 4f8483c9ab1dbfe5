"""What becomes of the jobs of a dead process, and when a worker starts them again."""

from __future__ import annotations

from itertools import count

import pytest

from kashvi.jobs.envelope import COUNT_MAX, read, seal
from kashvi.ports import LostDelivery, Place
from kashvi.worker import Limits, settle
from kashvi.worker.machine import Machine, suspects
from kashvi.worker.machine.steps import SECOND, Idle, Request, Wait
from kashvi.worker.machine.suspects import after_death
from kashvi.worker.settle import Delivery

LEASE = 2 * SECOND
NOW = 1000 * SECOND


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


def test_each_settlement_for_a_dead_worker_names_the_end_of_its_lease() -> None:
    """As the look had it: the server compares."""
    found = [
        LostDelivery("dead", "running", envelope("a", 1), 17.25),
        LostDelivery("dead", "held", b"no envelope", 17.25),
    ]
    made = after_death(found, True, 0.0, map(str, count()).__next__, 3, 0.0)
    assert [one.sent(0.0).lease_end for one in made] == [17.25, 17.25]


def test_no_count_goes_beyond_what_an_envelope_can_hold() -> None:
    """Also in an envelope of another program."""
    assert told(("running", "a", COUNT_MAX), ("held", "b", 0))[1] == ("a", "return", COUNT_MAX)


# -- whose turn it is -----------------------------------------------------------------------------


def suspect(name: str, lost: int) -> Delivery:
    return settle.delivery(envelope(name, lost), "w", str, 0.0)


@pytest.fixture
def machine() -> Machine:
    made = Machine.new("w", 2, LEASE / SECOND, Limits(), NOW, has_store=False)
    made.look = False
    return made


def test_the_gravest_starts_first_however_they_came(machine: Machine) -> None:
    """A wait and an exchange may overtake each other."""
    machine._admit(NOW, [suspect(name, lost) for name, lost in (("a", 1), ("b", 3), ("c", 1), ("d", 3), ("e", 2))])
    assert [d.job_id for d in machine.suspects] == ["b", "d", "e", "a", "c"]


@pytest.mark.parametrize(("lost", "leases"), [(1, 10), (2, 20), (3, 40), (COUNT_MAX, 10 * 2**20)])
def test_a_suspect_is_alone_for_ten_leases_doubled_with_each_death(machine: Machine, lost: int, leases: int) -> None:
    """Then, or when it has ended, the next may start."""
    machine._begin(NOW, suspect("a", lost))
    machine._admit(NOW, [suspect("b", 1)])
    over = NOW + leases * LEASE
    assert suspects.next_at(machine, NOW) == over
    assert not suspects.may_start(machine, over - 1)
    assert suspects.may_start(machine, over)


@pytest.mark.parametrize(("lost", "leases"), [(1, 0), (2, 1), (3, 2), (4, 4)])
def test_a_grave_suspect_waits_for_what_runs_but_not_for_ever(machine: Machine, lost: int, leases: int) -> None:
    """And where nothing runs, not at all. Meanwhile nothing fresh starts."""
    machine._admit(NOW, [suspect("a", lost)])
    assert suspects.keep_fresh_out(machine, NOW) == (lost > 1)
    assert suspects.may_start(machine, NOW)
    machine.running = {1: suspect("b", 0)}
    assert suspects.may_start(machine, NOW) == (not leases)
    assert suspects.may_start(machine, NOW + leases * LEASE)
    machine.running |= {2: suspect("c", 0)}
    assert not suspects.may_start(machine, NOW + leases * LEASE)


def test_a_graver_one_that_comes_waits_its_own_time(machine: Machine) -> None:
    """Fresh jobs may have started since the other came."""
    machine._admit(NOW, [suspect("a", 1)])
    later = NOW + 100 * SECOND
    machine._admit(later, [suspect("b", 2)])
    machine.running = {1: suspect("c", 0)}
    assert not suspects.may_start(machine, later)
    assert suspects.next_at(machine, later) == later + LEASE


def test_a_suspect_claimed_beside_a_wait_starts_when_the_wait_is_over(machine: Machine) -> None:
    """The wait may have claimed what was ahead of it; one that begins later cannot have."""
    wait = machine.free(NOW)
    assert isinstance(wait, Wait)
    machine._admit(NOW, [suspect("a", 1)])
    assert isinstance(machine.free(NOW), Idle)
    machine.waited(NOW, wait, None)
    machine.waiting = True
    assert isinstance(machine.free(NOW), Request)


def test_fresh_jobs_at_hand_go_back_when_a_grave_suspect_comes(machine: Machine) -> None:
    """In the exchange that announces it: of its death, nothing else is to be known."""
    machine._admit(NOW, [suspect("fresh", 0), suspect("grave", 2)])
    request = machine.free(NOW)
    assert isinstance(request, Request)
    assert [(one.move, one.delivery.job_id) for one in request.settlings] == [("return", "fresh"), ("start", "grave")]
    assert request.want == 0


def test_suspects_that_all_threads_are_too_busy_for_go_back(machine: Machine) -> None:
    """For others, as other claimed jobs do; and what is at hand while jobs end and start stays."""
    machine._admit(NOW, [suspect("long 0", 0), suspect("long 1", 0), suspect("a", 1)])
    machine.overtaking = True
    assert [machine.free(NOW), machine.free(NOW)] == list(machine.running.values())
    for at in (0, 600_000):
        machine._release_hostages(NOW + at)
        assert machine.outbox == []
    machine._release_hostages(NOW + 1_200_000)
    assert [(one.move, one.delivery.job_id) for one in machine.outbox] == [("return", "a")]
