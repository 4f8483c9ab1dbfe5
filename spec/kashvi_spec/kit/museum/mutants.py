"""Tests the clauses against the museum: the clauses that reject each exhibit, with reasons.

Each exhibit is planted in its own process, so that a hang or a crash affects no other. A clause whose checks call no
function that the exhibit changes can't reject it, and is not tried.
"""

from __future__ import annotations

import gc
import mmap
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from inspect import getattr_static
from multiprocessing import Pipe, connection
from typing import Any, NamedTuple

from kashvi.queues import REGISTRY
from kashvi.registry import Registry
from kashvi.runtime import SystemRuntime

from ...clauses import Clause, load
from ..driver.conformance import Suite, Verdict
from ..driver.subject import subject_of
from ..example.itself import run_blocks
from ..fork import forked
from . import Exhibit, Patch, Plant

LIMIT_S = 10.0
"""The most real seconds for all checks of one clause; they need a third of a second at most."""


class Point(NamedTuple):
    """One attribute that an exhibit changes."""

    target: Any
    name: str
    condition: Callable[..., bool] | None
    """The change has an effect only if this holds of a call's arguments."""


def judging() -> list[Clause]:
    """The clauses with a check that runs in this process."""
    return [clause for clause in load() if clause.examples or clause.code]


def held(clauses: Sequence[Clause], only: frozenset[str]) -> Iterator[tuple[str, dict[str, list[str]]]]:
    """Check the clauses named in ``only``, on the memory driver.

    Yields the id of each with the reasons found, by clause. A predicate's violation in an example of another clause is
    a reason of its own clause.
    """
    suite = Suite(subject_of("memory"), [Verdict(clause) for clause in clauses])
    told = dict.fromkeys((clause.id for clause in clauses), 0)
    for verdict in suite.verdicts:
        if verdict.clause.id not in only:
            continue
        suite.examples(verdict)
        suite.steps(verdict)
        run_blocks(verdict)
        suite.was_judged(verdict)
        found = {one.clause.id: one.reasons[told[one.clause.id] :] for one in suite.verdicts}
        told |= {one.clause.id: len(one.reasons) for one in suite.verdicts}
        yield verdict.clause.id, {clause: reasons for clause, reasons in found.items() if reasons}


class NotKept(Exception):
    """kashvi without a bug breaks a clause, so all verdicts would be useless."""

    def __init__(self, clause: str, reason: str) -> None:
        super().__init__(f"kashvi as it is breaks {clause}, so nothing can be said of others: {reason}")


@dataclass
class Row:
    """One exhibit, and the clauses that rejected it."""

    exhibit: Exhibit
    rejected: dict[str, list[str]] = field(default_factory=dict)
    """The reasons, by clause."""
    tried: int = 0
    """The clauses whose checks call a changed function."""
    seconds: float = 0.0

    @property
    def survives(self) -> str:
        """The named clauses that accept the bug, or those that reject a legal variant. Empty if none does."""
        if self.exhibit.legal:
            return f"is legal, and rejected by {_listed(self.rejected)}" if self.rejected else ""
        accepting = self.exhibit.clauses - self.rejected.keys()
        return f"survives {_listed(accepting)}" if accepting else ""

    @property
    def wrong(self) -> str:
        """The difference from the exhibit's lists; empty if there is none."""
        rejected, exhibit = self.rejected.keys(), self.exhibit
        if exhibit.legal:
            return self.survives
        said = {
            "is rejected, though unrelated, by": rejected - exhibit.clauses - exhibit.also,
            "is not rejected, though that would follow, by": exhibit.also - rejected,
        }
        others = [f"{what} {_listed(clauses)}" for what, clauses in said.items() if clauses]
        return "; ".join(filter(None, [self.survives, *others]))

    def confirmed_by(self, again: Row) -> Row:
        """The row of two trials: a clause on the lists counts if it rejected in one of them, another one if in both.

        The Python of some clauses runs on real threads, and sees some bugs by chance.
        """
        listed = self.exhibit.clauses | self.exhibit.also
        found = again.rejected | self.rejected
        both = self.rejected.keys() & again.rejected.keys()
        rejected = {clause: reasons for clause, reasons in found.items() if clause in listed or clause in both}
        return Row(self.exhibit, rejected, again.tried, self.seconds + again.seconds)


def _listed(clauses: Iterable[str]) -> str:
    return ", ".join(sorted(clauses))


