"""The Redis driver on every server, protocol and way to connect."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
import trustme

from kashvi.drivers.redis import RedisDriver
from kashvi.errors import CommandRefused, DriverUnavailable, InvalidSetting, ReplyLost, SettingsRefused
from kashvi.ports import Settlement
from kashvi.queue import Queue
from kashvi.registry import Registry

from .launch import RedisServer, free_port, until_true

ran: list[int] = []


@dataclass
class Count:
    n: int

    def handle(self) -> None:
        ran.append(self.n)


def queue_on(client: Any, **options: Any) -> Queue:
    registry = Registry()
    registry.register("jobs.Count", Count)
    ran.clear()
    return Queue(RedisDriver(client, **options), registry=registry)


@pytest.mark.parametrize("protocol", [2, 3])
def test_jobs_run_on_every_server_and_protocol(redis_server: RedisServer, protocol: int) -> None:
    """Dispatched now, later and in bulk; a client of the user's own, whatever its settings."""
    queue = queue_on(redis_server.client(protocol=protocol, decode_responses=True))
    queue.dispatch(Count(1))
    queue.dispatch_after(Count(3), 0.05)
    queue.dispatch_many([Count(2)])
    queue.work(drain=True)
    assert ran == [1, 2, 3]
    assert queue.stats().held == queue.stats().workers == 0


def test_the_keys_are_the_documented_ones(redis_server: RedisServer) -> None:
    """A LIST in at the left, and a ZSET scored by Unix seconds; nothing has a TTL."""
    client = redis_server.client()
    queue = queue_on(redis_server.url)
    for n in range(2):
        queue.dispatch(Count(n))
    queue.dispatch_after(Count(9), 300)
    entries: Any = client.lrange("kashvi:queue:jobs", 0, -1)
    assert [b'"n":1' in entries[0], b'"n":0' in entries[1]] == [True, True]
    ((member, score),) = client.zrange("kashvi:queue:delayed", 0, -1, withscores=True)  # type: ignore[misc]
    seconds, micros = client.time()  # type: ignore[misc]
    assert b'"n":9' in member
    assert 295 < score - (seconds + micros / 1e6) <= 300
    assert all(client.ttl(key) == -1 for key in client.scan_iter())


def test_a_prefix_with_a_hash_tag_goes_before_every_key(valkey: RedisServer) -> None:
    """For Redis Cluster, where a script's keys must share a slot."""
    queue = queue_on(valkey.url, prefix="{kashvi}:queue")
    queue.dispatch(Count(1))
    assert [key for key in valkey.client().scan_iter() if not key.startswith(b"{kashvi}:queue:")] == []
    queue.work(stop_when_empty=True)
    assert ran == [1]


def test_a_listing_is_oldest_first(redis_server: RedisServer) -> None:
    """As in memory: after a lost reply, what was claimed first runs first. Found by comparing traces."""
    driver = RedisDriver(redis_server.url)
    driver.push([b"a", b"b", b"c"])
    driver.exchange("w", 1, 30, [], 2)
    assert driver.wait("w", 0.1) == b"c"
    assert driver.exchange("w", 1, 30, [], 0).listing == ([b"a", b"b", b"c"], [])


@pytest.mark.parametrize("seconds", [0.0, 0.0011, 0.0019, 0.0021, 0.004])
def test_the_shortest_wait_ends(redis_server: RedisServer, seconds: float) -> None:
    """To Redis 6.2, a timeout of 0.001 is one of 0, which means for ever."""
    assert RedisDriver(redis_server.client(socket_timeout=1)).wait("w", seconds) is None


def test_an_exchange_repeated_changes_nothing_and_a_lower_number_is_refused(redis_server: RedisServer) -> None:
    """A lost reply is repaired by the same number; a request that arrives late is turned away."""
    driver = RedisDriver(redis_server.url)
    driver.push([b"a", b"b", b"c"])
    first = driver.exchange("w", 1, 30.0, [], 2)
    assert (first.claimed, first.ready) == ([b"a", b"b"], 1)
    again = driver.exchange("w", 1, 30.0, [Settlement("done", "w", "held", b"a")], 2)
    assert (again.claimed, again.listing, again.settled_at) == ([], ([b"a", b"b"], []), first.server_at)
    second = driver.exchange("w", 2, 30.0, [Settlement("done", "w", "held", b"gone")], 0)
    assert second.refused == (0,)
    assert driver.exchange("w", 2, 30.0, [], 0).refused == (0,)
    with pytest.raises(CommandRefused, match="exchange 1 of worker w comes after 2"):
        driver.exchange("w", 1, 30.0, [], 1)


