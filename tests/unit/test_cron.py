"""Cron entries: the arithmetic of schedules, what a registration refuses, the server's step, and the jobs of ticks."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock
from zoneinfo import ZoneInfo

import fakeredis
import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from kashvi import current
from kashvi.cron.entry import id_of
from kashvi.cron.schedule import Schedule
from kashvi.drivers.lines import MemoryStore
from kashvi.drivers.memory import MemoryDriver
from kashvi.drivers.redis import RedisDriver
from kashvi.errors import (
    CommandRefused,
    DuplicateJobName,
    InvalidSetting,
    UnencodableJob,
    UnregisteredJob,
    WorkersRunning,
)
from kashvi.events import JobDispatched, JobDuplicate, TickRefused
from kashvi.jobs.envelope import read, rewrite, tick_in
from kashvi.queues import Queue
from kashvi.registry import Registry
from kashvi.runtime import SystemRuntime
from kashvi.ticking import TICK_OLD_S, Ask, Ticked, TickJob

EXPRESSIONS = ["30 2 * * *", "0 * * * *", "*/15 2 * * *", "0 */2 * * *", "0 0-23 * * *", "0 0 * * *", "*/20 0 * * *",
               "5 23 * * *", "0 9 * * mon", "0 0 L * *", "17 3 * 2 mon#2", "0 12 29 2 *", "*/7 1-3 * * *"]  # fmt: skip
YEARS = [("Europe/Berlin", 2027), ("America/Sao_Paulo", 2018), ("America/Havana", 2027), ("Pacific/Apia", 2011)]


@dataclass
class Report:
    what: str = "daily"

    def handle(self) -> None: ...


@dataclass
class Needy:
    user: int

    def handle(self) -> None: ...


@dataclass
class Live:
    connection: Any = field(default_factory=object)

    def handle(self) -> None: ...


@pytest.fixture
def queue() -> Queue:
    queue = Queue(MemoryDriver(), registry=Registry())
    queue.register("jobs.Report", Report)
    queue.register("jobs.Needy", Needy)
    queue.register("jobs.Live", Live)
    return queue


def all_of(schedule: Schedule, after: float, until: float) -> list[int]:
    """Asked for one after another."""
    found, at = [], after
    while (tick := schedule.after(at)) is not None and tick <= until:
        found.append(tick)
        at = tick
    return found


# -- schedules -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("zone", "year"), YEARS)
def test_a_year_is_as_cronsim_has_it_whatever_is_asked_for_first(zone: str, year: int) -> None:
    """cronsim answers in the past at a repeated hour; those answers are left out."""
    begin, end = (datetime(y, 1, 1, tzinfo=UTC).timestamp() for y in (year, year + 1))
    for expression in EXPRESSIONS:
        schedule, theirs = Schedule(expression, zone), [begin]
        for local in CronSim(expression, datetime.fromtimestamp(begin, ZoneInfo(zone))):
            if (tick := local.astimezone(UTC).timestamp()) > end:
                break
            if tick > theirs[-1]:
                theirs.append(tick)
        ours = all_of(schedule, begin, end)
        assert sorted({*ours} ^ {*theirs[1:]}) == [], expression  # a diff of the lists would take minutes
        assert ours == sorted(ours)
        assert schedule.between(begin, end, 10**6) == (ours, False)
        assert schedule.between(begin, end, 3) == (ours[-3:], len(ours) > 3)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(EXPRESSIONS), st.sampled_from(YEARS), st.floats(0, 366 * 86400.0))
def test_the_next_tick_does_not_depend_on_where_the_search_begins(
    expression: str, where: tuple[str, int], offset: float
) -> None:
    zone, year = where
    schedule = Schedule(expression, zone)
    at = datetime(year, 1, 1, tzinfo=UTC).timestamp() + offset
    tick = schedule.after(at)
    assert tick is not None
    assert tick > at
    assert schedule.between(at, tick, 5) == ([tick], False)


def test_in_a_zone_that_moves_by_half_an_hour_all_quarters_come() -> None:
    """Lord Howe Island, 4 April 2027, where 01:30 to 02:00 is repeated: cronsim 2.8 leaves 02:00 and 02:15 out."""
    at = datetime(2027, 4, 3, 12, tzinfo=UTC).timestamp()
    found = Schedule("*/15 2 * * *", "Australia/Lord_Howe").between(at, at + 86400, 99)[0]
    assert [f"{datetime.fromtimestamp(tick, UTC):%H:%M}" for tick in found] == ["15:30", "15:45", "16:00", "16:15"]


def test_equal_schedules_have_one_key() -> None:
    assert Schedule("0 9 * * MON").key == Schedule(" 0  9 * * mon ").key
    keys = {Schedule("0 9 * * mon").key, Schedule("0 9 * * 1").key, Schedule("0 9 * * mon", "Europe/Berlin").key}
    assert len(keys) == 3


# -- registration ----------------------------------------------------------------------------------


def test_an_entry_is_a_class_without_required_fields_or_a_job(queue: Queue) -> None:
    """Above the class, or by a call. The name is the type's, or another one."""
    registry = Registry()
    queue = Queue(MemoryDriver(), registry=registry)

    @queue.cron("0 9 * * mon", tz="Europe/Berlin")
    @queue.job("jobs.Weekly")
    @dataclass
    class Weekly:
        def handle(self) -> None: ...

    queue.register("jobs.Needy", Needy)
    queue.cron("*/5 * * * *", Needy(7), name="needy.7", missed="all", max_late=timedelta(hours=1))
    assert [(one.name, one.type, str(one.schedule), one.missed, one.max_late_s) for one in queue._cron.values()] == [
        ("jobs.Weekly", "jobs.Weekly", "0 9 * * mon (Europe/Berlin)", "once", 86400.0),
        ("needy.7", "jobs.Needy", "*/5 * * * *", "all", 3600.0),
    ]
    assert Weekly.__name__ == "Weekly"


