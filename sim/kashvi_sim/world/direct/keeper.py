"""A worker's keeper, without a greenlet: see ``kashvi.worker.keeper``."""

from __future__ import annotations

from kashvi.errors import DriverError
from kashvi.ports import Expired
from kashvi.worker.keeper import LOST_MAX, STUMBLE_S, Keeper
from kashvi.worker.machine.steps import SECOND, Abandon, AskMarks, KeeperStep, Reap, Record, Request, Rest, Stuck

from ..kernel import Turns
from .exchange import Exchanges


class DirectKeeper:
    """Of one worker."""

    def __init__(self, exchanges: Exchanges, keeper: Keeper) -> None:
        self._exchanges = exchanges
        self._worker = exchanges.worker
        self._keeper = keeper

    def keep(self) -> Turns[None]:
        """For ``Keeper.keep``."""
        keeper = self._keeper
        keeper.begins()
        try:
            while (step := keeper.next()) is not None:
                try:
                    yield from self._do(step)
                except BaseException as error:
                    if self._exchanges.kernel.is_closed or not self._worker.machine.alive:
                        raise
                    yield from self._exchanges.sleep(STUMBLE_S)
                    keeper.stumbled(error)
            keeper.ends()
        finally:
            keeper.ended()

    def _do(self, step: KeeperStep) -> Turns[None]:
        worker, keeper = self._worker, self._keeper
        if isinstance(step, Stuck):
            keeper.stuck(step)
        worker.tell_news()
        if isinstance(step, Rest):
            yield from self._rest(step)
        elif isinstance(step, Request):
            yield from self._exchanges.make(step)
        elif isinstance(step, Reap):
            found = Expired([], [])
            try:
                found = yield from self._exchanges.line.expired(LOST_MAX)
            except DriverError:
                """The exchange that follows says so."""
            keeper.reaped(found)
        elif isinstance(step, AskMarks):
            marked = None
            try:
                marked = yield from self._exchanges.line.marked(step.job_ids)
            except DriverError:
                """The next exchange says so."""
            keeper.told_marks(marked)
        elif isinstance(step, Abandon):
            keeper.abandon(step)
        elif isinstance(step, Record):
            keeper.start_recorder(step)

    def _rest(self, rest: Rest) -> Turns[None]:
        worker = self._worker
        seconds = max(rest.until - worker.now(), 0) / SECOND
        if rest.deaf:
            yield from self._exchanges.sleep(seconds)
            return
        if not worker.rung and self._exchanges.wait_in(worker.bell, seconds):
            yield
        worker.rung = False
