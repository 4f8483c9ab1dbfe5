"""The calls of a queue about its outboxes: the databases in whose transactions its jobs may be dispatched."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, cast

from . import dispatch, settings
from .dispatch import Sealed
from .errors import InvalidSetting, StoreError, UnusableSetting
from .ports import Driver, Runtime, worker_name
from .relaying import Relaying
from .stream import EventStream
from .text import visible

if TYPE_CHECKING:  # a process without an outbox does not load these
    import sqlalchemy

    from .dispatching import DjangoConnection
    from .outbox.database import Outbox
    from .outbox.relay import Relay
    from .worker.machine.steps import Limits

log = logging.getLogger("kashvi")


class Outboxes:
    """The part of ``Queue`` that stores jobs in transactions, and makes relays."""

    _outboxes: list[Outbox]
    _runtime: Runtime
    _stream: EventStream

    def outbox(
        self, database: sqlalchemy.Engine | str | DjangoConnection, *, hold_s: float = 0.0, target: str | None = None
    ) -> None:
        """Make this database an outbox: ``dispatch(job, session=…)`` stores jobs in its table ``kashvi_outbox``, and
        every worker of this queue relays them to the queue's server. Call it in each process that does either.

        Makes the table now if the database is up, else before the first relay; a migration may make it instead
        (``kashvi.outbox_table``). Of an async engine, give the URL: ``"postgresql://…"``. A connection of Django
        (``django.db.connection``) says where its database is; relays make connections of their own.
        hold_s: seconds that a row stays after its job was pushed. A server that loses its last moments in a failover
            within that time gets the job again (OUTBOX-6).
        target: the name of this queue in the rows; by default the prefix of its keys. Relays take only rows of their
            own, so queues of one prefix on several servers need names when they share a database.
        Raises InvalidSetting, WorkersRunning, and NoOutbox for a connection of Django that leads to no such database.
        """
        self._check_stopped("the outbox")
        from .outbox.database import Outbox
        from .outbox.django import is_django, url_of

        if is_django(database):
            database = url_of(database).render_as_string(hide_password=False)
        named = None if target is None else worker_name(target)
        made = Outbox(
            cast("sqlalchemy.Engine | str", database),
            self._runtime,
            target=lambda: named or self._relaying().relay_target,
            hold_s=settings.seconds("hold_s", hold_s, zero=True),
            own=named is None,
        )
        self._outboxes = [*(one for one in self._outboxes if not one.takes(made.engine)), made]
        try:
            made.prepare()
        except StoreError as error:
            log.warning("%s; it is tried again when a worker starts", visible(str(error)))
        made.rest()

    def outboxes(self) -> list[Outbox]:
        """The outboxes of this queue."""
        return self._outboxes

    def relays(self) -> list[Relay]:
        """A new relay of each outbox. Raises InvalidSetting for a driver that outboxes are not relayed to."""
        if not self._outboxes:
            return []
        from .outbox.relay import Relay

        driver, runtime, stream = self._relaying(), self._runtime, self._stream
        return [Relay(driver, one, runtime, stream, one.hold_s) for one in self._outboxes]

    def _relays_beside(self, limits: Limits, *, in_main: bool) -> list[Relay]:
        """The relays beside a worker: none if ``work()`` pushes between its rounds, as they could do so just after."""
        if in_main and limits.until != "stopped":
            return []
        self.check_threads()
        return self.relays()

    def check_threads(self) -> None:
        """Raises InvalidSetting for an outbox that only the thread of the app can relay."""
        for outbox in self._outboxes:
            if outbox.is_alone:
                why = "it has one connection, so a relay beside the app would see rows that are not committed"
                raise UnusableSetting(f"the {outbox}", f"{why}. Use a file or a server, or work(stop_when_empty=True)")

    def _relaying_after(self, limits: Limits, work: Callable[[], None]) -> None:
        """Work. If that ends once the queue is empty, push what was committed meanwhile, and work on."""
        work()
        if limits.until == "stopped" or limits.max_jobs is not None or limits.max_time_s is not None:
            return
        while self._relay_now():
            work()

    def _leave_outboxes(self) -> None:
        """In the child of a fork."""
        for outbox in self._outboxes:
            outbox.forked()

    def _relay_now(self) -> bool:
        """Push what is committed, unless another process does so. True if there was something."""
        return sum(relay.flush() for relay in self.relays()) > 0

    def _store_in(self, session: object, sealed: Sequence[Sealed], delay_s: float) -> list[str]:
        return dispatch.store(partial(self._insert, session), self._stream, sealed, delay_s)

    def _insert(self, session: object, sealed: Sequence[Sealed], delay_s: float) -> None:
        from .outbox import database, django

        if django.is_django(session):
            url = django.url_of(session)
            found = next((one for one in self._outboxes if one.is_at(url)), None)
            if found is None:
                raise database.no_outbox_at(url, self._outboxes)
            django.insert(found, session, sealed, delay_s)
            return
        outbox, connection = database.outbox_of(self._outboxes, session)
        outbox.insert(session, connection, sealed, delay_s)

    def _relaying(self) -> Relaying:
        if not isinstance(self.driver, Relaying):
            raise InvalidSetting("the driver", self.driver, "one that outboxes are relayed to (kashvi.relaying)")
        return self.driver

    @property
    def driver(self) -> Driver:
        raise NotImplementedError

    def _check_stopped(self, what: str) -> None:
        raise NotImplementedError
