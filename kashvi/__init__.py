"""kashvi: a background-job queue whose every promise can be run.

from kashvi import queue
"""

from . import errors, events, queue
from .queue import Queue

__version__ = "0.1.0"
__all__ = ["Queue", "errors", "events", "queue"]
