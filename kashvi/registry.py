"""Job types by name. The name is all that links a job on the queue to its code."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from .errors import DuplicateJobName, InvalidSetting, NotAJob, UnknownJobType, UnregisteredJob
from .jobs.codec import Job, JobType, why_no_job
from .names import DEFAULT
from .unique import Unique

if TYPE_CHECKING:
    from .retries import Retry

NAME_MAX = 255
"""The longest name that the failure table holds."""


class Registry:
    """The job types one or several queues know."""

    def __init__(self) -> None:
        self._by_name: dict[str, JobType] = {}
        self._by_class: dict[type, JobType] = {}
        self.time_limits: dict[str, float] = {}
        """The types with a time limit, in seconds."""

    def register(
        self,
        name: str,
        factory: Callable[[], Job] | type[Job],
        retry: Retry | None = None,
        timeout: float | timedelta | None = None,
        queue: str = DEFAULT,
        unique: Unique = False,
    ) -> None:
        """Give a job type its wire name.

        ``factory`` is the class, or a function that returns an instance whose fields serve as defaults.
        ``retry``: the type's policy, in place of the class's attribute ``retry``.
        ``timeout``: the time limit of an attempt, in place of the class's attribute ``timeout``.
        ``queue``: the queue of its jobs.
        ``unique``: True, or a function of the job: no two jobs with one key are on their queues (QUEUES-7).
        The same class (by module and qualified name) may be registered again, as a reload does.
        Raises NotAJob, DuplicateJobName, InvalidSetting for a name that is empty, too long, not printable, or starts
        with the ``*`` by which Go marks a pointer, and for a ``retry`` that is no policy, a ``timeout`` that is no
        time or a ``queue`` that no queue can be called.
        """
        if not isinstance(name, str) or not is_a_name(name):
            raise InvalidSetting(
                "a job name", name, 'a printable text like "jobs.WelcomeEmailJob", without a leading *'
            )
        new = JobType(name, factory, retry, timeout, queue, unique)
        for old in (self._by_name.get(name), self._by_class.get(new.job_class)):
            if old and (old.origin, old.name) != (new.origin, new.name):
                if old.name == name:
                    raise DuplicateJobName(name, old.origin, new.origin)
                raise DuplicateJobName(old.name, f"{old.origin}, which has one name only", f"a second name {name!r}")
        self._by_name[name] = new
        self._by_class[new.job_class] = new
        if new.timeout_s:
            self.time_limits[name] = new.timeout_s
        else:
            self.time_limits.pop(name, None)

    def named(self, name: str) -> JobType:
        """The type of that name. ``*jobs.X``, Go's pointer type, is read as ``jobs.X``. Raises UnknownJobType."""
        found = self._by_name.get(name) or self.find(name)  # once a job: the first look nearly always suffices
        if found is None:
            raise UnknownJobType(name, self.names())
        return found

    def policy(self, name: str) -> Retry | None:
        """The retry policy of the type of that name; None if it has none or is not known."""
        found = self.find(name)
        return found.retry if found else None

    def time_limit(self, name: str) -> float | None:
        """The time limit of the type of that name, in seconds; None if it has none or is not known."""
        return self.time_limits.get(name) or self.time_limits.get(name.removeprefix("*"))

    def find(self, name: str) -> JobType | None:
        """The type of that name; None if it is not known."""
        return self._by_name.get(name) or self._by_name.get(name.removeprefix("*"))

    def of(self, job: Any) -> JobType:
        """The type of an instance. Raises NotAJob, UnregisteredJob."""
        found = self._by_class.get(type(job))
        if found is None:
            if isinstance(job, type):
                raise NotAJob(job, f"it is the class itself; dispatch an instance, {job.__name__}(…)")
            if why := why_no_job(type(job)):
                raise NotAJob(job, why)
            raise UnregisteredJob(type(job), self.names())
        return found

    def names(self) -> list[str]:
        return sorted(self._by_name)


def is_a_name(name: str) -> bool:
    """True if a job type can have this name."""
    return 0 < len(name) <= NAME_MAX and not name.startswith("*") and name.isprintable()


def default_name(job_class: type) -> str:
    """The name a bare ``@queue.job`` gives: the last module segment and the class's name.

    Raises InvalidSetting in ``__main__``: a worker would import the module under another name.
    """
    if job_class.__module__ == "__main__":
        raise InvalidSetting(
            f"the name of {job_class.__qualname__}", None, f'given in a script: @queue.job("jobs.{job_class.__name__}")'
        )
    return f"{job_class.__module__.rpartition('.')[2]}.{job_class.__qualname__}"
