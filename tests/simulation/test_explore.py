"""Exhaustive search: the good code keeps every promise whatever happens, and a bug that can show does."""

from __future__ import annotations

from collections.abc import Callable

import fakeredis
import pytest
from kashvi_sim.runs.play import play
from kashvi_sim.runs.undisturbed import undisturbed
from kashvi_sim.search.explore import Explored, explore
from kashvi_sim.search.fingerprint import Walk, process_text
from kashvi_sim.search.liveness import live_after
from kashvi_sim.search.memory import Memory
from kashvi_sim.search.scope import Scope
from kashvi_sim.search.search import Search
from kashvi_sim.search.state import State
from kashvi_sim.search.trial import Trial
from kashvi_sim.world.kernel import EPOCH, Kernel
from kashvi_sim.world.tape import choices_of, token_of
from kashvi_spec.predicates.safety import BackoffKept, Fifo, NeverEarly, NoneLost, Predicate

from kashvi.events import AttemptStarted, AttemptSucceeded, JobDispatched, JobReturned, RetryScheduled
from kashvi.worker.settle import Delivery

from .planted import PLANTED

LIMIT = 20_000

Told = set[tuple[object, ...]]


class Listening(Search):
    """A search that keeps every event of any trial, without process and time."""

    def __init__(self, scope: Scope, *, prune: bool = True, reduce: bool = True) -> None:
        super().__init__(scope, {}, prune=prune, reduce=reduce)
        self.told: Told = set()
        self.predicates: set[str] = set()

    def made(self, trial: Trial) -> None:
        facts = ("attempt", "attempts", "suspect", "move", "error")
        self.told |= {
            (type(event).__name__, *(getattr(event, fact, None) for fact in facts)) for event in trial.world.events
        }
        self.predicates |= {violation.predicate for violation in trial.violations}

    def run(self) -> Listening:
        with undisturbed():
            while not self.exhausted:
                assert self.executions < LIMIT
                self.step()
        return self


@pytest.mark.parametrize("scope", [Scope(1, 2, 2, 1), Scope(2, 1, 2, 1), Scope(2, 1, 3, 0), Scope(2, 2, 2, 0)])
def test_the_good_code_keeps_every_promise_whatever_happens(scope: Scope) -> None:
    """And all of it was searched."""
    explored = explore(scope, {}, LIMIT)
    assert explored.exhausted
    assert explored.broken == []
    assert explored.states > 20


def test_two_workers_two_jobs_and_a_crash_are_searched_to_the_end() -> None:
    """The scope that the planted bugs are looked for in."""
    explored = explore(Scope(2, 2, 2, 1), {}, LIMIT)
    assert (explored.exhausted, explored.broken) == (True, [])


@pytest.mark.parametrize("scope", [Scope(1, 1, 2, 1), Scope(2, 1, 2, 0)])
def test_it_is_the_same_search_on_memory_and_on_redis(scope: Scope) -> None:
    """State for state: what can happen does not depend on the driver."""
    memory, redis = explore(scope, {}, LIMIT), explore(scope, {"client": fakeredis.FakeRedis()}, LIMIT)
    assert memory.exhausted
    assert memory[:-1] == redis[:-1]