def test_a_reload_may_say_the_same_again_and_nothing_else_may_have_the_name(queue: Queue) -> None:
    queue.cron("0 9 * * *", Report)
    queue.cron("0 9  * * *", Report)
    for again in (lambda: queue.cron("0 17 * * *", Report), lambda: queue.cron("0 9 * * *", Report("other"))):
        with pytest.raises(InvalidSetting, match=r"0 9 \* \* \* of jobs.Report has this one"):
            again()
    queue.cron("0 17 * * *", Report, name="evening")
    assert list(queue._cron) == ["jobs.Report", "evening"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ({"expression": "0 0 9 * * *"}, "five fields .* and none for seconds, not '0 0 9"),
        ({"expression": "@daily"}, "'0 0 \\* \\* \\*' is @daily, not '@daily'"),
        ({"expression": "61 * * * *"}, "its minute can't be read, not '61"),
        ({"expression": "0 9 * * funday"}, "its day-of-week can't be read"),
        ({"expression": "9" * 5000 + " * * * *"}, "five fields"),
        ({"expression": None}, "not None"),
        ({"expression": "0 0 30 2 *"}, "its day-of-month can't be read"),
        ({"tz": "Europe/Berlinn"}, "perhaps 'Europe/Berlin'.*not 'Europe/Berlinn'"),
        ({"tz": "../../etc/passwd"}, "the name of one"),
        ({"tz": None}, "not None"),
        ({"name": "a b"}, "1 to 128 of A-Z"),
        ({"name": ""}, "1 to 128 of A-Z"),
        ({"name": "x" * 129}, "1 to 128 of A-Z"),
        ({"missed": "never"}, "'skip' or 'once' or 'all', not 'never'"),
        ({"max_late": 0}, "max_late must be .* not 0"),
        ({"max_late": float("nan")}, "max_late must be"),
    ],
)
def test_what_no_entry_can_have_is_refused_with_the_value(queue: Queue, words: dict[str, Any], why: str) -> None:
    expression = words.pop("expression", "0 9 * * *")
    with pytest.raises(InvalidSetting, match=why):
        queue.cron(expression, Report(), **words)
    assert queue._cron == {}


