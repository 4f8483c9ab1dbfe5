"""The facts in a Redis server's INFO that a queue depends on."""

from __future__ import annotations

from typing import NamedTuple

KEEP = ("noeviction", "")
"""Policies that drop no key. The volatile ones drop keys that expire; a queue's never do."""


class Health(NamedTuple):
    """``maxmemory`` 0: no limit. ``policy``: what the server does at the limit."""

    product: str
    version: tuple[int, ...]
    primary: bool
    used_memory: int
    maxmemory: int
    policy: str

    @property
    def evicts(self) -> bool:
        """True if a full server drops keys, and so jobs, to make room."""
        return self.maxmemory > 0 and self.policy not in KEEP and not self.policy.startswith("volatile-")


def read_health(info: bytes) -> Health:
    """Parse an answer to INFO. A missing line counts as its harmless value."""
    lines = info.decode("utf-8", "replace").splitlines()
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    valkey = facts.get("valkey_version")
    text = valkey or facts.get("redis_version", "0")
    return Health(
        product=f"{'Valkey' if valkey else 'Redis'} {text}",
        version=tuple(int(part) for part in text.split(".")[:3] if part.isdigit()),
        primary=facts.get("role", "master") == "master",
        used_memory=int(facts.get("used_memory", 0)),
        maxmemory=int(facts.get("maxmemory", 0)),
        policy=facts.get("maxmemory_policy", ""),
    )
