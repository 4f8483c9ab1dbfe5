"""Retry policies as properties: waits are bounded and fixed by the seed, and no policy loses a job."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from kashvi_sim.world.tape import Tape
from kashvi_sim.world.world import World
from kashvi_spec.predicates.policies import OwnBackoffKept

from kashvi.delays import DELAY_MAX_S
from kashvi.events import JobFailed, JobSnoozed, PolicyIgnored, RetryScheduled
from kashvi.registry import Registry
from kashvi.retries import LEAST_S, Exponential, Fixed, GiveUp, Linear, Retry, Schedule, Snooze, told

seconds = st.floats(0, DELAY_MAX_S) | st.integers(0, 100_000) | st.timedeltas(timedelta(0), timedelta(days=36_000))
jitter = st.booleans()
linear = st.builds(Linear, step=seconds, cap=seconds, jitter=jitter)
exponential = st.builds(
    Exponential,
    first=st.floats(LEAST_S, DELAY_MAX_S) | st.just(1),
    factor=st.floats(1, 1e6),
    cap=seconds,
    jitter=jitter,
)
others = st.builds(Fixed, seconds, jitter=jitter) | st.builds(
    lambda waits, shaken: Schedule(*waits, jitter=shaken), st.lists(seconds, min_size=1, max_size=5), jitter
)
attempts = st.integers(1, 200) | st.integers(1, 2**31 - 1)
chances = st.floats(0, 1, exclude_max=True)


@example(backoff=Exponential(first=1e-6, factor=402376.0, cap=1.0), n=56, chance=0.0)
@given(backoff=linear | exponential | others, n=attempts, chance=chances)
def test_a_wait_is_bounded_and_what_the_predicate_says(backoff: Any, n: int, chance: float) -> None:
    """However many attempts there were: no power overflows, and jitter adds nothing."""
    wait_s = backoff(n, ValueError(), 0.0, chance)
    assert 0 <= wait_s <= getattr(backoff, "cap", DELAY_MAX_S) <= DELAY_MAX_S
    assert wait_s == backoff(n, ValueError(), 0.0, chance)
    predicate = OwnBackoffKept()
    predicate.see(RetryScheduled(job_id="a", type="t", attempts=n, wait_s=wait_s, due=0.0, backoff=told(backoff)))
    assert predicate.violations == []


@given(backoff=linear | exponential, n=attempts)
def test_waits_do_not_get_shorter_before_jitter(backoff: Any, n: int) -> None:
    """Up to the cap, and no further."""
    plain = type(backoff)(*(getattr(backoff, name) for name in backoff.__slots__ if name != "jitter"))
    assert plain(n, ValueError(), 0.0, 0.0) <= plain(n + 1, ValueError(), 0.0, 0.0)


answers = st.one_of(
    st.floats(), st.integers(), st.timedeltas(), st.text(max_size=3), st.none(), st.booleans(),
    st.sampled_from([ValueError("a bug"), SystemExit(3), KeyboardInterrupt(), GiveUp("enough"), MemoryError()]),
)  # fmt: skip
outcomes = st.lists(st.sampled_from(["fail", "snooze"]), max_size=8)


def is_wait(answer: object) -> bool:
    wait_s = answer.total_seconds() if isinstance(answer, timedelta) else answer
    return isinstance(wait_s, int | float) and not isinstance(wait_s, bool) and 0 <= wait_s <= DELAY_MAX_S


LOOK_S = 100 * 366 * 86_400 / 12
"""How far the time goes at once; a wait that is longer does not end here."""


@settings(max_examples=60, deadline=None)
@given(given_answers=st.lists(answers, min_size=1, max_size=6), limit=st.integers(1, 6), ends=outcomes)
def test_no_policy_loses_a_job(given_answers: list[Any], limit: int, ends: list[str]) -> None:
    """Whatever it answers or raises: the job ends after its limit, or where it was given up, and is recorded once."""

    def backoff(attempt: int, error: BaseException, elapsed_s: float, chance: float) -> Any:
        answer = given_answers[min(attempt, len(given_answers)) - 1]
        if isinstance(answer, BaseException):
            raise answer
        return answer

    left = list(ends)

    @dataclass
    class Job:
        def handle(self) -> None:
            if left and left.pop(0) == "snooze":
                raise Snooze(1)
            raise ValueError("told to fail")

    registry = Registry()
    registry.register("jobs.Job", Job, Retry(limit, backoff))
    world = World(registry=registry, database="sqlite://")
    queue = world.process()
    queue.dispatch(Job())
    queue.start_workers(1)
    for _ in range(limit + len(ends) + 2):
        world.advance(LOOK_S)
        if any(isinstance(event, JobFailed) for event in world.events):
            break
    made = [given_answers[min(n, len(given_answers)) - 1] for n in range(1, limit)]
    stop = next((n for n, answer in enumerate(made, 1) if isinstance(answer, GiveUp)), limit)
    waits = [(event.attempts, event.wait_s) for event in world.events if isinstance(event, RetryScheduled)]
    long = any(is_wait(answer) and waits[n][1] > LOOK_S for n, answer in enumerate(made[: len(waits)]))
    if not long:
        [failed] = [event for event in world.events if isinstance(event, JobFailed)]
        assert (failed.attempts, failed.gave_up) == (stop, stop < limit)
        assert len(queue.failed_jobs()) == 1
        assert sum(isinstance(event, JobSnoozed) for event in world.events) == ends.count("snooze") - left.count(
            "snooze"
        )
        assert world.violations() == []
    for n, wait_s in waits:
        answer = made[n - 1]
        right = answer.total_seconds() if isinstance(answer, timedelta) else answer
        assert wait_s == (float(right) if is_wait(answer) else n)
        assert math.isfinite(wait_s)
    ignored = [event.attempt for event in world.events if isinstance(event, PolicyIgnored)]
    assert ignored == [n for n, answer in enumerate(made[: len(waits)], 1) if not is_wait(answer)]
    world.close()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_a_seed_fixes_the_waits(seed: int) -> None:
    """Chance is the runtime's."""

    def waits() -> list[float]:
        @dataclass
        class Job:
            def handle(self) -> None:
                raise ValueError("told to fail")

        registry = Registry()
        registry.register("jobs.Job", Job, Retry(4, Exponential(jitter=True)))
        world = World(registry=registry, tape=Tape(seed))
        queue = world.process()
        queue.dispatch_many([Job(), Job()])
        world.drain(queue)
        found = [event.wait_s for event in world.events if isinstance(event, RetryScheduled)]
        world.close()
        return found

    first = waits()
    assert first == waits()
    assert len(set(first)) == 6