@pytest.mark.parametrize("bug", [None, "retry off by one"])
def test_any_number_of_processes_makes_the_same_search(bug: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trial for trial, state for state; and finds the same."""
    if bug:
        PLANTED[bug][1](monkeypatch)
    scope = Scope(2, 1, 2, 1)
    one, three = (explore(scope, {}, LIMIT, processes=n) for n in (1, 3))
    assert one[:-1] == three[:-1]
    assert one.states > 50
    assert bool(one.broken) == bool(bug)


def test_what_is_raised_in_a_process_of_a_search_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the search ends."""

    def broken(self: Trial) -> None:
        raise ZeroDivisionError("in a trial")

    monkeypatch.setattr(Trial, "play", broken)
    with pytest.raises(ZeroDivisionError, match="in a trial"):
        explore(Scope(2, 1, 2, 1), {}, LIMIT, processes=2)


def test_a_limit_that_was_reached_proves_nothing() -> None:
    """It is not exhausted, though nothing was broken."""
    explored = explore(Scope(2, 2, 2, 1), {}, 20)
    assert (explored.executions, explored.exhausted, explored.broken) == (20, False, [])


# -- teeth ------------------------------------------------------------------------------------------

FOUND = {
    "claim without reserving": Scope(2, 2, 2, 1),
    "ack before handling": Scope(2, 2, 2, 1),
    "promotion that does not check the removal": Scope(2, 2, 2, 1),
    "retry off by one": Scope(2, 2, 2, 1),
    "gives up too early": Scope(2, 2, 2, 1),
    "constant backoff": Scope(2, 2, 3, 1),
    "early promotion": Scope(2, 2, 2, 1),
    "removed before it is recorded": Scope(2, 2, 2, 1),
    "every lost job is counted": Scope(2, 2, 2, 1),
    "reclaim moves instead of settling in place": Scope(2, 1, 2, 2),
    "retry by the worker's own clock": Scope(2, 2, 2, 1),
    "settle not fenced": Scope(2, 2, 2, 1),
    "no worker reclaims": Scope(1, 1, 1, 1),
}
"""Bugs that an order, an outcome or a death brings out. The others need lost replies, long jobs or a stop."""


@pytest.mark.parametrize("bug", FOUND)
def test_a_planted_bug_is_found_and_told_as_a_token(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which repeats it as a run; and the good code keeps every promise on the same choices."""
    PLANTED[bug][1](monkeypatch)
    scope = FOUND[bug]
    broken = _first(explore(scope, {}, LIMIT))
    choices = choices_of(token_of(broken))
    assert play(scope.workload(), choices=choices, faults="kill").violations
    monkeypatch.undo()
    assert play(scope.workload(), choices=choices, faults="kill").violations == []


def _first(explored: Explored) -> dict[tuple[str, int], int]:
    assert explored.broken, f"not found in {explored.executions} executions"
    return explored.broken[0].choices


# -- that nothing is lost -----------------------------------------------------------------------------


@pytest.mark.parametrize("scope", [Scope(1, 1, 2, 1), Scope(1, 2, 2, 1), Scope(1, 1, 3, 1)])
def test_a_state_that_was_seen_before_has_nothing_new_to_show(scope: Scope) -> None:
    """Every event of any possible run is emitted in the runs that are made."""
    searched, everything = Listening(scope).run(), Listening(scope, prune=False, reduce=False).run()
    assert searched.told == everything.told
    assert searched.executions < everything.executions


@pytest.mark.parametrize("scope", [Scope(2, 1, 2, 1), Scope(2, 2, 1, 0)])
def test_what_is_left_out_at_a_state_comes_to_the_same_as_what_is_tried(scope: Scope) -> None:
    """Likes in other orders, steps that touch no job, deaths that leave nothing."""
    searched, everything = Listening(scope).run(), Listening(scope, reduce=False).run()
    assert searched.told == everything.told
    assert searched.executions < everything.executions


LEFT_OUT = {
    "every lost job is counted": Scope(1, 1, 2, 1),
    "removed before it is recorded": Scope(1, 1, 2, 1),
    "retry off by one": Scope(1, 1, 2, 1),
    "ack before handling": Scope(1, 2, 2, 1),
    "last in, first out": Scope(1, 2, 2, 1),
    "constant backoff": Scope(1, 1, 3, 1),
    "retry by the worker's own clock": Scope(1, 1, 3, 1),
}
"""Each promise that a judge has to remember something for is broken by one of them."""


@pytest.mark.parametrize("bug", LEFT_OUT)
def test_what_is_left_out_hides_no_bug(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same promises are broken with and without."""
    PLANTED[bug][1](monkeypatch)
    reduced, whole = (Listening(LEFT_OUT[bug], prune=less, reduce=less).run() for less in (True, False))
    assert reduced.predicates == whole.predicates != set()


def test_a_state_stands_for_one_that_has_fewer_duties_and_more_excuses() -> None:
    """Whatever is broken from that one on is broken from here on; not the other way round."""
    strict, mild = State(b"", frozenset({"claim"}), frozenset()), State(b"", frozenset(), frozenset({"done"}))
    assert strict.shows_all_of(mild)
    assert strict.shows_all_of(strict)
    assert not mild.shows_all_of(strict)
    assert not mild.shows_all_of(State(b"", frozenset(), frozenset()))
    assert not strict.shows_all_of(State(b"another", frozenset(), frozenset()))


NOW = EPOCH + 100.0


def _memory(predicate: Predicate, *claimed: Delivery) -> tuple[str, set[str], set[str]]:
    memory = Memory(walk := Walk(NOW, 1.0), NOW, 3, frozenset(), claimed)
    memory.tell(predicate)
    return " ".join(walk.out), memory.duties, memory.excuses


def _delivery(server_at: float, attempts: int) -> Delivery:
    return Delivery(b"", "worker", server_at, "exchange", "held", None, "a", "jobs.A", attempts, False)


def _started(job_id: str, attempt: int, ago_s: float) -> AttemptStarted:
    return AttemptStarted(job_id=job_id, type="", attempt=attempt, worker="w", server_at=NOW - ago_s, claim="exchange")


def test_when_a_job_is_due_counts_until_no_claim_can_be_from_before() -> None:
    """A suspect may have been claimed before, and has not started yet."""

    def due(in_s: float, *claimed: Delivery) -> object:
        predicate = NeverEarly()
        predicate.see(RetryScheduled(job_id="a", type="", attempts=1, wait_s=1.0, due=NOW + in_s))
        return _memory(predicate, *claimed)

    assert due(0.5) != due(0.25)
    assert due(-0.5) == due(-0.25) == _memory(NeverEarly())
    assert due(-0.5, _delivery(NOW - 0.75, 1)) != due(-0.25, _delivery(NOW - 0.75, 1))
    assert due(-0.5, _delivery(NOW - 0.375, 1)) == due(-0.5, _delivery(NOW - 0.75, 0)) == due(-0.5)


def test_when_an_attempt_began_counts_until_the_next_may_begin_and_is_an_excuse_then() -> None:
    """Of the last attempt it never counts."""

    def began(ago_s: float, attempt: int = 1) -> tuple[str, set[str], set[str]]:
        predicate = BackoffKept()
        predicate.see(_started("a", attempt, ago_s))
        return _memory(predicate)

    assert began(0.5) != began(0.25)
    assert began(1.5) == began(1.25) == (_memory(BackoffKept())[0], set(), {"began a 1"})
    assert began(0.25, 3) == _memory(BackoffKept())


def test_to_be_overtaken_is_a_duty_and_to_have_succeeded_an_excuse() -> None:
    """The duty ends with whatever excuses the order."""
    order, lost = Fifo(), NoneLost()
    for job_id in "ab":
        order.see(JobDispatched(job_id=job_id, type="", process="p"))
    assert _memory(order)[1] == set()
    order.see(_started("b", 1, 1.0))
    assert len(_memory(order)[1]) == 1
    order.see(JobReturned(job_id="a", type="", owner="w", suspect=False))
    assert _memory(order)[1] == set()
    before = _memory(lost)
    lost.see(AttemptSucceeded(job_id="a", type="", attempt=1, duration_s=0.0))
    assert _memory(lost) == (before[0], set(), {"done a"})


# -- what a state is ----------------------------------------------------------------------------------


def _text_of(run: Callable[[Kernel], None]) -> str:
    kernel = Kernel()
    task = kernel.spawn(lambda: run(kernel), "p/task")
    kernel.spawn(lambda: kernel.sleep(0.5))  # or the task went on at once
    kernel.run(lambda: kernel.time > 0 and task.fiber.gr_frame is not None)
    text = process_text([task], Walk(kernel.time, 1.0), kernel.dues())
    kernel.close()
    return text


def _counting(found: object, forgotten: object) -> Callable[[Kernel], None]:
    def run(kernel: Kernel) -> None:
        seen, past = found, forgotten
        assert past == forgotten
        kernel.sleep(1.0)
        assert seen == found

    return run


def test_two_states_that_differ_in_a_local_are_told_apart() -> None:
    """The same task at the same place, with another value at hand."""
    assert _text_of(_counting([1], 0)) != _text_of(_counting([2], 0))
    assert _text_of(_counting([1], 0)) == _text_of(_counting([1], 0))


def test_a_local_that_is_read_no_more_makes_no_difference() -> None:
    """It is assigned before it is read again, or not at all; what the rest of the function reads does."""

    def sample(n: int) -> int:
        first = n + 1
        second = first * 2
        print(second)
        return second

    live = live_after(sample.__code__)
    assert live[0] == frozenset({"n"})
    assert {"second"} in live.values()
    assert all(not {"n", "second"} <= names and not {"first", "second"} <= names for names in live.values())


def test_a_type_whose_state_cannot_be_told_is_an_error() -> None:
    """Rather than two states taken for one."""
    with pytest.raises(TypeError, match="can't tell the state of builtins"):
        Walk(0.0, 1.0).any(iter([1]))
