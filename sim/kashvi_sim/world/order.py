"""Judges each claim from several queues: by their order or their shares, and whether it took all that it could."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from kashvi.names import DEFAULT, ONLY_DEFAULT, Served
from kashvi.ports import READ_MAX_BYTES, Exchange, Want


@dataclass
class Claims:
    """The claims of one worker by exchanges; a wait looks at one queue alone."""

    serves: tuple[Served, ...] = ()
    """Empty: its process has not told it yet."""
    taken: Counter[str] = field(default_factory=Counter)
    """By queue, since a queue was last empty or paused."""
    largest: int = 0
    """The largest claim since then."""

    def wrong(self, want: Want, answer: Exchange, ready: Callable[[str], int]) -> tuple[str, str] | None:
        """The broken promise and how, if one is. ``ready``: how many jobs a queue has left, if not paused."""
        if not self.serves:
            return None
        claimed = Counter({DEFAULT: len(answer.claimed)} if isinstance(want, int) else {})
        for queue, count in answer.claimed_of:
            claimed[queue] += count
        total = want if isinstance(want, int) else want.total
        names = [one.name for one in self.serves]
        paused = set(names if answer.paused else answer.paused_queues)
        if self.serves == ONLY_DEFAULT:
            left = {DEFAULT: 0 if paused else answer.ready}
        else:
            left = {name: ready(name) for name in names}
        if strangers := sorted(set(+claimed) - set(names)):
            return "own queue", f"claims of {strangers}, and serves {names}"
        if any(claimed[name] for name in paused):
            return "pauses kept", f"claims of a queue that is paused: {dict(claimed)}"
        if len(answer.claimed) < total and any(left.values()) and sum(map(len, answer.claimed)) < READ_MAX_BYTES:
            return "claims what is there", f"claims {dict(claimed)} where it wants {total}, and leaves {left}"
        if self.serves[0].weight:
            return self._unfair(claimed, left, paused)
        first = next((n for n, name in enumerate(names) if left[name]), len(names))
        if late := [name for name in names[first + 1 :] if claimed[name]]:
            return "strict order", f"claims of {late[0]}, and leaves {left[names[first]]} of {names[first]}"
        return None

    def _unfair(self, claimed: Counter[str], left: dict[str, int], paused: set[str]) -> tuple[str, str] | None:
        """While no queue runs empty, each gets its share, within a batch."""
        if paused or not all(left.values()):
            self.taken, self.largest = Counter(), 0
            return None
        self.taken.update(claimed)
        self.largest = max(self.largest, claimed.total())
        weights = sum(one.weight for one in self.serves)
        for name, weight in self.serves:
            share = self.taken.total() * weight / weights
            if abs(self.taken[name] - share) > self.largest + 1:
                return "shares kept", f"claimed {self.taken[name]} of {name}, where {share:.1f} is its share"
        return None
