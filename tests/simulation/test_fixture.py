"""The fixture for users' tests: the order example in it, and how it behaves when a test fails."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from kashvi_sim.simulated import Sim

from kashvi import queue
from kashvi.events import AttemptStarted
from kashvi.registry import Registry

told: list[tuple[str, datetime]] = []
refusals = 0


@dataclass
class Charge:
    """Fails as often as the bank says, then has a reminder sent in a week."""

    order: int

    def handle(self) -> None:
        global refusals
        if refusals:
            refusals -= 1
            raise TimeoutError("the bank did not answer")
        told.append(("charged", datetime.now(UTC)))
        queue.dispatch_after(Remind(self.order), timedelta(days=7))


@dataclass
class Remind:
    order: int

    def handle(self) -> None:
        told.append(("reminded", datetime.now(UTC)))


@pytest.fixture(autouse=True)
def app(monkeypatch: pytest.MonkeyPatch) -> None:
    """An app with two job types on the default queue."""
    told.clear()
    monkeypatch.setitem(globals(), "refusals", 0)
    registry = Registry()
    registry.register("jobs.Charge", Charge)
    registry.register("jobs.Remind", Remind)
    monkeypatch.setattr(queue.default(), "registry", registry)


@pytest.fixture
def sim(app: None, sim: Sim) -> Sim:
    """After the app is there."""
    return sim


def what() -> list[str]:
    return [name for name, _ in told]


def test_a_reminder_comes_after_seven_days_and_not_before(sim: Sim) -> None:
    """In milliseconds."""
    sim.workers(2)
    queue.dispatch(Charge(1))
    sim.advance(days=6, hours=23)
    assert what() == ["charged"]
    sim.advance(hours=1, seconds=1)
    assert what() == ["charged", "reminded"]
    assert timedelta(days=7) <= told[1][1] - told[0][1] < timedelta(days=7, seconds=1)


def test_retries_are_the_real_ones(sim: Sim, monkeypatch: pytest.MonkeyPatch) -> None:
    """One second after the first attempt, two after the second."""
    monkeypatch.setitem(globals(), "refusals", 2)
    sim.workers()
    queue.dispatch(Charge(1))
    sim.advance(seconds=2.9)
    assert what() == []
    sim.advance(seconds=0.2)
    assert what() == ["charged"]


def test_an_exhausted_job_is_among_the_failed(sim: Sim, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its error."""
    monkeypatch.setitem(globals(), "refusals", 3)
    sim.workers()
    queue.dispatch(Charge(1))
    sim.run_until_idle()
    assert [(failed.job, failed.error) for failed in sim.failed_jobs] == [
        (Charge(1), "TimeoutError: the bank did not answer")
    ]
    assert sim.elapsed < timedelta(minutes=1)


def test_a_killed_workers_job_is_run_by_another(sim: Sim) -> None:
    """After its lease, and the reminder is not lost with it."""
    first = sim.workers()
    queue.dispatch_after(Remind(1), 60)
    sim.advance(seconds=30)
    sim.kill(first)
    sim.advance(seconds=60)
    assert what() == []
    sim.workers()
    sim.run_until_idle()
    assert what() == ["reminded"]


def test_running_until_idle_leaps_to_what_is_due(sim: Sim) -> None:
    """A year if it must."""
    sim.workers()
    queue.dispatch_after(Remind(1), timedelta(days=300))
    sim.run_until_idle()
    assert what() == ["reminded"]
    assert timedelta(days=300) <= sim.elapsed < timedelta(days=300, seconds=5)


