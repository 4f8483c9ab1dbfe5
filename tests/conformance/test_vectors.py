"""The exchange vectors: the script and the memory driver answer alike, and leave the same keys."""

from __future__ import annotations

import fakeredis
import pytest
from kashvi_spec.kit import vectors
from kashvi_spec.kit.vectors import InMemory, OnRedis, Vector, differences

from tests.servers.launch import RedisServer

VECTORS = vectors.load()
every = pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)


@every
def test_the_script_keeps_the_vector(vector: Vector) -> None:
    """On fakeredis."""
    client = fakeredis.FakeRedis()
    assert list(differences(vector, lambda now: OnRedis(client, now))) == []


def test_the_script_keeps_every_vector_on_a_real_server(redis_server: RedisServer) -> None:
    """What Lua and a sorted set are there."""
    client = redis_server.client()
    for vector in VECTORS:
        assert list(differences(vector, lambda now: OnRedis(client, now))) == []


@pytest.mark.parametrize("vector", [one for one in VECTORS if not one.has_wrong_type], ids=lambda vector: vector.name)
def test_the_memory_driver_keeps_the_vector(vector: Vector) -> None:
    """Save what only a server can be: a key of the wrong type."""
    assert list(differences(vector, InMemory)) == []


def test_the_file_is_what_the_command_would_write_and_names_are_its_own() -> None:
    """So that a difference after the command is a difference of behaviour."""
    text = vectors.path().read_text()
    about = vectors.json.loads(text)["about"]
    assert vectors.written(about, VECTORS) == text
    assert len({vector.name for vector in VECTORS}) == len(VECTORS) >= 50


def test_a_difference_is_told_with_the_key_and_both_values() -> None:
    """Of a vector that is not so."""
    [done] = [vector for vector in VECTORS if vector.name == "done"]
    told = list(differences(done.mended({}, {"jobs": ["x"]}), InMemory))
    assert told[0].startswith("done: the answer is {'server_at': 1000.625, ")
    assert "done: afterwards held:w is ['b'], not nothing" in told
    assert "done: afterwards jobs is nothing, not ['x']" in told
