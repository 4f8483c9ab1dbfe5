"""Who may ask the dashboard, from where, and what a browser may do with the answer."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Mount

import kashvi.web
from kashvi import web
from kashvi.errors import InvalidSetting
from kashvi.queue import Queue

from .conftest import HOST, Browser, Made

FILES = Path(kashvi.web.__file__).parent
TEMPLATES = sorted((FILES / "templates").glob("*.html"))
VENDORED = {
    "htmx.min.js": "a0abb04f2f45a1f89d1d4844023245537e5e6014c87b144553e0607b4cc32130",
    "htmx.LICENSE.txt": "d3d2456f76414f2456104660ebd65aff1c04cd7966b942bdabd63f3cdb316a38",
    "uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
    "uPlot.LICENSE.txt": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
}
PAGES = ["/", "/queues/default", "/job?id=x", "/failures", "/workers", "/schedule", "/traffic", "/traffic.json"]


@pytest.mark.parametrize("path", [*PAGES, "/static/htmx.min.js", "/nothing", "/queues/BAD", "/failures/7"])
def test_every_answer_has_the_headers(queue: Queue, open_app: Made, path: str) -> None:
    """A page, a file, and an error."""
    answer = open_app(queue).get(path)
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "same-origin"
    kept = "max-age=3600" if path.startswith("/static/") else "no-store"
    assert answer.headers["cache-control"] == kept


def test_an_error_of_the_app_has_the_headers_too(queue: Queue) -> None:
    """And shows no page."""

    def broken(request: Request, action: str) -> bool:
        raise RuntimeError("the user database is away")

    app = web.app(queue, authorize=broken, allowed_hosts="*")
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def ask() -> None:
        scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"host", b"x")], "query_string": b""}
        await app({**scope, "root_path": "", "http_version": "1.1"}, None, send)  # type: ignore[arg-type]

    import asyncio

    with pytest.raises(RuntimeError, match="away"):
        asyncio.run(ask())
    assert sent[0]["status"] == 500
    assert b"content-security-policy" in dict(sent[0]["headers"])


@pytest.mark.parametrize("path", PAGES)
def test_reading_is_an_action_too(queue: Queue, open_app: Made, path: str) -> None:
    """What is not True is refused: also a truthy answer, and that of an async function."""

    async def later(request: Request, action: str) -> bool:
        return False

    for authorize in (lambda request, action: False, lambda request, action: "yes", later):
        answer = open_app(queue, authorize).get(path)
        assert answer.status_code == 403
        assert "You may not see this dashboard" in answer.text
    assert open_app(queue, web.read_only).get(path).status_code == 200


@pytest.mark.parametrize("action", web.ACTIONS)
def test_each_action_is_refused_on_the_server_unless_it_is_allowed(queue: Queue, open_app: Made, action: str) -> None:
    """Not only hidden; and each is asked for by its own name."""
    paths = {
        "pause": "/queues/default/pause", "resume": "/queues/default/resume", "clear": "/queues/default/clear",
        "cancel": "/job/cancel", "retry": "/failures/retry", "forget": "/failures/forget",
    }  # fmt: skip
    before = queue.stats()
    assert open_app(queue, web.read_only).post(paths[action]).status_code == 403
    asked: list[str] = []
    others = lambda request, one: asked.append(one) or one != action  # type: ignore[func-returns-value]  # noqa: E731
    assert open_app(queue, others).post(paths[action]).status_code == 403
    assert asked == ["view", action]
    assert (queue.stats(), queue.paused_since()) == (before, None)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, 303),
        ({"Sec-Fetch-Site": "same-site", "Origin": f"http://{HOST}"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "none"}, 403),
        ({"Origin": f"http://{HOST}"}, 303),
        ({"Origin": f"https://{HOST}"}, 303),  # a proxy ends TLS
        ({"Origin": f"http://{HOST}:81"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": f"http://{HOST}.evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://[broken"}, 403),
        ({"Referer": f"http://{HOST}/"}, 403),
    ],
)
def test_what_changes_something_must_come_from_our_own_page(
    queue: Queue, open_app: Made, headers: dict[str, str], status: int
) -> None:
    """Browsers send Sec-Fetch-Site to HTTPS and localhost alone; elsewhere the Origin decides."""
    assert open_app(queue).post("/queues/default/pause", {}, **headers).status_code == status
    assert (queue.paused_since() is not None) == (status == 303)


def test_behind_a_proxy_that_changes_the_host_its_origin_is_named(queue: Queue, open_app: Made) -> None:
    """By whom mounts the app."""
    browser = open_app(queue, origins=["https://shop.example.com"])
    assert browser.post("/queues/default/pause", {}, Origin="https://shop.example.com").status_code == 303
    assert browser.post("/queues/default/pause", {}, Origin="http://shop.example.com").status_code == 403


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost"])
def test_under_another_name_it_answers_nothing(queue: Queue, host: str) -> None:
    """A page of evil.example, whose name leads to this machine now, would be same-origin."""
    app = web.app(queue, authorize=web.everything, allowed_hosts=[HOST, "127.0.0.1"])
    assert Browser(app, host).get("/").status_code == 400
    assert Browser(app, f"{HOST}:8000").get("/").status_code == 200


@pytest.mark.parametrize("hosts", ["http://ops.example.com", [""], ["ops.example.com:80"], ["*.*"], [3]])
def test_a_setting_that_would_match_nothing_is_refused(queue: Queue, hosts: Any) -> None:
    """When the app is made."""
    with pytest.raises(InvalidSetting, match="allowed_hosts"):
        web.app(queue, authorize=web.read_only, allowed_hosts=hosts)
    with pytest.raises(InvalidSetting, match="origins"):
        web.app(queue, authorize=web.read_only, allowed_hosts="*", origins=["ops.example.com"])
    with pytest.raises(TypeError, match="authorize"):
        web.app(queue, allowed_hosts="*")  # type: ignore[call-arg]


@pytest.mark.parametrize("prefix", ["/ops/queues", "/ö ps"])
def test_below_any_prefix_links_are_paths_below_it(queue: Queue, prefix: str) -> None:
    """Never a scheme or a host, which a proxy may have changed."""
    inner = web.app(queue, authorize=web.everything, allowed_hosts="*")
    queue.dispatch_after(Mail_(), 60, queue="mail")
    browser = Browser(Starlette(routes=[Mount(prefix, inner)]))
    quoted = prefix.replace("ö ", "%C3%B6%20")
    for path in ("/", "/queues/mail?where=delayed", "/failures", "/traffic"):
        answer = browser.get(quoted + path)
        assert answer.status_code == 200
        links = re.findall(r'(?:href|src|action|hx-get|data-json)="([^"]*)"', answer.text)
        assert [one for one in links if not one.startswith((quoted + "/", "#"))] == []
        assert all(browser.get(one).status_code == 200 for one in links if "static" in one)
    answer = browser.post(f"{quoted}/queues/mail/pause")
    assert answer.headers["location"] == f"{quoted}/queues/mail?told=paused"
    assert "Paused" in browser.get(answer.headers["location"]).text


def Mail_() -> Any:  # noqa: N802
    from .conftest import Mail

    return Mail("a@example.com")


# -- what is in the files --------------------------------------------------------------------------


@pytest.mark.parametrize("name", VENDORED)
def test_what_others_wrote_is_as_they_published_it(name: str) -> None:
    """htmx.org 4.0.1 and uPlot 1.6.32 of the npm registry, each with its licence."""
    assert hashlib.sha256((FILES / "static" / name).read_bytes()).hexdigest() == VENDORED[name]


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_no_page_needs_more_than_the_policy_allows(path: Path) -> None:
    """No inline script or style, none of htmx's attributes that build functions, no foreign URL, nothing unescaped."""
    text = path.read_text()
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:|hx-on|\bjs:|hx-vals|hx-confirm", text)
    assert not re.search(r'hx-trigger="[^"]*\[', text)
    assert not re.search(r"<script(?![^>]* src=)", text)
    assert not re.search(r"https?://|\burl_for\b|\|\s*safe\b|autoescape", text)


def test_the_core_knows_no_page() -> None:
    """And a process that shows none loads none."""
    for path in FILES.parent.rglob("*.py"):
        if not path.is_relative_to(FILES) and path.name != "dashboard.py":
            assert not re.search(r"^\s*from \.+web\b|kashvi\.web", path.read_text(), re.MULTILINE), path
