"""Real servers keep the clauses that are about drivers."""

from __future__ import annotations

from kashvi_spec.kit.conformance import conformance
from kashvi_spec.kit.subject import subject_of

from tests.servers.launch import RedisServer


def test_every_clause_about_drivers_holds_on_the_server(redis_server: RedisServer) -> None:
    """Valkey 9, Redis 6.2, 7 and 8; and nothing is left there."""
    redis_server.client().set("somebody's", "own")
    subject = subject_of(redis_server.url)
    broken = {one.clause.id: one.reasons for one in conformance(subject) if one.outcome != "passed"}
    assert broken == {}
    assert list(redis_server.client().scan_iter()) == [b"somebody's"]
