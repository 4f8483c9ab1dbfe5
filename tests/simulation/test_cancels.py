"""Cancelled jobs in simulated worlds: among kills, lost replies, failovers, chains and keys of unique jobs."""

from __future__ import annotations

import pytest
from kashvi_sim.runs.play import play
from kashvi_sim.runs.sweep import Job, run_block
from kashvi_spec.kit.museum import MUSEUM

from .test_workloads import workload_named


@pytest.mark.parametrize(
    ("driver", "faults", "seeds"), [("memory", "none", 30), ("memory", "all", 60), ("fakeredis", "all", 8)]
)
def test_no_promise_is_broken_when_jobs_are_cancelled(driver: str, faults: str, seeds: int) -> None:
    """While they wait, run, are retried, snooze, or have ended."""
    found = run_block(Job(workload_named("cancels"), driver, faults), 0, seeds)
    assert found.failing == []
    assert found.judged["cancelled stays"] > 5 * seeds


@pytest.mark.parametrize("bug", ["a cancel is only a search", "only a retry looks at the marks"])
def test_a_cancelled_job_that_goes_on_is_seen(bug: str) -> None:
    with MUSEUM[bug].planted():
        runs = (play(workload_named("cancels"), seed=seed, faults="none") for seed in range(40))
        found = {one.predicate for played in runs for one in played.violations}
    assert "cancelled stays" in found
