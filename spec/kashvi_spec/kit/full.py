"""A fake server that is full, as far as a queue can tell: like Redis with ``noeviction``, it refuses what needs room.

A script is refused nothing after its first write, and before it what any client is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import redis
from fakeredis._helpers import SimpleError

GROWS = frozenset({"lpush", "rpush", "zadd", "hset", "lmove", "blmove"})
SHRINKS = frozenset({"zrem", "lrem", "hdel", "ltrim", "zremrangebyscore"})


@contextmanager
def full(client: redis.Redis) -> Iterator[None]:
    """No fake server has room, until the block ends. ``client`` is a ``fakeredis.FakeRedis``."""
    pool = client.connection_pool
    connection = pool.get_connection()
    socket: Any = type(connection._sock)
    pool.release(connection)
    real = socket._run_command
    wrote = False

    def run(self: Any, function: Any, signature: Any, args: list[Any], from_script: bool) -> Any:
        nonlocal wrote
        if not from_script:
            wrote = False
        if signature.name in GROWS and not wrote:
            return SimpleError("OOM command not allowed when used memory > 'maxmemory'.")
        wrote = wrote or signature.name in GROWS | SHRINKS
        return real(self, function, signature, args, from_script)

    with mock.patch.object(socket, "_run_command", run):
        yield