def test_a_job_that_could_not_be_dispatched_is_refused(queue: Queue) -> None:
    with pytest.raises(InvalidSetting, match=r"without required fields; or give the job itself.*missing"):
        queue.cron("0 9 * * *", Needy)
    with pytest.raises(UnencodableJob):
        queue.cron("0 9 * * *", Live)
    with pytest.raises(InvalidSetting, match=r"@queue.cron\(...\) goes above @queue.job"):
        queue.cron("0 9 * * *")(type("Other", (Report,), {}))
    with pytest.raises(UnregisteredJob):
        queue.cron("0 9 * * *", type("Other", (Report,), {})())
    queue.register("jobs.Only one", type("Only", (Report,), {}), queue="mail")
    with pytest.raises(InvalidSetting, match="name"):
        queue.cron("0 9 * * *", queue.registry.named("jobs.Only one").job_class)
    with pytest.raises(DuplicateJobName):
        queue.register("jobs.Report", Needy)
    assert queue._cron == {}


def test_entries_come_before_the_workers(queue: Queue) -> None:
    """A running worker would not know it."""
    with queue.start_workers(1), pytest.raises(WorkersRunning):
        queue.cron("0 9 * * *", Report)


def test_a_driver_without_ticks_is_refused_when_a_worker_starts(queue: Queue) -> None:
    with mock.patch.object(MemoryDriver, "keeps_ticks", False):
        queue.cron("0 9 * * *", Report)
        with pytest.raises(InvalidSetting, match="keeps_ticks"):
            queue.start_workers(1)


def test_without_cronsim_or_zones_the_error_says_what_to_install(queue: Queue, tmp_path: Path) -> None:
    with mock.patch.dict(sys.modules, {"cronsim": None}), pytest.raises(InvalidSetting, match=r"kashvi\[cron\]"):
        queue.cron("0 9 * * *", Report)
    ZoneInfo.clear_cache()
    with (
        mock.patch("zoneinfo._tzpath.TZPATH", (str(tmp_path),)),
        mock.patch("zoneinfo.available_timezones", set),
        mock.patch.dict(sys.modules, {"tzdata": None, "tzdata.zoneinfo.Europe": None}),
        pytest.raises(InvalidSetting, match=r"no time zones.*kashvi\[cron\]"),
    ):
        queue.cron("0 9 * * *", Report, tz="Mars/Phobos")
    ZoneInfo.clear_cache()


# -- the server's step -----------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_memory_and_redis_take_the_same_step(data: st.DataObject) -> None:
    """Whatever is asked, when the clock goes forward or back."""
    now = [1_800_000_000.5]
    memory = MemoryDriver(store=MemoryStore(lambda: now[0], SystemRuntime().condition()))
    redis = RedisDriver(fakeredis.FakeRedis(), server_now=lambda: now[0])
    for n in range(data.draw(st.integers(1, 12))):
        now[0] += data.draw(st.sampled_from([0.0, 1.5, 60.0, 4000.0, -30.0, -5000.0, TICK_OLD_S + 1, 1e8, -1e8]))
        name, schedule = data.draw(st.sampled_from("ab")), data.draw(st.sampled_from("xy"))
        known = memory.last_ticks()[1].get(name)
        last = data.draw(st.sampled_from([None, known, known, 7.0]))
        through = data.draw(st.sampled_from([None, now[0] - 40, now[0] - 1, now[0] + 2]))
        name_of_queue = data.draw(st.sampled_from(["default", "mail"]))
        key = data.draw(st.sampled_from(["", "k"])) if name_of_queue == "mail" else ""
        jobs = [
            TickJob((through or 0) - back, b"%d-%d" % (n, back), (key, f"{n}-{back}") if key or back else ("", ""))
            for back in (50, 20, 0)
        ]
        ask = Ask(name, schedule, last, through, name_of_queue, jobs)
        assert memory.tick(ask) == redis.tick(ask)
        assert memory.last_ticks() == redis.last_ticks()
        assert memory.stats() == redis.stats()
    assert memory.forget_ticks("a") == redis.forget_ticks("a")
    assert memory.forget_ticks("a") == redis.forget_ticks("a") is False


