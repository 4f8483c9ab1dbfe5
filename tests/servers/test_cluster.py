"""Redis Cluster: three primaries with a replica each, and a queue whose keys are on one of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
import sqlalchemy as sa
from redis.cluster import ClusterNode

from kashvi import current
from kashvi.drivers.redis import RedisDriver
from kashvi.errors import InvalidSetting, SettingsRefused
from kashvi.queue import Queue
from kashvi.registry import Registry

from .launch import RedisServer, free_port, until_true
from .test_connections import dispatched
from .test_redis import Count, queue_on, ran

PREFIX = "{kashvi}:queue"
SLOTS = 16384
OPTIONS = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--repl-diskless-sync-delay", "0")


@dataclass
class Counts:
    """Has follow-ups."""

    n: int

    def handle(self) -> None:
        current().dispatch(Count(self.n))
        current().dispatch_after(Count(self.n + 1), 0.05)


class Cluster:
    """Nodes 0 to 2 are primaries, 3 to 5 their replicas in this order."""

    def __init__(self, name: str, directory: Path) -> None:
        ports = [("--cluster-port", str(free_port())) for _ in range(6)]
        self.nodes = [RedisServer(name, directory / f"n{i}", *OPTIONS, *ports[i]) for i in range(6)]

    def start(self) -> Cluster:
        clients: list[Any] = [node.start().client() for node in self.nodes]
        for i, client in enumerate(clients):
            client.execute_command("CLUSTER", "MEET", "127.0.0.1", self.nodes[0].port, self.nodes[0].options[-1])
            if i < 3:
                client.execute_command("CLUSTER", "ADDSLOTS", *range(SLOTS * i // 3, SLOTS * (i + 1) // 3))
        until_true(lambda: all(client.cluster("info")["cluster_known_nodes"] == "6" for client in clients), 20)
        ids = [client.execute_command("CLUSTER", "MYID").decode() for client in clients]
        for i, client in enumerate(clients[3:]):
            until_true(partial(self._follows, client, ids[i]), 20)
        for client in clients:
            until_true(lambda client=client: client.cluster("info")["cluster_state"] == "ok", 20)
            until_true(lambda client=client: str(client.execute_command("CLUSTER", "NODES")).count("slave") == 3, 20)
        for client in clients[3:]:
            until_true(lambda client=client: client.info("replication")["master_link_status"] == "up", 20)
        return self

    def _follows(self, client: Any, primary: str) -> bool:
        try:
            return bool(client.execute_command("CLUSTER", "REPLICATE", primary))
        except redis.ResponseError:  # it has not heard of the other yet
            return False

    def stop(self) -> None:
        for node in self.nodes:
            if node.process and node.process.poll() is None:
                node.kill()

    def owner(self, key: str = PREFIX) -> RedisServer:
        """The primary that has the key's slot."""
        living = next(n for n in self.nodes if n.process and n.process.poll() is None)
        client: Any = living.client()
        slot = client.execute_command("CLUSTER", "KEYSLOT", key)
        slots: Any = client.execute_command("CLUSTER", "SLOTS")
        text = slots if isinstance(slots, dict) else {(s, e): {"primary": n[0]} for s, e, *n in slots}
        [port] = [int(at["primary"][1]) for (first, last), at in text.items() if first <= slot <= last]
        return next(node for node in self.nodes if node.port == port)

    def other(self) -> RedisServer:
        """A primary that has not the queue's slot."""
        return next(node for node in self.nodes[:3] if node is not self.owner())

    def client(self, **options: Any) -> redis.RedisCluster:
        nodes = [ClusterNode("127.0.0.1", node.port) for node in self.nodes[:2]]
        return redis.RedisCluster(startup_nodes=nodes, **options)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One cluster for the tests that leave it whole."""
    cluster = Cluster("valkey-9", tmp_path_factory.mktemp("cluster"))
    try:
        yield cluster.start()
    finally:
        cluster.stop()


@pytest.fixture
def cluster(running: Cluster) -> Cluster:
    """It is empty."""
    for node in running.nodes[:3]:
        node.client().flushall()
    return running


def test_a_client_of_a_cluster_works(cluster: Cluster) -> None:
    """Now, later, failed and retried, follow-ups; its settings are the client's."""
    queue = queue_on(cluster.client(client_name="mine"), prefix=PREFIX)
    queue.dispatch_many([Count(n) for n in range(5)])
    queue.dispatch_after(Count(5), 0.05)
    assert str(cluster.owner().port) in repr(queue.driver)
    assert "mine" in {client["name"] for client in cluster.owner().client().client_list()}  # type: ignore[union-attr]
    queue.work(drain=True)
    assert ran == [*range(6)]
    queue.register("jobs.Counts", Counts)
    queue.dispatch(Counts(6))
    queue.work(drain=True)
    assert ran == [*range(6), 6, 7]
    assert queue.stats().workers == 0


