"""A worker: the machine that decides (``machine/``), and what runs it (``shell.py``, ``keeper.py``)."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .machine.steps import Limits as Limits


def __getattr__(name: str) -> Any:
    """``Limits``, at first use: a process that only dispatches loads no machine."""
    if name != "Limits":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .machine.steps import Limits

    return Limits
