"""Transactional dispatch in simulated worlds: commits and rollbacks of an app, relays among deaths and lost replies, a
database that goes away and a server that loses its last moments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from kashvi_sim.runs.play import play
from kashvi_sim.world.outbox import OutboxLine, Transaction
from kashvi_spec.kit.museum import MUSEUM

from kashvi.outbox.relay import Relay

from .test_workloads import workload_named

FAULTS = "kill,pause,reply_lost,applied_late,restart,failover,database_down,insert_reply_lost,server_back"
BUGS = {
    "two relays at a time": "all",
    "pushes without numbers": "applied_late,latency,database_slow",
    "a relay that is let in trusts what it hears": "all",
    "no row is held": "restart,failover",
    "a row is held, and the server is not asked again": "restart,failover",
    "ids are kept for ever": "all",
}
"""Each with the faults that show it."""


def broken(faults: str, seeds: range) -> set[str]:
    """The reasons of all violations, up to the first run that has one."""
    for seed in seeds:
        played = play(workload_named("outbox"), seed=seed, faults=faults)
        if played.violations:
            return {f"{one.predicate}: {one.why}" for one in played.violations}
    return set()


def test_what_is_committed_is_queued_once_and_what_is_rolled_back_never() -> None:
    """Whatever strikes."""
    assert broken("none", range(8)) == set()
    assert broken(FAULTS, range(25)) == set()


def test_a_run_has_both_fates_and_several_relays() -> None:
    """Else it would prove nothing."""
    played = play(workload_named("outbox"), seed=3, faults="none")
    outbox = played.world.outbox
    assert outbox is not None
    assert {one.committed for one in outbox.transactions} == {True, False}
    assert any(len(one.entries) > 1 for one in outbox.transactions)
    assert played.figures.succeeded > 0


@pytest.mark.parametrize("bug", BUGS)
def test_a_known_bug_of_relays_is_seen(bug: str) -> None:
    """By what the server got, or its answer."""
    with MUSEUM[bug].planted():
        found = broken(BUGS[bug], range(60))
    assert any(why.startswith(("committed iff queued", "answers as the port says")) for why in found)


def reverses(monkeypatch: pytest.MonkeyPatch) -> None:
    real = OutboxLine.waiting
    monkeypatch.setattr(OutboxLine, "waiting", lambda self, *args: real(self, *args)[::-1])


def hurries(monkeypatch: pytest.MonkeyPatch) -> None:
    real = OutboxLine.waiting
    monkeypatch.setattr(OutboxLine, "waiting", lambda self, *args: [r._replace(in_s=0.0) for r in real(self, *args)])


def commits_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def roll_back(self: Transaction) -> None:
        self.commit()
        self.committed = False

    monkeypatch.setattr(Transaction, "roll_back", roll_back)


def drops(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(self: Any, found: Any) -> Any:
        self._rows.delete([row.job_id for row in found[:1]])
        return found[1:]

    real = Relay._push
    monkeypatch.setattr(Relay, "_push", lambda self, push: real(self, push._replace(rows=read(self, push.rows))))


@pytest.mark.parametrize(
    ("plant", "why"),
    [
        (reverses, "queued before an earlier one of its transaction"),
        (hurries, "early"),
        (commits_all, "rolled back, and queued"),
        (drops, "committed, and queued 0 times"),
    ],
)
def test_a_run_with_a_bug_of_its_own_kind_is_judged(
    monkeypatch: pytest.MonkeyPatch, plant: Callable[[pytest.MonkeyPatch], None], why: str
) -> None:
    """Each promise by itself, without a fault."""
    plant(monkeypatch)
    assert any(why in one for one in broken("none", range(6)))


def test_the_same_seed_gives_the_same_trace_on_fakeredis() -> None:
    """The relay's script on the server, and the driver in memory."""
    import fakeredis

    workload = workload_named("outbox")
    for seed in range(2):
        in_memory = play(workload, seed=seed, faults=FAULTS)
        on_redis = play(workload, seed=seed, faults=FAULTS, client=fakeredis.FakeRedis())
        assert in_memory.trace_sha256 == on_redis.trace_sha256
        assert on_redis.violations == []
