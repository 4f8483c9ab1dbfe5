"""Any sequence of calls that workers could make, on every driver: after each, it shows what the model has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from kashvi_spec.kit.driver.oracle import Disagreement, Oracle
from kashvi_spec.kit.driver.subject import DriverUnderTest, subject_of
from kashvi_spec.kit.museum import MUSEUM
from kashvi_spec.model.states import NOBODY
from kashvi_spec.model.table import LIMITS

from kashvi.worker.settle import Delivery
from tests.servers.launch import RedisServer

WORKERS = 2
worker = st.integers(0, WORKERS - 1)
which = st.integers(0, 7)


def machine_on(subject: DriverUnderTest) -> type[RuleBasedStateMachine]:
    """The rules, on one driver."""

    class Machine(RuleBasedStateMachine):
        oracle: Oracle

        @initialize(limit=st.sampled_from(LIMITS))
        def begin(self, limit: int) -> None:
            self.oracle = Oracle(subject, WORKERS, limit)

        def up(self, w: int) -> bool:
            return self.oracle.state.workers[w].up

        def had(self, fresh: bool | None = None) -> list[tuple[int, Delivery]]:
            """What workers believe to have; ``fresh``: suspects that are not announced, or all others."""
            return [
                (w, d)
                for w, view in enumerate(self.oracle.views)
                for d in view
                if fresh is None or fresh == (d.suspect and d.place == "held")
            ]

        def owned(self) -> bool:
            return any(job.owner != NOBODY for job in self.oracle.state.jobs)

        @rule(jobs=st.integers(1, 3))
        def push(self, jobs: int) -> None:
            self.oracle.push(jobs)

        @rule(delay_s=st.sampled_from([0.25, 1.0, 5.0]))
        def push_after(self, delay_s: float) -> None:
            self.oracle.push(1, delay_s)

        @rule(seconds=st.sampled_from([0.25, 1.0, 4.0, 11.0]))
        def let_pass(self, seconds: float) -> None:
            self.oracle.let_pass(seconds)

        @precondition(lambda self: self.oracle.delayed)
        @rule(w=worker)
        def reach_due(self, w: int) -> None:
            if self.up(w):
                self.oracle.reach_due(w)

        @rule(w=worker, want=st.integers(0, 3))
        def claim(self, w: int, want: int) -> None:
            if self.up(w):
                self.oracle.claim(w, want)

        @rule(w=worker)
        def wait(self, w: int) -> None:
            if self.up(w):
                self.oracle.wait(w)

        @precondition(lambda self: self.had(fresh=True))
        @rule(n=which)
        def announce(self, n: int) -> None:
            found = self.had(fresh=True)
            w, d = found[n % len(found)]
            if not any(other.place == "running" for other in self.oracle.views[w]):
                self.oracle.announce(w, d)

        @precondition(lambda self: self.had(fresh=False))
        @rule(n=which, outcome=st.sampled_from(["succeed", "fail", "fail", "void"]))
        def finish(self, n: int, outcome: Any) -> None:
            found = self.had(fresh=False)
            self.oracle.finish(*found[n % len(found)], outcome)

        @precondition(lambda self: self.had())
        @rule(n=which)
        def give_back(self, n: int) -> None:
            found = self.had()
            self.oracle.give_back(*found[n % len(found)])

        @precondition(owned)
        @rule(v=worker)
        def take_over(self, v: int) -> None:
            if self.up(v):
                self.oracle.take_over(v)

        @precondition(owned)
        @rule(n=which)
        def rob(self, n: int) -> None:
            """A worker settles for one that is alive."""
            owners = sorted({job.owner for job in self.oracle.state.jobs} - {NOBODY})
            v = (owners[n % len(owners)] + 1) % WORKERS
            if self.up(v):
                self.oracle.take_over(v, early=True)

        @rule(w=worker)
        def crash(self, w: int) -> None:
            if self.up(w):
                self.oracle.crash(w)

        @precondition(lambda self: not all(map(self.up, range(WORKERS))))
        @rule(w=worker)
        def restart(self, w: int) -> None:
            if not self.up(w) and all(job.owner != w for job in self.oracle.state.jobs):
                self.oracle.restart(w)

        @rule(w=worker)
        def repeat(self, w: int) -> None:
            if self.up(w):
                self.oracle.repeat(w)

        @precondition(lambda self: any(job.place == "unrecorded" for job in self.oracle.state.jobs))
        @rule()
        def record(self) -> None:
            self.oracle.record(2)

        @rule(w=worker, want=st.integers(1, 3), outcome=st.sampled_from(["succeed", "fail", "void"]))
        def work(self, w: int, want: int, outcome: Any) -> None:
            """What workers do most of the time."""
            if self.up(w):
                self.oracle.claim(w, want)
                self.end_all(w, outcome)

        def end_all(self, w: int, outcome: Any) -> None:
            view = self.oracle.views[w]
            while view:
                d = next((d for d in view if not d.suspect or d.place == "running"), view[0])
                if d.suspect and d.place == "held":
                    d = self.oracle.announce(w, d)
                if d in view:
                    self.oracle.finish(w, d, outcome)

        @rule(w=worker)
        def exhaust(self, w: int) -> None:
            """A job fails until it is given up, if nothing else is due meanwhile."""
            if self.up(w):
                self.oracle.push(1)
                for _ in range(self.oracle.limit):
                    self.oracle.claim(w, 1)
                    self.end_all(w, "fail")
                    if self.oracle.delayed:
                        self.oracle.reach_due(w)

        @rule(w=worker, want=st.integers(1, 3))
        def die(self, w: int, want: int) -> None:
            """A worker claims, announces the first suspect, and dies; another outlives it."""
            v = (w + 1) % WORKERS
            if self.up(w) and self.up(v):
                self.oracle.claim(w, want)
                view = self.oracle.views[w]
                suspects = [d for d in view if d.suspect and d.place == "held"]
                if suspects and all(d.place == "held" for d in view):
                    self.oracle.announce(w, suspects[0])
                self.oracle.crash(w)
                self.outlive(v)

        @precondition(owned)
        @rule(v=worker, outcome=st.sampled_from(["succeed", "fail", "void"]))
        def survive(self, v: int, outcome: Any) -> None:
            """All others are silent for a lease, what they had is taken over, and then they come to an end with it."""
            self.outlive(v)
            for w, d in self.had(fresh=False):
                if w != v:
                    self.oracle.finish(w, d, outcome)

        def outlive(self, v: int) -> None:
            self.oracle.let_pass(11.0)
            if self.up(v):
                self.oracle.take_over(v)
                self.oracle.compare()

    return Machine


def tried(subject: DriverUnderTest, examples: int, **how: Any) -> None:
    """Raises Disagreement."""
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine_on(subject),
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            **how,
        ),
    )


@pytest.mark.parametrize(("driver", "examples"), [("memory", 150), ("fakeredis", 15), ("valkey-9", 25)])
def test_a_driver_shows_what_the_model_has_whatever_happens(
    driver: str, examples: int, redis_servers: Callable[[str], RedisServer]
) -> None:
    """Claims, counts, what the dead hold, what is listed and refused."""
    tried(subject_of(redis_servers(driver).url if driver.startswith("valkey") else driver), examples)


FOUND = (
    "a late end is accepted",
    "a late retry is added",
    "a hand-back counts",
    "announcements are forgotten",
    "claim without reserving",
    "claims more than is wanted",
    "constant backoff",
    "due is nearly due",
    "early promotion",
    "every lost job is counted",
    "failures are read newest first",
    "gives up too early",
    "last in, first out",
    "live workers are robbed",
    "recorded empties the list",
    "retry off by one",
    "returned to the tail",
    "settle not fenced",
    "the dead keep what they announced",
    "ties in any order",
    "what is retried is not removed",
    "who dies alone is dropped",
)


@pytest.mark.parametrize("bug", FOUND)
def test_a_driver_with_a_bug_is_found_out(bug: str) -> None:
    """Planted in the memory driver."""
    with MUSEUM[bug].planted(), pytest.raises((Disagreement, AssertionError)):
        tried(subject_of("memory"), 1_000, phases=[Phase.generate], derandomize=True, database=None)