class Matrix:
    """Some exhibits and all clauses. ``limit_s``: the most seconds for the checks of one clause."""

    def __init__(self, exhibits: Iterable[Exhibit], limit_s: float = LIMIT_S) -> None:
        self.exhibits = list(exhibits)
        self.clauses = judging()
        self._limit_s = limit_s
        self._changed = {exhibit.name: _changed(exhibit) for exhibit in self.exhibits}
        self._reached: dict[str, set[int]] = {}
        """The numbers of the points, by clause."""

    def rows(self, processes: int, exhibits: Sequence[Exhibit] | None = None) -> Iterator[Row]:
        """The rows of all exhibits or of some, in the order in which their trials end.

        A known-bad implementation whose row differs from its lists is tried once more. Raises NotKept if kashvi without
        a bug breaks a clause.
        """
        if not self._reached:
            self._look(processes)
        doubtful: dict[str, Row] = {}
        chosen = self.exhibits if exhibits is None else exhibits
        longest_first = sorted(chosen, key=lambda one: len(self.tried(one)), reverse=True)
        for row in self._tried_at_once(longest_first, processes):
            if row.wrong and not row.exhibit.legal:
                doubtful[row.exhibit.name] = row
            else:
                yield row
        for again in self._tried_at_once([row.exhibit for row in doubtful.values()], processes):
            yield doubtful[again.exhibit.name].confirmed_by(again)

    def named(self, processes: int, exhibits: Sequence[Exhibit]) -> Iterator[Row]:
        """As ``rows``, in a tenth of the time: an exhibit is tried by the clauses that it names.

        If one of these accepts it, it is tried by all: a predicate's clause may reject it in an example of another one.
        """
        doubtful: list[Exhibit] = []
        for row in run_all([Trial(one, self.clauses, one.clauses, self._limit_s) for one in exhibits], processes):
            if row.survives and not row.exhibit.legal:
                doubtful.append(row.exhibit)
            else:
                yield row
        every = frozenset(clause.id for clause in self.clauses)
        yield from run_all([Trial(one, self.clauses, every, self._limit_s) for one in doubtful], processes)

    def _tried_at_once(self, exhibits: Sequence[Exhibit], processes: int) -> Iterator[Row]:
        return run_all([self._trial(one) for one in exhibits], processes)

    def tried(self, exhibit: Exhibit) -> frozenset[str]:
        """The clauses whose checks call a function that the exhibit changes; all if it changes other things."""
        changed = self._changed[exhibit.name]
        if not all(_is_function(point) for point in changed):
            return frozenset(self._reached)
        numbers = {id(point) for point in changed}
        return frozenset(clause for clause, reached in self._reached.items() if reached & numbers)

    def _trial(self, exhibit: Exhibit) -> Trial:
        named = exhibit.clauses | exhibit.also  # also those that met the changed function by chance, and did not now
        return Trial(exhibit, self.clauses, self.tried(exhibit) | named, self._limit_s)

    def _look(self, processes: int) -> None:
        """Run all checks on kashvi without a bug, and record which changed functions each calls."""
        points = [point for changed in self._changed.values() for point in changed]
        trials = []
        for n in range(processes):
            seen = mmap.mmap(-1, len(points) + 1)  # shared with processes that a check forks
            kashvi = Exhibit("kashvi as it is", "", "", frozenset(), frozenset(), _spies(points, seen))
            part = frozenset(clause.id for clause in self.clauses[n::processes])
            trials.append(Trial(kashvi, self.clauses, part, self._limit_s, seen))
        for row in run_all(trials, processes):
            for clause, reasons in row.rejected.items():
                raise NotKept(clause, reasons[0])
        for trial in trials:
            for clause, seen_there in trial.seen.items():
                self._reached[clause] = {id(point) for point, there in zip(points, seen_there, strict=False) if there}


# -- changed attributes, and their calls -----------------------------------------------------------


def _changed(exhibit: Exhibit) -> list[Point]:
    noted: list[Point] = []

    class Noting:
        def setattr(self, target: object, name: str, value: object, /) -> None:
            noted.append(Point(target, name, getattr(value, "condition", None)))

    exhibit.plant(Noting())
    return noted


def _is_function(point: Point) -> bool:
    there = getattr_static(point.target, point.name)
    return isinstance(there, staticmethod | property) or (callable(there) and not isinstance(there, type))


