"""Seeds with every fault: no promise is broken; each fault strikes, each situation comes up."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from kashvi_sim.commands.options import workload_named
from kashvi_sim.runs.play import play
from kashvi_sim.runs.sweep import BLOCK, Job, Swept, run_block, sweep
from kashvi_sim.world.faults import RULES

from kashvi.errors import InvalidSetting
from kashvi.events import JobFailed, JobSucceeded
from tests.servers.launch import RedisServer

STORM, NEIGHBOURS, POLICIES = map(workload_named, ("storm", "neighbours", "policies"))


def swept(job: Job, first: int, seeds: int, **options: Any) -> Swept:
    found = Swept()
    for block in sweep(job, first, seeds, cores=1, **options):
        found.add(block)
    return found


@pytest.mark.parametrize("first", [0, 500] if os.environ.get("CI") else [0])
def test_no_promise_is_broken_in_memory(first: int) -> None:
    """500 seeds each, all faults; enough that every fault strikes and every situation is seen."""
    found = swept(Job(STORM, "memory", "all"), first, 500)
    assert found.failing == []
    assert found.missing("all") == []


def test_no_promise_is_broken_by_jobs_with_policies() -> None:
    """And the clauses of policies are judged."""
    found = swept(Job(POLICIES, "memory", "all"), 0, 60)
    assert found.failing == []
    for name in ("own backoff kept", "given up at once", "snooze uncounted"):
        assert found.judged[name] > 20, name


def test_no_promise_is_broken_by_pauses() -> None:
    """In memory, and by the Lua scripts."""
    for driver, seeds in (("memory", 60), ("fakeredis", 4)):
        found = swept(Job(workload_named("pauses"), driver, "all"), 0, seeds)
        assert found.failing == []
        assert found.judged["pauses kept"] >= seeds


def test_no_promise_is_broken_by_jobs_with_follow_ups() -> None:
    """In memory, and by the Lua scripts."""
    for driver, seeds in (("memory", 25), ("fakeredis", 3)):
        found = swept(Job(workload_named("follow_ups"), driver, "all"), 0, seeds)
        assert found.failing == []
        assert found.judged["follow-ups all or none"] > 15


def test_no_promise_is_broken_by_chains() -> None:
    """On a named queue; in memory, and by the Lua scripts."""
    for driver, seeds in (("memory", 25), ("fakeredis", 3)):
        found = swept(Job(workload_named("chains"), driver, "all"), 0, seeds)
        assert found.failing == []
        assert found.judged["chains in order"] > 15


def test_no_promise_is_broken_by_jobs_with_time_limits() -> None:
    """In processes that are replaced, and in those of an app; in memory, and by the Lua scripts."""
    replaced = workload_named("limits")
    crew = msgspec.structs.replace(replaced.workers, patience_s=None)
    of_an_app = msgspec.structs.replace(replaced, workers=crew)
    for workload, driver, seeds in ((replaced, "memory", 60), (of_an_app, "memory", 30), (replaced, "fakeredis", 5)):
        found = swept(Job(workload, driver, "all"), 0, seeds)
        assert found.failing == []
        assert found.judged["time limits kept"] > 20


def test_no_promise_is_broken_on_fakeredis() -> None:
    """The Lua scripts."""
    assert swept(Job(STORM, "fakeredis", "all"), 1000, 40).failing == []


def test_no_promise_is_broken_on_a_real_server(valkey: RedisServer) -> None:
    """Under a prefix of its own, which is empty afterwards."""
    client = valkey.client()
    client.set("somebody:else", "stays")
    assert swept(Job(STORM, "redis", "all", valkey.url), 1100, 40).failing == []
    assert client.keys() == [b"somebody:else"]


def test_no_good_neighbour_of_a_job_that_kills_its_process_fails() -> None:
    """Jobs that outlive the lease on three threads beside some that kill their process; with and without faults."""
    for seed in range(20):
        played = play(NEIGHBOURS, seed=seed, faults="none")
        ended = {
            kind: {e.type for e in played.world.events if isinstance(e, kind)} for kind in (JobFailed, JobSucceeded)
        }
        assert played.violations == []
        assert ended[JobFailed] <= {"jobs.Poison"}
        assert "jobs.Poison" not in ended[JobSucceeded]
    assert swept(Job(NEIGHBOURS, "memory", "all"), 0, 40).failing == []


def test_without_faults_nothing_runs_twice() -> None:
    """At least once is exactly once while nothing is wrong."""
    found = swept(Job(STORM, "memory", "none"), 0, 50)
    assert (found.failing, found.struck, found.seen["duplicate"], found.seen["refused"]) == ([], {}, 0, 0)


def test_a_sweep_that_met_too_little_says_what_it_missed() -> None:
    """Green would be a lie."""
    found = swept(Job(STORM, "memory", "all"), 0, 1)
    missing = found.missing("all")
    assert any(line.startswith("fault ") for line in missing)
    assert any(line.startswith("never seen: ") for line in missing)


def test_a_sweep_goes_on_where_it_was_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks that were done are read, not run."""
    job, state = Job(STORM, "memory", "none"), tmp_path / "sweep.jsonl"
    blocks = sweep(job, 0, 3 * BLOCK, cores=1, state=state)
    next(blocks)
    blocks.close()
    with state.open("ab") as file:
        file.write(b'["torn in the mid')  # killed while it wrote
    ran: list[int] = []

    def counted(job: Job, first: int, seeds: int) -> Any:
        ran.append(first)
        return run_block(job, first, seeds)

    monkeypatch.setattr("kashvi_sim.runs.sweep.run_block", counted)
    assert swept(job, 0, 3 * BLOCK, state=state).seeds == 3 * BLOCK
    assert ran == [BLOCK, 2 * BLOCK]
    assert swept(job, 0, 3 * BLOCK, state=state).seeds == 3 * BLOCK
    assert ran == [BLOCK, 2 * BLOCK]


@pytest.mark.parametrize("content", [b"my only copy", b"my only copy\n", b'{"a": 1}\n'])
def test_a_state_file_of_another_kind_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    """A mistyped name must not cost the user a file."""
    state = tmp_path / "thesis.txt"
    state.write_bytes(content)
    with pytest.raises(InvalidSetting, match="no sweep wrote this file"):
        swept(Job(STORM, "memory", "none"), 0, BLOCK, state=state)
    assert state.read_bytes() == content


def test_every_fault_has_a_name_of_its_own_and_says_what_it_does() -> None:
    """At least fifteen kinds."""
    assert len({rule.name for rule in RULES}) == len(RULES) >= 15
    assert all(rule.about and rule.moments and rule.calls for rule in RULES)
