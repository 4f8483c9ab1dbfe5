"""Connection pools of our own, with the settings of the client that the user gave.

Taken over: address, database, credentials, TLS, name, timeouts, ``max_connections``, keepalive and health checks. Not
taken over, since they are the driver's own business: how replies are decoded, and that a command is sent again.
"""

from __future__ import annotations

import copy
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import SentinelConnectionPool

from ..errors import InvalidSetting, UnusableSetting
from .address import client_of

REPLY_TIMEOUT_S = 10.0
"""How long the server may take to answer, where the client sets no ``socket_timeout``."""
CONNECT_TIMEOUT_S = 5.0
FREE_TIMEOUT_S = 20.0
"""How long a call waits for a connection, where the client's ``max_connections`` are all in use."""
_OF_A_POOL = ("himport_registry", "event_dispatcher", "oss_cluster_maint_notifications_handler", "connection_pool")

Address = tuple[str, int]


class Blueprint:
    """Makes pools like the one of a client (or URL)."""

    def __init__(self, client: redis.Redis | str) -> None:
        given = client_of(client) if isinstance(client, str) else client
        if not isinstance(given, redis.Redis):
            raise InvalidSetting("the Redis client", type(client).__name__, "a redis.Redis or a URL")
        self._theirs = given.connection_pool
        if isinstance(self._theirs, SentinelConnectionPool) and not self._theirs.is_master:
            raise InvalidSetting("the Redis client", "slave_for(…)", "one that writes: sentinel.master_for(…)")
        default = redis.ConnectionPool().max_connections
        self.limit = None if self._theirs.max_connections == default else self._theirs.max_connections
        """How many connections the client may have, where it says so."""
        pool = self.pool()
        try:
            pool.connection_class(**pool.connection_kwargs)
        except (TypeError, ValueError) as error:
            why = f"it has an option that redis-py does not know, or a value that does not fit ({error})"
            raise UnusableSetting("the Redis URL", why) from None

    def pool(self) -> redis.ConnectionPool:
        """A fresh one, without connections. Of the client's limit one is left, to wait on for jobs."""
        pool = _own_pool(self._theirs)
        if self.limit is not None:
            pool.max_connections = max(self.limit - 1, 1)
            pool.reset()
        return pool

    def server(self) -> str:
        """What errors call the server; no secrets."""
        kwargs = self._theirs.connection_kwargs
        if isinstance(self._theirs, SentinelConnectionPool):
            asked = (s.connection_pool.connection_kwargs for s in self._theirs.sentinel_manager.sentinels)
            return f"{self._theirs.service_name} (sentinels {', '.join(map(_address, asked))})"
        return str(kwargs.get("path") or _address(kwargs))


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
    if theirs.max_connections != redis.ConnectionPool().max_connections:
        return redis.BlockingConnectionPool(timeout=FREE_TIMEOUT_S, **kwargs)
    return redis.ConnectionPool(**kwargs)
