"""What the network reports to a world: the steps that the server has carried out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from kashvi.ports import Settlement

from .ledger import Settled, id_of, snoozes

if TYPE_CHECKING:
    from .runtime import SimRuntime
    from .world import World


class Reported:
    """The part of a world that notes them."""

    marks = 0
    """The number of marks that cancels made."""

    @property
    def _self(self) -> World:
        return cast("World", self)

    def pushed(self, envelopes: Sequence[bytes]) -> None:
        world = self._self
        job_ids = list(map(id_of, envelopes))
        world._touches += [(world.kernel.time, job_id, True) for job_id in job_ids]
        for job_id in job_ids:
            world.came.setdefault(job_id, world.kernel.time)
        world.others.last = envelopes[-1]

    def touched(self, envelope: bytes) -> None:
        self._touch(id_of(envelope))

    def settled(self, s: Settlement, process: SimRuntime) -> None:
        world = self._self
        job_id = id_of(s.new or s.old)
        if not world.direct:
            world.ledger.settled.setdefault(job_id, []).append(
                Settled(s.move, s.new, process, world.server_time, s.in_s)
            )
        if s.move in ("done", "fail"):
            world.ended.setdefault(job_id, []).append(s.move)
            world.telling.ends.setdefault(job_id, []).append(process)
        elif s.move == "retry":
            world.telling.retries.setdefault(job_id, []).append(process)
            if snoozes(s):
                world.returned[job_id] += 1
                world.telling.returns.setdefault(job_id, []).append(process)
        elif s.move == "return":
            world.returned[job_id] += 1
            world.telling.returns.setdefault(job_id, []).append(process)
        elif s.move == "start":
            world.announced[job_id] += 1
        if s.move != "leave":
            self._touch(job_id)

    def marked(self, job_id: str) -> None:
        """A job is cancelled: a server that is rolled back may forget it."""
        self.marks += 1
        self._touch(job_id)

    def taken_out(self, job_id: str, process: SimRuntime) -> None:
        """A cancelled job has been taken off its queue."""
        world = self._self
        self._touch(job_id)
        world.ended.setdefault(job_id, []).append("cancelled")
        world.telling.ends.setdefault(job_id, []).append(process)

    def _touch(self, job_id: str) -> None:
        """A server that is rolled back may forget the step."""
        world = self._self
        if world._rolling_back:
            world._touches.append((world.kernel.time, job_id, False))
