"""Finds the Redis Cluster node that owns a queue's keys. It is one node, since all keys have the same hash tag.

Any other node answers MOVED with the owner's address. When the owner dies, the others name its successor before long,
so the driver asks one known node after another until one answers.
"""

from __future__ import annotations

from typing import Any

from redis.exceptions import AskError

from .pools import Address, Blueprint

NO_TAG = (
    "this is a node of a Redis Cluster, where the keys of a queue must share a slot; give the driver a prefix with a "
    "hash tag, as in RedisDriver(…, prefix='{kashvi}:queue')"
)


def has_hash_tag(prefix: str) -> bool:
    """True if the prefix has a hash tag, which decides on the slot."""
    _, opened, rest = prefix.partition("{")
    tag, closed, _ = rest.partition("}")
    return bool(opened and closed and tag)


class Nodes:
    """The known nodes, and the current one."""

    def __init__(self, blueprint: Blueprint) -> None:
        self._blueprint = blueprint
        self._known: list[Address] = list(blueprint.nodes)
        self.here: Address | None = None
        """The node to talk to; None: the client's own address."""

    @property
    def several(self) -> bool:
        return bool(self._known)

    def named_by(self, error: AskError) -> Address:
        """The address in MOVED or ASK; a node without a name of its own leaves the host out."""
        here, _ = self.here or self._blueprint.address or ("", 0)
        return self._blueprint.remapped(error.host or here, error.port)

    def follow(self, error: AskError) -> None:
        """Go to the node that MOVED or ASK names."""
        if not self._known and self._blueprint.address:
            self._known.append(self._blueprint.address)
        self.here = self.named_by(error)
        self._learn([self.here])

    def told(self, slots: list[Any]) -> None:
        """Learn the nodes from an answer to CLUSTER SLOTS."""
        here, _ = self.here or self._blueprint.address or ("", 0)
        nodes = (node for _, _, *nodes in slots for node in nodes)
        self._learn([self._blueprint.remapped((node[0] or b"").decode() or here, int(node[1])) for node in nodes])

    def stray(self) -> None:
        """Go to the next known node: the current one failed."""
        known = self._known
        at = known.index(self.here) if self.here in known else -1
        self.here = known[(at + 1) % len(known)]

    def _learn(self, nodes: list[Address]) -> None:
        self._known = list(dict.fromkeys([*self._known, *nodes]))
