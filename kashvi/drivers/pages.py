"""Reads the jobs of a queue on Redis page by page, so that no call blocks the server for long. Changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..ports import READ_MAX_BYTES, Shown

PAGE_FIRST, PAGE_MAX = 16, 500

Read = Callable[[int, int], list[Shown]]
"""The jobs from one place to another, both included, as LRANGE counts."""


def pages(read: Read, limit: int) -> Iterator[Shown]:
    """Up to ``limit`` jobs. A page has about READ_MAX_BYTES or PAGE_MAX jobs."""
    at, size = 0, PAGE_FIRST
    while at < limit:
        size = min(size, limit - at)
        page = read(at, at + size - 1)
        yield from page
        at += len(page)
        if len(page) < size:
            return
        read_bytes = sum(len(one.envelope) for one in page) or 1
        size = max(1, min(PAGE_MAX, READ_MAX_BYTES * len(page) // read_bytes))
