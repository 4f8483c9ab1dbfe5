"""Same seed, same bytes: twice, under another hash seed, in memory, on fakeredis and on a real server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from typing import Any

import fakeredis
import pytest
from kashvi_sim.commands.options import workload_named
from kashvi_sim.runs.play import play

from kashvi.drivers.memory import MemoryDriver
from kashvi.drivers.redis import RedisDriver
from tests.servers.launch import RedisServer

SEEDS = range(100)
BLOCKS = [SEEDS[start : start + 25] for start in range(0, len(SEEDS), 25)]
STORM = workload_named("storm")


def hashes(seeds: range, **place: Any) -> dict[int, str]:
    return {seed: play(STORM, seed=seed, faults="all", **place).trace_sha256 for seed in seeds}


@cache
def in_memory(block: range) -> dict[int, str]:
    return hashes(block)


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_the_same_seed_gives_the_same_trace_twice_and_under_another_hash_seed(block: range) -> None:
    """In this process, and in one that orders sets and dictionaries of strings otherwise."""
    first, again = in_memory(block), hashes(block)
    code = (
        "import json, sys; from tests.simulation.test_determinism import hashes; "
        f"json.dump(hashes(range({block.start}, {block.stop})), sys.stdout)"
    )
    other = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": "4711"}, capture_output=True, check=True
    )
    elsewhere = {int(seed): digest for seed, digest in json.loads(other.stdout).items()}
    assert again == elsewhere == first


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_memory_and_fakeredis_give_the_same_trace(block: range) -> None:
    """The memory driver does what the scripts do, step for step, faults and all."""
    assert hashes(block, client=fakeredis.FakeRedis()) == in_memory(block)


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_memory_and_a_real_server_give_the_same_trace(block: range, valkey: RedisServer) -> None:
    """A real server in virtual time."""
    assert hashes(block, client=valkey.client()) == in_memory(block)


def test_different_seeds_give_different_traces() -> None:
    """Or the other tests here could not fail."""
    assert len(set(in_memory(BLOCKS[0]).values())) == len(BLOCKS[0])


def test_a_token_replays_its_seed_to_the_byte_of_every_event() -> None:
    """Choices are all there is to a run."""
    for seed in range(20):
        played = play(STORM, seed=seed, faults="all")
        again = play(STORM, choices=played.choices, faults="all")
        assert again.trace_sha256 == played.trace_sha256


def test_equal_envelopes_have_one_due_time_on_every_driver() -> None:
    """In Redis they are one member of a sorted set: a job that was pushed and retried twice waits once."""
    for driver in (MemoryDriver(), RedisDriver(fakeredis.FakeRedis())):
        for delay_s in (5.0, 9.0):
            driver.push([b'{"id":"a","type":"jobs.A"}'], delay_s)
        due = driver.next_due()
        driver.push([b'{"id":"b","type":"jobs.A"}'], 8.0)
        assert driver.stats().delayed == 2
        assert driver.next_due() != due
