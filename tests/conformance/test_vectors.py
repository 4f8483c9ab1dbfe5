"""The exchange vectors: the script and the memory driver answer alike, and leave the same keys."""

from __future__ import annotations

from typing import Any

import fakeredis
import pytest
import redis
from kashvi_spec.clauses import text_of
from kashvi_spec.kit.driver import vectors
from kashvi_spec.kit.driver.vectors import InMemory, OnRedis, Vector, differences

from examples.worker_in_plain_python.protocol import Server, Settlement
from kashvi import ports, settings
from kashvi.errors import CommandRefused
from kashvi.jobs import envelope
from kashvi.ports import Expired, LostDelivery
from kashvi.worker import settle
from tests.servers.launch import RedisServer

VECTORS = vectors.load()


class InPlainPython(OnRedis):
    """The same keys, spoken to by the worker of ``examples/worker_in_plain_python``."""

    def __init__(self, client: Any, now: float) -> None:
        super().__init__(client, now)
        self.driver = Plain(Server(client, now=lambda: now))


class Plain:
    """Its calls, as a driver has them."""

    def __init__(self, server: Server) -> None:
        self.push, self.wait, self.recorded = server.push, server.wait, server.recorded
        self._server = server

    def exchange(self, worker: str, n: int, lease_s: float, settlements: Any, want: int) -> Any:
        try:
            return self._server.exchange(worker, n, lease_s, [Settlement(*one) for one in settlements], want)
        except redis.ResponseError as error:
            raise CommandRefused(str(error)) from error

    def expired(self, limit: int) -> Expired:
        found, gone = self._server.dead()
        lost = [
            LostDelivery(owner.decode(), place, raw, left.lease_end)
            for owner, left in found.items()
            for place, raws in (("held", left.held), ("running", left.running))
            for raw in raws
        ]
        return Expired(lost, [owner.decode() for owner in gone])


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


@pytest.mark.parametrize("vector", [one for one in VECTORS if not one.knows_queues], ids=lambda vector: vector.name)
def test_the_worker_in_plain_python_keeps_the_vector(vector: Vector) -> None:
    """Another script, written from the page. It serves the default queue alone."""
    client = fakeredis.FakeRedis()
    assert list(differences(vector, lambda now: InPlainPython(client, now))) == []


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


def test_every_call_of_the_vectors_is_a_chapter_of_the_protocol() -> None:
    """And every move, and every key."""
    page = text_of("protocol")
    moves = {one["move"] for vector in VECTORS for one in vector.request.get("settlements", ())}
    assert moves == {"done", "retry", "fail", "return", "start", "leave"}
    keys = {name.removeprefix("mail:").partition(":")[0] for vector in VECTORS for name in vector.after}
    for word in moves | keys:
        assert f"`{word}`" in page or f"`…:{word}`" in page or f"`…:{word}:<worker>`" in page, word


def test_the_numbers_of_the_protocol_are_those_of_the_code() -> None:
    """Of the ones that no worker may choose."""
    page = text_of("protocol")
    for number in (
        f"about {ports.PROMOTE_MAX} a time",
        f"{ports.GONE_AFTER_S:,.0f} s",
        f"{ports.FIRST_LEASE_S:.0f} s",
        f"{ports.NAME_MAX} printable ASCII characters",
        f"{settle.ERROR_MAX:,} characters",
        f"{envelope.COUNT_MAX}",
        f"{settings.UNKNOWN_FOR_S:.0f} s",
        f"in less than {ports.WAIT_MAX_S:g} s",
        f"brings the claim to {ports.READ_MAX_BYTES >> 20} MiB",
    ):
        assert number in page, number
