"""The dashboard in a real browser: each page, each action, hostile texts; no foreign request and no error."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any, Literal

import pytest
import uvicorn
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from kashvi import view, web
from kashvi.queue import Queue
from kashvi.registry import Registry
from kashvi.web import site
from tests import browser
from tests.servers.launch import RedisServer, free_port, until_true

from .conftest import Mail, failure
from .test_pages import HOSTILE, Counted, record

PAGES = {
    "/": "Overview",
    "/queues/mail": "mail",
    "/queues/mail?where=delayed": "mail",
    "/failures": "Failures",
    "/failures/1": "jobs.Mail",
    "/workers": "Workers",
    "/schedule": "Schedule",
    "/traffic": "Traffic",
    "/traffic?span=day": "Traffic",
}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One for all; ``ops.test`` leads to this machine."""
    with browser.chromium("--host-resolver-rules=MAP ops.test 127.0.0.1") as running:
        yield running


class Shown(Counted):
    """A worker that runs a job and has a suspect, besides."""

    def workers(self) -> Any:
        run = view.Attempt("run-1", "jobs.Mail", "mail", 2, self.now())
        about = {"host": "web-1", "pid": 12, "version": "1", "threads": 3, "running": (run,), "reported_at": self.now()}
        return [view.Worker("w-1", 21.0, ("mail",), 1, suspects=(view.Suspect("s-1", "jobs.Mail", 1, True),), **about)]


THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
Open = Callable[..., Page]


@pytest.fixture
def served(tmp_path: Path, valkey: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Queue, str]]:
    """A queue on a server, and the address of its dashboard, which allows everything but under ``/view``."""
    monkeypatch.setattr(web, "LiveView", Shown)
    monkeypatch.setattr(site, "FRESH_S", 0.0)
    queue = Queue(valkey.url, registry=Registry(), database=f"sqlite:///{tmp_path}/failed.db")
    queue.register("jobs.Mail", Mail)
    hosts = ["127.0.0.1", "ops.test"]
    allowed = lambda request, action: request.headers.get("x-may") != "view" or action == "view"  # noqa: E731
    app = web.app(queue, authorize=allowed, allowed_hosts=hosts)
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, lifespan="off", log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    until_true(lambda: server.started, 10)
    yield queue, f"127.0.0.1:{port}"
    server.should_exit = True
    thread.join()
    queue.store.engine.dispose()  # type: ignore[union-attr]


def is_wrong(said: ConsoleMessage) -> bool:
    """Chromium logs each answer of 403 as an error."""
    return said.type in ("error", "warning") and "status of 403" not in said.text


@pytest.fixture
def visit(chromium: Browser, served: tuple[Queue, str]) -> Iterator[Open]:
    """Opens a page; at the end nothing went wrong in any."""
    wrong: list[str] = []
    contexts = []

    def opened(path: str, *, host: str = "", **settings: Any) -> Page:
        base = "http://" + (served[1].replace("127.0.0.1", host) if host else served[1])
        context = chromium.new_context(base_url=base, **settings)
        context.set_default_timeout(10_000)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda one: wrong.append(one.text) if is_wrong(one) else None)
        page.on("pageerror", lambda one: wrong.append(str(one)))
        page.on("dialog", lambda one: wrong.append(f"a dialog: {one.message}"))
        page.on("request", lambda one: None if one.url.startswith((base, "data:")) else wrong.append(one.url))
        page.goto(path)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert wrong == []


def fill(queue: Queue) -> None:
    """Some jobs everywhere."""
    queue.dispatch_many([Mail(f"{n}@x") for n in range(3)], queue="mail")
    queue.dispatch_after(Mail("later@x"), 300, queue="mail")
    record(queue, *(failure(n, f"ValueError: card {n}" + " long" * 40, queue="mail") for n in range(1, 8)))