def test_refusals_are_counted_across_settlements_of_every_length(redis_server: RedisServer) -> None:
    """What is simply done travels shorter than the rest; the answer still names each by its place."""
    driver = RedisDriver(redis_server.url)
    driver.push([b"a", b"b", b"c"])
    driver.exchange("w", 1, 30.0, [], 3)
    gone, back = Settlement("done", "w", "held", b"gone"), Settlement("return", "w", "held", b"b", b"b")
    done = [Settlement("done", "w", "held", raw) for raw in (b"a", b"c")]
    running = Settlement("done", "w", "running", b"c")
    answer = driver.exchange("w", 2, 30.0, [gone, done[0], back, running, back, done[1]], 0)
    assert answer.refused == (0, 3, 4)
    assert (answer.holding, answer.ready) == (0, 1)


def test_a_live_workers_job_can_be_settled_by_nobody_else(redis_server: RedisServer) -> None:
    """The lease is checked in the script, by the server's clock."""
    driver = RedisDriver(redis_server.url)
    driver.push([b"a"])
    driver.exchange("alive", 1, 30.0, [], 1)
    thief = [Settlement("return", "alive", "held", b"a", b"a"), Settlement("done", "alive", "held", b"a")]
    assert driver.exchange("thief", 1, 30.0, thief, 5).refused == (0, 1)
    assert driver.expired(10).lost == []


def test_a_worker_is_known_to_the_server_before_it_claims_by_a_wait(redis_server: RedisServer) -> None:
    """Or no worker would look for what it holds; it costs one call, once. Its own first exchange sets the lease."""
    driver, client = RedisDriver(redis_server.url), redis_server.client()
    driver.push([b"a", b"b"])
    assert driver.wait("w", 0.0) == b"a"
    seconds, micros = client.time()  # type: ignore[misc]
    at: Any = client.zscore("kashvi:queue:workers", "w")
    assert 29 < at - (seconds + micros / 1e6) <= 30
    calls: Any = client.info("commandstats")
    assert driver.wait("w", 0.0) == b"b"
    again: Any = client.info("commandstats")
    assert calls["cmdstat_evalsha"]["calls"] == again["cmdstat_evalsha"]["calls"]
    answer = driver.exchange("w", 1, 0.01, [Settlement("leave", "w")], 0)
    assert (answer.holding, answer.refused) == (2, ())
    until_true(lambda: len(driver.expired(9).lost) == 2, 10)


@pytest.mark.parametrize("name", ["wörker".encode(), b"\xff\x00 no text", b"two words\n"])
def test_jobs_of_a_dead_worker_are_taken_over_whatever_it_called_itself(redis_server: RedisServer, name: bytes) -> None:
    """A worker in another language may not have read the rule about names."""
    client = redis_server.client()
    queue = queue_on(redis_server.url)
    queue.dispatch(Count(1))
    client.lmove("kashvi:queue:jobs", b"kashvi:queue:held:" + name, "RIGHT", "LEFT")
    client.zadd("kashvi:queue:workers", {name: 1.0})
    assert queue.stats().held == 1
    queue.lease_s = 0.5
    with queue.start_workers(1):
        until_true(lambda: ran == [1], 10)
        until_true(lambda: not client.zscore("kashvi:queue:workers", name), 10)
    assert queue.stats().held == queue.stats().workers == 0


def test_a_key_of_the_wrong_type_fails_the_call_and_loses_nothing(redis_server: RedisServer) -> None:
    """In the original a job left the sorted set and came nowhere."""
    client = redis_server.client()
    queue = queue_on(redis_server.url)
    queue.dispatch_after(Count(1), 0.001)
    client.set("kashvi:queue:jobs", "a string")
    with pytest.raises(CommandRefused, match="WRONGTYPE"):
        queue.driver.exchange("w", 1, 30.0, [], 1)
    assert client.zcard("kashvi:queue:delayed") == 1
    assert client.exists("kashvi:queue:workers") == 0


@pytest.fixture
def full(redis_server: RedisServer) -> Iterator[Callable[[int], None]]:
    """Limits the server to some bytes more than it uses."""
    client: Any = redis_server.client()

    def limit(room: int) -> None:
        client.config_set("maxmemory", client.info("memory")["used_memory"] + room)

    yield limit
    client.config_set("maxmemory", 0)


