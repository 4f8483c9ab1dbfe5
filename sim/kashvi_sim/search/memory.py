"""The predicates' memory as text, as far as it decides later verdicts.

Some entries work one way only. A *duty* can only be violated: to have been claimed by now. An *excuse* can
only permit: an attempt that succeeded, a start that is long enough ago. Of two worlds that go on alike, the
one with more duties and fewer excuses shows every violation of the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from kashvi_spec.judging import ROUNDING_S
from kashvi_spec.predicates.safety import BackoffKept, Drains, Fifo, NeverEarly, NoneLost, Predicate

from kashvi.worker.settle import Delivery

from .fingerprint import Walk


class Memory:
    """``closed``: jobs that no predicate can report on any more. ``claimed``: jobs that living workers hold and have
    not started; all other jobs that will start are claimed from now on."""

    def __init__(
        self, walk: Walk, now: float, max_attempts: int, closed: frozenset[str], claimed: Sequence[Delivery]
    ) -> None:
        self.duties: set[str] = set()
        self.excuses: set[str] = set()
        self._walk = walk
        self._now = now
        self._max_attempts = max_attempts
        self._closed = closed
        self._claimed = claimed

    def tell(self, predicate: Predicate) -> None:
        self._walk.out.append(f"\n{predicate.name}")
        if isinstance(predicate, Fifo):
            self._order(predicate)
        elif isinstance(predicate, NoneLost):
            self._walk.any([self._open(predicate._open), self._open(predicate._ended)])
            self.excuses |= {f"done {job_id}" for job_id in self._open(predicate._done)}
        elif isinstance(predicate, NeverEarly):
            due = predicate._due
            self._walk.any([(key, due[key]) for key in self._open(due) if not self._over(due[key], *key)])
            self._any(predicate._snoozes)
        elif isinstance(predicate, BackoffKept):
            self._pauses(predicate._started)
            self._walk.any(sorted(predicate._own))
            self._any(predicate._own_waits)
            self._any(predicate._open)
        elif isinstance(predicate, Drains):
            self._walk.any([self._open(predicate._waiting), self._open(predicate._ended)])  # why is for people
        else:
            for name, value in vars(predicate).items():
                if name not in ("judged", "violations"):
                    self._any(value)

    def _any(self, value: Any) -> None:
        if isinstance(value, dict):
            self._walk.any([(key, value[key]) for key in self._open(value)])
        else:
            self._walk.any(self._open(value) if isinstance(value, set) else value)

    def _pauses(self, started: dict[tuple[str, int], float]) -> None:
        """The begin times of attempts. No attempt may follow the last one, however late."""
        for job_id, attempt in self._open(started):
            began = started[job_id, attempt]
            if self._over(began + attempt, job_id, attempt + 1):
                self.excuses.add(f"began {job_id} {attempt}")
            elif attempt < self._max_attempts:
                self._walk.any((job_id, attempt, began))

    def _order(self, fifo: Fifo) -> None:
        """Jobs that must have been claimed, since a later one was; and jobs that may overtake."""
        latest_at, latest = next(iter(fifo._latest.values()), (0.0, -1))  # a scope has one producer
        open_ = [job_id for job_id in self._open(fifo._position) if job_id not in fifo._excused]
        ahead = [
            (job_id, fifo._position[job_id][1] > latest) for job_id in open_ if fifo._position[job_id][1] >= latest
        ]
        for job_id in open_:
            if fifo._position[job_id][1] < latest:
                when = "by now" if self._over(latest_at + 2 * ROUNDING_S, job_id) else self._walk.time(latest_at)
                self.duties.add(f"claim {job_id} {when} {ahead}")
        if len(ahead) > 1:
            self._walk.any(ahead)

    def _over(self, at: float, job_id: str, attempt: int | None = None) -> bool:
        """True if no attempt at this job (with this number) that was claimed before ``at`` will start."""
        return at <= self._now + ROUNDING_S and not any(
            d.job_id == job_id and attempt in (None, d.attempts + 1) and d.server_at < at - ROUNDING_S
            for d in self._claimed
        )

    def _open(self, keys: Iterable[Any]) -> list[Any]:
        return sorted(key for key in keys if (key[0] if isinstance(key, tuple) else key) not in self._closed)
