"""Violations for people: the clause, the job, and the job's timeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click
from kashvi_spec.clauses import ids_by_predicate
from kashvi_spec.predicates.safety import Violation

from kashvi.text import visible

STORIES, LINES = 5, 30
"""The most jobs shown, and the most lines of each."""


def show_broken(
    violations: Sequence[Violation], names: Mapping[str, str], stories: Mapping[str, Sequence[str]]
) -> None:
    """Print violations. ``names``, ``stories``: of jobs by id, as in the timeline."""
    ids = ids_by_predicate()
    told: set[str] = set()
    for one in violations:
        clause = f" ({ids[one.predicate]})" if one.predicate in ids else ""
        job = f"{names[one.job_id]}, {one.job_id}," if one.job_id in names else one.job_id
        click.secho("\n" + visible(f"BROKEN  {one.predicate}{clause}: {job} {one.why}"), fg="red", bold=True)
        story = stories.get(one.job_id, ())
        if one.job_id not in told and len(told) < STORIES:
            told.add(one.job_id)
            for line in story[:LINES]:
                click.echo(line)
            if len(story) > LINES:
                click.echo(f"{'…':>12}  {len(story) - LINES:,} lines more")
