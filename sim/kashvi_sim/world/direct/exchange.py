"""What the threads and the keeper of one worker do alike: exchanges, and sleeping."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from kashvi.ports import Condition, Exchange
from kashvi.worker.machine.steps import Request, micros
from kashvi.worker.shell import Worker

from ..kernel import Turns
from ..network import Line
from ..runtime import SimRuntime
from .line import DirectLine

if TYPE_CHECKING:
    from ..world import World


class Exchanges:
    """Of one worker, with its server."""

    def __init__(self, world: World, process: SimRuntime, line: Line, worker: Worker) -> None:
        self.kernel = world.kernel
        self.process = process
        self.worker = worker
        self.line = DirectLine(world, process, line)

    def sleep(self, seconds: float) -> Turns[None]:
        self.process.sleeps += 1
        if self.kernel.waits(None, max(seconds, 0.0)):
            yield

    def wait_in(self, condition: Condition, seconds: float | None) -> bool:
        """As ``Kernel.waits``, until notified."""
        return self.kernel.waits(cast(Any, condition).waiting, seconds)

    def make(self, request: Request) -> Turns[None]:
        """Send a request, again and again until there is an answer or the machine gives up."""
        worker, machine = self.worker, self.worker.machine
        answer: Exchange | None = None
        sent_at = 0.0
        over = False
        try:
            while answer is None and not over:
                sent_at = self.process.monotonic()
                settlements = [settling.sent(sent_at) for settling in request.settlings]
                try:
                    answer = yield from self.line.exchange(
                        worker.id, request.n, worker.lease_s, settlements, request.want
                    )
                except Exception as caught:
                    over = not (yield from self._goes_on(request, caught))
            if answer is not None:
                claimed, unsent = worker.claimed(request, answer), worker.unsent(request, answer)
                worker.lost, over = None, True
                machine.answered(worker.now(), request, answer, claimed, micros(sent_at), unsent)
                worker.signal()
        finally:
            if not over:
                machine.unanswered(worker.now())
                worker.signal()
        if answer is not None:
            worker.tell_news()
            worker.tell(request, answer, sent_at)

    def _goes_on(self, request: Request, caught: Exception) -> Turns[bool]:
        worker = self.worker
        again = worker.failed(request, caught)
        if again is None:
            return False
        if again.pause:
            seconds = worker.pause_s(again)
            if not worker.hurried and self.wait_in(worker.pause, seconds):
                yield
            worker.hurried = False
        return True
