"""The simulator finds what is planted: within 200 seeds, shrunk to a few choices, replayed from the token."""

from __future__ import annotations

import pytest
from kashvi_sim.commands.options import workload_named
from kashvi_sim.play import play
from kashvi_sim.sweep import Failing, Job, shrunk
from kashvi_sim.tape import choices_of

from .planted import PLANTED

STORM = workload_named("storm")
JOB = Job(STORM, "memory", "all")
CHOICES_MAX = 8
SHRUNK_SEEDS = 3
"""Failing seeds that are shrunk until one comes to so few choices."""


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_found_shrunk_and_replayed(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the good code keeps every promise on the same choices."""
    PLANTED[bug][1](monkeypatch)
    found: list[Failing] = []
    for seed in range(200):
        played = play(STORM, seed=seed, faults="all")
        if played.violations:
            found.append(shrunk(JOB, seed, played, {}, tries=400))
            if found[-1].choices <= CHOICES_MAX or len(found) == SHRUNK_SEEDS:
                break
    assert found, "not found within 200 seeds"
    best = min(found, key=lambda failing: failing.choices)
    assert best.choices <= CHOICES_MAX
    again = play(STORM, choices=choices_of(best.token), faults="all")
    assert {violation.predicate for violation in again.violations} == set(best.broken)
    monkeypatch.undo()
    assert play(STORM, choices=choices_of(best.token), faults="all").violations == []
