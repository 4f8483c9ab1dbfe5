"""The map of a search: the known states, their graph, and the trials to come.

A suspended process can't be copied, so each branch is a new run from the beginning, up to a known state. The states
make a graph; from each of them, without another death, the end must be reachable. So a lost job shows as a state
without a path to the end, though its run would never end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from kashvi_spec.predicates.safety import Violation

from ..runs.play import play
from ..runs.shrink import shrink
from .scope import Scope
from .state import State
from .trial import Pop, Stopped, Trial

END = 0
"""The state in which all jobs have ended correctly."""
SHRINK_TRIES = 150


class Branch(NamedTuple):
    """A trial to come. The last of its ``given`` decisions differs from an earlier trial's."""

    given: tuple[int, ...]
    path: Sequence[Pop]
    """The tasks that went on before the last decision, so that the trial need not search for candidates."""
    source: int
    """The last state before it."""
    since: int
    """The number of decisions up to that state."""


class Seen(NamedTuple):
    """A state of a trial after ``at`` decisions, or the state left by the death that is decision ``at``."""

    state: State
    at: int
    death: bool


class Tried(NamedTuple):
    """The result of a trial. ``choices``: the tape of a violation."""

    seen: list[Seen]
    taken: list[int]
    others: list[Sequence[int]]
    popped: list[int]
    pops: list[Pop]
    crashes: list[int]
    drained: bool
    violations: list[Violation]
    choices: dict[tuple[str, int], int]


class Broken(NamedTuple):
    """A violation, and the choices that matter on the tape of its run."""

    violations: list[Violation]
    choices: dict[tuple[str, int], int]


class Known:
    """States, by key."""

    def __init__(self) -> None:
        self._numbers: dict[bytes, list[tuple[State, int]]] = {}

    def number(self, state: State) -> int | None:
        """The number of a known state that covers this one, or None."""
        return next((n for one, n in self._numbers.get(state.key, ()) if one.shows_all_of(state)), None)

    def add(self, state: State, number: int) -> None:
        self._numbers.setdefault(state.key, []).append((state, number))


def tried(
    scope: Scope,
    branch: Branch,
    place: dict[str, Any],
    known: Known | None,
    reduce: bool,
    made: Callable[[Trial], None] = lambda trial: None,
) -> Tried:
    """Make a trial, up to the first state that is ``known`` or repeated; without ``known``, to its end."""
    seen, own = [], Known()

    def at_state(trial: Trial) -> bool:
        now = trial.state()
        seen.append(Seen(now, len(trial.taken), False))
        if known is None:
            return False
        ends = known.number(now) is not None or own.number(now) is not None
        own.add(now, END)
        return ends

    def dies(left: State) -> bool:
        seen.append(Seen(left, len(trial.taken), True))
        return True

    trial = Trial(scope, branch.given, branch.path, at_state, dies, place, reduce=reduce)
    with suppress(Stopped):
        trial.play()
    made(trial)
    choices = trial.choices() if trial.violations else {}
    trial.world.close()
    came = Tried(
        seen,
        trial.taken,
        trial.others,
        trial.popped,
        trial.pops,
        trial.crashes,
        trial.drained,
        trial.violations,
        choices,
    )
    take_apart(trial)
    return came


def take_apart(trial: Trial) -> None:
    """Break the reference cycles of a trial, so that it is freed at once: a garbage collection takes far longer."""
    world = trial.world
    handles = [handle for queue in world.queues for handle in queue.handles]
    workers = [handle._worker for handle in handles]
    for part in (*workers, *handles, *world.queues, *world.processes, world.kernel, trial.states, world, trial):
        vars(part).clear()


class Search:
    """All trials of a scope.

    ``prune``: end a trial at a known state. ``reduce``: leave out orders, processes and deaths that are equivalent to
    others.
    """

    def __init__(self, scope: Scope, place: dict[str, Any], *, prune: bool = True, reduce: bool = True) -> None:
        self.scope = scope
        self.executions = 0
        self.broken: list[Broken] = []
        self.pending = deque([Branch((), (), END, 0)])
        self.fresh: list[State] = []
        """The states that are new since the caller emptied this."""
        self._place = place
        self._prune = prune
        self._reduce = reduce
        self._known = Known()
        self._deaths = Known()
        """The states left by deaths."""
        self._ways: list[set[int]] = [set()]
        """The predecessors of each state without a death."""
        self._stories: list[tuple[int, ...]] = [()]
        """The first decisions that led to each state."""

    @property
    def states(self) -> int:
        return len(self._ways) - 1

    @property
    def exhausted(self) -> bool:
        return not self.pending

    def step(self) -> None:
        """Make one trial, and add its branches."""
        branch = self.pending.popleft()
        known = self._known if self._prune else None
        self.absorb(branch, tried(self.scope, branch, self._place, known, self._reduce, self.made))

    def made(self, trial: Trial) -> None:
        """A hook for each trial."""

    def absorb(self, branch: Branch, tried: Tried) -> None:
        """Add a trial to the map, up to its first known state."""
        self.executions += 1
        source, since, cut = branch.source, branch.since, len(tried.taken)
        sources: list[tuple[int, int]] = []
        ended = False

        def lead_to(state: int, at: int) -> None:
            sources.extend([(source, since)] * (at - len(branch.given) - len(sources)))
            if source != END and not any(since <= death < at for death in tried.crashes):
                self._ways[state].add(source)

        for state, at, death in tried.seen:
            if death:
                if self._prune and self._deaths.number(state) is not None:
                    tried.others[at] = ()
                else:
                    self._deaths.add(state, END)
                continue
            number = self._known.number(state)
            ended = number is not None and self._prune
            number = self._add(state, tried.taken[:at]) if number is None else number
            lead_to(number, at)
            source, since = number, at
            if ended:
                cut = at
                break
        if not ended and tried.violations:
            self.broken.append(Broken(tried.violations, tried.choices))
        elif not ended and tried.drained:
            lead_to(END, cut)
        sources.extend([(source, since)] * (cut - len(branch.given) - len(sources)))
        for at in range(len(branch.given), cut):
            for choice in tried.others[at]:
                path = tried.pops[: tried.popped[at]]
                self.pending.append(Branch((*tried.taken[:at], choice), path, *sources[at - len(branch.given)]))

    def _add(self, state: State, story: list[int]) -> int:
        number = len(self._ways)
        self._known.add(state, number)
        self.fresh.append(state)
        self._ways.append(set())
        self._stories.append(tuple(story))
        return number

    def hopeless(self) -> list[int]:
        """The states from which the end can't be reached without another death, in the order found."""
        hopeful, waiting = {END}, [END]
        while waiting:
            for state in self._ways[waiting.pop()]:
                if state not in hopeful:
                    hopeful.add(state)
                    waiting.append(state)
        return [state for state in range(len(self._ways)) if state not in hopeful]

    def stuck(self, state: int) -> Broken:
        """The violation that a run from a hopeless state shows."""
        trial = Trial(self.scope, self._stories[state], (), lambda trial: True, lambda left: True, self._place)
        with suppress(Stopped):
            trial.play()
        choices = trial.choices()
        trial.world.close()
        return Broken([Violation("drains", "", "from here the end is out of reach")], choices)

    def shortest(self, broken: Broken) -> Broken:
        """A violation of the same predicate with the fewest choices found, as ``sim:run`` prints it."""
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
