"""The direct shell: a worker's machine without threads and without greenlets.

It does what ``kashvi.worker.shell`` and ``keeper`` do, step for step, in generators that yield where those wait. So the
same seed gives the same trace, byte for byte, in less time. It runs jobs whose handlers are declared: ``act()`` says
how long an attempt takes and how it ends. What else runs in a process (its recorder, ``work()``, its exit) is rare, and
stays in greenlets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kashvi.worker.keeper import Keeper
from kashvi.worker.shell import Worker

from ..network import Line
from ..runtime import SimRuntime
from .exchange import Exchanges
from .keeper import DirectKeeper
from .thread import DirectThread

if TYPE_CHECKING:
    from ..world import World


def run_directly(world: World, process: SimRuntime, line: Line, worker: Worker, keeper: Keeper) -> None:
    """Have the process run this worker without greenlets, when it is started."""
    exchanges = Exchanges(world, process, line, worker)
    process.direct[worker.run] = DirectThread(world, exchanges).run
    process.direct[keeper.keep] = DirectKeeper(exchanges, keeper).keep