def test_each_page_fits_both_widths_in_both_themes(served: tuple[Queue, str], visit: Open) -> None:
    """Nothing is wider than the window, and texts can be read: contrast 4.5 to 1 and more."""
    fill(served[0])
    page = visit("/", reduced_motion="reduce")  # a colour that fades is neither the old nor the new one
    for path, heading in PAGES.items():
        page.goto(path)
        expect(page.get_by_role("heading", level=1)).to_have_text(heading)
        for width, theme in product((400, 1400), THEMES):
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme=theme)
            wide, window = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
            assert wide <= window, (path, width)
            assert page.evaluate(CONTRAST) == [], (path, theme)


CONTRAST = """() => {
  const part = c => c / 255 <= .03928 ? c / 255 / 12.92 : ((c / 255 + .055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => .2126 * part(r) + .7152 * part(g) + .0722 * part(b);
  const rgb = text => text.match(/[\\d.]+/g).map(Number);
  const ground = node => {
    const colour = node ? rgb(getComputedStyle(node).backgroundColor) : [255, 255, 255];
    return colour.length < 4 || colour[3] === 1 ? colour : ground(node.parentElement);
  };
  const bad = [];
  for (const node of document.querySelectorAll('main *, header *')) {
    const text = [...node.childNodes].some(one => one.nodeType === 3 && one.data.trim());
    if (!text || node.closest('svg, .uplot')) continue;
    const [a, b] = [light(rgb(getComputedStyle(node).color)), light(ground(node))].sort((x, y) => y - x);
    if ((a + .05) / (b + .05) < 4.5) bad.push(node.outerHTML.slice(0, 90));
  }
  return bad;
}"""


def test_without_javascript_everything_is_there(served: tuple[Queue, str], visit: Open) -> None:
    """Pages, questions and actions."""
    fill(served[0])
    page = visit("/", java_script_enabled=False)
    page.get_by_role("link", name="mail").first.click()
    expect(page.get_by_text('{"to":"0@x"}')).to_be_visible()
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("status")).to_contain_text("Paused")
    page.goto("/traffic")
    expect(page.get_by_role("cell", name="jobs.Mail")).to_be_visible()


def test_a_queue_is_paused_resumed_and_cleared_by_the_keyboard_alone(served: tuple[Queue, str], visit: Open) -> None:
    """Tab, Enter, and Escape out of a question."""
    queue, _ = served
    fill(queue)
    page = visit("/queues/mail")
    page.get_by_role("button", name="Pause").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("Paused")
    page.get_by_role("button", name="Resume").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("Resumed")
    page.get_by_text("Clear…").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Remove them")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Remove them")).to_be_hidden()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("4 jobs removed")
    assert (queue.stats().ready, queue.stats().delayed) == (0, 0)


def test_a_job_is_found_and_cancelled_unless_it_moved(served: tuple[Queue, str], visit: Open) -> None:
    """Two tabs: the second comes too late."""
    queue, _ = served
    job_id = queue.dispatch_after(Mail("a"), 60)
    pages = [visit("/"), visit("/")]
    for page in pages:
        page.get_by_role("searchbox").fill(job_id)
        page.keyboard.press("Enter")
        page.get_by_text("Cancel…").click()
    for page, says in zip(pages, ("taken off its queue", "Too late"), strict=True):
        page.get_by_role("button", name="Cancel the job").click()
        expect(page.get_by_role("status")).to_contain_text(says)
    assert queue.stats().delayed == 0


def test_selected_failures_are_retried_and_one_is_forgotten(served: tuple[Queue, str], visit: Open) -> None:
    """The box at the top selects a page."""
    queue, _ = served
    fill(queue)
    page = visit("/failures?error=card")
    page.get_by_label("Select all of this page").check()
    page.get_by_label("Select number 3").uncheck()
    page.get_by_role("button", name="Retry selected").click()
    expect(page.get_by_role("status")).to_contain_text("Sent back: 6 jobs")
    page.get_by_role("link", name="jobs.Mail").click()
    page.get_by_text("Forget…").click()
    page.get_by_role("button", name="Forget it").click()
    expect(page.get_by_role("status")).to_contain_text("Forgotten: 1 job")
    expect(page.get_by_text("No job has failed")).to_be_visible()
    assert queue.stats().ready == 9


