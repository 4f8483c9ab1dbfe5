"""Exhaustive search: every order, every outcome, every death in a small scope, through the code as it is.

There is nothing to copy a suspended process with, so each branch is a run of its own from the beginning, up to a
state that was seen before. The states make a graph; from each of them, without another death, the end must be
reachable. So what is lost shows as a state from which it is not, though the run that got there would never end.
"""

from __future__ import annotations

import gc
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from kashvi_spec.predicates import Violation

from .play import play, undisturbed
from .scope import Scope
from .shrink import shrink
from .state import State
from .trial import Pop, Stopped, Trial

END = 0
"""The state in which all is done, as it should be."""
COLLECT = 500
"""Trials between two collections of garbage."""
SHRINK_TRIES = 150


class Branch(NamedTuple):
    """A trial to come: ``given`` decisions, the last of which departs from a trial that was."""

    given: tuple[int, ...]
    path: Sequence[Pop]
    """Who went on before the last decision, so that nobody need look who could."""
    source: int
    """The last state before it."""
    since: int
    """How many decisions led there."""


class Broken(NamedTuple):
    """A broken promise, and the choices that matter on the tape of a run that breaks it."""

    violations: list[Violation]
    choices: dict[tuple[str, int], int]


class Explored(NamedTuple):
    """What a search came to. ``exhausted``: nothing is left to try."""

    scope: Scope
    executions: int
    states: int
    exhausted: bool
    broken: list[Broken]
    wall_s: float


def explore(
    scope: Scope, place: dict[str, Any], limit: int, look: Callable[[Search], None] = lambda search: None
) -> Explored:
    """Search until a promise is broken, all is searched, or ``limit`` trials were made. ``look`` is told now and then.

    ``place``: as ``connect`` has it.
    """
    began = time.perf_counter()
    search = Search(scope, place)
    with _frozen():
        while not search.exhausted and not search.broken and search.executions < limit:
            search.step()
            if search.executions % COLLECT == 0:
                look(search)
                gc.collect(0)
    broken = [search.shortest(one) for one in search.broken[:1]]
    if search.exhausted and not broken and (state := search.hopeless()):
        broken = [search.shortest(search.stuck(state[0]))]
    return Explored(
        scope, search.executions, search.states, search.exhausted and not broken, broken, time.perf_counter() - began
    )


class Search:
    """All trials of a scope.

    ``prune``: whether a trial ends at a state that was seen before. ``reduce``: whether orders, processes and deaths
    that come to the same as others are left out.
    """

    def __init__(self, scope: Scope, place: dict[str, Any], *, prune: bool = True, reduce: bool = True) -> None:
        self.scope = scope
        self.executions = 0
        self.broken: list[Broken] = []
        self._place = place
        self._prune = prune
        self._reduce = reduce
        self._known: dict[bytes, list[tuple[State, int]]] = {}
        """By key."""
        self._ways: list[set[int]] = [set()]
        """By state, those that lead there without a death."""
        self._stories: list[tuple[int, ...]] = [()]
        """By state, the decisions that led there first."""
        self._pending = deque([Branch((), (), END, 0)])
        self._deaths: dict[bytes, list[State]] = {}
        """What deaths left behind, by key."""
        self._source, self._since = END, 0
        self._sources: list[tuple[int, int]] = []

    @property
    def states(self) -> int:
        return len(self._ways) - 1

    @property
    def exhausted(self) -> bool:
        return not self._pending

    def step(self) -> None:
        """One trial, and what branches off it."""
        branch = self._pending.popleft()
        self._source, self._since, self._sources = branch.source, branch.since, []
        trial = Trial(
            self.scope, branch.given, branch.path, self._at_state, self._is_new_death, self._place, reduce=self._reduce
        )
        self.executions += 1
        with suppress(Stopped):
            trial.play()
        if trial.violations:
            self.broken.append(Broken(trial.violations, trial.choices()))
        elif trial.drained:
            self._lead_to(END, trial)
        self._branch(trial, branch)
        self.made(trial)
        trial.world.close()
        _take_apart(trial)

    def made(self, trial: Trial) -> None:
        """For those who want to look at every trial."""

    def hopeless(self) -> list[int]:
        """States from which the end can't be reached without another death, the first seen first."""
        hopeful, waiting = {END}, [END]
        while waiting:
            for state in self._ways[waiting.pop()]:
                if state not in hopeful:
                    hopeful.add(state)
                    waiting.append(state)
        return [state for state in range(len(self._ways)) if state not in hopeful]

    def stuck(self, state: int) -> Broken:
        """What is broken in a hopeless state, as a run from there shows."""
        trial = Trial(self.scope, self._stories[state], (), lambda trial: True, lambda left: True, self._place)
        with suppress(Stopped):
            trial.play()
        choices = trial.choices()
        trial.world.close()
        return Broken([Violation("drains", "", "from here the end is out of reach")], choices)

    def shortest(self, broken: Broken) -> Broken:
        """The same promise, broken by as few choices as can be found, as ``sim:run`` tells it."""
        workload = self.scope.workload()

        def violations(choices: dict[tuple[str, int], int]) -> list[Violation]:
            return play(workload, choices=choices, faults="kill", **self._place).violations

        wanted = {one.predicate for one in violations(broken.choices)}
        if not wanted:
            return broken
        choices = shrink(
            broken.choices, lambda some: any(one.predicate in wanted for one in violations(some)), SHRINK_TRIES
        )
        return Broken(violations(choices), choices)

    def _at_state(self, trial: Trial) -> bool:
        """Whether the trial ends here."""
        now = trial.state()
        known = self._known.setdefault(now.key, [])
        state = next((number for one, number in known if one.shows_all_of(now)), None)
        if state is not None:
            self._lead_to(state, trial)
            if self._prune:
                return True
        else:
            state = len(self._ways)
            known.append((now, state))
            self._ways.append(set())
            self._stories.append(tuple(trial.taken))
            self._lead_to(state, trial)
        self._source, self._since = state, len(trial.taken)
        return False

    def _is_new_death(self, left: State) -> bool:
        """Whether no death was tried that leaves this."""
        known = self._deaths.setdefault(left.key, [])
        new = not self._prune or not any(one.shows_all_of(left) for one in known)
        if new:
            known.append(left)
        return new

    def _lead_to(self, state: int, trial: Trial) -> None:
        self._note_sources(trial)
        if self._source and not any(at >= self._since for at in trial.crashes):
            self._ways[state].add(self._source)

    def _note_sources(self, trial: Trial) -> None:
        """Decisions since the last state branch off there."""
        self._sources += [(self._source, self._since)] * (len(trial.taken) - len(trial.given) - len(self._sources))

    def _branch(self, trial: Trial, branch: Branch) -> None:
        self._note_sources(trial)
        for at in range(len(branch.given), len(trial.taken)):
            for choice in trial.others[at]:
                path = trial.pops[: trial.popped[at]]
                self._pending.append(Branch((*trial.taken[:at], choice), path, *self._sources[at - len(branch.given)]))


def _take_apart(trial: Trial) -> None:
    """What knows each other forgets it, so that a trial is gone with its end: to look for garbage takes far longer."""
    world = trial.world
    handles = [handle for queue in world.queues for handle in queue.handles]
    workers = [handle._worker for handle in handles]
    for part in (*workers, *handles, *world.queues, *world.processes, world.kernel, trial.states, world, trial):
        vars(part).clear()


@contextmanager
def _frozen() -> Iterator[None]:
    """What was there before is not looked through for garbage, time and again."""
    gc.freeze()
    try:
        with undisturbed():
            yield
    finally:
        gc.unfreeze()
