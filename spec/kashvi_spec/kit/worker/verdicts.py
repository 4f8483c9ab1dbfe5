"""Makes a verdict for each clause of a story."""

from __future__ import annotations

from collections.abc import Sequence

from ...clauses import Clause, load
from ..driver.conformance import Verdict
from . import on_attempts, on_deaths, on_order, on_records, on_stopping
from .judging import JUDGES, Finding, NotSeen, Remark
from .story import Story
from .unobserved import OF_AREAS, OF_CLAUSES, UNTOLD

__all__ = ["JUDGES", "verdicts_on"]

_ALL = (on_order, on_attempts, on_records, on_deaths, on_stopping)
"""Imported for their judges, which are in JUDGES now."""


def verdicts_on(story: Story, clauses: Sequence[Clause] | None = None) -> list[Verdict]:
    """The verdict for each clause, in order; ``unobserved`` if the story does not show whether it holds."""
    return [_verdict(story, clause) for clause in (load() if clauses is None else clauses)]


def _verdict(story: Story, clause: Clause) -> Verdict:
    judge = JUDGES.get(clause.id)
    if judge is None:
        why = OF_CLAUSES.get(clause.id) or OF_AREAS.get(clause.area, UNTOLD)
        return Verdict(clause, "unobserved", [why])
    seen: list[Finding | Remark] = []
    try:
        for one in judge(story):
            seen.append(one)  # findings count even if the rest was not observed
    except NotSeen as why:
        if not seen:
            return Verdict(clause, "unobserved", [str(why)])
    findings = [one for one in seen if isinstance(one, Finding)]
    remarks = [one.text for one in seen if isinstance(one, Remark)]
    jobs = [job for finding in findings for job in finding.jobs]
    return Verdict(
        clause,
        "failed" if findings else "passed",
        [finding.why for finding in findings],
        evidence=remarks + story.evidence(dict.fromkeys(jobs)),
    )
