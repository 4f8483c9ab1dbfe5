"""No garbage collection and no log while a world is played."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def undisturbed() -> Iterator[None]:
    """No garbage collection inside the context: a collected greenlet would run its ``finally``. No log either."""
    collecting, log = gc.isenabled(), logging.getLogger("kashvi")
    level = log.level
    gc.disable()
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(level)
        if collecting:
            gc.enable()
