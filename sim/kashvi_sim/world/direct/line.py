"""A process's connection to the server, for code that runs without a greenlet: its calls yield where they wait.

Each call does what ``Line``'s does, step for step and choice for choice, so that the same seed gives the same run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from kashvi.names import DEFAULT
from kashvi.ports import Exchange, Expired, Paused, Settlement, Want

from ..faults import Moment
from ..kernel import Turns
from ..network import Line, Waiter
from ..runtime import SimRuntime

if TYPE_CHECKING:
    from ..world import World

T = TypeVar("T")


class DirectLine:
    """``line``, without a greenlet."""

    def __init__(self, world: World, process: SimRuntime, line: Line) -> None:
        self._world = world
        self._process = process
        self._line = line
        self._kernel = world.kernel

    def push(self, envelopes: Sequence[bytes], delay_s: float, queue: str = DEFAULT) -> Turns[float | None]:
        queues = () if queue == DEFAULT else (queue,) * len(envelopes)
        return (yield from self._call("push", self._line.pushed, envelopes, delay_s, queues))

    def exchange(
        self, worker: str, n: int, lease_s: float, settlements: Sequence[Settlement], want: Want
    ) -> Turns[Exchange]:
        return (yield from self._call("exchange", self._line.exchanged, worker, n, lease_s, settlements, want))

    def next_due(self, queues: Sequence[str]) -> Turns[float | Paused | None]:
        return (yield from self._call("next_due", self._line.due, queues or (DEFAULT,)))

    def expired(self, limit: int) -> Turns[Expired]:
        return (yield from self._call("expired", self._line.dead, limit))

    def marked(self, job_ids: Sequence[str]) -> Turns[list[str]]:
        return (yield from self._call("marked", self._line.which_marked, job_ids))

    def wait(self, worker: str, seconds: float, queues: Sequence[str]) -> Turns[bytes | float | None]:
        """The call waits on the server between its two moments."""
        line, queues = self._line, queues or (DEFAULT,)
        yield from self._reached("wait", line.looked, (worker, queues))
        got = line.queued(worker, seconds, queues)
        if isinstance(got, Waiter):
            try:
                if self._kernel.waits([], seconds):
                    yield
            finally:
                line.leaves(got)
            got = line.found(got)
        if not self._world.calm:
            yield from self.strike("after", "wait", None)
        return got

    def _call(self, call: str, effect: Callable[..., T], *about: Any) -> Turns[T]:
        yield from self._reached(call, effect, about)
        answer = effect(*about)
        if not self._world.calm:
            yield from self.strike("after", call, None)
        return answer

    def _reached(self, call: str, effect: Callable[..., Any], about: Sequence[Any]) -> Turns[None]:
        """A call goes out, and reaches the server. ``effect``: of a request that a fault delays."""
        world, kernel = self._world, self._kernel
        kernel.check_open()
        world.called(self._process)
        if kernel.waits(None, 0.0):
            yield
        if not world.calm:
            yield from self.strike("before", call, lambda: effect(*about))
        self._line.reach(call)

    def strike(self, moment: Moment, call: str, effect: Callable[[], Any] | None) -> Turns[None]:
        """A point at which a fault may strike: it may raise, wait, or never return."""
        blow = self._world.struck_by(moment, call, self._process, effect)
        if blow is not None:
            if self._kernel.waits(None, blow.held_up_s):
                yield
            if blow.error is not None:
                raise blow.error
        if self._process.dead:
            yield  # and never goes on
