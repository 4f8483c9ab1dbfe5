"""What a worker counts for its reports: plain integers, in a few microseconds for each exchange.

Attempts that ended are counted exactly. Of the durations in a large batch, some stand for all.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import TypeVar

from ..jobs.envelope import made_s
from ..reporting import BUCKETS_S, OTHER, TYPE_MAX, TYPES_MAX, Counts
from .settle import Delivery, Settling

SAMPLE = 4
"""Of a batch of more jobs, the durations of 4 are counted, evenly spread: each stands for its neighbours."""


class Tally:
    """Counts since the last ``take``. Called with the worker's lock."""

    def __init__(self) -> None:
        self._types = Counter[tuple[str, str, str]]()
        self._waits = Counter[tuple[str, int]]()
        self._runs = Counter[tuple[str, int]]()

    def settled(
        self,
        settlings: Sequence[Settling],
        others: Collection[int],
        refused: Collection[int],
        cut: Collection[int],
        queue: str | None,
    ) -> None:
        """An exchange has settled these.

        others: the indexes of those that are not simply done. cut: of those whose job was cancelled.
        queue: of all that are done; None: they may be of several.
        """
        if not settlings:
            return
        if queue is not None and not (others or refused or cut):
            names = {s.delivery.type for s in settlings}
            if len(names) == 1:  # the hot path
                self._types[queue, "done", names.pop()] += len(settlings)
            else:
                for name, n in Counter([s.delivery.type for s in settlings]).items():
                    self._types[queue, "done", name] += n
        else:
            for i, s in enumerate(settlings):
                if i not in refused and (outcome := _outcome(s, i in cut)):
                    self._types[s.delivery.queue, outcome, s.delivery.type] += 1
        for s, weight in _some(settlings):
            if s.took_s is not None:
                self._runs[s.delivery.queue, bisect_left(BUCKETS_S, s.took_s)] += weight

    def claimed(self, deliveries: Sequence[Delivery], server_at: float) -> None:
        """An exchange has claimed these. A wait is that of a first attempt."""
        for d, weight in _some(deliveries):
            made = None if d.attempts or d.suspect else made_s(d.job_id)
            if made is not None:
                waited = max(server_at - made, 0.0)
                self._waits[d.queue, bisect_left(BUCKETS_S, waited)] += weight

    def take(self) -> Counts:
        """What was counted, and begin anew."""
        ended = dict[tuple[str, str, str], int]()
        for n, ((queue, outcome, name), number) in enumerate(self._types.items()):
            key = (queue, outcome, name[:TYPE_MAX] if n < TYPES_MAX else OTHER)
            ended[key] = ended.get(key, 0) + number
        counts = Counts(ended, dict(self._waits), dict(self._runs))
        for one in (self._types, self._waits, self._runs):
            one.clear()
        return counts


T = TypeVar("T")


def _some(batch: Sequence[T]) -> Iterator[tuple[T, int]]:
    """Some of a batch, evenly spread, each with the number of those that it stands for."""
    n = len(batch)
    if n <= SAMPLE:
        for one in batch:
            yield one, 1
        return
    for k in range(SAMPLE):
        at, until = k * n // SAMPLE, (k + 1) * n // SAMPLE
        yield batch[(at + until) // 2], until - at


def _outcome(s: Settling, cut: bool) -> str:
    if s.move == "done":
        return "done"
    if cut and s.move in ("retry", "fail", "return"):
        return "cancelled"
    if s.move == "retry":
        return "snoozed" if s.snoozed else "postponed" if s.postponed else "retried"
    return "failed" if s.move == "fail" else ""
