"""What the pages show, also when there is nothing, too much, or something hostile."""

from __future__ import annotations

import html
import re
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest

from kashvi import view, web
from kashvi.errors import DriverUnavailable, StoreUnavailable
from kashvi.queue import Queue
from kashvi.view.live import LiveView
from kashvi.web import shown, traffic
from tests.servers.launch import RedisServer

from .conftest import WHEN, Browser, Made, Mail, failure

HOSTILE = "<script>alert(1)</script>\x1b[2J\x07\u202edrowssap\u202c</pre><img src=x onerror=alert(2)>{{ 7*7 }}"


def record(queue: Queue, *failures: Any) -> None:
    assert queue.store is not None
    assert queue.store.record(failures) == {}


def test_an_empty_queue_says_what_to_do_first(queue: Queue, open_app: Made) -> None:
    """On each page."""
    browser = open_app(queue)
    for path, says in {
        "/": "No queue has had a job yet",
        "/failures": "No job has failed",
        "/workers": "queue:work --workers=5",
        "/schedule": "No job has a schedule",
        "/queues/mail": "This queue has had no job yet",
        "/job?id=none": "No job with this id",
    }.items():
        assert says in browser.get(path).text, path


def test_each_place_of_a_queue_shows_its_jobs(queue: Queue, open_app: Made) -> None:
    """And links to each job's own page."""
    ready, delayed = (
        queue.dispatch(Mail("now@x"), queue="mail"),
        queue.dispatch_after(Mail("later@x"), 90, queue="mail"),
    )
    browser = open_app(queue)
    assert "now@x" in (page := browser.get("/queues/mail").text)
    assert f'href="/job?id={ready}"' in page
    page = browser.get("/queues/mail?where=delayed").text
    assert re.search(r"in 1 min 2\d s|in 1 min 30 s", page)
    assert "later@x" in page
    assert "No worker has a job" in browser.get("/queues/mail?where=running").text
    story = browser.get(f"/job?id={delayed}").text
    assert "delayed" in story
    assert "later@x" in html.unescape(story)
    assert browser.get("/queues/mail?where=lost").status_code == 400


def test_lists_go_on_from_page_to_page(queue: Queue, open_app: Made) -> None:
    """A hundred at a time, none twice and none missing."""
    ids = queue.dispatch_many([Mail(f"{n}@x") for n in range(250)])
    record(queue, *(failure(n) for n in range(250)))
    browser = open_app(queue)
    for first, label, marks in (
        ("/queues/default", "Next page", [f"/job?id={one}" for one in ids]),
        ("/failures", "Older", [f"/failures/{n}" for n in range(250, 0, -1)]),
    ):
        found: list[str] = []
        path = first
        while path:
            page = browser.get(path).text
            found += re.findall(r'<td[^>]*>(?:<strong>)?<a (?:class="id" )?href="(/job\?id=[^"]+|/failures/\d+)"', page)
            [path] = [html.unescape(one) for one in re.findall(rf'href="([^"]+)">{label}', page)] or [""]
        assert found == marks


def test_hostile_texts_are_text(queue: Queue, open_app: Made) -> None:
    """In a payload, an error, a traceback, a type, an id and in what is typed."""
    queue.dispatch(Mail(HOSTILE))
    record(queue, failure(1, HOSTILE, payload=f'"{HOSTILE}"', traceback=HOSTILE, job_type=HOSTILE))
    driver: Any = queue.driver
    driver.push([b'{"id":"<b>/..\\u202e","type":"<i>","payload":1}', b"\xff<u>"])
    browser = open_app(queue)
    paths = ["/queues/default", "/failures", "/failures/1", "/job?id=%3Cb%3E/..%E2%80%AE", "/job?id=job-1"]
    typed = quote(HOSTILE)
    paths += [f"/failures?type={typed}&error={typed}", f"/queues/{typed}", "/failures?since=%3Cs%3E&told=%3Cq%3E"]
    for path in paths:
        page = re.sub(r' value="[^"]*"', "", browser.get(path).text)  # a field has what was typed, and is its own line
        assert not re.search(r"<(script>|img src=x|b>|i>|u>|s>|q>)|[\x1b\x07\u202e\u202c]", page), path
    page = html.unescape(browser.get("/failures/1").text)
    assert "\\x1b[2J\\x07\\u202edrowssap" in page
    assert "<script>alert(1)</script>" in page


def test_a_megabyte_is_shown_in_part_and_whole_if_asked(queue: Queue, open_app: Made) -> None:
    """Lists show a line."""
    record(queue, failure(1, "x" * 1_000_000, payload='"' + "y" * 1_000_000 + '"'))
    browser = open_app(queue)
    assert len(browser.get("/failures").text) < 10_000
    page = browser.get("/failures/1").text
    assert len(page) < 60_000
    assert "The first 20,000 of 1,000,002 characters" in page
    assert len(browser.get("/failures/1?whole=1").text) > 2_000_000


