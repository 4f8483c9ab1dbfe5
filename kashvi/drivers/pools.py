"""Connection pools of kashvi's own, with the settings of the user's client.

Copied: address, database, credentials, TLS, name, timeouts, ``max_connections``, keepalive and health checks. Not
copied: the decoding of replies and retries, which are the driver's business.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import SentinelConnectionPool

from ..errors import InvalidSetting, UnusableSetting
from .address import client_of

REPLY_TIMEOUT_S = 10.0
"""How long the server may take to answer, if the client sets no ``socket_timeout``."""
CONNECT_TIMEOUT_S = 5.0
FREE_TIMEOUT_S = 20.0
"""How long a call waits for a connection while all ``max_connections`` are in use."""
_OF_A_POOL = ("himport_registry", "event_dispatcher", "oss_cluster_maint_notifications_handler", "connection_pool")

Address = tuple[str, int]


class Blueprint:
    """Makes pools with the settings of a client or URL."""

    def __init__(self, client: redis.Redis | redis.RedisCluster | str, key: str) -> None:
        given = client_of(client) if isinstance(client, str) else client
        self.nodes: list[Address] = []
        """The nodes of a cluster that its client knows."""
        self._cluster: redis.RedisCluster | None = None
        if isinstance(given, redis.RedisCluster):
            self._cluster = given
            self.nodes = [(str(node.host), int(node.port)) for node in given.get_nodes()]
            given = given.get_redis_connection(given.get_node_from_key(key))
        if not isinstance(given, redis.Redis):
            raise InvalidSetting("the Redis client", type(client).__name__, "a redis.Redis, a RedisCluster or a URL")
        self._theirs = given.connection_pool
        if isinstance(self._theirs, SentinelConnectionPool) and not self._theirs.is_master:
            raise InvalidSetting("the Redis client", "slave_for(…)", "one that writes: sentinel.master_for(…)")
        for name in ("socket_timeout", "socket_connect_timeout"):
            seconds = self._theirs.connection_kwargs.get(name)
            if seconds is not None and not 0 < seconds < math.inf:
                raise InvalidSetting(f"{name} of the Redis client", seconds, "a number of seconds above 0, or None")
        unlimited = self._theirs.max_connections in (redis.ConnectionPool().max_connections, 2**31)
        self.limit = None if unlimited else self._theirs.max_connections
        """The client's limit of connections; None: no limit."""
        pool = self.pool()
        try:
            pool.connection_class(**pool.connection_kwargs)
        except (TypeError, ValueError, redis.RedisError) as error:
            why = f"it has an option that redis-py does not know, or a value that does not fit ({error})"
            raise UnusableSetting("the Redis URL", why) from None

    @property
    def address(self) -> Address | None:
        """The client's host and port; None if it has none (a socket, sentinels)."""
        kwargs = self._theirs.connection_kwargs
        if isinstance(self._theirs, SentinelConnectionPool) or "path" in kwargs:
            return None
        return kwargs.get("host", "localhost"), int(kwargs.get("port", 6379))

    def remapped(self, host: str, port: int) -> Address:
        """The address by which this client reaches a cluster's node."""
        if self._cluster is None:
            return host, port
        there, at = self._cluster.nodes_manager.remap_host_port(host, port)
        return there, int(at)

    def pool(self, node: Address | None = None) -> redis.ConnectionPool:
        """A fresh pool without connections. It leaves one of the client's limit for waiting."""
        pool = _own_pool(self._theirs)
        if node is not None:
            pool.connection_kwargs["host"], pool.connection_kwargs["port"] = node
        if self._cluster is not None:  # its own connect function may send READONLY
            pool.connection_kwargs["redis_connect_func"] = _greeting(self._cluster.user_on_connect_func)
        if self.limit is not None:
            pool.max_connections = max(self.limit - 1, 1)
            pool.reset()
        return pool

    def server(self) -> str:
        """The server's name in errors, without secrets."""
        kwargs = self._theirs.connection_kwargs
        if isinstance(self._theirs, SentinelConnectionPool):
            asked = (s.connection_pool.connection_kwargs for s in self._theirs.sentinel_manager.sentinels)
            return f"{self._theirs.service_name} (sentinels {', '.join(map(_address, asked))})"
        return str(kwargs.get("path") or _address(kwargs))


def _greeting(theirs: Callable[[Any], None] | None) -> Callable[[Any], None] | None:
    if theirs is None:
        return None

    def connected(connection: Any) -> None:
        connection.on_connect()
        theirs(connection)

    return connected


def _address(kwargs: dict[str, Any]) -> str:
    return f"{kwargs.get('host', 'localhost')}:{kwargs.get('port', 6379)}"


def _own_pool(theirs: redis.ConnectionPool) -> redis.ConnectionPool:
    kwargs = {
        key: value
        for key, value in theirs.connection_kwargs.items()
        if key not in _OF_A_POOL and not key.startswith(("orig_", "maint_", "maintenance_"))
    }
    kwargs |= {
        "connection_class": theirs.connection_class,
        "decode_responses": False,
        "retry": Retry(NoBackoff(), 0),
        "retry_on_timeout": False,
        "retry_on_error": [],
        "socket_timeout": kwargs.get("socket_timeout") or REPLY_TIMEOUT_S,
    }
    if theirs.connection_class is not redis.UnixDomainSocketConnection:
        kwargs["socket_connect_timeout"] = kwargs.get("socket_connect_timeout") or CONNECT_TIMEOUT_S
        if kwargs.get("socket_keepalive") is None:
            kwargs["socket_keepalive"] = True
    if isinstance(theirs, SentinelConnectionPool):
        sentinels = copy.copy(theirs.sentinel_manager)
        sentinels.sentinels = [redis.Redis(connection_pool=_own_pool(s.connection_pool)) for s in sentinels.sentinels]
        kwargs["check_connection"] = theirs.check_connection
        return SentinelConnectionPool(theirs.service_name, sentinels, **kwargs)
    try:
        from redis.maint_notifications import MaintNotificationsConfig
    except ImportError:
        pass
    else:
        kwargs["maint_notifications_config"] = MaintNotificationsConfig(enabled=False)
    if isinstance(theirs, redis.BlockingConnectionPool):
        return redis.BlockingConnectionPool(timeout=theirs.timeout, **kwargs)
    if theirs.max_connections not in (redis.ConnectionPool().max_connections, 2**31):
        return redis.BlockingConnectionPool(timeout=FREE_TIMEOUT_S, **kwargs)
    return redis.ConnectionPool(**kwargs)
