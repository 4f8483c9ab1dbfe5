"""The process that dispatches the jobs of a run, and cancels some."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from kashvi.errors import DriverError
from kashvi.events import JobDispatched
from kashvi.jobs.chain import joined
from kashvi.jobs.envelope import seal
from kashvi.names import DEFAULT

from ..world.direct.line import DirectLine
from ..world.kernel import Turns
from ..world.outbox import Transaction
from ..world.tape import Tape
from ..world.world import World
from .scripted import number_of
from .workload import Script


def heard(call: Callable[[str], object], name: str) -> bool:
    """Make a call of an operator; False if the server has not heard of it, as far as the caller knows."""
    try:
        call(name)
    except DriverError:
        return False
    return True


class Producer:
    """``classes``: the job class of each type."""

    def __init__(self, world: World, script: Script, tape: Tape, classes: Mapping[str, Any]) -> None:
        self._world = world
        self._script = script
        self._tape = tape
        self._classes = classes
        self.done = False
        """True once all jobs are dispatched."""

    def begin(self) -> None:
        """Dispatch, in a process of its own."""
        self._queue = self._world.process()
        produce = self._produce if self._world.outbox is None else self._produce_in_transactions
        if self._world.direct:
            self._queue.process.direct[produce] = self._produce_directly
        self._queue.process.spawn(produce, "produce")

    def _produce(self) -> None:
        for n, (gap, next_job) in enumerate(self._script.coming(self._tape.workload)):
            if gap > 0:
                self._world.kernel.sleep(gap)
            job_type, delay_s, links, cancel_s, to = next_job()
            job = self._classes[job_type](n)
            try:
                if links:
                    job_id = self._queue.chain(job, *self._later(n, links))[0]
                elif delay_s is None:
                    job_id = self._queue.dispatch(job, queue=to)
                else:
                    job_id = self._queue.dispatch_after(job, delay_s, queue=to)
                if cancel_s is not None:
                    self._queue.process.spawn(partial(self._cancel, job_id, cancel_s), "cancel")
            except DriverError:
                pass  # the caller gets the error; the job may or may not be on the queue
        self.done = True

    def _produce_in_transactions(self) -> None:
        """Transactions overlap, so one with lower numbers may be committed after one with higher ones."""
        about, outbox, chance = self._script.transactions, self._world.outbox, self._tape.workload
        assert about is not None
        assert outbox is not None
        transaction: Transaction | None = None
        left = 0
        for n, (gap, next_job) in enumerate(self._script.coming(chance)):
            if gap > 0:
                self._world.kernel.sleep(gap)
            if transaction is None:
                transaction, left = outbox.begin(), 1 + chance.choose(about.jobs)
            job_type, delay_s, links, *_ = next_job()
            session: Any = transaction
            job = self._classes[job_type](n)
            if links:
                self._queue.chain(job, *self._later(n, links), session=session)
            else:
                self._queue.dispatch_after(job, delay_s or 0.0, session=session)
            left -= 1
            if not left:
                fate = transaction.roll_back if chance.fraction() > 1.0 - about.rolls_back else transaction.commit
                self._queue.process.spawn(partial(self._end, fate, about.takes.draw(chance)), "transaction")
                transaction = None
        if transaction is not None:
            transaction.commit()
        self.done = True

    def _later(self, n: int, links: Sequence[str]) -> Iterator[Any]:
        """The later links of a chain."""
        return (self._classes[name](number_of(n, k)) for k, name in enumerate(links))

    def _end(self, fate: Callable[[], None], takes_s: float) -> None:
        self._world.kernel.sleep(takes_s)
        fate()

    def _produce_directly(self) -> Turns[None]:
        """``_produce`` without a greenlet."""
        world, pushes = (
            self._world,
            DirectLine(self._world, self._queue.process, self._world.line_of(self._queue.process)),
        )
        for n, (gap, next_job) in enumerate(self._script.coming(self._tape.workload)):
            if gap > 0 and world.kernel.waits(None, gap):
                yield
            job_type, delay_s, links, _, to = next_job()
            jobs = [(job_type, n), *((name, number_of(n, k)) for k, name in enumerate(links))]
            ids = [self._queue.process.new_id() for _ in jobs]
            name = to or self._script.queue_of(job_type)
            sealed = joined([self._sealed(job_id, *job, to) for job_id, job in zip(ids, jobs, strict=True)])
            try:
                due = yield from pushes.push([sealed], delay_s or 0.0, name)
            except DriverError:
                continue
            self._queue.tell(JobDispatched, job_id=ids[0], type=job_type, due=due, queue=name, chain=tuple(ids[1:]))
        self.done = True

    def _sealed(self, job_id: str, job_type: str, n: int, to: str | None) -> bytes:
        queue = to or self._script.queue_of(job_type)
        sealed = seal(job_id, msgspec.json.encode(job_type), b'{"n":%d}' % n)
        return sealed if queue == DEFAULT else b'%b,"queue":"%b"}' % (sealed[:-1], queue.encode())

    def _cancel(self, job_id: str, after_s: float) -> None:
        """Cancel a job, again until the server has heard of it."""
        self._world.kernel.sleep(after_s)
        while not heard(self._queue.cancel, job_id):
            self._world.kernel.sleep(1.0)
