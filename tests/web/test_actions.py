"""What the pages change: only what was shown, each job once, and the answer says what was done."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest

from kashvi import events, web
from kashvi.failures.sql import SqlFailures
from kashvi.queue import Queue

from .conftest import Browser, Made, Mail, failure
from .test_pages import record


def fields_of(page: str, path: str) -> list[tuple[str, str]]:
    """The hidden fields of the form with this action, as a browser sends them."""
    [form] = re.findall(rf'action="{path}".*?</form>', page, re.DOTALL)
    return [(a, html.unescape(b)) for a, b in re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form)]


def told(browser: Browser, answer: Any) -> list[str]:
    """The lines on the page that an action leads to."""
    assert answer.status_code == 303, answer.text
    page = browser.get(answer.headers["location"]).text
    return [html.unescape(line) for line in re.findall(r'role="status"><p>(.*?)</p>', page)]


@pytest.fixture
def seen(queue: Queue) -> list[events.AnyEvent]:
    """All events of the queue from now on."""
    found: list[Any] = []
    queue.observe(found.append)
    return found


def test_a_queue_is_paused_resumed_and_cleared(queue: Queue, open_app: Made, seen: list[events.AnyEvent]) -> None:
    """Each an event."""
    browser = open_app(queue)
    queue.dispatch(Mail("a"), queue="mail")
    queue.dispatch_after(Mail("b"), 60, queue="mail")
    seen.clear()
    assert told(browser, browser.post("/queues/mail/pause"))[0].startswith("Paused")
    assert queue.paused_since("mail") is not None
    assert told(browser, browser.post("/queues/mail/resume"))[0].startswith("Resumed")
    assert told(browser, browser.post("/queues/mail/clear")) == [
        "Cleared: 2 jobs removed. Jobs that workers have were left."
    ]
    names = [type(one).__name__ for one in seen]
    assert names == ["QueuePaused", "QueueResumed", "JobCancelled", "JobCancelled"]
    assert browser.post("/queues/BAD/pause").status_code == 400


def test_a_job_is_cancelled_as_it_was_shown(queue: Queue, open_app: Made, seen: list[events.AnyEvent]) -> None:
    """Ready or delayed: it is gone."""
    browser = open_app(queue)
    job_id = queue.dispatch_after(Mail("a"), 60)
    fields = dict(fields_of(browser.get(f"/job?id={job_id}").text, "/job/cancel"))
    assert told(browser, browser.post("/job/cancel", fields))[0].startswith("Cancelled: the job was taken off")
    assert queue.stats().delayed == 0
    assert isinstance(seen[-1], events.JobCancelled)
    assert told(browser, browser.post("/job/cancel", fields))[0].startswith("Too late")


def test_a_job_that_moved_meanwhile_is_left(queue: Queue, open_app: Made) -> None:
    """It ran, failed and waits for its next attempt: not the job that the page showed."""

    class Fails(Mail):
        def handle(self) -> None:
            raise ValueError("no")

    queue.register("jobs.Fails", Fails)
    browser = open_app(queue)
    job_id = queue.dispatch(Fails("a"))
    fields = dict(fields_of(browser.get(f"/job?id={job_id}").text, "/job/cancel"))
    queue.work(stop_when_empty=True)
    assert queue.stats().delayed == 1
    assert told(browser, browser.post("/job/cancel", fields))[0].startswith("Too late: this job has moved")
    assert queue.stats().delayed == 1
    assert told(browser, browser.post("/job/cancel", {"id": job_id}))[0].startswith("Too late")
    assert browser.post("/job/cancel", {"id": "x" * 300}).status_code == 400


def rows_of(browser: Browser, query: str = "") -> list[str]:
    return re.findall(r'name="row" value="([^"]+)"', browser.get(f"/failures?{query}").text)


def test_selected_failures_are_sent_back_and_others_stay(
    on_redis: Queue, open_app: Made, seen: list[events.AnyEvent]
) -> None:
    """As new jobs, each an event; and forgotten ones are gone."""
    record(on_redis, *(failure(n) for n in range(1, 5)))
    browser = open_app(on_redis)
    newest, second, *_ = rows_of(browser)
    assert told(browser, browser.post("/failures/retry", {"row": [newest, second]})) == ["Sent back: 2 jobs."]
    assert (on_redis.stats().ready, len(rows_of(browser))) == (2, 2)
    assert [type(one).__name__ for one in seen] == ["JobDispatched", "JobDispatched"]
    assert told(browser, browser.post("/failures/forget", {"row": rows_of(browser)[0]})) == ["Forgotten: 1 job."]
    assert isinstance(forgotten := seen[-1], events.FailureForgotten)
    assert (forgotten.job_id, forgotten.type, forgotten.queue, len(seen)) == ("job-2", "jobs.Mail", "default", 3)
    assert (on_redis.stats().ready, len(rows_of(browser))) == (2, 1)
    assert told(browser, browser.post("/failures/retry", {"row": [newest]}))[0].startswith("Too late: 1 job had")
    assert told(browser, browser.post("/failures/retry")) == ["Nothing was selected."]
    assert on_redis.stats().ready == 2


def test_another_row_under_the_number_of_a_deleted_one_is_left(queue: Queue, open_app: Made) -> None:
    """Databases reuse numbers; the mark is of what the page showed."""
    record(queue, failure(1))
    browser = open_app(queue)
    [row] = rows_of(browser)
    store = queue.store
    assert isinstance(store, SqlFailures)
    store.clear()
    with store.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM sqlite_sequence")
    record(queue, failure(2, "another"))
    assert rows_of(browser)[0].partition(":")[0] == row.partition(":")[0]
    assert told(browser, browser.post("/failures/forget", {"row": row}))[0].startswith("Too late: 1 job")
    assert store.count() == 1


def test_one_failure_has_its_own_buttons(on_redis: Queue, open_app: Made) -> None:
    """On its page."""
    record(on_redis, failure(1), failure(2))
    browser = open_app(on_redis)
    fields = dict(fields_of(browser.get("/failures/1").text, "/failures/retry"))
    assert told(browser, browser.post("/failures/retry", fields)) == ["Sent back: 1 job."]
    fields = dict(fields_of(browser.get("/failures/2").text, "/failures/forget"))
    assert told(browser, browser.post("/failures/forget", fields)) == ["Forgotten: 1 job."]
    assert browser.get("/failures/1").status_code == 404


def bulk(browser: Browser, what: str, query: str) -> tuple[int, list[str]]:
    """Ask on as the page does; returns how many requests it took, and what was said at the end."""
    page = browser.get(f"/failures?{query}").text
    [form] = re.findall(rf'<form method="post" action="/failures/{what}">.*?</form>', page)
    path, requests = f"/failures/{what}", 0
    while True:
        fields = dict(fields_of(form, path)) if requests == 0 else dict(fields_of(page, path))
        answer = browser.post(path, fields if requests else dict(re.findall(r'name="(\w+)" value="([^"]*)"', form)))
        requests += 1
        if answer.status_code == 303:
            return requests, told(browser, answer)
        page = answer.text
        assert requests < 40


def test_all_that_match_are_sent_back_five_hundred_at_a_time(on_redis: Queue, open_app: Made) -> None:
    """Those that failed since the page was made stay, and so do those that do not match."""
    errors = ["Timeout: A", "ValueError: B"]
    record(on_redis, *(failure(n, errors[n % 2]) for n in range(2400)))
    browser = open_app(on_redis)
    page = browser.get("/failures?error=timeout").text
    assert "1,200" in page
    [form] = re.findall(r'<form method="post" action="/failures/retry">.*?</form>', page)
    fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', form))
    record(on_redis, failure(9999, "Timeout: later"))
    requests = 1
    while (answer := browser.post("/failures/retry", fields)).status_code == 200:
        fields = dict(fields_of(answer.text, "/failures/retry"))
        requests += 1
    assert requests == 3
    assert told(browser, answer) == ["Sent back: 1,200 jobs."]
    assert on_redis.stats().ready == 1200
    assert on_redis.store.count() == 1201  # type: ignore[union-attr]
    assert "Timeout: later" in browser.get("/failures?error=timeout").text


def test_a_bulk_that_is_repeated_sends_none_twice(on_redis: Queue, open_app: Made, monkeypatch: Any) -> None:
    """A reload, a lost answer, a process that died before it deleted the rows: the server remembers each."""
    record(on_redis, *(failure(n) for n in range(30)))
    browser = open_app(on_redis)
    fields = {"all": "1", "upto": "30"}
    with monkeypatch.context() as patch:
        patch.setattr(SqlFailures, "remove", lambda *args: set())
        browser.post("/failures/retry", fields)
    assert on_redis.stats().ready == 30
    browser.post("/failures/retry", fields)
    browser.post("/failures/retry", fields)
    assert (on_redis.stats().ready, on_redis.store.count()) == (30, 0)  # type: ignore[union-attr]


def test_all_can_be_forgotten(queue: Queue, open_app: Made) -> None:
    """Without a filter, all."""
    record(queue, *(failure(n) for n in range(620)))
    browser = open_app(queue)
    assert bulk(browser, "forget", "") == (2, ["Forgotten: 620 jobs."])
    assert queue.store.count() == 0  # type: ignore[union-attr]


def test_what_stays_is_said(on_redis: Queue, open_app: Made) -> None:
    """Rows of another prefix, and unique jobs whose keys are taken."""
    store = on_redis.store
    assert store is not None
    held = failure(1, queue="mail")._replace(extra='{"unique":"jobs.Mail:a","queue":"mail"}')
    assert store.record([held, failure(2)._replace(extra='{"kashvi:prefix":"bank"}'), failure(3)]) == {}
    on_redis.register("jobs.Once", Once, queue="mail", unique=lambda job: "a")
    on_redis.driver.push_unique([b'{"id":"x","type":"jobs.Mail"}'], 0.0, ["mail"], [("jobs.Mail:a", "x")])  # type: ignore[attr-defined]
    browser = open_app(on_redis)
    lines = told(browser, browser.post("/failures/retry", {"all": "1", "upto": "3"}))
    assert lines[0] == "Sent back: 1 job."
    assert [line.partition(",")[0] for line in lines[1:]] == [
        "Left: 1 job",
        "Left: 1 job of another queue prefix; its own dashboard sends them back.",
    ]


class Once(Mail):
    """Unique."""


def test_memory_takes_no_failed_job_back(queue: Queue, open_app: Made) -> None:
    """It is said, and nothing is lost."""
    record(queue, failure(1))
    browser = open_app(queue)
    answer = browser.post("/failures/retry", {"row": rows_of(browser)[0]})
    assert (answer.status_code, "Redis" in answer.text) == (400, True)
    assert queue.store.count() == 1  # type: ignore[union-attr]


def test_a_form_that_is_no_form_is_refused(queue: Queue, open_app: Made) -> None:
    """Too long, or with what is no number."""
    record(queue, failure(1))
    browser = open_app(queue)
    assert browser.post("/failures/forget", {"row": "x" * 300_000}).status_code == 413
    for fields in ({"row": "x:y"}, {"all": "1", "upto": "-1"}, {"all": "1"}, {"all": "1", "upto": "1", "n": "1e9"}):
        assert browser.post("/failures/forget", fields).status_code == 400
    assert browser.get("/failures/forget").status_code in (404, 405)
    assert queue.store.count() == 1  # type: ignore[union-attr]


def test_without_permission_no_form_is_shown(queue: Queue, open_app: Made) -> None:
    """What may be done is shown, and no more."""
    job_id = queue.dispatch(Mail("a"))
    record(queue, failure(1))
    for path in ("/queues/default", "/failures", "/failures/1", f"/job?id={job_id}"):
        assert 'method="post"' not in open_app(queue, web.read_only).get(path).text
        for action in web.ACTIONS:
            may = lambda request, one, action=action: one in ("view", action)  # noqa: E731
            forms = re.findall(r'(?:form)?action="/[a-z/]*?(\w+)"', open_app(queue, may).get(path).text)
            assert set(forms) - {"job", "failures"} <= {action, "retry" if action == "forget" else action}
