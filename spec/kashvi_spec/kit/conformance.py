"""The suite: every clause that a driver can keep or break, held against one driver.

A clause is put to the test by its examples, run through the real worker in virtual time, and by its steps, which call
the driver alone. All predicates watch all examples, and what one of them finds counts against its own clause.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

from kashvi_sim.kernel import EPOCH, Kernel
from kashvi_sim.server import GivenServer

from kashvi.runtime import SystemRuntime

from ..clauses import Clause, load
from .examples import Ran, run
from .situation import example_of
from .steps import STEPS, Bench, Step
from .subject import DriverUnderTest

PATIENCE_S = 5.0
"""In real time, for what must not wait."""
Outcome = Literal["passed", "failed", "incapable"]
"""incapable: the driver says that it can't do what the check needs."""


@dataclass
class Verdict:
    """What came of one clause."""

    clause: Clause
    outcome: Outcome = "passed"
    reasons: list[str] = field(default_factory=list)
    """Of a failure: what was seen, and what was expected. Of an incapable driver: what it lacks."""
    examples: int = 0
    steps: int = 0
    judged: int = 0
    """How often the clause's predicate tested something, in all examples that ran."""
    seconds: float = 0.0


def about_drivers(clauses: Iterable[Clause] | None = None) -> list[Clause]:
    """Those with an example or a step; the others are about the library or its commands, whatever the driver."""
    stepped = {step.clause for step in STEPS}
    return [one for one in (load() if clauses is None else clauses) if one.examples or one.id in stepped]


def selected(clauses: Sequence[Clause], wanted: str) -> list[Clause]:
    """``RETRY,DELAY-3``: areas and ids; nothing: all. Raises ValueError."""
    names = [name.strip().upper() for name in wanted.split(",") if name.strip()]
    known = {one.id for one in clauses} | {one.area.upper() for one in clauses}
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"no clause or area {unknown[0]!r}; spec:list has them all")
    if not names:
        return list(clauses)
    return [one for one in clauses if one.id in names or one.area.upper() in names]


def conformance(subject: DriverUnderTest, clauses: Sequence[Clause] | None = None) -> Iterator[Verdict]:
    """Put each clause to the test; yields a verdict for each, in order.

    A predicate's findings in the example of another clause are told with its own clause, so verdicts come at the end
    of all examples.
    """
    wanted = about_drivers() if clauses is None else clauses
    if blocks := _blocks(subject):
        yield from (Verdict(clause, "failed", [blocks]) for clause in wanted)
        return
    verdicts = {clause.id: Verdict(clause) for clause in wanted}
    by_predicate = {v.clause.predicate: v for v in verdicts.values() if v.clause.predicate}
    for verdict in verdicts.values():
        began = SystemRuntime().monotonic()
        _examples(subject, verdict, by_predicate)
        _steps(subject, verdict)
        verdict.seconds = SystemRuntime().monotonic() - began
    with suppress(Exception):
        subject.empty(lambda: EPOCH)  # so that nothing is left behind
    for verdict in verdicts.values():
        if verdict.reasons and verdict.outcome == "passed":
            verdict.outcome = "failed"
        if verdict.outcome == "passed" and verdict.clause.predicate and not verdict.judged:
            verdict.outcome, verdict.reasons = "failed", ["no example put it to the test: nothing came to be judged"]
        yield verdict


def _blocks(subject: DriverUnderTest) -> str:
    """A driver that waits where it must only look would hold up the suite without end."""

    def look() -> None:
        with suppress(Exception):  # the steps will say which
            Bench(subject).driver.wait("w", 0.0)

    looking = SystemRuntime().spawn(look, "looking")
    looking.join(PATIENCE_S)
    return f"wait(worker, 0) took over {PATIENCE_S:g} s: with 0 it looks once" if looking.is_alive() else ""


def _examples(subject: DriverUnderTest, verdict: Verdict, by_predicate: dict[str, Verdict]) -> None:
    clause = verdict.clause
    if clause.examples and not subject.heeds_clock:
        verdict.outcome, verdict.reasons = "incapable", ["it heeds no clock, so examples can't run in virtual time"]
        return
    for n, text in enumerate(clause.examples, 1):
        verdict.examples += 1
        where = f"example {n}" if len(clause.examples) > 1 else "the example"
        ran = _attempt(lambda text=text: run(example_of(text), _serving(subject)), where, verdict)  # type: ignore[misc]
        if ran is None:
            continue
        verdict.reasons += [f"{where}: {mistake}" for mistake in ran.mistakes]
        for violation in ran.violations:
            if breaker := by_predicate.get(violation.predicate):
                seen = "" if breaker is verdict else f" of {clause.id}"
                breaker.reasons.append(f"{where}{seen}: job {violation.job_id} {violation.why}")
        for predicate, times in ran.judged.items():
            if judged := by_predicate.get(predicate):
                judged.judged += times


def _serving(subject: DriverUnderTest) -> Callable[[Kernel], GivenServer]:
    return lambda kernel: GivenServer(kernel, subject.empty(lambda: kernel.time), subject.again)


def _steps(subject: DriverUnderTest, verdict: Verdict) -> None:
    for step in STEPS:
        if step.clause != verdict.clause.id:
            continue
        if lacking := _lacks(subject, step):
            if verdict.outcome == "passed" and not verdict.clause.examples:
                verdict.outcome, verdict.reasons = "incapable", [lacking]
            continue
        verdict.steps += 1
        _attempt(lambda step=step: step.run(Bench(subject)), step.says, verdict)  # type: ignore[misc]
        if verdict.outcome == "incapable":
            verdict.outcome, verdict.reasons = "passed", verdict.reasons[1:]


def _lacks(subject: DriverUnderTest, step: Step) -> str:
    if step.needs_again and subject.again is None:
        return "it says that no other process can open its queue"
    return "it heeds no clock, and this would take an hour" if step.needs_clock and not subject.heeds_clock else ""


def _attempt(check: Callable[[], Ran | None], what: str, verdict: Verdict) -> Ran | None:
    try:
        return check()
    except AssertionError as error:
        verdict.reasons.append(f"{what} But {error}" if what.endswith(".") else f"{what}: {error}")
    except Exception as error:
        verdict.reasons.append(f"{what}: the driver raised {type(error).__name__}: {error}")
    return None
