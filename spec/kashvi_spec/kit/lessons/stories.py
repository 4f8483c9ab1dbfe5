"""The stories of a lesson, each as it should be and with the bug, as values."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from kashvi_sim.commands.options import workload_named
from kashvi_sim.runs.play import play
from kashvi_sim.show.values import Values, values_of
from kashvi_sim.world.kernel import EPOCH
from kashvi_sim.world.world import World

from kashvi.events import AttemptLost, JobEvent

from ...clauses import ids_by_predicate, load
from ...judging import Judge, Violation
from ...predicates.every import every_predicate
from ..example.examples import run
from ..example.situation import Example, example_of
from ..museum import MUSEUM
from . import Lesson

BREAKS_MAX = 12
"""The most moments that are marked in one run."""
FIRST_CHARGED = "DELIVERY-8"
CHARGED = (FIRST_CHARGED, "DELIVERY-16")
"""Their predicates find a wrong charge later. The promise broke at the charge: the job's first, or its last so far."""


@dataclass(frozen=True)
class Story:
    """What a page shows at one time: a run, and the same with the bug."""

    name: str
    shown: str
    """The command that shows it."""
    planted: str
    """The command that shows it with the bug."""
    text: str
    """The example's TOML."""
    clean: Values
    bug: Values

    def plain(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "shown": self.shown,
            "planted": self.planted,
            "text": self.text,
            "clean": self.clean,
            "bug": self.bug,
        }


def stories_of(lesson: Lesson) -> Iterator[Story]:
    """Run them all. The same stories, byte for byte, each time."""
    plant = f"kashvi spec:plant {shlex.quote(lesson.bug)}"
    clause = next(one for one in load() if one.id == lesson.clause)
    texts = [(f"The example of {clause.id}", clause.examples[0], f"spec:show {clause.id}")]
    if lesson.written:
        texts.append(("Where the bug shows", lesson.written, "spec:try mine.toml"))
    for name, text, command in texts:
        runs = (_of_example(lesson, example_of(text), bug) for bug in (None, lesson.bug))
        yield Story(name, f"kashvi {command}", f"{plant} {command}", text, *runs)
    work = lesson.workload
    for seed in work.seeds:
        command = f"sim:run {work.name} --seed {seed}" + (f" --faults {work.faults}" if work.faults != "none" else "")
        runs = (_of_workload(lesson, seed, bug) for bug in (None, lesson.bug))
        yield Story(f"{work.name.capitalize()}, seed {seed}", f"kashvi {command}", f"{plant} {command}", "", *runs)


def _of_example(lesson: Lesson, example: Example, bug: str | None) -> Values:
    with nullcontext() if bug is None else MUSEUM[bug].planted():
        ran = run(example)
    values = values_of(ran.world.times, ran.world.events, ran.world.names, jobs=_named(example, ran.names))
    limits = (example.max_attempts, example.table)
    return values | {"breaks": _breaks(lesson, ran.world, ran.violations, limits, values), "differs": ran.mistakes}


def _named(example: Example, names: dict[str, str]) -> dict[str, str]:
    """The jobs that the example gives a name, by id."""
    own = {job.name for job in example.jobs if job.name}
    return {job_id: name for job_id, name in names.items() if name in own}


def _of_workload(lesson: Lesson, seed: int, bug: str | None) -> Values:
    work = lesson.workload
    plan = workload_named(work.name)
    with nullcontext() if bug is None else MUSEUM[bug].planted():
        played = play(plan, seed=seed, faults=work.faults)
    world = played.world
    values = values_of(world.times, world.events, world.names, begin=work.begin, end=work.end)
    limits = (plan.workers.max_attempts, True)
    return values | {"breaks": _breaks(lesson, world, played.violations, limits, values), "differs": []}


def _breaks(
    lesson: Lesson, world: World, violations: Iterable[Violation], limits: tuple[int, bool], values: Values
) -> list[list[Any]]:
    """Each break of a clause that the lesson is about: its time, clause, job and reason, in the order of time."""
    ids, numbers = ids_by_predicate(), _numbers(world)
    about = {lesson.clause, *lesson.also, *MUSEUM[lesson.bug].clauses}
    when = _moments(world, limits)
    found: dict[tuple[str, int], list[Any]] = {}
    for one in violations:
        clause, job = ids.get(one.predicate, ""), numbers.get(one.job_id, 0)
        at = _cause(world, clause, one.job_id, when.get(one, world.times[-1])) - EPOCH
        if clause not in about or not values["from"] <= at <= values["to"] + 1e-3:
            continue
        why = one.why
        for job_id, number in numbers.items():
            why = why.replace(job_id, f"#{number}")
        entry = [round(at, 4), clause, job, why]
        if (clause, job) not in found or found[clause, job][0] > entry[0]:
            found[clause, job] = entry
    return sorted(found.values())[:BREAKS_MAX]


def _cause(world: World, clause: str, job_id: str, seen: float) -> float:
    """The time at which the promise broke. ``seen``: the time at which its predicate found it."""
    own = [
        (at, event)
        for at, event in zip(world.times, world.events, strict=True)
        if at <= seen and isinstance(event, JobEvent) and event.job_id == job_id
    ]
    charged = [at for at, event in own if isinstance(event, AttemptLost)]
    if clause in CHARGED and charged:
        return charged[0] if clause == FIRST_CHARGED else charged[-1]
    return own[-1][0] if own else seen


def _numbers(world: World) -> dict[str, int]:
    """The number of each job, in the order of their first events."""
    found: dict[str, int] = {}
    for event in world.events:
        if isinstance(event, JobEvent) and event.job_id:
            found.setdefault(event.job_id, len(found) + 1)
    return found


def _moments(world: World, limits: tuple[int, bool]) -> dict[Violation, float]:
    """The time of the event at which each violation is found."""
    bench, now, found = Judge(every_predicate(*limits)), [0.0], dict[Violation, float]()
    for predicate in bench.predicates:
        predicate.clock = lambda: now[0]
    counts = [0] * len(bench.predicates)
    for at, event in zip(world.times, world.events, strict=True):
        now[0] = at
        bench.see(event)
        for n, predicate in enumerate(bench.predicates):
            if len(predicate.violations) > counts[n]:
                for violation in predicate.violations[counts[n] :]:
                    found.setdefault(violation, at)
                counts[n] = len(predicate.violations)
    return found
