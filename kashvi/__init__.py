"""kashvi: a background-job queue whose every promise can be run.

from kashvi import queue
"""

from importlib import import_module

TYPE_CHECKING = False  # as ``typing`` has it, which a file of the user's would take the place of: see __main__.py
if TYPE_CHECKING:
    from typing import Any

    from . import errors, events, queue
    from .queue import Queue

__version__ = "0.1.0"
__all__ = ["Queue", "errors", "events", "queue"]


def __getattr__(name: str) -> "Any":
    """Import a part at first use: most commands need only some."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(".queue", __name__).Queue if name == "Queue" else import_module(f".{name}", __name__)
