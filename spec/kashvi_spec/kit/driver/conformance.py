"""The suite: tests one driver against every clause that a driver can keep or break.

A clause is checked by its examples, which run through the real worker in virtual time, and by its steps, which call
the driver alone. All predicates judge all examples, and a violation counts against the predicate's own clause.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

from kashvi_sim.runs.undisturbed import undisturbed
from kashvi_sim.world.kernel import EPOCH, Kernel
from kashvi_sim.world.server import GivenServer

from kashvi.runtime import SystemRuntime
from kashvi.worker.attempt import describe

from ...clauses import Clause, ids_by_predicate, load
from ..example.examples import Ran, follow
from ..example.situation import example_of
from .steps import STEPS, Bench, Lacking, Step, cancelling, emptied, follow_ups_of, naming, pausing, ticking
from .subject import DriverUnderTest

PATIENCE_S = 60.0
"""The most real seconds of one example or step."""
Outcome = Literal["passed", "failed", "incapable", "unobserved", "untried"]
"""incapable: the driver lacks an ability that the check needs. unobserved: not observable from outside a worker.
untried: a test that the clause cites was skipped on this machine, and no test failed."""


@dataclass
class Verdict:
    """The result for one clause."""

    clause: Clause
    outcome: Outcome = "passed"
    reasons: list[str] = field(default_factory=list)
    """A failure's observations and expectations; an incapable driver's ``lacking``; or why it is not observable."""
    examples: int = 0
    steps: int = 0
    lacking: list[str] = field(default_factory=list)
    """The missing abilities of the driver that a check needs."""
    judged: int = 0
    """How often the clause's predicate was checked, in all examples that ran."""
    seconds: float = 0.0
    evidence: list[str] = field(default_factory=list)
    """Of a worker's failure: pushes and observations, a line each, with the time."""


def about_drivers(clauses: Iterable[Clause] | None = None) -> list[Clause]:
    """The clauses with an example or a step; all others are about the library or its commands."""
    stepped = {step.clause for step in STEPS}
    return [one for one in (load() if clauses is None else clauses) if one.examples or one.id in stepped]


def selected(clauses: Sequence[Clause], wanted: str) -> list[Clause]:
    """The clauses of areas and ids, as in ``RETRY,DELAY-3``; all if empty. Raises ValueError."""
    names = [name.strip().upper() for name in wanted.split(",") if name.strip()]
    known = {one.id for one in clauses} | {one.area.upper() for one in clauses}
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"no clause or area {unknown[0]!r}; spec:list has them all")
    if not names:
        return list(clauses)
    return [one for one in clauses if one.id in names or one.area.upper() in names]


def conformance(subject: DriverUnderTest, clauses: Sequence[Clause] | None = None) -> Iterator[Verdict]:
    """Check each clause; yields a verdict for each, in order.

    A predicate may find a violation in the example of another clause, which counts against its own clause if that is
    among ``clauses``; so verdicts come after all examples.
    """
    wanted = about_drivers() if clauses is None else clauses
    suite = Suite(subject, [Verdict(clause) for clause in wanted])
    for verdict in suite.verdicts:
        began = SystemRuntime().monotonic()
        suite.examples(verdict)
        suite.steps(verdict)
        verdict.seconds = SystemRuntime().monotonic() - began
    if not suite.stuck:
        with suppress(Exception):
            subject.empty(lambda: EPOCH)  # leave no jobs behind
    for verdict in suite.verdicts:
        suite.was_judged(verdict)
        verdict.outcome = "failed" if verdict.reasons else "passed" if verdict.examples + verdict.steps else "incapable"
        if verdict.outcome == "incapable":
            verdict.reasons = verdict.lacking
        yield verdict


