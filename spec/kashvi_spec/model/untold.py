"""The steps that a story leaves out: those without an event, and those of processes that died before emitting one."""

from __future__ import annotations

from collections.abc import Iterable

from .states import NOBODY, Action, State, Step
from .stories import ALONE, Story

BY_ITSELF: frozenset[Action] = frozenset({
    "start", "void", "succeed", "fail", "late start", "late void", "late end",
})  # fmt: skip
WITH_THE_SERVER: frozenset[Action] = frozenset({"settle", "return", "postpone", "refused"})


class Untold:
    """The steps that may have been taken without an event, except those that no story needs."""

    def __init__(self, story: Story) -> None:
        self._silent = (*story.silent, True) if story.ghosts or not story.silent else story.silent
        self._ghost = len(story.silent)
        self._dispatched = any(item.what == "dispatched" for item in story.items)
        self._cancelled = any(item.what in ("asked", "cancelled") for item in story.items)
        self.anybody = any(self._silent)
        # The items of each process, as bits: its own steps, all its steps, all items that concern it.
        workers = range(len(self._silent))
        self._alone = [_bits(item.actor == w and item.what in ALONE for item in story.items) for w in workers]
        self._acts = [_bits(item.actor == w for item in story.items) for w in workers]
        self._named = [_bits(w in (item.actor, item.owner) for item in story.items) for w in workers]

    def cost(self, step: Step, state: State, done: int) -> int | None:
        """0: the step never has an event. 1: its process should have emitted one, or was dead. None: it is impossible.

        A process emits events in order, so its steps without an event come after all its events.
        """
        action, w = step.action, step.worker
        if action in ("dispatch", "dispatch after"):
            return None if self._dispatched else 0
        if action in ("promote", "announce"):
            return 0
        if action == "ask":  # a cancel marks the job before it looks for it
            return 0 if self._cancelled and step.state != state else None
        if w == NOBODY:
            return None
        silent, alive = self._silent[w], state.workers[w].up
        acts, named = self._acts[w] & ~done, self._named[w] & ~done
        if action == "claim":
            return 0 if named else 1 if silent else None
        if action == "lapse":
            return 0 if acts or not alive else None if w == self._ghost else 1
        if action == "take over":
            takers = (v for v, silent in enumerate(self._silent) if silent and v != w and state.workers[v].up)
            return None if next(takers, None) is None else 1
        if action == "crash":
            return 0 if silent and not acts and state.jobs[0].owner == w else None
        if action == "restart":
            return 0 if w == self._ghost else None
        if not silent or (acts if action in BY_ITSELF else acts & ~self._alone[w]):
            return None
        return 1 if action in BY_ITSELF or action in WITH_THE_SERVER else None


def _bits(which: Iterable[bool]) -> int:
    return sum(1 << i for i, one in enumerate(which) if one)