def test_a_type_can_be_redacted(queue: Queue, open_app: Made) -> None:
    """In lists and pages; and if the function fails, nothing is shown."""

    def redact(job_type: str, part: str, text: str) -> str:
        assert job_type != "jobs.Broken"
        return re.sub(r"[^@\"]+@", "***@", text)

    secret = "ValueError: secret@x"
    record(queue, failure(1, secret, '{"to":"secret@x"}', traceback=secret))
    record(queue, failure(2, secret, '{"to":"secret@x"}', traceback=secret, job_type="jobs.Broken"))
    waiting = queue.dispatch(Mail("secret@x"))
    browser = open_app(queue, redact=redact)
    for path in ("/failures", "/failures/1", "/failures/2", "/queues/default", f"/job?id={waiting}", "/job?id=job-2"):
        page = browser.get(path).text
        assert "secret" not in page, path
        assert "***@x" in page or shown.HIDDEN in page


def test_filters_are_in_the_url(queue: Queue, open_app: Made) -> None:
    """And a filter that is none is a clear error."""
    record(
        queue, failure(1, "Timeout: A"), failure(2, "Timeout: B", queue="mail"), failure(3, "Lost", job_type="jobs.X")
    )
    browser = open_app(queue)

    def found(query: str) -> list[str]:
        return re.findall(r'<a href="/failures/(\d)"><strong>', browser.get(f"/failures?{query}").text)

    assert found("") == ["3", "2", "1"]
    assert found("error=timeout") == ["2", "1"]
    assert found("queue=mail") == ["2"]
    assert found("type=jobs.X&error=lost") == ["3"]
    assert found(f"since={WHEN.isoformat()[:-6]}") == ["3", "2", "1"]
    assert found("since=1m") == []
    assert "No failed job is like that" in browser.get("/failures?since=1m").text
    for query, says in (
        ("since=soon", "30m, 2h or 7d"),
        ("before=x", "number of a row"),
        ("queue=A", "name of a queue"),
    ):
        answer = browser.get(f"/failures?{query}")
        assert answer.status_code == 400
        assert says in html.unescape(answer.text)


@pytest.mark.parametrize("row", ["0x1", "-1", "9" * 19, "9" * 5000, "%D9%A3", "1%00"])
def test_what_is_no_number_of_a_row_is_a_clear_error(queue: Queue, open_app: Made, row: str) -> None:
    """Also one that no database counts to, and digits that Python would not read."""
    answer = open_app(queue).get(f"/failures/{row}")
    assert (answer.status_code, "number of a row" in answer.text) == (404, True)


class Away(LiveView):
    """The server, or the database, is away."""

    error: Exception

    def _raise(self, *_: Any, **__: Any) -> Any:
        raise self.error

    stats = queues = now = jobs = story = failures = _raise


class NoDatabase(LiveView):
    def failures(self, *_: Any, **__: Any) -> Any:
        raise StoreUnavailable("no route to postgres")


