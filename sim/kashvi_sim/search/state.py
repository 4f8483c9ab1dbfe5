"""The state of a small world, as bytes: two worlds with the same state go on alike, whatever their ids.

Workers are interchangeable: their ids are only tested for equality, so a state is the sorted list of the workers'
shares. (Only ``expired`` has an order by id, among leases that ran out at one moment; so if more than one
process can die, workers keep their places.) Jobs keep the order of their ids, which decides between equal due times,
and are named by their place in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from kashvi.events import JobDispatched, JobFailed, JobSucceeded
from kashvi.worker.settle import Delivery

from ..world.process import SimQueue
from ..world.server import Contents, Share
from ..world.world import World
from .fingerprint import Walk, process_text
from .memory import Memory

NOBODY = Share([], [], None, 0, "")


class State(NamedTuple):
    """``key``: a digest of all that decides the rest of the run, except ``duties`` and ``excuses`` (``memory.py``)."""

    key: bytes
    duties: frozenset[str]
    excuses: frozenset[str]

    def shows_all_of(self, other: State) -> bool:
        """True if every violation reachable from ``other`` is reachable from here."""
        return self.key == other.key and self.duties >= other.duties and self.excuses <= other.excuses


class States:
    """Reads the states of one world. ``ordered``: workers keep their places."""

    def __init__(self, world: World, ordered: bool) -> None:
        self._world = world
        self._ordered = ordered
        self._texts: dict[str, tuple[tuple[float, int, bool], str]] = {}
        self._known: list[str] = []
        self._told: set[str] = set()
        self._seen = 0
        self._shares: dict[object, str] = {}
        self.steps: dict[object, int] = {}
        """How often tasks of each process ran."""

    def state(self, rows: Sequence[str], *more: object) -> State:
        """The current state. ``rows``: job ids in the failure table; ``more``: the caller's own part."""
        text, *facts = self.texts(rows, *more)
        key = hashlib.blake2b(text.encode(), digest_size=16).digest()
        return State(key, *(frozenset(some.splitlines()) for some in facts))

    def texts(self, rows: Sequence[str], *more: object) -> list[str]:
        """The state as text; the duties and the excuses are a line each."""
        contents = self._world.server.contents()
        producer, *workers = self._world.queues
        shares = [(queue, text) for queue in workers if (text := self._share(queue, contents))]
        self._shares = {queue.process: text for queue, text in shares}
        if not self._ordered:
            shares.sort(key=lambda share: share[1])
        whole = "\n\n".join([self._server(contents), self._process(producer, False), *(text for _, text in shares)])
        closed = self._closed(whole, rows)
        judges, *facts = self._judges(rows, closed, more)
        texts = [whole + judges, *facts]
        for place, (queue, _) in enumerate(shares):
            for name in (queue.process_id, _worker_id(queue)):
                texts[0] = texts[0].replace(name, f"other{place}")
        for n in range(len(self._jobs())):
            texts[0] = texts[0].replace(f'{{"n":{n}}}', "{}")
        for place, job_id in enumerate(job_id for job_id in self._jobs() if job_id not in closed):
            texts = [text.replace(job_id, f"job{place}") for text in texts]
        return texts

    def _server(self, contents: Contents) -> str:
        """The part of the state that belongs to no worker."""
        kernel = self._world.kernel
        walk = Walk(kernel.time, self._world.lease_s)
        walk.any([contents.jobs, contents.delayed, contents.unrecorded])
        dues = kernel.dues()
        walk.any([(task.name, dues[task]) for task in kernel.tasks() if task.process is None and task.name != "look"])
        return " ".join(walk.out)

    def _closed(self, text: str, rows: Sequence[str]) -> frozenset[str]:
        """Finished jobs that no predicate can report on any more."""
        ended, untold = self._world.ended, self._world.untold()
        return frozenset(
            job_id
            for job_id in self._jobs()
            if job_id not in text
            and len(moves := ended.get(job_id, [])) == 1
            and rows.count(job_id) == moves.count("fail")
            and (job_id in self._told or job_id in untold)
        )

    def _judges(self, rows: Sequence[str], closed: frozenset[str], more: tuple[object, ...]) -> list[str]:
        """The predicates' memory and their checks at the end; then the duties and excuses."""
        world = self._world
        walk = Walk(world.kernel.time, float(world.max_attempts - 1))
        walk.any(more)
        for facts in (rows, world.untold()):
            walk.any([job_id for job_id in facts if job_id not in closed])
        for counts in (world.ended, world.announced, world.returned):
            walk.any([(job_id, counts[job_id]) for job_id in sorted(counts) if job_id not in closed])
        memory = Memory(walk, world.kernel.time, world.max_attempts, closed, self._claimed())
        for predicate in world.predicates:
            memory.tell(predicate)
        return [" ".join(walk.out), "\n".join(memory.duties), "\n".join(memory.excuses)]

    def _claimed(self) -> list[Delivery]:
        """Jobs that living workers have claimed and not started."""
        found: list[Delivery] = []
        for queue in self._world.queues[1:]:
            if not queue.process.dead:
                machine = queue.handles[0]._worker.machine
                announcing = [*machine.outbox, *(machine.open.settlings if machine.open else ())]
                found += [s.delivery for s in announcing if s.move == "start"] + [*machine.ready, *machine.suspects]
        return found

    def _jobs(self) -> list[str]:
        """The state of each job, by id."""
        if self._seen < len(self._world.events):
            new, self._seen = self._world.events[self._seen :], len(self._world.events)
            self._known = sorted({*self._known, *(event.job_id for event in new if isinstance(event, JobDispatched))})
            self._told |= {event.job_id for event in new if isinstance(event, JobSucceeded | JobFailed)}
        return self._known

    def share_of(self, process: object) -> str:
        """This process's share in the last state."""
        return self._shares[process]

    def _share(self, queue: SimQueue, contents: Contents) -> str:
        """One process and its data on the server; empty for a dead process without any."""
        worker = _worker_id(queue)
        share = contents.shares.get(worker, NOBODY)
        dead = queue.process.dead
        if dead and not share.held and not share.running:
            return ""
        walk = Walk(self._world.kernel.time, self._world.lease_s)
        walk.any([dead, share.held, share.running, share.deadline])
        if not dead:
            places = [waiter.worker for waiter in self._world.waiters]
            waits = worker in places
            number = queue.handles[0]._worker.machine.n - share.n
            walk.any([number, places.index(worker) if waits else None])
            walk.out.append(self._process(queue, waits))
        return " ".join(walk.out)

    def _process(self, queue: SimQueue, waits: bool) -> str:
        """The text of its tasks, cached until one of them runs or gets a job, or time passes."""
        process, kernel = queue.process, self._world.kernel
        as_of = (kernel.time, self.steps.get(process, 0), waits)
        known = self._texts.get(process.name)
        if known is None or known[0] != as_of:
            text = process_text(process.tasks, Walk(kernel.time, self._world.lease_s), kernel.dues())
            text = text.replace(queue.process_id, "process")
            known = self._texts[process.name] = (
                as_of,
                text.replace(_worker_id(queue), "worker") if queue.handles else text,
            )
        return known[1]


def _worker_id(queue: SimQueue) -> str:
    return queue.handles[0].id
