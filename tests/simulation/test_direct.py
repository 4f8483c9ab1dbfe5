"""The direct shell: no greenlets, and the same trace to the byte. So a token is a token, whichever shell it is from."""

from __future__ import annotations

from typing import Any

import fakeredis
import pytest
from kashvi_sim.commands.options import workload_named
from kashvi_sim.runs.play import INSIDE, Played, Swarm, may_be_direct, perform, play
from kashvi_sim.runs.workload import Workload
from kashvi_sim.world.direct.keeper import DirectKeeper
from kashvi_sim.world.faults import RULES, PlannedFault, rules_named
from kashvi_sim.world.kernel import Deadlock, DirectTask, Kernel, Turns
from kashvi_sim.world.tape import Tape

from kashvi import current
from kashvi.errors import NoAttempt

STORM = workload_named("storm")
SEEDS = range(5_000, 5_100)


def performed(workload: Workload, seed: int, faults: str, direct: bool, **place: Any) -> Played:
    """``play`` takes the direct shell for most faults, and this for all."""
    swarm = Swarm.of(seed, rules_named(faults))
    return perform(workload, Tape(seed, often=swarm.often), swarm, direct=direct, **place)


def both(workload: Workload, seed: int, faults: str, **place: Any) -> tuple[Played, Played]:
    one = performed(workload, seed, faults, False)
    return one, performed(workload, seed, faults, True, **place)


def assert_same(one: Played, other: Played) -> None:
    """Of every job: its starts, its attempts, its end. And every figure of the run."""
    assert one.trace_sha256 == other.trace_sha256
    assert one.choices == other.choices
    assert one.violations == other.violations
    assert one.excused == other.excused
    assert one.figures == other.figures
    assert one.world.struck == other.world.struck
    assert (one.world.kernel.steps, one.world.calls) == (other.world.kernel.steps, other.world.calls)


def test_storms_with_all_faults_are_the_same_in_both_shells() -> None:
    struck = set[str]()
    for seed in SEEDS:
        one, other = both(STORM, seed, "all")
        assert_same(one, other)
        struck |= other.world.struck.keys()
    assert struck == {rule.name for rule in RULES}, "or this proves less than it says"


@pytest.mark.parametrize(
    ("name", "faults"),
    [
        ("neighbours", "none"),
        ("skew", "kill,failover"),
        ("poison", "none"),
        ("follow_ups", "all"),
        ("chains", "all"),
        ("limits", "all"),
    ],
)
def test_other_workloads_are_the_same_in_both_shells(name: str, faults: str) -> None:
    for seed in range(2):
        assert_same(*both(workload_named(name), seed, faults))


def test_attempts_that_end_with_their_world_draw_nothing() -> None:
    """The two shells end them otherwise, and a token holds the choices of the run alone."""
    for seed in (4, 5):
        assert_same(*both(workload_named("policies"), seed, "kill,latency,reply_lost"))


def test_the_direct_shell_on_another_driver_is_the_same() -> None:
    for seed in range(5):
        assert_same(*both(STORM, seed, "all", client=fakeredis.FakeRedis()))


def test_a_slip_of_the_direct_shell_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here its keeper looks up once more before it rests."""
    real = DirectKeeper._rest

    def hasty(self: DirectKeeper, rest: Any) -> Turns[None]:
        if self._exchanges.kernel.waits(None, 0.0):
            yield
        yield from real(self, rest)

    monkeypatch.setattr(DirectKeeper, "_rest", hasty)
    with pytest.raises(AssertionError):
        assert_same(*both(STORM, 0, "none"))


def test_workers_of_a_direct_run_have_no_greenlet() -> None:
    def direct_tasks(played: Played) -> set[str]:
        tasks = [task for process in played.world.processes for task in process.tasks if isinstance(task, DirectTask)]
        return {task.name.partition("/")[2].rstrip("0123456789") for task in tasks}

    one, other = both(STORM, 3, "none")
    assert direct_tasks(one) == set()
    assert direct_tasks(other) == {"produce", "kashvi-keeper", "kashvi-"}


def test_a_run_is_direct_unless_a_fault_strikes_the_librarys_own_code_where_it_stands() -> None:
    assert may_be_direct(STORM, rules_named("none"))
    assert may_be_direct(STORM, [rule for rule in RULES if rule.name not in INSIDE])
    assert not may_be_direct(STORM, rules_named("all"))
    planned = Workload(
        name="", about="", arrivals=STORM.arrivals, job=STORM.job, faults=(PlannedFault(at_s=1, fault="exit"),)
    )
    assert not may_be_direct(planned, ())
    for faults, direct in (("kill", True), ("kill,exit", False)):
        assert play(STORM, seed=0, faults=faults, direct=True).world.direct is direct


def test_code_that_waits_in_a_direct_task_and_does_not_yield_is_an_error() -> None:
    kernel = Kernel()

    def blocks() -> Turns[None]:
        kernel.sleep(1.0)
        yield

    kernel.spawn_direct(blocks, "blocks")
    with pytest.raises(Deadlock):
        kernel.run()


def test_after_a_run_without_greenlets_no_attempt_is_under_way() -> None:
    """The thread that ran it is none of a worker's."""
    performed(workload_named("follow_ups"), 1, "none", True)
    with pytest.raises(NoAttempt):
        current()