def test_an_outbox_is_relayed_to_a_cluster(cluster: Cluster) -> None:
    """All keys of its script share the slot: named queues, delays and unique jobs, too."""
    engine = sa.create_engine("sqlite://")
    queue = queue_on(cluster.client(), prefix=PREFIX)
    queue.register("jobs.Counts", Counts, queue="mail", unique=True)
    queue.outbox(engine)
    with engine.begin() as connection:
        queue.dispatch_many([Count(0), Count(1)], session=connection)
        queue.dispatch_after(Count(2), 0.05, session=connection)
        queue.dispatch_many([Counts(3), Counts(3)], session=connection)
    queue.work(queues="default,mail", drain=True)
    assert sorted(ran) == [0, 1, 2, 3, 4]
    engine.dispose()


def test_the_url_of_a_node_that_has_not_the_slot_works(cluster: Cluster) -> None:
    """It says MOVED, and to whom."""
    queue = queue_on(cluster.other().url, prefix=PREFIX)
    queue.dispatch_after(Count(1), 0.01)
    queue.dispatch(Count(2))
    queue.work(drain=True)
    assert sorted(ran) == [1, 2]


def test_a_prefix_without_a_hash_tag_is_refused_with_what_to_do(cluster: Cluster) -> None:
    """By a client of the cluster at once; by a URL, when a node says that it is one of a cluster."""
    with pytest.raises(InvalidSetting, match=r"hash tag, like '\{kashvi\}:queue'"):
        RedisDriver(cluster.client())
    plain = "kashvi:queue"
    other = next(node for node in cluster.nodes[:3] if node is not cluster.owner(f"{plain}:jobs"))
    with pytest.raises(SettingsRefused, match=r"MOVED \d+ .*prefix='\{kashvi\}:queue'"):
        queue_on(other.url).dispatch(Count(1))
    with pytest.raises(SettingsRefused, match=r"CROSSSLOT.*prefix='\{kashvi\}:queue'"):
        queue_on(cluster.owner(f"{plain}:jobs").url).driver.exchange("w", 1, 30.0, [], 1)


def test_a_slot_that_moves_is_followed(cluster: Cluster) -> None:
    """ASK on the way, MOVED at its end; what is on two nodes at once (TRYAGAIN) is for later."""
    source, target = cluster.owner(), cluster.other()
    clients: Any = source.client(), target.client()
    ids = [client.execute_command("CLUSTER", "MYID") for client in clients]
    slot = clients[0].execute_command("CLUSTER", "KEYSLOT", PREFIX)
    queue = queue_on(cluster.client(), prefix=PREFIX)
    queue.dispatch(Count(1))
    clients[1].execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
    clients[0].execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
    for key in clients[0].execute_command("CLUSTER", "GETKEYSINSLOT", slot, 10):
        clients[0].execute_command("MIGRATE", "127.0.0.1", target.port, key, 0, 5000)
    queue.dispatch(Count(2))
    assert clients[1].execute_command("CLUSTER", "COUNTKEYSINSLOT", slot) == 1
    for client in clients[::-1]:
        client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[1])
    queue.dispatch(Count(3))
    assert str(target.port) in repr(queue.driver)
    queue.work(stop_when_empty=True)
    assert ran == [1, 2, 3]


@pytest.mark.parametrize("name", ["valkey-9", "redis-8"])
def test_the_death_of_the_node_that_has_the_queue_loses_nothing(name: str, tmp_path: Path) -> None:
    """Its replica takes over, and producers and workers go on by themselves."""
    cluster = Cluster(name, tmp_path)
    registry = Registry()
    registry.register("jobs.Count", Count)
    ran.clear()
    try:
        cluster.start()
        by_url = Queue(RedisDriver(cluster.other().url, prefix=PREFIX), registry=registry)
        by_client = Queue(RedisDriver(cluster.client(), prefix=PREFIX), registry=registry)
        by_url.lease_s = by_client.lease_s = 2
        with by_url.start_workers(2), by_client.start_workers(2):
            for n in range(600):
                if n == 300:
                    owner = cluster.owner()
                    client: Any = owner.client()
                    assert client.wait(1, 5000) == 1  # what was taken so far has been replicated
                    owner.kill()
                until_true(partial(dispatched, (by_url, by_client)[n % 2], n), 20)
            until_true(lambda: set(ran) == set(range(600)), 20)
        stats = by_client.stats()
        assert (stats.ready, stats.held) == (0, 0)
        assert cluster.owner() in cluster.nodes[3:]
    finally:
        cluster.stop()
