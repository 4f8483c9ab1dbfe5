"""kashvi: a background-job queue whose every promise can be run.

from kashvi import queue
"""

from importlib import import_module

TYPE_CHECKING = False  # as ``typing`` has it, which a file of the user's would take the place of: see __main__.py
if TYPE_CHECKING:
    from typing import Any

    from . import errors, events, queue
    from .outbox.table import outbox_table
    from .queue import Queue
    from .worker.hooks import current

__version__ = "0.1.0"
__all__ = ["Queue", "current", "errors", "events", "outbox_table", "queue"]


def __getattr__(name: str) -> "Any":
    """Import a part at first use: most commands need only some."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    places = {
        "Queue": "queue.Queue",
        "current": "worker.hooks.current",
        "outbox_table": "outbox.table.outbox_table",
    }
    module, _, attribute = places.get(name, name).rpartition(".")
    part = import_module(f".{module or attribute}", __name__)
    return getattr(part, attribute) if module else part
