"""What pages see of a running queue: in memory and on a real server, in SQLite."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from kashvi.drivers.memory import MemoryDriver
from kashvi.errors import InvalidSetting
from kashvi.failures.sql import SqlFailures
from kashvi.jobs.envelope import seal
from kashvi.paging import PAGE_MAX_BYTES, START
from kashvi.ports import Failure, Settlement, Shares
from kashvi.queue import Queue
from kashvi.registry import Registry
from kashvi.view import NOT_OFFERED, NOT_RECORDED, FailedPage, FailureFilter, JobPage, LiveView, Missing

from .databases import Database

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def job(name: str, size: int = 0) -> bytes:
    return seal(name, b'"t"', b'"%s"' % (b"." * size))


def view_of(driver: Any, database: str | None = None) -> LiveView:
    return LiveView(Queue(driver, database=database, registry=Registry()))


def read_through(view: LiveView, where: Any, limit: int, queue: str | None = None) -> list[list[str]]:
    """The ids of each page."""
    pages, after = list[list[str]](), ""
    while True:
        page = view.jobs(where, queue, limit=limit, after=after)
        assert isinstance(page, JobPage)
        pages.append([one.id for one in page.jobs])
        assert " " not in page.next
        assert len(page.next) <= 300
        if not page.next:
            return pages
        after = page.next


def joined(pages: list[list[str]]) -> list[str]:
    return list(chain.from_iterable(pages))


def test_pages_show_each_job_once_in_its_order(driver: Any) -> None:
    """Ready ones by position; delayed ones by due time, and many of one time; running ones by worker and list."""
    driver.push([job(f"{n:03d}") for n in range(250)])
    driver.push([job(f"late {n:03d}") for n in range(150)], 1000.0)
    driver.push([job("first")], 500.0)
    driver.exchange("w 2", 1, 30.0, [], 30)
    driver.exchange("w 1", 1, 30.0, [], 5)
    driver.exchange("w 1", 2, 30.0, [Settlement("start", "w 1", "held", job("030"))], 0)
    view = view_of(driver)
    ready = read_through(view, "ready", 100)
    assert joined(ready) == [f"{n:03d}" for n in range(35, 250)]
    assert list(map(len, ready[:2])) == [100, 100]
    assert joined(read_through(view, "delayed", 40)) == ["first", *(f"late {n:03d}" for n in range(150))]
    running = [f"{n:03d}" for n in (30, 31, 32, 33, 34, *range(30))]
    assert [joined(read_through(view, "running", n)) for n in (1, 2, 7, 100)] == [running] * 4


def test_a_page_of_one_queue_holds_its_jobs_alone(driver: Any) -> None:
    """Running ones are among those of all queues: they are looked for."""
    for n in range(60):
        driver.push([seal(f"{n:02d}", b'"t"', b"1")[:-1] + b',"queue":"mail"}'], 0.0, ["mail"])
        driver.push([job(f"other {n:02d}")])
    driver.exchange("w", 1, 30.0, [], 60)
    driver.exchange("x", 1, 30.0, [], Shares(50, (("mail", 50),)))
    view = view_of(driver)
    assert joined(read_through(view, "running", 20, "mail")) == [f"{n:02d}" for n in range(50)]
    assert joined(read_through(view, "ready", 3, "mail")) == [f"{n:02d}" for n in range(50, 60)]
    found = view.jobs("running", "mail")
    assert isinstance(found, JobPage)
    assert {one.queue for one in found.jobs} == {"mail"}


def test_a_page_of_large_jobs_is_short(driver: Any) -> None:
    """It holds up the server for no more than a few, and loses none."""
    driver.push([job(f"{n:02d}", PAGE_MAX_BYTES // 3) for n in range(8)])
    driver.push([job(f"late {n:02d}", PAGE_MAX_BYTES // 3) for n in range(8)], 60.0)
    view = view_of(driver)
    for where, name in (("ready", ""), ("delayed", "late ")):
        pages = read_through(view, where, 100)
        assert joined(pages) == [f"{name}{n:02d}" for n in range(8)]
        assert max(map(len, pages)) <= 4
    driver.exchange("w", 1, 30.0, [], 8)
    assert joined(read_through(view, "running", 100)) == [f"{n:02d}" for n in range(8)]


@pytest.mark.parametrize("bad", ["x", "1~2", "-1~0.0~~held", "1~nan~~held", "1~0.0~~gone", "1~0.0~_~held", "9" * 20])
def test_a_cursor_that_no_page_gave_is_refused(bad: str) -> None:
    with pytest.raises(InvalidSetting, match="cursor"):
        view_of(MemoryDriver()).jobs(after=bad)


@pytest.mark.parametrize("limit", [0, 101, -1, 2.5])
def test_a_page_has_one_to_a_hundred(limit: Any) -> None:
    with pytest.raises(InvalidSetting):
        view_of(MemoryDriver()).jobs(limit=limit)
    with pytest.raises(InvalidSetting):
        view_of(MemoryDriver()).failures(limit=limit)


def test_the_workers_on_the_list_say_what_they_serve_and_hold(driver: Any) -> None:
    driver.push([job("a"), job("b"), job("c")])
    driver.exchange("w", 1, 30.0, [], 2)
    driver.exchange("v", 1, 60.0, [], Shares(1, (("mail", 1), ("default", 1))))
    found = view_of(driver).workers()
    assert not isinstance(found, Missing)
    assert [(one.id, one.queues, one.holds, one.host) for one in found] == [
        ("v", ("mail", "default"), 1, NOT_OFFERED),
        ("w", ("default",), 2, NOT_OFFERED),
    ]
    assert 59 < found[0].lease_left_s <= 60
    assert abs((view_of(driver).now() - datetime.now(UTC)).total_seconds()) < 60


def test_a_driver_without_the_optional_ports_says_so() -> None:
    class Plain:
        """A driver of before."""

        push = exchange = wait = next_due = wake = expired = unrecorded = recorded = stats = lambda self, *words: None

    driver: Any = Plain()
    view = view_of(driver)
    assert [view.jobs(), view.workers(), view.schedule(), view.counts(), view.failures(), view.failure(1)] == [
        NOT_OFFERED
    ] * 6
    assert (view.outboxes(), view.story("a").where) == ([], "unknown")
    assert (bool(NOT_OFFERED), str(NOT_RECORDED)) == (False, "not recorded")


def failure(n: int, **about: Any) -> Failure:
    given = {"job_type": "t", "error": "boom", "failed_at": NOON + timedelta(minutes=n), "queue": ""} | about
    return Failure(f"job-{n:03d}", payload=b"[1]", attempts=3, traceback="it broke", **given)


def numbers(view: LiveView, wanted: FailureFilter, **how: Any) -> list[str]:
    page = view.failures(wanted, **how)
    assert isinstance(page, FailedPage)
    return [one.job_id[-3:] for one in page.rows]


def test_failed_jobs_are_found_by_type_error_time_and_queue(tmp_path: Path) -> None:
    """With ``%`` and ``_`` as they are, in letters of either case, and rows of the Go program by their own zone."""
    url = f"sqlite:///{tmp_path}/failed.db"
    store = SqlFailures(url)
    store.record(
        [
            failure(0, error="ValueError: 100% of Cards"),
            failure(1, job_type="u"),
            failure(2, queue="mail", error="100 of cards"),
            failure(3),
        ]
    )
    import sqlalchemy as sa

    with store.engine.begin() as connection:  # as Go's driver writes it: noon and two minutes in UTC
        connection.execute(
            sa.text("UPDATE kashvi_failed_jobs SET failed_at='2026-11-24 17:32:00.5+05:30' WHERE job_id='job-002'")
        )
    view = view_of(MemoryDriver(), url)
    assert numbers(view, FailureFilter()) == ["003", "002", "001", "000"]
    assert numbers(view, FailureFilter(type="u")) == ["001"]
    assert numbers(view, FailureFilter(error="100% of c")) == ["000"]
    assert numbers(view, FailureFilter(error="CARDS")) == ["002", "000"]
    assert numbers(view, FailureFilter(queue="mail")) == ["002"]
    assert numbers(view, FailureFilter(queue="default")) == ["003", "001", "000"]
    assert numbers(view, FailureFilter(since=NOON + timedelta(minutes=2))) == ["003", "002"]
    assert numbers(view, FailureFilter(until=NOON + timedelta(minutes=2))) == ["001", "000"]
    one = view.failure(3)
    assert one
    assert (one.job_id, one.payload, one.traceback, one.queue) == ("job-002", "[1]", "it broke", "mail")
    assert view.failure(99) is None


def test_a_null_character_is_in_no_row(database: Database) -> None:
    """PostgreSQL refuses one, which is no outage."""
    view = view_of(MemoryDriver(), database.url)
    SqlFailures(database.url).record([failure(1)])
    assert numbers(view, FailureFilter()) == ["001"]
    assert numbers(view, FailureFilter(type="\0")) == numbers(view, FailureFilter(error="a\0")) == []
    assert view.story("\0job").where == "unknown"


def test_pages_of_failed_jobs_go_on_below_the_last_row(tmp_path: Path) -> None:
    """Rows that come meanwhile move none, and the total is told."""
    url = f"sqlite:///{tmp_path}/failed.db"
    store = SqlFailures(url)
    store.record([failure(n) for n in range(5)])
    view = view_of(MemoryDriver(), url)
    first = view.failures(limit=2)
    assert isinstance(first, FailedPage)
    store.record([failure(5)])
    second = view.failures(limit=2, before=first.next)
    assert isinstance(second, FailedPage)
    last = view.failures(limit=2, before=second.next)
    assert isinstance(last, FailedPage)
    assert [[one.job_id[-1] for one in page.rows] for page in (first, second, last)] == [["4", "3"], ["2", "1"], ["0"]]
    assert (first.total, second.total, last.total) == (5, 6, 6)
    assert (last.next, last.more) == (None, False)
    assert first.rows[0].payload is NOT_RECORDED


def test_a_text_is_searched_in_the_newest_ten_thousand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kashvi.view import failed_rows

    monkeypatch.setattr(failed_rows, "SEARCHED_MAX", 3)
    url = f"sqlite:///{tmp_path}/failed.db"
    SqlFailures(url).record([failure(n, error="boom" if n != 1 else "other") for n in range(6)])
    found = view_of(MemoryDriver(), url).failures(FailureFilter(error="boom"))
    assert isinstance(found, FailedPage)
    assert ([one.job_id[-1] for one in found.rows], found.total, found.more) == (["5", "4", "3"], 3, True)
    everything = view_of(MemoryDriver(), url).failures(FailureFilter(type="t"))
    assert isinstance(everything, FailedPage)
    assert (len(everything.rows), everything.total, everything.more) == (6, 3, True)


def test_a_jobs_story_says_where_it_is(driver: Any, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/failed.db"
    SqlFailures(url).record([failure(1)])
    driver.push([b'{"id":"mine","type":"t","payload":[7],"attempts":2}', job("second")])
    driver.push([job("late")], 60.0)
    driver.exchange("w", 1, 30.0, [], 1)
    view = view_of(driver, url)
    places = {name: view.story(name).where for name in ("mine", "second", "late", "job-001", "gone")}
    assert places == {"mine": "running", "second": "ready", "late": "delayed", "job-001": "failed", "gone": "unknown"}
    mine, failed = view.story("mine"), view.story("job-001")
    assert (mine.payload, mine.attempts, mine.error) == ("[7]", 2, NOT_RECORDED)
    assert (failed.error, failed.row_id, failed.attempts, failed.type) == ("boom", 1, 3, "t")
    for bad in ("", "x" * 257, "\ud800"):
        with pytest.raises(InvalidSetting, match="id"):
            view.story(bad)


def test_a_page_in_memory_shows_one_moment() -> None:
    """A job that a worker starts meanwhile, and moves from one list to the other, must not be left out."""
    driver = MemoryDriver()
    driver.push([b"a", b"b"])
    driver.exchange("w", 1, 30.0, [], 2)
    locked = list[bool]()

    class Watched(list[bytes]):
        def __iter__(self) -> Iterator[bytes]:
            locked.append(driver.store.condition._is_owned())  # type: ignore[attr-defined]
            return super().__iter__()

    driver.store.held["w"] = Watched(driver.store.held["w"])
    found, more = driver.page("running", 10, START)
    assert ([one.envelope for one in found], more, locked) == ([b"a", b"b"], None, [True])