def test_the_apps_hooks_and_cron_entries_are_those_of_its_workers(sim: Sim, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in production; and the fixture's worker leaves the app's own lists alone."""
    app = queue.default()
    around: list[str] = []

    @contextmanager
    def noted(attempt: queue.Attempt) -> Iterator[None]:
        around.append(attempt.type)
        yield

    monkeypatch.setattr(app, "_hooks", [noted])
    monkeypatch.setattr(app, "_cron", {})
    queue.cron("0 2 * * *", Remind(7), name="nightly")
    sim.start(datetime(2027, 3, 1, 12, tzinfo=UTC))
    sim.workers(1)
    sim.advance(hours=13, minutes=59)
    assert told == []
    sim.advance(minutes=2)
    assert told == [("reminded", datetime(2027, 3, 2, 2, tzinfo=UTC))]
    assert around == ["jobs.Remind"]
    assert (len(app._hooks), len(app._cron)) == (1, 1)


def test_without_a_worker_it_is_said_that_there_is_none(sim: Sim) -> None:
    """At once: a year of waiting for it would take hours."""
    queue.dispatch(Charge(1))
    with pytest.raises(AssertionError, match="no worker was started"):
        sim.run_until_idle()
    sim.kill(sim.workers())
    with pytest.raises(AssertionError, match="no worker is left"):
        sim.run_until_idle()
    assert sim.elapsed < timedelta(seconds=2)


def test_jobs_of_a_paused_queue_do_not_take_a_year(sim: Sim) -> None:
    """No worker takes them: that is said after ten minutes."""
    sim.workers()
    queue.dispatch(Remind(1))
    queue.default().pause()
    with pytest.raises(AssertionError, match="their queue is paused, or no worker serves it"):
        sim.run_until_idle()
    queue.default().resume()
    sim.run_until_idle()
    assert what() == ["reminded"]


@pytest.mark.kashvi_seeds(20)
def test_workers_serve_the_queues_that_a_test_names(sim: Sim) -> None:
    """By default the default queue alone."""
    queue.dispatch(Remind(1), queue="mail")
    sim.workers()
    sim.advance(minutes=1)
    assert told == []
    sim.workers(queues="mail,default")
    sim.run_until_idle()
    assert [what for what, _ in told] == ["reminded"]


def test_seeds_change_the_order_of_what_happens_at_one_time(sim: Sim) -> None:
    """Whatever the order, both are charged once."""
    sim.workers(2)
    sim.workers(2)
    queue.dispatch_many([Charge(1), Charge(2)])
    sim.advance(seconds=1)
    assert what() == ["charged", "charged"]
    assert len([event for event in sim.events if isinstance(event, AttemptStarted)]) == 2


def test_the_default_queue_is_as_it_was_afterwards() -> None:
    """The next test of the app is none of ours."""
    assert not queue.default().driver_chosen


def test_a_failing_test_prints_its_seed_and_the_line_that_repeats_it(pytester: pytest.Pytester) -> None:
    """And that line runs that seed alone."""
    pytester.makepyfile(
        test_it="""
        import pytest

        @pytest.mark.kashvi_seeds(5)
        def test_it(sim):
            assert sim.seed != 3
        """
    )
    failed = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    failed.assert_outcomes(passed=4, failed=1)
    failed.stdout.fnmatch_lines(["*seed 3; to repeat it: pytest 'test_it.py::test_it' --kashvi-seed 3"])
    again = pytester.runpytest_subprocess("-p", "no:cacheprovider", "test_it.py::test_it", "--kashvi-seed", "3")
    again.assert_outcomes(failed=1)


def logged(handle: Any) -> Any:
    """A decorator that hides what it decorates."""
    return lambda self: handle(self)  # noqa: PLW0108


@dataclass
class Async:
    @logged
    async def handle(self) -> AsyncIterator[None]:
        told.append(("ran", datetime.now(UTC)))
        yield


def test_a_handler_that_would_still_have_to_run_fails_here_too(sim: Sim) -> None:
    """In a simulated process as in a real one (JOBS-9)."""
    queue.register("jobs.Async", Async)
    queue.dispatch(Async())
    sim.workers(1)
    sim.run_until_idle()
    assert told == []
    [failed] = sim.failed_jobs
    assert "returned an async_generator, and its code did not run" in failed.error


def test_names_that_it_patched_are_what_they_were_afterwards(pytester: pytest.Pytester) -> None:
    """So freezegun's tests work after it."""
    pytester.makepyfile(
        """
        import threading, time, uuid
        from time import monotonic
        import freezegun

        real = time.sleep, time.monotonic, monotonic, uuid.uuid4, threading.Thread.start

        def test_first(sim):
            sim.advance(seconds=1)

        def test_then():
            assert (time.sleep, time.monotonic, monotonic, uuid.uuid4, threading.Thread.start) == real
            with freezegun.freeze_time("2020-02-02"):
                assert time.time() == 1580601600
                before = time.monotonic()
                assert time.monotonic() == before
        """
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=2)


def test_a_test_begins_when_it_says(pytester: pytest.Pytester) -> None:
    """Such as an hour before the clocks change; and a failing one tells what happened."""
    pytester.makepyfile(
        """
        from dataclasses import dataclass
        from datetime import datetime, timedelta
        from zoneinfo import ZoneInfo
        from kashvi import queue

        BERLIN = ZoneInfo("Europe/Berlin")
        ran = []

        @queue.job("jobs.Wake")
        @dataclass
        class Wake:
            def handle(self) -> None:
                ran.append(datetime.now(BERLIN).isoformat())

        def test_it(sim):
            sim.start(datetime(2026, 3, 29, 1, 30, tzinfo=BERLIN))
            sim.workers(1)
            queue.dispatch_after(Wake(), timedelta(hours=1))
            sim.advance(hours=2)
            assert sim.elapsed == timedelta(hours=2)
            assert ran[0].startswith("2026-03-29T03:30:00") and ran[0].endswith("+02:00")
            raise ValueError("on purpose")
        """
    )
    failed = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    failed.stdout.fnmatch_lines(["*on purpose*", "*jobs.Wake #1*settled: done*"])
