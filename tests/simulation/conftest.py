"""Worlds in virtual time, on every driver: the same tests for memory, fakeredis and a real server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fakeredis
import pytest
from kashvi_sim.world.world import World

from kashvi.registry import Registry
from tests.servers.launch import RedisServer

NewWorld = Callable[..., World]


@pytest.fixture(params=["memory", "fakeredis", "valkey-9"])
def client(request: pytest.FixtureRequest, redis_servers: Callable[[str], RedisServer]) -> Any:
    """None for the memory driver; else an empty server."""
    if request.param == "memory":
        return None
    found = fakeredis.FakeRedis() if request.param == "fakeredis" else redis_servers(request.param).client()
    found.flushall()
    return found


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def new_world(client: Any, registry: Registry) -> NewWorld:
    """A world on this driver; settings are World's."""

    def new(**settings: Any) -> World:
        if client is not None:
            client.flushall()
        return World(client=client, registry=registry, **settings)

    return new
