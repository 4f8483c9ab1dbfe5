"""The stream of one process's events, and those who observe it."""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from .events import AnyEvent, Observer

log = logging.getLogger("kashvi")

E_ = TypeVar("E_", bound="AnyEvent")


class EventStream:
    """The events of one process. Costs nothing while there is no observer."""

    def __init__(self, process: str, now: Callable[[], float], interruptible: Callable[[], bool]) -> None:
        self.process = process
        self._now = now
        self._interruptible = interruptible
        self._seq = itertools.count(1)
        """The number of the next event."""
        self._observers: tuple[Observer, ...] = ()
        self.observed = False
        """True if there is an observer. Hot paths check it before building an event."""

    def restart(self, process: str) -> None:
        """In the child of a fork: take another process number and count events anew."""
        self.process, self._seq = process, itertools.count(1)

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Call ``observer(event)`` for every event from now on, in the thread that emits it.

        Returns a function that ends it. An exception of an observer is logged and has no other effect, except that
        the main thread raises a KeyboardInterrupt, which is Ctrl-C. A slow observer holds the worker up; one slower
        than a lease costs the worker its jobs.
        """
        self._observers = (*self._observers, observer)
        self.observed = True

        def stop() -> None:
            self._observers = tuple(other for other in self._observers if other is not observer)
            self.observed = bool(self._observers)

        return stop

    def emit(self, kind: type[E_], raised: BaseException | None = None, /, **facts: Any) -> None:
        """Build the event and call the observers. ``raised``: the event's ``exception`` during the calls."""
        if not self._observers:
            return
        event = kind(process=self.process, seq=next(self._seq), at=self._now(), **facts)
        if raised is None:
            self._tell(event)
            return
        event.__dict__["raised"] = raised
        try:
            self._tell(event)
        finally:
            del event.__dict__["raised"]  # observers may keep the event; the exception holds the handler's variables

    def _tell(self, event: AnyEvent) -> None:
        for observer in self._observers:
            try:
                observer(event)
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt) and self._interruptible():
                    raise
                with contextlib.suppress(BaseException):  # the app wrote its logging handlers, which may raise too
                    log.exception("an observer of kashvi's events failed on %s", type(event).__name__)
