"""``kashvi.testing``: what code under test dispatched is asserted, and neither run nor sent."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from kashvi import current
from kashvi.errors import InvalidSetting, NoAttempt, UnencodableJob
from kashvi.events import Event, JobDispatched
from kashvi.queue import Queue
from kashvi.registry import Registry
from kashvi.testing import recorded

pytest_plugins = ["pytester"]
ran: list[str] = []


@dataclass
class Welcome:
    to: str
    gifts: list[str]

    def handle(self) -> None:
        ran.append(self.to)


@dataclass
class Charge:
    order: int

    def handle(self) -> None:
        ran.append("charge")


@pytest.fixture
def queue() -> Queue:
    queue = Queue("redis://nowhere.invalid:1/0", registry=Registry())
    queue.register("jobs.Welcome", Welcome)
    queue.register("jobs.Charge", Charge)
    return queue


def test_what_was_dispatched_is_returned_as_a_worker_would_see_it(queue: Queue) -> None:
    """Not the object itself, which may change; on any queue, also one whose server is away."""
    job = Welcome("ada", [])
    with recorded() as assert_dispatched:
        queue.dispatch(job)
        job.gifts.append("late")
        queue.dispatch_after(Welcome("bob", ["cup"]), 60)
        queue.dispatch_many([Charge(1), Charge(2)])
        asyncio.run(queue.adispatch(Charge(3)))  # type: ignore[arg-type]
    assert assert_dispatched(Welcome) == [Welcome("ada", []), Welcome("bob", ["cup"])]
    assert assert_dispatched(Welcome, times=1, where=lambda job: job.to == "bob") == [Welcome("bob", ["cup"])]
    assert assert_dispatched(Charge, times=3)[2].order == 3
    assert [one.delay_s for one in assert_dispatched.all] == [0, 60, 0, 0, 0]
    assert ran == []


@dataclass
class SignUp:
    name: str
    fails: bool = False

    def handle(self) -> None:
        current().dispatch(Welcome(self.name, []))
        current().dispatch_after(Charge(current().attempt), 60)
        if self.fails:
            raise ValueError("no such name")


@dataclass
class Later:
    async def handle(self) -> None:
        await asyncio.sleep(0)
        current().dispatch(Charge(5))


def test_a_handler_is_called_and_its_follow_ups_are_dispatched_if_it_returns(queue: Queue) -> None:
    """As by a worker: ``current()`` answers, and what fails sends nothing."""
    for job_class in (SignUp, Later):
        queue.register(f"jobs.{job_class.__name__}", job_class)
    with recorded() as assert_dispatched:
        assert_dispatched.handle(SignUp("ada"), queue)
        with pytest.raises(ValueError, match="no such name"):
            assert_dispatched.handle(SignUp("bob", fails=True), queue)
        assert_dispatched.handle(Later(), queue)
    assert assert_dispatched(Welcome) == [Welcome("ada", [])]
    assert [(one.job, one.delay_s) for one in assert_dispatched.all[1:]] == [(Charge(1), 60), (Charge(5), 0)]
    assert ran == []
    with pytest.raises(NoAttempt):
        current()


def test_what_was_not_is_told_with_what_was(queue: Queue) -> None:
    """The message has all that is needed to mend the test or the code."""
    with recorded() as assert_dispatched:
        with pytest.raises(AssertionError, match=r"Charge was dispatched 0 times, not at least once.*\n  nothing"):
            assert_dispatched(Charge)
        assert assert_dispatched(Charge, times=0) == []
        queue.dispatch_after(Charge(7), 5)
        with pytest.raises(AssertionError) as told:
            assert_dispatched(Charge, where=lambda job: job.order == 8)
    assert "0 times as wanted (of 1), not at least once" in str(told.value)
    assert "Charge(order=7) after 5 s" in str(told.value)
    with pytest.raises(AssertionError, match="1 times, not 0 times"):
        assert_dispatched(Charge, times=0)


def test_the_queue_that_a_job_goes_to_is_told(queue: Queue) -> None:
    """Its type's, or the one that the dispatch names; of a follow-up, too."""
    queue.register("jobs.SignUp", SignUp, queue="slow")
    with recorded() as assert_dispatched:
        queue.dispatch(Charge(1))
        queue.dispatch(Charge(2), queue="payments")
        queue.dispatch_many([Charge(3)], queue="payments")
        queue.dispatch(SignUp("ada"))
        assert assert_dispatched(Charge, queue="payments") == [Charge(2), Charge(3)]
        assert assert_dispatched(Charge, queue="default", times=1) == [Charge(1)]
        assert_dispatched(SignUp, queue="slow")
        with pytest.raises(
            AssertionError, match=r"0 times as wanted \(of 3\)(.|\n)*Charge\(order=2\) on the queue payments"
        ):
            assert_dispatched(Charge, queue="mail")


@pytest.mark.parametrize(
    ("job_class", "options"),
    [(Charge(7), {"times": 0}), (str, {"times": 0}), (None, {}), (Charge, {"times": "0"}), (Charge, {"times": -1}),
     (Charge, {"times": True}), (Charge, {"where": 7, "times": 0}),
     (Charge, {"queue": "Mail", "times": 0})],
)  # fmt: skip
def test_an_assertion_that_could_not_fail_is_refused(queue: Queue, job_class: Any, options: dict[str, Any]) -> None:
    """An instance in place of its class, for one: of it, none is ever dispatched."""
    with recorded() as assert_dispatched:
        queue.dispatch(Charge(7))
        with pytest.raises(InvalidSetting):
            assert_dispatched(job_class, **options)


def test_a_dispatch_is_refused_and_observed_as_ever(queue: Queue) -> None:
    """So a test finds what production would."""
    told: list[Event] = []
    queue.observe(told.append)
    with recorded() as assert_dispatched:
        with pytest.raises(UnencodableJob):
            queue.dispatch(Welcome("ada", [object()]))  # type: ignore[list-item]
        job_id = queue.dispatch(Charge(1))
    assert [(type(event), event.job_id) for event in told if isinstance(event, JobDispatched)] == [
        (JobDispatched, job_id)
    ]
    assert [one.job_id for one in assert_dispatched.all] == [job_id]


def test_the_fixture_holds_for_the_default_queue_and_ends_with_its_test(pytester: pytest.Pytester) -> None:
    """Without a warning that no worker runs."""
    pytester.makepyfile(
        """
        from dataclasses import dataclass
        from kashvi import queue

        @queue.job("jobs.Ping")
        @dataclass
        class Ping:
            def handle(self): raise AssertionError("was run")

        def test_one(assert_dispatched):
            queue.dispatch(Ping())
            assert_dispatched(Ping, times=1)

        def test_two(assert_dispatched):
            assert_dispatched(Ping, times=0)

        def test_three():
            assert queue.stats().ready == 0
        """
    )
    pytester.makeconftest("from kashvi.testing import assert_dispatched")
    ran = pytester.runpytest_subprocess("-p", "no:kashvi_sim", "-p", "no:cacheprovider", "-W", "error")
    assert "3 passed" in ran.stdout.str()
