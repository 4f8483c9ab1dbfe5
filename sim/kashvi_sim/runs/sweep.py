"""Many seeds over all cores: violations, shrunk to tokens; counts of faults, situations and excuses."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from kashvi.errors import UnusableSetting

from ..world.connect import connect
from ..world.faults import rules_named
from ..world.tape import Tape, token_of
from .play import Played, Swarm, perform, play
from .shrink import shrink
from .situations import SITUATIONS, seen
from .workload import Workload

SIMPLE_TRIES = 40
"""The most runs tried for a simpler violation of the same predicate."""
BLOCK = 10
"""The number of seeds that a process runs at a time."""


class Job(msgspec.Struct, frozen=True):
    """The settings that all seeds of a sweep share."""

    workload: Workload
    driver: str
    faults: str
    redis_url: str | None = None
    direct: bool = False
    """See ``play``."""


class Failing(msgspec.Struct, frozen=True):
    """A seed with a violation."""

    seed: int
    broken: list[str]
    why: str
    token: str
    choices: int
    """The number of choices in the token that are not the default."""


class Block(msgspec.Struct, frozen=True):
    """The results of some seeds."""

    first: int
    seeds: int
    jobs: int
    failing: list[Failing]
    struck: dict[str, int]
    seen: dict[str, int]
    judged: dict[str, int]
    excused: dict[str, int]


@dataclass
class Swept:
    """The results of a sweep."""

    seeds: int = 0
    jobs: int = 0
    failing: list[Failing] = field(default_factory=list)
    struck: Counter[str] = field(default_factory=Counter)
    seen: Counter[str] = field(default_factory=Counter)
    judged: Counter[str] = field(default_factory=Counter)
    excused: Counter[str] = field(default_factory=Counter)

    def add(self, block: Block) -> None:
        self.seeds += block.seeds
        self.jobs += block.jobs
        self.failing = sorted([*self.failing, *block.failing], key=lambda failing: failing.seed)
        for mine, theirs in (
            (self.struck, block.struck),
            (self.seen, block.seen),
            (self.judged, block.judged),
            (self.excused, block.excused),
        ):
            mine.update(theirs)

    def missing(self, faults: str) -> list[str]:
        """The faults, situations and clauses that the sweep did not reach; each gap weakens its proof."""
        gaps = [f"fault {rule.name} never struck" for rule in rules_named(faults) if not self.struck[rule.name]]
        if faults == "all":
            gaps += [f"never seen: {name} ({SITUATIONS[name][0]})" for name in SITUATIONS if not self.seen[name]]
        return gaps + [f"never judged: {name}" for name, times in sorted(self.judged.items()) if not times]


def run_block(job: Job, first: int, seeds: int) -> Block:
    """Run some seeds, in a process of the pool or in this one."""
    struck: Counter[str] = Counter()
    met: Counter[str] = Counter()
    judged: Counter[str] = Counter()
    excused: Counter[str] = Counter()
    failing: list[Failing] = []
    jobs = 0
    with connect(job.driver, job.redis_url) as place:
        for seed in range(first, first + seeds):
            played = play(job.workload, seed=seed, faults=job.faults, direct=job.direct, **place)
            jobs += played.figures.jobs
            struck.update(played.world.struck)
            met.update(seen(played.world.events, played.figures.duplicates))
            checks = played.world.judged()
            judged.update({name: times for name, times in checks.items() if name not in job.workload.beyond})
            excused.update(f"{one.violation.predicate} by {one.fault}" for one in played.excused)
            if played.violations:
                failing.append(shrunk(job, seed, played, place))
    return Block(first, seeds, jobs, failing, dict(struck), dict(met), dict(judged), dict(excused))


def shrunk(job: Job, seed: int, played: Played, place: dict[str, Any], tries: int = 900, enough: int = 0) -> Failing:
    """The failing seed with the fewest choices that violate one of the same predicates; see ``shrink``."""
    broken = {violation.predicate for violation in played.violations}

    def fails(choices: dict[tuple[str, int], int]) -> bool:
        again = play(job.workload, choices=choices, faults=job.faults, direct=job.direct, **place)
        return any(violation.predicate in broken for violation in again.violations)

    choices = _simplest(job, seed, played, broken, place)
    if fails(choices):
        choices = shrink(choices, fails, tries, enough)
    last = play(job.workload, choices=choices, faults=job.faults, direct=job.direct, **place)
    violations = last.violations or played.violations
    first = violations[0]
    return Failing(
        seed=seed,
        broken=sorted({violation.predicate for violation in violations}),
        why=f"{first.predicate}: {first.job_id + ' ' if first.job_id else ''}{first.why}",
        token=token_of(choices),
        choices=len(choices),
    )


def _simplest(
    job: Job, seed: int, played: Played, broken: set[str], place: dict[str, Any]
) -> dict[tuple[str, int], int]:
    """The choices of this run, or of one with fewer that violates the same predicates by the same faults."""
    rules = tuple(rule for rule in rules_named(job.faults) if played.world.struck[rule.name])
    best = played.choices
    for n in range(SIMPLE_TRIES):
        sparse = (0.03, 0.1, 0.3)[n % 3]
        tape = Tape(f"{seed} simple {n}", often=0.0, sparse=sparse)
        simple = perform(job.workload, tape, Swarm(rules, 0.02, 0.0), direct=job.direct, **place)
        if len(simple.choices) < len(best) and any(v.predicate in broken for v in simple.violations):
            best = simple.choices
    return best


def sweep(job: Job, first: int, seeds: int, *, state: Path | None = None, cores: int | None = None) -> Iterator[Block]:
    """Blocks as they finish. ``state``: a file that stores them, to go on after an interruption."""
    key = msgspec.json.encode([msgspec.to_builtins(job)])
    done: dict[int, Block] = {}
    if state is not None and state.exists():
        lines, torn = _kept(state)
        done = {block.first: block for kept_key, block in lines if kept_key == _digest(key)}
        if torn:  # by a kill; its block runs again
            with state.open("r+b") as file:
                file.truncate(state.stat().st_size - torn)
    todo: list[tuple[int, int]] = []
    for start in range(first, first + seeds, BLOCK):
        count = min(BLOCK, first + seeds - start)
        if start in done and done[start].seeds == count:
            yield done[start]
        else:
            todo.append((start, count))
    for block in _in_parallel(job, todo, cores or os.cpu_count() or 1):
        if state is not None:
            state.parent.mkdir(parents=True, exist_ok=True)
            with state.open("ab") as out:
                out.write(msgspec.json.encode((_digest(key), block)) + b"\n")
        yield block


def _kept(state: Path) -> tuple[list[tuple[str, Block]], int]:
    """The finished blocks, and the bytes of a torn line after them. Raises InvalidSetting for another kind of file."""
    whole, _, torn = state.read_bytes().rpartition(b"\n")
    try:
        lines = [msgspec.json.decode(line, type=tuple[str, Block]) for line in whole.splitlines()]
        if torn and not torn.startswith(b'["'):
            raise ValueError
    except ValueError:
        raise UnusableSetting(f"--state {state}", "no sweep wrote this file") from None
    return lines, len(torn)


def _in_parallel(job: Job, todo: list[tuple[int, int]], cores: int) -> Iterator[Block]:
    if cores == 1 or len(todo) <= 1:
        for start, count in todo:
            yield run_block(job, start, count)
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(cores, mp_context=spawn, initializer=_end_with, initargs=(os.getpid(),)) as pool:
        waiting = iter(todo)
        under_way = {pool.submit(run_block, job, *next(waiting)) for _ in range(min(2 * cores, len(todo)))}
        try:
            while under_way:
                ended, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                for one in ended:
                    if (more := next(waiting, None)) is not None:
                        under_way.add(pool.submit(run_block, job, *more))
                    yield one.result()
        finally:
            for one in under_way:
                one.cancel()


def _end_with(parent: int) -> None:
    """End a process of the pool when its sweep was killed."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, name="kashvi-sweep-watch", daemon=True).start()


def _digest(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()[:16]
