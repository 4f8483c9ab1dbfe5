"""Judges the keys of unique jobs on the server: a key is there exactly while its job is on a queue."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from kashvi.drivers.lines import MemoryStore
from kashvi.jobs.envelope import lock_in, read


def stray(store: MemoryStore) -> str:
    """What is wrong, if anything is."""
    found: dict[str, list[str]] = {}
    for raw in _jobs(store):
        if b'"unique"' in raw and (key := lock_in(one := read(raw))):
            found.setdefault(key, []).append(one.id)
    for key, ids in found.items():
        if ids != [store.unique.get(key)]:
            return f"the jobs {ids} with the key {key!r} are on queues, and {store.unique.get(key)!r} has it"
    if strays := sorted(store.unique.keys() - found.keys()):
        return f"{store.unique[strays[0]]!r} has the key {strays[0]!r}, and is on no queue"
    return ""


def _jobs(store: MemoryStore) -> Iterator[bytes]:
    lines = store.lines().values()
    yield from chain.from_iterable(line.jobs for line in lines)
    yield from (raw for line in lines for _, raw in line.delayed)
    yield from chain.from_iterable((*store.held.values(), *store.running.values()))
