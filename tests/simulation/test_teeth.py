"""The simulator finds what is planted: within 200 seeds, shrunk to a few choices, replayed from the token."""

from __future__ import annotations

import pytest
from kashvi_sim.commands.options import workload_named
from kashvi_sim.runs.play import Played, play
from kashvi_sim.runs.sweep import Failing, Job, shrunk
from kashvi_sim.world.tape import choices_of

from .planted import PLANTED

STORM = workload_named("storm")
JOB = Job(STORM, "memory", "all")
CHOICES_MAX = 8
LONGER_STORIES = {"removed before it is recorded": 16, "jobs that have not started are dropped at the stop": 10}
"""An exhausted job whose row fails at the right moment, and a stop while jobs are claimed ahead, take more."""
SHRUNK_SEEDS = 4
"""Failing seeds, the simplest of which are shrunk until one comes to so few choices."""


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_found_shrunk_and_replayed(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the good code keeps every promise on the same choices."""
    PLANTED[bug][1](monkeypatch)
    most = LONGER_STORIES.get(bug, CHOICES_MAX)
    failing: list[tuple[int, Played]] = []
    for seed in range(200):
        played = play(STORM, seed=seed, faults="all")
        if played.violations:
            failing.append((seed, played))
            if len(failing) == SHRUNK_SEEDS:
                break
    assert failing, "not found within 200 seeds"
    found: list[Failing] = []
    for seed, played in sorted(failing, key=lambda one: _story(one[1])):
        found.append(shrunk(JOB, seed, played, {}, tries=300, enough=most))
        if found[-1].choices <= most:
            break
    best = min(found, key=lambda one: one.choices)
    assert best.choices <= most
    again = play(STORM, choices=choices_of(best.token), faults="all")
    assert {violation.predicate for violation in again.violations} == set(best.broken)
    monkeypatch.undo()
    assert play(STORM, choices=choices_of(best.token), faults="all").violations == []


def _story(played: Played) -> tuple[int, int]:
    """How simple it is: how many promises are broken, by how many choices."""
    return len({violation.predicate for violation in played.violations}), len(played.choices)
