"""Forks of this process, with its planted bugs."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from multiprocessing import get_context
from typing import Any


def forked(run: Callable[..., object], *args: Any) -> Any:
    """A started ``multiprocessing.Process`` that ends when ``run`` does."""
    process = get_context("fork").Process(target=run, args=args)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads may run; none of them is needed there
        process.start()
    return process
