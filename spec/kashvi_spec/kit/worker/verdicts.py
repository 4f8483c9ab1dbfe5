"""From a story to a verdict for each clause of the specification."""

from __future__ import annotations

from collections.abc import Sequence

from ...clauses import Clause, load
from ..conformance import Verdict
from . import on_attempts, on_deaths, on_order, on_records, on_stopping
from .judging import JUDGES, NotSeen
from .story import Story
from .unobserved import OF_AREAS, OF_CLAUSES

__all__ = ["JUDGES", "verdicts_on"]

_ALL = (on_order, on_attempts, on_records, on_deaths, on_stopping)
"""They have entered their judges in JUDGES."""


def verdicts_on(story: Story, clauses: Sequence[Clause] | None = None) -> list[Verdict]:
    """One for each clause, in order; ``unobserved`` where the story does not show whether it holds."""
    return [_verdict(story, clause) for clause in (load() if clauses is None else clauses)]


def _verdict(story: Story, clause: Clause) -> Verdict:
    judge = JUDGES.get(clause.id)
    if judge is None:
        why = OF_CLAUSES.get(clause.id) or OF_AREAS[clause.area]
        return Verdict(clause, "unobserved", [why])
    try:
        findings = list(judge(story))
    except NotSeen as why:
        return Verdict(clause, "unobserved", [str(why)])
    jobs = [job for finding in findings for job in finding.jobs]
    return Verdict(
        clause,
        "failed" if findings else "passed",
        [finding.why for finding in findings],
        evidence=story.evidence(dict.fromkeys(jobs)),
    )
