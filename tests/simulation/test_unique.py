"""Unique jobs in simulated worlds: kills, stops, restarts, retries, snoozes and follow-ups, judged at each step."""

from __future__ import annotations

import pytest
from kashvi_sim.runs.play import play
from kashvi_spec.kit.museum import MUSEUM

from .test_workloads import workload_named

BUGS = ("a retry gives the key back", "a key stays when its job has failed")


def test_each_key_is_there_exactly_while_its_job_is() -> None:
    """With the faults of a crash, and without."""
    for faults in ("none", "kill,sigterm,restart,reply_lost,pause"):
        for seed in range(15):
            played = play(workload_named("unique"), seed=seed, faults=faults)
            assert played.violations == [], (faults, seed)


@pytest.mark.parametrize("bug", BUGS)
def test_a_key_without_its_job_is_seen_at_once(bug: str) -> None:
    with MUSEUM[bug].planted():
        runs = (play(workload_named("unique"), seed=seed, faults="none") for seed in range(15))
        found = {one.predicate for played in runs for one in played.violations}
    assert "one job a key" in found