@pytest.mark.parametrize("key", ["names", "unique", "mail:jobs"])
def test_a_key_of_the_wrong_type_refuses_a_tick_which_has_changed_nothing(key: str) -> None:
    """Another program made it; once that is mended, the tick fires."""
    client, now = fakeredis.FakeRedis(), [60.0]
    driver = RedisDriver(client, server_now=lambda: now[0])
    first = driver.tick(Ask("a", "s"))
    now[0] = 120.0
    ask = Ask("a", "s", first.last, 119.0, "mail", [TickJob(119.0, b"a", ("k", "a"))])
    record, wrong = client.hgetall("kashvi:queue:cron"), f"kashvi:queue:{key}"
    client.set(wrong, "a string")
    with pytest.raises(CommandRefused, match="WRONGTYPE"):
        driver.tick(ask)
    assert client.hgetall("kashvi:queue:cron") == record
    assert sorted(client.keys()) == sorted([wrong.encode(), b"kashvi:queue:cron"])
    client.delete(wrong)
    assert (driver.tick(ask).outcome, driver.queue_stats()["mail"].ready) == ("fired", 1)


def test_another_programs_record_does_not_stop_a_tick() -> None:
    client = fakeredis.FakeRedis()
    redis = RedisDriver(client, server_now=lambda: 1000.0)
    for record in (b"", b"x", b"\xff \xff", b"1 2", b"5 x y z", b"nan s 1 1", b"-inf s 1 1", b"5 s nan 1"):
        client.hset("kashvi:queue:cron", "a", record)
        assert redis.tick(Ask("a", "s")).outcome in ("first", "reset")
        found = redis.tick(Ask("a", "s"))
        assert found.outcome == "unchanged"
        assert 0 <= found.last <= 1000
        assert 0 <= found.since <= 1000


# -- the jobs --------------------------------------------------------------------------------------


def fire(queue: Queue, at: float, *more: float) -> list[Any]:
    """What one look after another emits, by a clock that both the server and the worker have."""
    now = [at]
    store = MemoryStore(lambda: now[0], SystemRuntime().condition())
    queue._driver = MemoryDriver(store=store)
    seen: list[Any] = []
    queue.observe(seen.append)
    with mock.patch.object(SystemRuntime, "monotonic", side_effect=lambda: now[0]):
        ticker = queue._ticker("w")
        ticker.look()
        for now[0] in more:
            ticker.look()
    return seen


def test_a_tick_gives_its_job_an_id_of_its_own_time(queue: Queue) -> None:
    """The same in each process, another for each prefix, name and tick. ``current().tick`` reads it."""
    queue.cron("0 9 * * *", Report)
    day = datetime(2027, 3, 1, tzinfo=UTC).timestamp()
    [event] = fire(queue, day, day + 9 * 3600 + 1)
    assert isinstance(event, JobDispatched)
    assert (event.job_id, event.cron, event.tick) == (
        id_of("", "jobs.Report", int(event.tick)),
        "jobs.Report",
        day + 32400,
    )
    assert int(event.job_id.replace("-", "")[:12], 16) == event.tick * 1000
    assert event.job_id[14] == "7"
    ids = {id_of(*about) for about in (("", "a", 60), ("p", "a", 60), ("", "b", 60), ("", "a", 120), ("", "a", 60))}
    assert len(ids) == 4
    [raw] = queue.driver.store.jobs  # type: ignore[attr-defined]
    assert tick_in(raw) == tick_in(rewrite(raw, event.job_id, attempts=1)) == datetime(2027, 3, 1, 9, tzinfo=UTC)
    assert read(raw).id == event.job_id


@pytest.mark.parametrize("value", [b"true", b'"x"', b"[]", b"null", b"1e400", b"-1e300", b"0"])
def test_a_tick_that_is_no_time_is_none(value: bytes) -> None:
    """As another program may have written it."""
    assert tick_in(b'{"type":"t","tick":%b}' % value) is None


def test_a_job_that_no_tick_dispatched_has_none(queue: Queue) -> None:
    found: list[object] = []

    @dataclass
    class Asks:
        def handle(self) -> None:
            found.append(current().tick)

    queue.register("jobs.Asks", Asks)
    queue.dispatch(Asks())
    queue.work(stop_when_empty=True)
    assert found == [None]


