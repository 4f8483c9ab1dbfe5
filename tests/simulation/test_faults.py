"""Random faults at every port call, then quiet: the eight predicates hold, and every job ends once."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from typing import Any

import fakeredis
import pytest
import sqlalchemy as sa
from kashvi_sim.runtime import SimRuntime
from kashvi_sim.world import World

from kashvi.errors import DriverUnavailable, ReplyLost
from kashvi.failures.sql import SqlFailures
from kashvi.registry import Registry

FAULTS_S = 30.0


class Run:
    """One seed."""

    def __init__(self, seed: int, client: Any) -> None:
        self.rng = rng = random.Random(seed)
        self.fired: Counter[str] = Counter()
        self.odds = {
            "kill": rng.choice([0, 0.01, 0.03]),
            "down": rng.choice([0, 0.02, 0.2]),
            "lost": rng.choice([0, 0.02, 0.2]),
            "pause": rng.choice([0, 0.01, 0.05]),
        }
        registry = Registry()
        for job_class in self.job_classes():
            registry.register(f"jobs.{job_class.__name__}", job_class)
        if client is not None:
            client.flushall()
        self.engine = SqlFailures("sqlite://").engine
        self.world = World(
            client=client, registry=registry, fault=self.fault, lease_s=5.0, database=self.engine,
            choose=rng.randrange,
        )  # fmt: skip

    def job_classes(self) -> list[type]:
        run = self

        @dataclass
        class Good:
            n: int

            def handle(self) -> None:
                run.world.kernel.sleep(run.rng.choice([0, 0.001, 0.05, 2]))

        @dataclass
        class Bad:
            n: int

            def handle(self) -> None:
                raise ValueError("bad")

        @dataclass
        class Flaky:
            n: int

            def handle(self) -> None:
                if run.rng.random() < 0.5:
                    raise ValueError("flaky")

        return [Good, Good, Good, Bad, Flaky]

    def fault(self, point: str, process: SimRuntime) -> None:
        kernel = self.world.kernel
        if process.name == "p0" or kernel.time - 1_800_000_000 > FAULTS_S:
            return
        if self.strikes("kill", point):
            process.kill()
        elif point.startswith("before") and self.strikes("down", point):
            raise DriverUnavailable("down")
        elif self.strikes("lost", point):
            raise ReplyLost(point)
        elif self.strikes("pause", point):
            kernel.sleep(self.rng.choice([0.1, 1, 11]))

    def strikes(self, kind: str, point: str) -> bool:
        if self.rng.random() < self.odds[kind]:
            self.fired[f"{kind} {point}"] += 1
            return True
        return False

    def play(self) -> None:
        rng, world = self.rng, self.world
        producer = world.process()
        workers = [world.process(skew_s=rng.choice([0, 3600, -3600])) for _ in range(3)]
        handles = [worker.start_workers(rng.choice([1, 2, 4])) for worker in workers]
        classes = self.job_classes()
        names = {c.__name__: world.registry.named(f"jobs.{c.__name__}").job_class for c in classes}

        def produce() -> None:
            for n in range(rng.randrange(5, 40)):
                job = names[rng.choice(classes).__name__](n)
                if rng.random() < 0.3:
                    producer.dispatch_after(job, rng.choice([0.2, 1, 5, 20]))
                else:
                    producer.dispatch(job)
                world.kernel.sleep(rng.choice([0, 0, 0.01, 1]))

        world.runtime_of(producer).spawn(produce, "produce")
        world.run(for_s=FAULTS_S + 5)
        for worker, handle in zip(workers, handles, strict=True):
            if not world.runtime_of(worker).dead:
                world.runtime_of(worker).spawn(handle.request_stop, "stop")
        world.run(for_s=30)
        world.process().start_workers(2)
        world.run(for_s=60)
        self.judge(producer.stats())

    def judge(self, stats: Any) -> None:
        assert self.world.violations(with_store=False) == []  # a killed recorder tells nothing; the rows are compared
        assert (stats.ready, stats.delayed, stats.held, stats.unrecorded) == (0, 0, 0, 0)
        assert {job_id: moves for job_id, moves in self.world.ended.items() if len(moves) > 1} == {}
        with self.engine.connect() as connection:
            rows = Counter(connection.scalars(sa.text("SELECT job_id FROM kashvi_failed_jobs")))
        assert rows == Counter(job_id for job_id, moves in self.world.ended.items() if moves == ["fail"])


@pytest.mark.parametrize("block", range(4))
def test_nothing_is_lost_or_settled_twice_under_faults_in_memory(block: int) -> None:
    """Kills, pauses past the lease, lost requests and replies, over 400 seeds; each kind fires."""
    fired: Counter[str] = Counter()
    for seed in range(block * 100, block * 100 + 100):
        run = Run(seed, None)
        try:
            run.play()
        except AssertionError as error:
            error.add_note(f"seed {seed}")
            raise
        fired += run.fired
    for kind in ("kill before", "kill after", "down before", "lost before", "lost after", "pause"):
        assert any(name.startswith(kind) for name in fired), f"{kind} never fired"


def test_nothing_is_lost_or_settled_twice_under_faults_on_fakeredis() -> None:
    """The same on the Lua scripts."""
    client = fakeredis.FakeRedis()
    for seed in range(30):
        Run(seed, client).play()


def test_nothing_is_lost_or_settled_twice_under_faults_on_a_real_server(valkey: Any) -> None:
    """The same in a real server's Lua, in virtual time."""
    client = valkey.client()
    for seed in range(30, 60):
        Run(seed, client).play()