def test_a_full_server_refuses_a_dispatch_and_changes_nothing(
    redis_server: RedisServer, full: Callable[[int], None]
) -> None:
    """The error says that it was not sent twice, and which job it was."""
    queue = queue_on(redis_server.url)
    queue.dispatch(Count(1))
    full(-100_000)  # it may use less after this connection's buffers are gone
    with pytest.raises(CommandRefused, match="maxmemory") as refused:
        queue.dispatch(Count(2))
    with pytest.raises(CommandRefused, match="maxmemory"):
        queue.dispatch_after(Count(2), 60)
    with pytest.raises(CommandRefused, match="maxmemory"):
        queue.driver.push_retried("a failure", b"{}")  # type: ignore[attr-defined]
    assert not refused.value.maybe_sent
    assert refused.value.job_id
    assert (queue.stats().ready, queue.stats().delayed) == (1, 0)
    assert queue.driver.exchange("w", 1, 30.0, [], 0).ready == 1
    queue.work(stop_when_empty=True)
    assert ran == [1]


def test_a_job_on_a_full_server_is_cancelled(redis_server: RedisServer, full: Callable[[int], None]) -> None:
    """That makes room."""
    queue = queue_on(redis_server.url)
    ids = [queue.dispatch(Count(1)), queue.dispatch_after(Count(2), 60)]
    full(-100_000)
    assert [queue.cancel(job_id) for job_id in [*ids, "no such id"]] == ["removed", "removed", "unknown"]
    assert (queue.stats().ready, queue.stats().delayed) == (0, 0)


@dataclass
class Heavy:
    """Fills a server; some fail for good."""

    n: int
    weight: str

    def handle(self) -> None:
        ran.append(self.n)
        if self.n % 10 == 0:
            raise ValueError(self.weight)


def test_a_server_that_its_backlog_has_filled_is_emptied(
    redis_server: RedisServer, full: Callable[[int], None]
) -> None:
    """Ready and delayed, with retries and failures: claiming and settling need no room that is not there."""
    queue = queue_on(redis_server.url)
    queue.register("jobs.Heavy", Heavy)
    queue.set_max_retry(2)
    full(2_000_000)
    pushed = 0
    with suppress(CommandRefused):
        while pushed < 10_000:
            queue.dispatch_after(Heavy(pushed, "x" * 1000), (pushed % 2) * 0.3)
            pushed += 1
    assert 500 < pushed < 10_000
    full(-1)
    failures = len(range(0, pushed, 10))
    with queue.start_workers(3):
        until_true(lambda: len(ran) >= pushed + failures, 20)
    assert set(ran) == set(range(pushed))
    assert len(queue.failed_jobs()) == failures
    stats = queue.stats()
    assert (stats.ready, stats.delayed, stats.held, stats.workers) == (0, 0, 0, 0)


def test_a_server_that_is_not_there_is_a_clear_error(server_dir: Path) -> None:
    """Nothing was sent; the message has neither the password nor a traceback's depth."""
    queue = queue_on(f"redis://:secret@127.0.0.1:{free_port()}/0")
    with pytest.raises(DriverUnavailable, match="nothing was sent") as unavailable:
        queue.dispatch(Count(1))
    assert unavailable.value.job_id
    assert not unavailable.value.maybe_sent
    assert "secret" not in f"{unavailable.value} {queue.driver!r}"