def test_a_unique_job_that_is_still_there_swallows_the_tick(queue: Queue) -> None:
    """On its named queue; the tick counts as fired."""
    queue.register("jobs.Digest", type("Digest", (Report,), {}), queue="mail", unique=True)
    queue.cron("* * * * *", queue.registry.named("jobs.Digest").job_class)
    first, second = fire(queue, 1_800_000_030.0, 1_800_000_061.0, 1_800_000_121.0)
    assert isinstance(first, JobDispatched)
    assert isinstance(second, JobDuplicate)
    assert (first.queue, second.holder) == ("mail", first.job_id)
    assert queue.driver.tick(Ask("jobs.Digest", "")).last == 1_800_000_120.0  # type: ignore[attr-defined]


def test_a_job_that_can_not_be_made_is_told_once_a_tick_and_fires_when_it_can(queue: Queue) -> None:
    broken = [False]

    class Moody(Report):
        def __init__(self) -> None:
            if broken[0]:
                raise LookupError("no database")
            super().__init__()

    queue.register("jobs.Moody", Moody)
    queue.cron("0 * * * *", Moody)
    broken[0] = True
    now = 1_800_000_000.0 + 60
    seen = fire(queue, now, now + 3600, now + 3661, now + 3722)
    assert [(type(one), one.error) for one in seen] == [(TickRefused, "LookupError: no database")]
    assert queue.driver.tick(Ask("jobs.Moody", "")).last == now  # type: ignore[attr-defined]


def test_a_look_that_the_server_refuses_is_told_once_and_names_no_tick(
    queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    """Each time until the server answers again: it may be full, or the worker may lack a right."""
    queue.cron("0 9 * * *", Report)
    at_8, real = 1_800_000_000.0, MemoryDriver.tick
    refused = [at_8 + seconds for seconds in (0, 5, 10, 7300, 7305, 11000)]

    def tick(self: MemoryDriver, ask: Ask) -> Ticked:
        if self.store.now() in refused:
            raise CommandRefused("no right", "the server")
        return real(self, ask)

    with mock.patch.object(MemoryDriver, "tick", tick):
        seen = fire(queue, *sorted({*refused, at_8 + 15, at_8 + 3616, at_8 + 7310}))
    assert [(type(one), one.tick) for one in seen] == [
        (TickRefused, 0.0), (JobDispatched, at_8 + 3600), (TickRefused, 0.0), (TickRefused, 0.0)
    ]  # fmt: skip
    assert "1970" not in caplog.text
    assert "the cron entry jobs.Report can't be asked for: the server refused the command: no right" in caplog.text


def test_entries_that_tick_together_fire_together(queue: Queue) -> None:
    """Though the server's answers about them came one after another; and none is asked for before its time."""
    for name in "abcde":
        queue.cron("* * * * *", Report, name=name)
    now, real = [1_800_000_030.0], MemoryDriver.tick
    queue._driver = MemoryDriver(store=MemoryStore(lambda: now[0], SystemRuntime().condition()))
    late: list[float] = []
    queue.observe(lambda event: late.append(event.server_at - event.tick))

    def tick(self: MemoryDriver, ask: Ask) -> Ticked:
        now[0] += 0.002
        answer = real(self, ask)
        now[0] += 0.003
        return answer

    with (
        mock.patch.object(SystemRuntime, "monotonic", side_effect=lambda: now[0]),
        mock.patch.object(MemoryDriver, "tick", tick),
    ):
        ticker = queue._ticker("w")
        while len(late) < 10:
            now[0] += ticker.look()
    assert all(0 <= one < 0.1 for one in late)


def test_many_large_jobs_go_in_several_requests(queue: Queue) -> None:
    """Each as large as a read of the server, and in order."""
    queue.cron("* * * * *", Report("x" * 900_000), missed="all")
    calls: list[int] = []
    real = MemoryDriver.tick

    def tick(self: MemoryDriver, ask: Ask) -> Ticked:
        calls.append(len(ask.jobs))
        return real(self, ask)

    with mock.patch.object(MemoryDriver, "tick", tick):
        seen = fire(queue, 1_800_000_000.0, 1_800_000_000.0 + 12 * 60 + 1)
    assert [one.tick for one in seen] == [1_800_000_000.0 + 60 * n for n in range(1, 13)]
    assert calls == [0, 5, 5, 2]
