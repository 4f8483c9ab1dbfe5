"""Where a queue's keys are on a Redis Cluster: on one node, since all of them have the same hash tag.

A node that has them not says MOVED, and to whom. When the node that has them dies, any other says so sooner or later;
so the driver asks the next one it knows of, until one answers.
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
    """Whether what is between the first brace and the next decides on the slot."""
    _, opened, rest = prefix.partition("{")
    tag, closed, _ = rest.partition("}")
    return bool(opened and closed and tag)


class Nodes:
    """The nodes we know of, and the one to talk to."""

    def __init__(self, blueprint: Blueprint) -> None:
        self._blueprint = blueprint
        self._known: list[Address] = list(blueprint.nodes)
        self.here: Address | None = None
        """None: where the client leads."""

    @property
    def several(self) -> bool:
        return bool(self._known)

    def named_by(self, error: AskError) -> Address:
        """Where MOVED or ASK sends us; a node that does not know its own name leaves it out."""
        here, _ = self.here or self._blueprint.address or ("", 0)
        return self._blueprint.remapped(error.host or here, error.port)

    def follow(self, error: AskError) -> None:
        """Remember who has our keys."""
        if not self._known and self._blueprint.address:
            self._known.append(self._blueprint.address)
        self.here = self.named_by(error)
        self._learn([self.here])

    def told(self, slots: list[Any]) -> None:
        """The answer to CLUSTER SLOTS."""
        here, _ = self.here or self._blueprint.address or ("", 0)
        nodes = (node for _, _, *nodes in slots for node in nodes)
        self._learn([self._blueprint.remapped((node[0] or b"").decode() or here, int(node[1])) for node in nodes])

    def stray(self) -> None:
        """The node we talked to is no good: on to the next."""
        known = self._known
        at = known.index(self.here) if self.here in known else -1
        self.here = known[(at + 1) % len(known)]

    def _learn(self, nodes: list[Address]) -> None:
        self._known = list(dict.fromkeys([*self._known, *nodes]))
