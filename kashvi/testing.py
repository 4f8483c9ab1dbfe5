"""``assert_dispatched``, a pytest fixture for code that dispatches: jobs are recorded, and none is run or sent.

    def test_a_new_customer_gets_a_welcome(assert_dispatched):
        sign_up("ada@example.com")
        assert_dispatched(WelcomeEmail, where=lambda job: job.to == "ada@example.com")
        assert_dispatched(ChargeCard, times=0)

A handler is called by ``assert_dispatched.handle(job)``, where its follow-ups are recorded, too. All links of a chain
are recorded, in order.

``from kashvi.testing import assert_dispatched`` in ``conftest.py`` makes it known; kashvi-sim brings it along. It holds
for every queue of the process. To run jobs in a test, with retries and delays in virtual time, use the fixture ``sim``
of kashvi-sim.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast
from unittest import mock

import pytest

from .names import DEFAULT, queue_name

if TYPE_CHECKING:
    from .dispatch import Sealed
    from .ports import Driver, Runtime
    from .queues import Queue
    from .registry import Registry
    from .stream import EventStream
    from .worker.running import Timekeeper

T = TypeVar("T")


class Dispatched(NamedTuple):
    """A recorded dispatch. ``job``: a new instance from the payload, as a worker would make it."""

    job: Any
    job_id: str
    delay_s: float
    queue: str = DEFAULT


class Dispatches:
    """The jobs that were dispatched, oldest first. Call it to assert."""

    def __init__(self) -> None:
        self.all: list[Dispatched] = []
        self._jobs: dict[str, Any] = {}
        """Jobs that are sealed and not dispatched yet, by id."""

    def note(self, job_id: str, delay_s: float, queue: str) -> None:
        """A job was dispatched that was sealed before."""
        self.all.append(Dispatched(self._jobs.pop(job_id), job_id, delay_s, queue))

    def handle(self, job: object, queue: Queue | None = None) -> None:
        """Call ``handle()`` of a new instance of this job as its first attempt, without hooks. ``kashvi.current()``
        answers; if it returns, its follow-ups are recorded. Raises what it raises.

        ``queue``: the job's; by default the functions of ``kashvi.queue``. A coroutine is run to its end.
        """
        from . import dispatch
        from .queue import default
        from .worker.attempt import check_ran
        from .worker.hooks import RUNNING
        from .worker.running import FollowUps, Running
        from .worker.settle import Delivery, TimeLimit, delivery

        class NoLimit:
            """No attempt has a time limit here."""

            def limit(self, d: Delivery) -> TimeLimit | None:
                return None

            def check(self, d: Delivery, limit: TimeLimit | None) -> None:
                """It is in time."""

        queue = queue or default()
        runtime, limit = queue._runtime, queue.payload_limit
        sealed = dispatch.seal_job(job, queue.registry, runtime, limit)
        follow_ups = FollowUps(queue.driver, queue.registry, runtime, queue._stream, limit)
        d = delivery(sealed.envelope, "test", runtime.new_id, runtime.now(), queue=sealed.queue)
        running = Running(d, cast("Timekeeper", NoLimit()), follow_ups)
        context = copy_context()
        context.run(RUNNING.set, running)
        returned = context.run(self._jobs.pop(sealed.job_id).handle)
        check_ran(runtime.run_async(returned, context) if inspect.isawaitable(returned) else returned)
        running.over = True
        for one in running.taken():
            self.note(one.job_id, one.delay_s, one.queue)

    def __call__(
        self,
        job_class: type[T],
        *,
        times: int | None = None,
        where: Callable[[T], bool] | None = None,
        queue: str | None = None,
    ) -> list[T]:
        """Assert that jobs of this class, and of those the ones for which ``where`` is true and that go to this
        ``queue``, were dispatched ``times`` times; by default, at least once. Returns these jobs. Raises
        AssertionError, and InvalidSetting for what is no job class, number, function or name, with which an assertion
        would prove nothing."""
        from . import settings
        from .errors import InvalidSetting
        from .jobs.codec import why_no_job

        __tracebackhide__ = True
        if not isinstance(job_class, type) or why_no_job(job_class):
            raise InvalidSetting("the job class", job_class, "a class of jobs, such as ChargeCard")
        if times is not None:
            settings.at_least("times", times, 0)
        if where is not None and not callable(where):
            raise InvalidSetting("where", where, "a function of the job")
        if queue is not None:
            queue_name(queue)
        of_class = [one for one in self.all if type(one.job) is job_class]
        of_queue = [one.job for one in of_class if queue is None or one.queue == queue]
        found = [job for job in of_queue if where is None or where(job)]
        if len(found) != times if times is not None else not found:
            wanted = "at least once" if times is None else f"{times} times"
            such = "" if where is None and queue is None else f" as wanted (of {len(of_class)})"
            lines = [
                f"  {one.job!r}"
                + (f" after {one.delay_s:g} s" if one.delay_s else "")
                + (f" on the queue {one.queue}" if one.queue != DEFAULT else "")
                for one in self.all
            ]
            listed = "\n".join(lines) or "  nothing"
            raise AssertionError(
                f"{job_class.__qualname__} was dispatched {len(found)} times{such}, not {wanted}. "
                f"Dispatched were:\n{listed}"
            )
        return found


@contextmanager
def recorded() -> Iterator[Dispatches]:
    """Inside this context, every dispatch of the process is recorded instead of sent. Observers see it as ever."""
    from . import dispatch
    from .events import JobDispatched, JobStored
    from .jobs.envelope import read
    from .queue import MemoryQueueWarning
    from .unique import Dispatched as Sent

    dispatches = Dispatches()
    seal = dispatch.seal_job
    queues: dict[str, str] = {}
    """Of jobs that are sealed and not dispatched yet, by id."""

    def seal_job(
        job: object, registry: Registry, runtime: Runtime, payload_limit: int, queue: str | None = None
    ) -> Sealed:
        sealed = seal(job, registry, runtime, payload_limit, queue)
        queues[sealed.job_id] = sealed.queue
        dispatches._jobs[sealed.job_id] = registry.named(sealed.type).decode(bytes(read(sealed.envelope).payload))
        return sealed

    def push(driver: Driver, stream: EventStream, sealed: Sequence[Sealed], delay_s: float) -> Sequence[str]:
        for one in sealed:
            for job_id in (one.job_id, *one.chain):
                dispatches.note(job_id, delay_s, queues.pop(job_id))
            stream.emit(JobDispatched, job_id=one.job_id, type=one.type, queue=one.queue, chain=one.chain)
        return [Sent(one.job_id) if one.lock else one.job_id for one in sealed]

    def store(insert: object, stream: EventStream, sealed: Sequence[Sealed], delay_s: float) -> list[str]:
        for one in sealed:
            for job_id in (one.job_id, *one.chain):
                dispatches.note(job_id, delay_s, queues.pop(job_id))
            about = {"queue": one.queue, "delay_s": delay_s, "chain": one.chain}
            stream.emit(JobStored, job_id=one.job_id, type=one.type, **about)
        return [one.job_id for one in sealed]

    with (
        mock.patch.object(dispatch, "seal_job", seal_job),
        mock.patch.object(dispatch, "push", push),
        mock.patch.object(dispatch, "store", store),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", MemoryQueueWarning)
        yield dispatches


@pytest.fixture
def assert_dispatched() -> Iterator[Dispatches]:
    """Record what the test dispatches; see ``Dispatches``."""
    with recorded() as dispatches:
        yield dispatches