def test_what_is_away_is_said_with_what_to_do(queue: Queue, open_app: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """The overview shows the rest without the database."""
    Away.error = DriverUnavailable("redis://shop is away")
    monkeypatch.setattr(web, "LiveView", Away)
    for path in ("/", "/queues/default", "/job?id=x"):
        answer = open_app(queue).get(path)
        assert (answer.status_code, "Start the server" in answer.text) == (503, True)
        assert 'id="live" hx-get=' in answer.text  # so that it comes back by itself
    monkeypatch.setattr(web, "LiveView", NoDatabase)
    answer = open_app(queue).get("/failures")
    assert (answer.status_code, "database of failed jobs does not answer" in answer.text) == (503, True)
    answer = open_app(queue).get("/")
    assert (answer.status_code, "no route to postgres" in answer.text) == (200, True)


class Counted(LiveView):
    """Counts its calls, and knows the traffic of an hour."""

    calls = 0

    def queues(self) -> Any:
        type(self).calls += 1
        return super().queues()

    def counts(self, minutes: int = 60) -> Any:
        at = self.now().replace(second=0, microsecond=0)
        counts = (view.Count("default", "jobs.Mail", "done", 7), view.Count("default", "<b>", "failed", 2))
        waits = {"default": (0, 3, 4, 2, 0, 0, 0, 0, 0, 0, 0, 0)}
        return [view.Minute(at, counts, waits, waits)]


def test_many_tabs_ask_the_server_once_a_second(queue: Queue, open_app: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """And an action shows at once."""
    monkeypatch.setattr(web, "LiveView", Counted)
    now = [100.0]
    monkeypatch.setattr(queue._runtime, "monotonic", lambda: now[0])
    Counted.calls = 0
    browser = open_app(queue)
    for _ in range(5):
        browser.get("/")
    assert Counted.calls == 1
    now[0] += 1.0
    browser.get("/")
    assert Counted.calls == 2
    browser.post("/queues/default/pause")
    assert "paused" in browser.get("/").text
    assert Counted.calls == 3


def test_a_page_costs_the_server_the_same_at_any_depth(on_redis: Queue, open_app: Made, valkey: RedisServer) -> None:
    """It reads no more than a page shows."""
    client = valkey.client()

    def cost(path: str) -> tuple[int, int]:
        browser = open_app(on_redis)
        before = client.info()
        assert browser.get(path).status_code == 200
        after = client.info()
        names = ("total_commands_processed", "total_net_output_bytes")
        commands, sent = (after[name] - before[name] for name in names)
        return commands, sent

    on_redis.dispatch_many([Mail("a@x")] * 200)
    paths = ("/", "/queues/default", "/workers", "/failures")
    shallow = [cost(path) for path in paths]
    on_redis.dispatch_many([Mail("a@x")] * 20_000)
    for (commands, sent), path in zip(shallow, paths, strict=True):
        deep = cost(path)
        assert deep[0] <= commands, path
        assert deep[1] < sent + 500, path


def test_traffic_is_a_table_and_a_chart(queue: Queue, open_app: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """The chart gets its columns as JSON."""
    monkeypatch.setattr(web, "LiveView", Counted)
    browser = open_app(queue)
    page = browser.get("/traffic").text
    assert "&lt;b&gt;" in page
    assert "≤ 100 ms" in page  # 95 % of nine waits
    assert browser.get("/traffic?span=week").status_code == 400
    for span, columns in (("hour", 60), ("day", 96)):
        data = browser.get(f"/traffic.json?span={span}").json()
        assert [len(column) for column in data.values()] == [columns] * 4
        assert (data["done"][-1], data["failed"][-1], sum(data["retried"])) == (7, 2, 0)
        assert data["at"] == sorted(data["at"])
    assert ">7<" in browser.get("/").text


def test_a_rate_is_of_the_last_five_minutes() -> None:
    """Of the current one, its part so far; what was done an hour ago is no rate of now, nor is a failure one."""
    now = WHEN.replace(second=30, microsecond=0)

    def minute(ago: int, n: int, outcome: Any = "done") -> view.Minute:
        at = now.replace(second=0) - timedelta(minutes=ago)
        return view.Minute(at, (view.Count("mail", "t", outcome, n),), {}, {})

    found = [minute(50, 9000), minute(5, 400), minute(4, 60), minute(1, 500, "failed"), minute(0, 30)]
    assert traffic.rates(found, now) == {"mail": 20.0}  # 90 in four and a half
    assert traffic.rates(view.NOT_OFFERED, now) == {}


def test_what_a_worker_ran_is_said_with_the_time_of_its_report(
    queue: Queue, open_app: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be over: a report is a few seconds old, or a minute if nothing has changed."""

    class Reported(LiveView):
        def workers(self) -> Any:
            at = self.now() - timedelta(seconds=4)
            ran = (view.Attempt("run-1", "jobs.Mail", "mail", 2, at - timedelta(minutes=3)),)
            about = {"host": "h", "pid": 1, "version": "1", "threads": 3, "suspects": ()}
            return [view.Worker("w", 20.0, ("mail",), 0, running=ran, reported_at=at, **about)]

    monkeypatch.setattr(web, "LiveView", Reported)
    page = re.sub(r"<[^>]+>", "", open_app(queue).get("/workers").text)
    assert re.search(r"Reported4(\.\d)? s ago.*Ran then.*jobs\.Mail.*3 min 4 s ago", page, re.DOTALL)


def test_what_a_driver_does_not_offer_is_said(queue: Queue, open_app: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver of one's own may lack each optional part."""

    class Bare(LiveView):
        def _none(self, *_: Any, **__: Any) -> Any:
            return view.NOT_OFFERED

        jobs = failures = failure = workers = counts = schedule = outboxes = _none

    monkeypatch.setattr(web, "LiveView", Bare)
    queue.dispatch(Mail("a"))
    browser = open_app(queue)
    for path, says in {
        "/": "no failure table",
        "/queues/default": "does not show its jobs",
        "/failures": "There is no failure table",
        "/workers": "does not list its workers",
        "/schedule": "keeps no schedule",
        "/traffic": "Nothing is counted here",
    }.items():
        answer = browser.get(path)
        assert (answer.status_code, says in answer.text) == (200, True), path


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.0042, "4 ms"), (2.0, "2 s"), (4.64, "4.6 s"), (61, "1 min 1 s"), (7200, "2 h"), (90061, "1 d 1 h")],
)
def test_durations_are_short(seconds: float, text: str) -> None:
    """Two units at the most."""
    assert shown.span(seconds) == text


def test_a_browser_is_not_needed(queue: Queue) -> None:
    """Nothing is read, and nothing is started, until someone asks."""
    queue.set_driver("redis://127.0.0.1:1/0")  # no server is there
    assert Browser(web.app(queue, authorize=web.read_only, allowed_hosts="*"))
