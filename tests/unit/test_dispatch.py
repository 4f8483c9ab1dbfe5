"""Dispatching: what is captured at the call, and every error it can raise there."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import redis

from kashvi import queue as module
from kashvi.drivers.memory import MemoryDriver
from kashvi.errors import (
    DriverUnavailable,
    InvalidDelay,
    InvalidSetting,
    NotAJob,
    PayloadTooLarge,
    SettingError,
    UnencodableJob,
    UnregisteredJob,
    WorkersRunning,
)
from kashvi.queue import MemoryQueueWarning, Queue, _DefaultQueue
from kashvi.registry import Registry

ran: list[Email] = []


@dataclass
class Email:
    user_id: Any
    tags: list[str] = field(default_factory=list)

    def handle(self) -> None:
        ran.append(self)
        if self.tags == ["fail"]:
            self.tags.append("changed by an attempt")
            raise ValueError


@dataclass
class NoHandle:
    n: int = 0


class NoFields:
    def handle(self) -> None: ...


@pytest.fixture(autouse=True)
def nothing_ran() -> Iterator[None]:
    """Each test starts with no job run."""
    ran.clear()
    yield
    ran.clear()


@pytest.fixture
def queue() -> Queue:
    """A queue in memory that knows Email."""
    queue = Queue(registry=Registry())
    queue.register("jobs.Email", Email)
    return queue


def left(queue: Queue) -> int:
    """How many jobs are on the queue."""
    return queue.stats().ready + queue.stats().delayed


# -- what is captured ----------------------------------------------------------------------


def test_job_is_captured_at_the_call(queue: Queue) -> None:
    """Changing the job afterwards changes nothing."""
    job = Email(1, ["a"])
    queue.dispatch(job)
    job.user_id = 99
    job.tags.append("b")
    queue.work(stop_when_empty=True)
    assert ran == [Email(1, ["a"])]


def test_delayed_job_is_captured_at_the_call_and_not_when_it_is_due() -> None:
    """A delay is no reason to read the job later."""
    pushed: list[bytes] = []

    class Listening(MemoryDriver):
        def push(self, envelopes: Sequence[bytes], delay_s: float = 0.0) -> float | None:
            pushed.extend(envelopes)
            return super().push(envelopes, 0.0)

    queue = Queue(Listening(), registry=Registry())
    queue.register("jobs.Email", Email)
    job = Email(1, ["a"])
    job_id = queue.dispatch_after(job, 3600)
    job.tags.append("b")
    queue.work(stop_when_empty=True)
    assert pushed == [b'{"id":"%b","type":"jobs.Email","payload":{"user_id":1,"tags":["a"]}}' % job_id.encode()]
    assert ran == [Email(1, ["a"])]


def test_each_attempt_gets_an_instance_of_its_own() -> None:
    """What an attempt does to its job, the next one does not see."""

    class Impatient(MemoryDriver):
        def exchange(self, worker: str, n: int, lease_s: float, settlements: Any, want: int) -> Any:
            return super().exchange(worker, n, lease_s, [s._replace(in_s=0.0) for s in settlements], want)

    queue = Queue(Impatient(), registry=Registry())
    queue.register("jobs.Email", Email)
    queue.dispatch(Email(1, ["fail"]))
    queue.work(drain=True)
    assert [job.tags for job in ran] == [["fail", "changed by an attempt"]] * 3
    assert len({id(job) for job in ran}) == 3
    [failed] = queue.failed_jobs()
    assert failed.job == Email(1, ["fail"])
    assert failed.payload == '{"user_id":1,"tags":["fail"]}'


def test_dispatch_returns_the_id_and_ids_ascend(queue: Queue) -> None:
    """Two equal jobs are two jobs."""
    ids = [queue.dispatch(Email(1)) for _ in range(100)]
    assert ids == sorted(set(ids))
    assert left(queue) == 100


def test_jobs_run_in_the_order_of_dispatch(queue: Queue) -> None:
    """One at a time or many in one go."""
    queue.dispatch(Email(0))
    queue.dispatch_many(Email(n) for n in (1, 2, 3))
    queue.dispatch_after(Email(4), 0)
    queue.work(stop_when_empty=True)
    assert [job.user_id for job in ran] == [0, 1, 2, 3, 4]


# -- what is no job ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("job", "error", "why"),
    [
        (None, NotAJob, r"None is not a job: it has no method handle\(\)"),
        (5, NotAJob, r"5 is not a job: it has no method"),
        ("jobs.Email", NotAJob, "is not a job"),
        (object(), NotAJob, "is not a job"),
        (NoHandle(), NotAJob, r"no method handle\(\)"),
        (NoFields(), NotAJob, "does not declare its fields"),
        (Email, NotAJob, r"it is the class itself; dispatch an instance, Email\(…\)"),
    ],
)
def test_what_is_no_job_is_refused(queue: Queue, job: object, error: type[Exception], why: str) -> None:
    """The error says what is missing, and what a job is."""
    for dispatch in (queue.dispatch, lambda job: queue.dispatch_after(job, 5), lambda job: queue.dispatch_many([job])):
        with pytest.raises(error, match=f"{why}.*A job is a dataclass"):
            dispatch(job)
    assert left(queue) == 0


def test_job_of_an_unregistered_type_is_refused() -> None:
    """The error shows both ways to register it."""
    with pytest.raises(UnregisteredJob, match=r'@queue\.job\("jobs\.Email"\).*queue\.register\("jobs\.Email", Email\)'):
        Queue(registry=Registry()).dispatch(Email(1))


def test_payload_over_the_limit_is_refused(queue: Queue) -> None:
    """The default is 1 MiB of JSON, to the byte."""
    room = 1024 * 1024 - len('{"user_id":"","tags":[]}')
    queue.dispatch(Email("x" * room))
    with pytest.raises(PayloadTooLarge, match=r"1,048,577 bytes.*limit of 1,048,576.*Queue\(payload_limit=") as caught:
        queue.dispatch(Email("x" * (room + 1)))
    assert (caught.value.size, caught.value.limit) == (1024 * 1024 + 1, 1024 * 1024)
    assert left(queue) == 1


def test_limit_of_the_payload_can_be_set() -> None:
    """It counts bytes, not characters."""
    queue = Queue(registry=Registry(), payload_limit=25)
    queue.register("jobs.Email", Email)
    queue.dispatch(Email("x"))
    with pytest.raises(PayloadTooLarge):
        queue.dispatch(Email("é"))


# -- delays --------------------------------------------------------------------------------


@pytest.mark.parametrize("delay", [0, 0.0, -0.0, timedelta(0)], ids=repr)
def test_delay_of_nothing_is_dispatch(queue: Queue, delay: float | timedelta) -> None:
    """The job is ready at once."""
    queue.dispatch_after(Email(1), delay)
    assert queue.stats().ready == 1


@pytest.mark.parametrize("delay", [1, 0.001, timedelta(microseconds=1), timedelta(days=36_500), 5e-324], ids=repr)
def test_job_with_a_delay_waits(queue: Queue, delay: float | timedelta) -> None:
    """Seconds, fractions of them, or a timedelta, up to a hundred years."""
    queue.dispatch_after(Email(1), delay)
    assert queue.stats().delayed == 1


@pytest.mark.parametrize(
    "delay",
    [
        -1, -1e-9, timedelta(microseconds=-1), float("nan"), float("inf"), float("-inf"), True, False, "5", None,
        Decimal(5), 5j, timedelta.max, 1e12, 10**400, -(10**400), [5],
    ],
    ids=lambda delay: "huge" if isinstance(delay, int) and abs(delay) > 5 else ascii(delay),
)  # fmt: skip
def test_delay_that_is_none_is_refused(queue: Queue, delay: Any) -> None:
    """Negative, not finite, not a number, or further away than any clock; nothing is pushed."""
    with pytest.raises(InvalidDelay, match="the delay must be"):
        queue.dispatch_after(Email(1), delay)
    assert left(queue) == 0


# -- many ----------------------------------------------------------------------------------


def test_many_jobs_go_in_one_push(queue: Queue) -> None:
    """One round trip, ids in the order of the jobs."""
    pushes: list[int] = []

    class Counting(MemoryDriver):
        def push(self, envelopes: Sequence[bytes], delay_s: float = 0.0) -> float | None:
            pushes.append(len(envelopes))
            return super().push(envelopes, delay_s)

    queue.set_driver(Counting())
    ids = queue.dispatch_many(Email(n) for n in range(50))
    assert pushes == [50]
    assert ids == sorted(set(ids))


def test_no_jobs_are_no_push(queue: Queue) -> None:
    """An empty list comes back, and the driver is not asked."""

    class Down(MemoryDriver):
        def push(self, envelopes: Sequence[bytes], delay_s: float = 0.0) -> float | None:
            raise AssertionError

    queue.set_driver(Down())
    assert queue.dispatch_many([]) == []
    assert queue.dispatch_many(iter(())) == []


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (NoHandle(), NotAJob),
        (None, NotAJob),
        (Email(float("nan")), UnencodableJob),
        (Email("x" * 2_000_000), PayloadTooLarge),
    ],
    ids=["no handle", "None", "NaN", "too large"],
)
def test_many_jobs_are_all_or_none(queue: Queue, bad: object, error: type[Exception]) -> None:
    """One that can't be dispatched keeps the others from being sent."""
    with pytest.raises(error):
        queue.dispatch_many([Email(1), bad, Email(2)])
    assert left(queue) == 0