class Suite:
    """One run over one driver."""

    def __init__(self, subject: DriverUnderTest, verdicts: list[Verdict]) -> None:
        self.subject = subject
        self.verdicts = verdicts
        self.stuck = ""
        """The call that never returned; no check can follow it."""
        self._by_predicate = {v.clause.predicate: v for v in verdicts if v.clause.predicate}
        self._ids = ids_by_predicate()

    def examples(self, verdict: Verdict) -> None:
        """Run the clause's examples; a violation is a reason in the verdict of its predicate's clause."""
        clause = verdict.clause
        if clause.examples and not self.subject.heeds_clock:
            verdict.lacking.append("it heeds no clock, so examples can't run in virtual time")
            return
        for n, text in enumerate(clause.examples, 1):
            verdict.examples += 1
            where = f"example {n}" if len(clause.examples) > 1 else "the example"
            ran = self._attempt(lambda text=text: self._follow(text), where, verdict)  # type: ignore[misc]
            if ran is not None:
                self._told(ran, where, verdict)

    def _follow(self, text: str) -> Ran:
        example = example_of(text)

        def serve(kernel: Kernel) -> GivenServer:
            server = self._serve(kernel)
            if any(job.sends or job.then for job in example.jobs):
                follow_ups_of(server.driver)
            if example.names_queues:
                naming(server.driver)
            if example.all_cron:
                ticking(server.driver)
            if any(one.what == "queue paused" for one in example.happens):
                pausing(server.driver)
            if any(one.what == "cancel" for one in example.happens):
                cancelling(server.driver)
            return server

        return follow(example, serve)

    def was_judged(self, verdict: Verdict) -> None:
        """A clause that was never checked counts as broken."""
        if verdict.clause.predicate and verdict.examples and not verdict.judged:
            verdict.reasons.append("no example put it to the test: nothing came to be judged")

    def _told(self, ran: Ran, where: str, verdict: Verdict) -> None:
        verdict.reasons += [f"{where}: {mistake}" for mistake in ran.mistakes]
        for violation in ran.violations:
            breaker = self._by_predicate.get(violation.predicate, verdict)
            seen = "" if breaker is verdict else f" of {verdict.clause.id}"
            broken = (
                ""
                if violation.predicate == breaker.clause.predicate
                else f"{self._ids[violation.predicate]} is broken, "
            )
            breaker.reasons.append(f"{where}{seen}: {broken}job {violation.job_id} {violation.why}")
        for predicate, times in ran.judged.items():
            if judged := self._by_predicate.get(predicate):
                judged.judged += times

    def _serve(self, kernel: Kernel) -> GivenServer:
        clocks: list[GivenServer] = []

        def now() -> float:
            return kernel.time + sum(one.skew_s for one in clocks)

        clocks.append(GivenServer(kernel, emptied(self.subject, now), self.subject.again))
        return clocks[0]

    def steps(self, verdict: Verdict) -> None:
        """Run the clause's steps."""
        for step in STEPS:
            if step.clause != verdict.clause.id:
                continue
            if lacking := self._lacks(step):
                verdict.lacking.append(lacking)
                continue
            verdict.steps += 1
            self._attempt(lambda step=step: step.run(Bench(self.subject)), step.says, verdict)  # type: ignore[misc]

    def _lacks(self, step: Step) -> str:
        if step.needs_again and self.subject.again is None:
            return "it says that no other process can open its queue"
        needs_time = step.needs_clock and not self.subject.heeds_clock
        return "it heeds no clock, and this would take an hour" if needs_time else ""

    def _attempt(self, check: Callable[[], Ran | None], what: str, verdict: Verdict) -> Ran | None:
        """Run a check in a thread of its own, since a faulty driver may never return."""
        if self.stuck:
            verdict.reasons.append(f"not tried, after {self.stuck}")
            return None
        came: list[tuple[Ran | None, BaseException | None]] = []

        def run_it() -> None:
            try:
                came.append((check(), None))
            except BaseException as error:  # a driver may raise anything
                came.append((None, error))

        with undisturbed():
            SystemRuntime().spawn(run_it, "check").join(PATIENCE_S)
        if not came:
            self.stuck = f"{verdict.clause.id}, from which the driver never came back"
            verdict.reasons.append(f"{what}: the driver did not come back within {PATIENCE_S:g} s")
            return None
        ran, error = came[0]
        if isinstance(error, Lacking):
            verdict.lacking = [str(error)]
            verdict.examples = verdict.steps = 0
        elif isinstance(error, AssertionError):
            verdict.reasons.append(f"{what} But {error}" if what.endswith(".") else f"{what}: {error}")
        elif error is not None:
            verdict.reasons.append(f"{what}: the driver raised {describe(error)}")
        return ran
