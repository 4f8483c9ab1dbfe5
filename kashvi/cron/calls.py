"""The calls of a queue about its cron entries."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast, get_args, overload

from .. import dispatch, settings
from ..errors import InvalidSetting, UnregisteredJob
from ..names import DEFAULT
from ..ports import Driver, Runtime
from ..registry import Registry
from ..ticking import Ticking

if TYPE_CHECKING:  # only apps with entries load these
    from .entry import Entry, Missed
    from .listed import Scheduled
    from .schedule import Schedule

J = TypeVar("J", bound=type[Any])
MAX_LATE_S = 86400.0
NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
NAME_ALLOWED = "1 to 128 of A-Z, a-z, 0-9, '_', '.' and '-' (name=...)"


class Scheduling:
    """The part of ``Queue`` that has cron entries."""

    registry: Registry
    payload_limit: int
    _runtime: Runtime
    _cron: dict[str, Entry]

    @overload
    def cron(
        self,
        expression: str,
        /,
        *,
        tz: str = "UTC",
        name: str | None = None,
        missed: Missed = "once",
        max_late: float | timedelta = MAX_LATE_S,
    ) -> Callable[[J], J]: ...
    @overload
    def cron(
        self,
        expression: str,
        job: object,
        /,
        *,
        tz: str = "UTC",
        name: str | None = None,
        missed: Missed = "once",
        max_late: float | timedelta = MAX_LATE_S,
    ) -> None: ...
    def cron(
        self,
        expression: str,
        job: object = None,
        /,
        *,
        tz: str = "UTC",
        name: str | None = None,
        missed: Missed = "once",
        max_late: float | timedelta = MAX_LATE_S,
    ) -> Callable[[J], J] | None:
        """Dispatch a job at each tick: ``@queue.cron("0 9 * * mon", tz="Europe/Berlin")`` above ``@queue.job`` of a
        class without required fields, or ``queue.cron("0 9 * * mon", Report("weekly"))``.

        Every worker of this queue asks the server, which fires each tick once (CRON-1). Without a worker, no ticks.
        expression: five fields, as in crontab(5). tz: the time zone; for changes of its clock see CRON-2.
        name: by which the server knows the entry; by default that of the job type. A new name starts afresh.
        missed: what to do about ticks that are late: fire the newest one (``once``), none that is older than 60 s
            (``skip``), or ``all``, the newest 1,000 at most; none that is older than ``max_late`` (seconds or a
            timedelta).
        Needs the extra ``cron``. Raises InvalidSetting, WorkersRunning, and what a dispatch of the job raises.
        """
        self._check_stopped("the cron entries")
        from .entry import Missed
        from .schedule import Schedule

        schedule = Schedule(expression, tz)
        if schedule.after(self._runtime.now()) is None:
            raise InvalidSetting("a cron expression", expression, "one with a tick in the next 50 years")
        if missed not in get_args(Missed):
            raise InvalidSetting("missed", missed, " or ".join(map(repr, get_args(Missed))))
        late_s = settings.seconds("max_late", max_late.total_seconds() if isinstance(max_late, timedelta) else max_late)

        def add(found: object) -> None:
            self._add(schedule, found, name, missed, late_s)

        if job is not None:
            add(job)
            return None

        def decorate(job_class: J) -> J:
            add(job_class)
            return job_class

        return decorate

    def schedule(self) -> list[Scheduled]:
        """The cron entries by name, with last and next ticks; also those that the server knows and this queue does not
        have. Raises DriverError, and InvalidSetting for a driver that keeps no ticks (CRON-7).
        """
        from .listed import scheduled

        return scheduled(self._cron, ticking(self.driver, {}))

    def forget_ticks(self, name: str) -> bool:
        """Make the server forget an entry, its last tick included: an entry of this name starts afresh. False if the
        server does not know it. Raises DriverError, InvalidSetting.
        """
        return ticking(self.driver, {}).forget_ticks(name)

    def _add(self, schedule: Schedule, job: object, name: str | None, missed: Missed, max_late_s: float) -> None:
        from .entry import Entry, instance

        made = instance(job)
        try:
            job_type = self.registry.of(made)
        except UnregisteredJob:
            if isinstance(job, type):
                allowed = "a registered job type: @queue.cron(...) goes above @queue.job(...)"
                raise InvalidSetting("the class of a cron entry", job, allowed) from None
            raise
        sealed = dispatch.seal_job(made, self.registry, self._runtime, self.payload_limit, None, "")
        name = job_type.name if name is None else name
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise InvalidSetting("the name of a cron entry", name, NAME_ALLOWED)
        payload = b"" if isinstance(job, type) else sealed.envelope
        entry = Entry(name, schedule, job, job_type.name, sealed.queue, missed, max_late_s, payload)
        old = self._cron.get(name)
        if old is not None and not old.same(entry):
            taken = (
                f"one that no other entry has ({old.schedule} of {old.type} has this one): give it another by name=..."
            )
            raise InvalidSetting("the name of a cron entry", name, taken)
        self._cron[name] = entry

    @property
    def driver(self) -> Driver:
        raise NotImplementedError

    def _check_stopped(self, what: str) -> None:
        raise NotImplementedError


def ticking(driver: Driver, entries: dict[str, Entry]) -> Ticking:
    """The driver. Raises InvalidSetting if it can't fire these."""
    if not getattr(driver, "keeps_ticks", False):
        raise InvalidSetting(
            "the driver of a queue with cron entries", driver, "one that keeps ticks (keeps_ticks = True)"
        )
    if any(entry.queue != DEFAULT for entry in entries.values()):
        dispatch.naming(driver)
    return cast(Ticking, driver)