def test_ten_thousand_failures_are_filtered_and_retried(served: tuple[Queue, str], visit: Open) -> None:
    """By one click: the page asks on by itself."""
    queue, _ = served
    record(queue, *(failure(n, ("Timeout: A", "ValueError: B")[n % 2]) for n in range(10_000)))
    page = visit("/failures")
    page.get_by_label("Error contains").fill("timeout")
    page.get_by_role("button", name="Filter").click()
    expect(page.get_by_text("5,000 match")).to_be_visible()
    page.get_by_text("Retry all…").click()
    page.get_by_role("button", name="Retry all").click()
    expect(page.get_by_role("status")).to_contain_text("Sent back: 5,000 jobs", timeout=20_000)
    assert (queue.stats().ready, queue.store.count()) == (5000, 5000)  # type: ignore[union-attr]


def test_hostile_texts_run_nothing(served: tuple[Queue, str], visit: Open) -> None:
    """They stand there, to be read."""
    queue, _ = served
    queue.dispatch(Mail(HOSTILE))
    record(queue, failure(1, HOSTILE, f'"{HOSTILE}"', traceback=HOSTILE * 9000, job_type=HOSTILE))
    page = visit("/queues/default")
    expect(page.get_by_text("<script>alert(1)</script>").first).to_be_visible()
    page.goto("/failures")
    page.locator("tbody a").first.click()
    expect(page.get_by_text("\\x1b[2J\\x07\\u202edrowssap").first).to_be_visible()
    assert page.locator("main img").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_an_action_is_refused_on_the_server(served: tuple[Queue, str], visit: Open) -> None:
    """Also if a button is there still: who may act changed while the page was open."""
    queue, _ = served
    fill(queue)
    page = visit("/queues/mail")
    page.set_extra_http_headers({"x-may": "view"})
    page.get_by_role("button", name="Pause").click(no_wait_after=True)
    expect(page.get_by_text("You may not pause jobs here")).to_be_visible()
    assert queue.paused_since("mail") is None


def test_over_plain_http_under_a_name_its_own_pages_may_act(served: tuple[Queue, str], visit: Open) -> None:
    """Browsers send no Sec-Fetch-Site there, and with another Referrer-Policy "Origin: null"."""
    queue, _ = served
    fill(queue)
    page = visit("/queues/mail", host="ops.test")
    with page.expect_request("**/pause") as asked:
        page.get_by_role("button", name="Pause").click()
    headers = asked.value.all_headers()
    assert "sec-fetch-site" not in headers
    assert headers["origin"].startswith("http://ops.test:")
    expect(page.get_by_role("status")).to_contain_text("Paused")


def test_figures_follow_while_the_page_is_seen_and_forms_stay(served: tuple[Queue, str], visit: Open) -> None:
    """A hidden tab asks for nothing; what one began to do is not swapped away."""
    queue, _ = served
    fill(queue)
    page = visit("/queues/mail")
    page.get_by_text("Clear…").click()
    page.evaluate("document.querySelector('details.ask').mine = true")
    queue.dispatch(Mail("new@x"), queue="mail")
    asked: list[str] = []
    page.on("request", lambda one: asked.append(one.url))
    page.clock.install()
    page.evaluate("Object.defineProperty(document, 'visibilityState', {value: 'hidden', configurable: true})")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    assert asked == []
    page.evaluate("Object.defineProperty(document, 'visibilityState', {value: 'visible', configurable: true})")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.get_by_text("new@x")).to_be_visible()
    assert len(asked) == 1
    assert page.evaluate("document.querySelector('details.ask').mine && document.querySelector('details.ask').open")