def test_a_reply_that_never_comes_may_have_been_sent(valkey: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The push arrived; it is not sent again by itself."""
    queue = queue_on(valkey.url)
    real = redis.Connection.read_response

    def cut(self: redis.Connection, *args: Any, **kwargs: Any) -> Any:
        answer = real(self, *args, **kwargs)
        if answer == 1:
            raise redis.ConnectionError("cut off")
        return answer

    monkeypatch.setattr(redis.Connection, "read_response", cut)
    with pytest.raises(ReplyLost) as lost:
        queue.dispatch(Count(1))
    monkeypatch.undo()
    assert lost.value.maybe_sent
    assert valkey.client().llen("kashvi:queue:jobs") == 1


@pytest.mark.parametrize("bad", [None, "http://x", 5, "not a url"])
def test_what_is_no_client_is_refused_with_what_to_give(bad: Any) -> None:
    """The original took nil and died a second later."""
    with pytest.raises(InvalidSetting, match="redis"):
        RedisDriver(bad)


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Callable[..., RedisServer]]:
    """Servers with options of their own."""
    started: list[RedisServer] = []

    def start(*options: str, name: str = "valkey-9", sentinel: str = "") -> RedisServer:
        started.append(RedisServer(name, tmp_path / f"s{len(started)}", *options, sentinel=sentinel).start())
        return started[-1]

    yield start
    for server in started:
        server.stop()


def test_many_workers_on_the_users_own_client_leave_it_free(valkey: RedisServer) -> None:
    """The driver's connections are its own: all but one of the user's are in use, and that one is enough."""
    client = valkey.client(max_connections=3)
    in_use = [client.connection_pool.get_connection() for _ in range(2)]
    queues = [queue_on(client) for _ in range(5)]
    handles = [queue.start_workers(5) for queue in queues]
    ids = {queues[0].dispatch(Count(n)) for n in range(50)}
    assert client.ping()
    until_true(lambda: len(ran) == 50, 20)
    assert [handle.stop(20) for handle in handles] == [True] * 5
    assert len(ids) == 50
    assert valkey.client().zcard("kashvi:queue:workers") == 0
    for connection in in_use:
        client.connection_pool.release(connection)


def test_a_job_dispatched_after_the_stop_waits_for_the_next_worker(valkey: RedisServer) -> None:
    """A stopped worker's last wait takes nothing along."""
    queue = queue_on(valkey.url)
    for n in range(10):
        handle = queue.start_workers(2)
        handle.request_stop()
        queue.dispatch(Count(n))
        assert handle.join(20)
    stats = queue.stats()
    assert (stats.ready + len(ran), stats.held, stats.workers) == (10, 0, 0)
    queue.work(stop_when_empty=True)
    assert sorted(ran) == list(range(10))


def test_a_password_in_the_url_is_used_and_a_wrong_one_is_an_error(guarded: Callable[..., RedisServer]) -> None:
    """Nor is it shown."""
    server = guarded("--requirepass", "tell-no-one")
    queue = queue_on(f"redis://:tell-no-one@127.0.0.1:{server.port}/0")
    queue.dispatch(Count(1))
    queue.work(stop_when_empty=True)
    assert ran == [1]
    with pytest.raises(SettingsRefused) as wrong:
        queue_on(f"redis://:wrong-one@127.0.0.1:{server.port}/0").dispatch(Count(1))
    assert "wrong-one" not in str(wrong.value)


def test_tls_works_by_url_and_by_client(guarded: Callable[..., RedisServer], tmp_path: Path) -> None:
    """The driver's own connections take over the certificates' settings."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", "localhost")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    port = free_port()
    files = ("--tls-cert-file", f"{tmp_path}/server.pem", "--tls-key-file", f"{tmp_path}/server.pem")
    options = ("--tls-port", str(port), "--tls-ca-cert-file", f"{tmp_path}/ca.pem", "--tls-auth-clients", "no")
    guarded(*options, *files, name="redis-7")  # the wheels' servers are built without TLS
    client = redis.Redis(port=port, host="127.0.0.1", ssl=True, ssl_ca_certs=f"{tmp_path}/ca.pem")
    for given in (client, f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={tmp_path}/ca.pem"):
        queue = queue_on(given)
        queue.dispatch(Count(1))
        queue.work(stop_when_empty=True)
        assert ran == [1]
    with pytest.raises(DriverUnavailable):
        queue_on(f"rediss://127.0.0.1:{port}/0").dispatch(Count(1))


def test_a_client_of_a_sentinel_works(valkey: RedisServer, guarded: Callable[..., RedisServer]) -> None:
    """The driver's own connections ask the sentinel, too."""
    watcher = guarded(sentinel=f"sentinel monitor kashvi 127.0.0.1 {valkey.port} 1\n")
    sentinel = redis.Sentinel([("127.0.0.1", watcher.port)])
    queue = queue_on(sentinel.master_for("kashvi"))
    queue.dispatch(Count(1))
    queue.work(stop_when_empty=True)
    assert ran == [1]
    assert valkey.client().zcard("kashvi:queue:workers") == 0
    watcher.stop()
    with pytest.raises(DriverUnavailable, match=rf"kashvi \(sentinels 127.0.0.1:{watcher.port}\) can't be reached"):
        queue_on(sentinel.master_for("kashvi")).dispatch(Count(1))
    with pytest.raises(InvalidSetting, match="master_for"):
        queue_on(sentinel.slave_for("kashvi"))


def test_a_unix_socket_works(guarded: Callable[..., RedisServer], tmp_path: Path) -> None:
    """unix:// URLs have no host."""
    guarded("--unixsocket", f"{tmp_path}/r.sock")
    queue = queue_on(f"unix://{tmp_path}/r.sock")
    queue.dispatch(Count(1))
    queue.work(stop_when_empty=True)
    assert ran == [1]