def test_error_of_the_driver_carries_the_id_of_the_job(queue: Queue) -> None:
    """The caller can look for it, and sees whether it may have been sent."""

    class Down(MemoryDriver):
        def push(self, envelopes: Sequence[bytes], delay_s: float = 0.0) -> float | None:
            raise DriverUnavailable("refused")

    queue.set_driver(Down())
    with pytest.raises(DriverUnavailable) as caught:
        queue.dispatch(Email(1))
    assert caught.value.job_id
    assert not caught.value.maybe_sent


# -- settings ------------------------------------------------------------------------------


@pytest.mark.parametrize("attempts", [0, -1, True, 1.5, 3.0, "3", None], ids=repr)
def test_number_of_attempts_that_is_none_is_refused(queue: Queue, attempts: Any) -> None:
    """A job is tried at least once."""
    for set_it in (queue.set_max_retry, lambda n: Queue(registry=Registry(), max_attempts=n)):
        with pytest.raises(InvalidSetting, match=r"attempts in all.*a whole number, 1 or more"):
            set_it(attempts)


@pytest.mark.parametrize(
    ("driver", "why"),
    [
        (None, "not 'an object of type NoneType'"),
        (MemoryDriver, r"an instance, MemoryDriver\(\.\.\.\), not 'the class MemoryDriver'"),
        (5, r"a redis:// URL, a RedisDriver\(client\)"),
        (redis.Redis(password="hunter2"), r"a RedisDriver\(client\).*not 'an object of type Redis'"),
        ("localhost", "a redis://, rediss:// or unix:// URL"),
        ("redis://shop/first", "the number of a database, as in redis://host/0"),
        ("redis://shop/1/2", "the number of a database"),
        ("redis://shop/-1", "the number of a database"),
        ("redis://shop:0/1", "no server has the port 0"),
        ("redis://shop/1#x", "nothing comes after a #"),
        ("unix://?db=1", "it names no socket"),
        ("redis://shop?protocol=4", "an option that redis-py does not know, or a value that does not fit"),
        ("rediss://shop?ssl_cert_reqs=some", "an option that redis-py does not know, or a value that does not fit"),
        ("redis://shop?socket_timeout=0", "socket_timeout of the Redis client must be a number of seconds above 0"),
        ("redis://shop?socket_connect_timeout=nan", "socket_connect_timeout of the Redis client must be a number"),
        ("http://:hunter2@host", "a redis://, rediss:// or unix:// URL"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_driver_that_is_none_is_refused(queue: Queue, driver: Any, why: str) -> None:
    """At once, not when the first job comes; Queue(...) checks the same. No password is shown."""
    takers: list[Callable[[Any], object]] = [queue.set_driver]
    if driver is not None:
        takers.append(Queue)
    for take in takers:
        with pytest.raises(InvalidSetting, match=why) as caught:
            take(driver)
        assert "hunter2" not in str(caught.value)
    assert isinstance(queue.driver, MemoryDriver)


def test_url_is_a_driver(queue: Queue) -> None:
    """Of a Redis, for set_driver and for Queue(...)."""
    for url in ("redis://shop:1/0", "redis://shop:1", "redis://shop:1/", "redis://shop:1/0/"):
        queue.set_driver(url)
        assert repr(queue.driver) == repr(Queue(url).driver) == "redis at shop:1"


def test_driver_can_not_change_under_running_workers(queue: Queue) -> None:
    """They would go on taking jobs from the old one."""
    with queue.start_workers(1), pytest.raises(WorkersRunning, match=r"the driver can't change.*Stop them first"):
        queue.set_driver(MemoryDriver())
    queue.set_driver(MemoryDriver())


# -- the default queue ---------------------------------------------------------------------


@pytest.fixture
def default(monkeypatch: pytest.MonkeyPatch) -> Queue:
    """What the module's functions act on, fresh, and nothing in the environment."""
    monkeypatch.delenv("KASHVI_REDIS_URL", raising=False)
    monkeypatch.delenv("KASHVI_DATABASE_URL", raising=False)
    queue = _DefaultQueue(registry=Registry())
    queue.register("jobs.Email", Email)
    return queue


def test_default_memory_queue_without_a_worker_warns_once(default: Queue) -> None:
    """The warning says what to do, and points at the caller's line."""
    with pytest.warns(MemoryQueueWarning, match=r"set KASHVI_REDIS_URL or call queue\.set_driver") as warned:
        default.dispatch(Email(1))
    assert [w.filename for w in warned] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        default.dispatch(Email(2))
        default.dispatch_after(Email(3), 5)
    assert left(default) == 3


def test_chosen_memory_queue_does_not_warn(default: Queue) -> None:
    """set_driver(MemoryDriver()) says that memory is meant."""
    default.set_driver(MemoryDriver())
    default.dispatch(Email(1))


def test_asking_the_default_queue_for_its_stats_does_not_warn(default: Queue) -> None:
    """Nothing was dispatched, so nothing can be lost."""
    assert default.stats().ready == 0


def test_default_memory_queue_with_a_worker_does_not_warn(default: Queue) -> None:
    """Its jobs are seen to."""
    with default.start_workers(1):
        default.dispatch(Email(1))


def test_queue_of_ones_own_does_not_warn(queue: Queue) -> None:
    """Who makes a Queue without a driver has read that it is in memory."""
    queue.dispatch(Email(1))


def test_redis_url_is_taken_from_the_environment_at_first_use(default: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at import: a program may load its .env in between."""
    monkeypatch.setenv("KASHVI_REDIS_URL", "redis://127.0.0.1:1/0")
    with pytest.raises(DriverUnavailable, match="nothing was sent"):
        default.dispatch(Email(1))
    assert isinstance(default.driver, module.RedisDriver)


def test_chosen_driver_goes_before_the_environment(default: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order: explicit call, environment, memory."""
    monkeypatch.setenv("KASHVI_REDIS_URL", "redis://127.0.0.1:1/0")
    default.set_driver(MemoryDriver())
    default.dispatch(Email(1))
    assert left(default) == 1


@pytest.mark.parametrize("url", ["localhost:6379", "http://localhost", "redis://localhost:port", "nonsense"])
def test_wrong_redis_url_is_a_clear_error(default: Queue, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """An error of ours, at first use; no job goes to memory instead."""
    monkeypatch.setenv("KASHVI_REDIS_URL", url)
    for _ in range(2):
        with pytest.raises(SettingError, match=r"(?i)redis"):
            default.dispatch(Email(1))


def test_database_url_is_taken_from_the_environment_at_first_use(
    default: Queue, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The first worker makes the table."""
    monkeypatch.setenv("KASHVI_DATABASE_URL", f"sqlite:///{tmp_path}/jobs.db")
    default.set_driver(MemoryDriver())
    default.dispatch(Email(1))
    assert not (tmp_path / "jobs.db").exists()
    default.work(stop_when_empty=True)
    assert (tmp_path / "jobs.db").exists()


@pytest.mark.parametrize("url", ["nonsense", "nosuch://x", ""])
def test_wrong_database_url_is_a_clear_error(default: Queue, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """An error of ours, before a worker starts; an empty one is none."""
    monkeypatch.setenv("KASHVI_DATABASE_URL", url)
    default.set_driver(MemoryDriver())
    if url:
        with pytest.raises(SettingError, match=r"(?i)database|url"):
            default.work(stop_when_empty=True)
    else:
        default.work(stop_when_empty=True)


def test_functions_of_the_module_act_on_one_default_queue() -> None:
    """In a process of its own: dispatch, work, and what failed."""
    program = (
        "from dataclasses import dataclass\n"
        "from kashvi import queue\n"
        "@queue.job('jobs.Fails')\n"
        "@dataclass\n"
        "class Fails:\n"
        "    n: int\n"
        "    def handle(self):\n"
        "        raise ValueError(self.n)\n"
        "queue.set_driver(queue.MemoryDriver())\n"
        "queue.set_max_retry(1)\n"
        "queue.dispatch(Fails(7))\n"
        "queue.work(stop_when_empty=True)\n"
        "print([(f.job, f.error, f.attempts) for f in queue.failed_jobs()])\n"
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith("KASHVI_")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, env=clean, check=True
    )
    assert done.stdout == "[(Fails(n=7), 'ValueError: 7', 1)]\n"


@pytest.mark.parametrize("n", [0, -1, True, 2.0, "5"])
def test_a_number_of_workers_that_is_none_is_refused(queue: Queue, n: Any) -> None:
    """It says what would do."""
    with pytest.raises(InvalidSetting, match=r"the number of workers.*a whole number, 1 or more"):
        queue.start_workers(n)


def test_a_job_type_that_is_gone_is_not_remembered() -> None:
    """Tests and simulations make types at run time by the thousand."""

    def dispatched() -> weakref.ref[type[Any]]:
        @dataclass
        class Note:
            at: datetime
            of: tuple[int, ...] = (1, 2)

            def handle(self) -> None:
                """Nothing to do."""

        queue = Queue(registry=Registry())
        queue.register("jobs.Note", Note)
        queue.dispatch(Note(datetime(2026, 1, 1, tzinfo=UTC)))
        return weakref.ref(Note)

    note = dispatched()
    gc.collect()
    assert note() is None
