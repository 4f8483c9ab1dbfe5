"""The port of drivers with named queues."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from .names import DEFAULT
from .ports import NO_LOCK, Driver, Exchange, Lock, Paused, Settlement, Shown, Want, Where


class QueueStats(NamedTuple):
    """The number of jobs of one queue."""

    ready: int
    delayed: int
    paused: bool = False
    served: bool = True
    """True if a worker that is alive serves it."""
    oldest: bytes | None = None
    """The ready job that is claimed next."""
    server_at: float = 0.0


class NamedQueues(Driver, Protocol):
    """A driver with named queues. To any other driver only jobs of the default queue are given, and ``want`` is a
    number. Of these calls, those that name no other queue are made as for any driver.
    """

    @property
    def names_queues(self) -> bool:
        """True if it has them."""

    def push(self, envelopes: Sequence[bytes], delay_s: float = 0.0, queues: Sequence[str] = ()) -> float | None:
        """As ``Driver.push``, all or none. ``queues``: the queue of each; by default the default queue."""

    def push_unique(
        self, envelopes: Sequence[bytes], delay_s: float, queues: Sequence[str], locks: Sequence[Lock]
    ) -> tuple[float, float | None, list[str]]:
        """As ``push``, but for jobs whose key is taken; a job takes its key. One without a key has ``NO_LOCK``; without
        ``locks`` none has one.

        Returns the server's time, when the jobs become due, and for each the id of the job that has its key; empty if
        it was added.
        """

    def exchange(self, worker: str, n: int, lease_s: float, settlements: Sequence[Settlement], want: Want) -> Exchange:
        """As ``Driver.exchange``; jobs go back to their own queues, also to ones that this worker does not serve.

        A settlement that can't reach its queue, as another program made the key something else, is refused.
        """

    def wait(self, worker: str, seconds: float, queues: Sequence[str] = (DEFAULT,)) -> bytes | float | None:
        """As ``Driver.wait``, for a job of the first queue. A job of another one ends the wait, as if it were due now,
        if the driver can see it.
        """

    def next_due(self, queues: Sequence[str] = (DEFAULT,)) -> float | Paused | None:
        """As ``Driver.next_due``, of those queues that are not paused; ``PAUSED`` if all are."""

    def pause(self, queue: str = DEFAULT) -> float:
        """As ``Pausing.pause``."""

    def resume(self, queue: str = DEFAULT) -> float:
        """As ``Pausing.resume``."""

    def paused_since(self, queue: str = DEFAULT) -> float | None:
        """As ``Pausing.paused_since``."""

    def show(self, where: Where, limit: int, queue: str = DEFAULT) -> Iterator[Shown]:
        """As ``Showing.show``; running jobs are of all queues."""

    def push_retried(self, failure: str, envelope: bytes, queue: str = DEFAULT, lock: Lock = NO_LOCK) -> bool | str:
        """If it is ``Retrying``: as there. Or the id of the job that has the key: then nothing was sent."""

    def queue_stats(self) -> dict[str, QueueStats]:
        """Each queue by name: the default one, and all that ever had jobs or are served. May take several reads."""