def _spies(points: list[Point], seen: mmap.mmap) -> Plant:
    """Replace functions by spies that record their calls."""
    places: dict[tuple[int, str], list[tuple[int, Point]]] = {}
    for n, point in enumerate(points):
        if _is_function(point):
            places.setdefault((id(point.target), point.name), []).append((n, point))

    def plant(patch: Patch) -> None:
        for watched in places.values():
            target, name, _ = watched[0][1]
            there: Any = getattr_static(target, name)
            wanted = [(n, point.condition) for n, point in watched]
            if isinstance(there, staticmethod):
                patch.setattr(target, name, staticmethod(_spy(there.__func__, wanted, seen)))
            elif isinstance(there, property):
                patch.setattr(target, name, property(_spy(there.fget, wanted, seen), there.fset))
            else:
                patch.setattr(target, name, _spy(there, wanted, seen))

    return plant


def _spy(real: Any, wanted: list[tuple[int, Callable[..., bool] | None]], seen: mmap.mmap) -> Callable[..., Any]:
    def spy(*args: Any, **named: Any) -> Any:
        for n, condition in wanted:
            if not seen[n] and (condition is None or condition(*args, **named)):
                seen[n] = 1
        return real(*args, **named)

    return spy


# -- processes -------------------------------------------------------------------------------------


class Trial:
    """One exhibit checked by the clauses of ``only``: in a process, and in another one if that dies."""

    def __init__(
        self,
        exhibit: Exhibit,
        clauses: Sequence[Clause],
        only: frozenset[str],
        limit_s: float,
        seen: mmap.mmap | None = None,
    ) -> None:
        self.row = Row(exhibit, tried=len(only))
        self.seen: dict[str, bytes] = {}
        self._clauses = clauses
        self._left = [clause.id for clause in clauses if clause.id in only]
        self._limit_s = limit_s
        self._memory = seen
        self._began = self._heard = SystemRuntime().monotonic()
        self._process: Any = None
        self.pipe: Any = None

    def start(self) -> connection.Connection:
        self.pipe, theirs = Pipe(duplex=False)
        self._process = forked(self._try, theirs)
        theirs.close()
        self._began = self._heard = SystemRuntime().monotonic()
        found: connection.Connection = self.pipe
        return found

    @property
    def left_s(self) -> float:
        """The seconds left for the current clause."""
        return self._heard + self._limit_s - SystemRuntime().monotonic()

    def hear(self) -> bool:
        """Read the process's next message; False after the last."""
        try:
            clause, found, seen = self.pipe.recv()
        except EOFError:
            self._process.join()
            if self._left:
                self._note(self._left.pop(0), f"its checks ended the process, with {self._process.exitcode}")
            return False
        self._heard = SystemRuntime().monotonic()
        self._left.remove(clause)
        self.seen[clause] = seen
        for one, reasons in found.items():
            for reason in reasons:
                self._note(one, reason)
        return True

    def cut(self) -> None:
        """End a hanging process, with all that it started."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.join()
        self._note(self._left.pop(0), f"its checks did not end within {self._limit_s:g} s: something waits for ever")

    def close(self) -> bool:
        """True if clauses are left, for another process."""
        self.pipe.close()
        self.row.seconds += SystemRuntime().monotonic() - self._began
        return bool(self._left)

    def _note(self, clause: str, reason: str) -> None:
        self.row.rejected.setdefault(clause, []).append(reason)

    def _try(self, pipe: connection.Connection) -> None:
        os.setpgid(0, 0)
        gc.disable()
        vars(REGISTRY).update(vars(Registry()))  # registrations from before the fork are not part of the trial
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(nowhere, stream)
        with self.row.exhibit.planted():
            for clause, found in held(self._clauses, frozenset(self._left)):
                pipe.send((clause, found, bytes(self._memory) if self._memory else b""))
                if self._memory:
                    self._memory[:] = bytes(len(self._memory))
        os._exit(0)


def run_all(trials: list[Trial], processes: int) -> Iterator[Row]:
    waiting, under = deque(trials), dict[connection.Connection, Trial]()
    while waiting or under:
        while waiting and len(under) < processes:
            trial = waiting.popleft()
            under[trial.start()] = trial
        ready = connection.wait(list(under), timeout=max(min(trial.left_s for trial in under.values()), 0.0))
        over = [pipe for pipe in under if pipe in ready and not under[pipe].hear()]
        for pipe, trial in under.items():
            if pipe not in ready and trial.left_s <= 0:
                trial.cut()
                over.append(pipe)
        for pipe in over:
            trial = under.pop(pipe)
            if trial.close():
                waiting.appendleft(trial)
            else:
                yield trial.row
