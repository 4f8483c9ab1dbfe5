"""The pages of the lessons: small, without a network, and in a browser by keys alone."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from kashvi_spec.kit.lessons import LESSONS, Lesson, lesson_named, text_of_lesson
from kashvi_spec.kit.lessons.page import page_of
from kashvi_spec.kit.museum import MUSEUM

from kashvi.cli import cli
from tests.browser import chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SIZE_MAX = 300_000
NETWORK = re.compile(
    r"\b(?:src|href)=\"(?!data:|#|[a-z-]+\.html\"|\.\./)|@import|url\((?!#)|\bfetch\(|XMLHttpRequest|WebSocket"
)
TITLES = [lesson.title for lesson in LESSONS]


def values(page: str) -> Any:
    found = re.search(r'<script type="application/json" id="lesson">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])


def test_each_lesson_of_the_text_has_a_page_and_peers_that_had_its_bugs() -> None:
    """In the same order; and at least two exhibits, one of them another queue's."""
    for lesson in LESSONS:
        assert text_of_lesson(lesson)
        assert lesson.bug in MUSEUM
        assert len(lesson.peers) >= 2
        assert any(not MUSEUM[name].source.startswith("ours") for name in lesson.peers)
    assert lesson_named("6") == lesson_named("who is to blame") == LESSONS[5]
    assert lesson_named("7") is lesson_named("nothing like it") is None


@pytest.mark.parametrize("lesson", LESSONS, ids=TITLES)
def test_a_page_is_one_small_file_with_its_runs_inside(lesson: Lesson) -> None:
    """It asks for nothing. No promise breaks without the bug, and with it at a moment that the page knows."""
    page = page_of(lesson)
    assert len(page.encode()) <= SIZE_MAX
    assert not NETWORK.findall(page)
    stories = values(page)["stories"]
    assert 2 <= len(stories) <= 5
    for story in stories:
        assert story["clean"]["breaks"] == story["clean"]["differs"] == []
        for run in (story["clean"], story["bug"]):
            assert run["steps"] == sorted(run["steps"], key=lambda step: step[0])
            assert {run["texts"][step[3]] for step in run["steps"]} <= set(run["texts"])
            for at, _, job, _ in run["breaks"]:
                assert any(abs(step[0] - at) < 1e-3 and step[2] == job for step in run["steps"])
    broken = [story for story in stories if story["bug"]["breaks"]]
    assert len(broken) >= len(stories) - 1  # that of DELAY-2 does not show the bug, as its lesson says
    plain = page.partition("second by second")[2]
    assert "settled: done" in plain  # without JavaScript, too
    assert "BROKEN" in plain


def test_a_page_is_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    """Whatever the hashes of its strings are."""
    for name in ("1", "3"):
        path = tmp_path / f"{name}.html"
        command = [sys.executable, "-m", "kashvi", "spec:lesson", name, "--html", str(path)]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PYTHONHASHSEED": "7"})
        lesson = lesson_named(name)
        assert lesson
        assert path.read_text("utf-8") == page_of(lesson)


def test_the_command_prints_a_lesson_lists_all_and_says_what_is_wrong(tmp_path: Path) -> None:
    """As text, without --html."""
    run = CliRunner().invoke
    assert run(cli, ["spec:lesson"]).stdout.count("\n") == len(LESSONS)
    assert run(cli, ["spec:lesson", "backoff"]).stdout.startswith("3. Backoff\n")
    assert "no lesson 'nine'" in run(cli, ["spec:lesson", "nine"]).stderr
    assert "name it" in run(cli, ["spec:lesson", "--html", "x.html"]).stderr
    assert "no folder" in run(cli, ["spec:lesson", "1", "--html", str(tmp_path / "no" / "x.html")]).stderr


# -- in a browser ----------------------------------------------------------------------------------


def opened(browser: Browser, path: Path, said: list[str], **how: Any) -> Page:
    """The page; ``said`` gets its errors, and its requests but for the first."""
    page = browser.new_context(**how).new_page()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: said.append(request.url) if request.url != path.as_uri() else None)
    page.goto(path.as_uri())
    return page


def test_a_lesson_is_scrubbed_by_keys_and_its_bug_is_seen_to_break_the_promise(tmp_path: Path) -> None:
    """On a wide light page and a narrow dark one; nothing is asked for, and no error said."""
    path, said = tmp_path / "lesson.html", list[str]()
    path.write_text(page_of(LESSONS[0]), "utf-8")
    with chromium() as browser:
        from playwright.sync_api import expect

        for width, scheme in ((1400, "light"), (400, "dark")):
            page = opened(browser, path, said, viewport={"width": width, "height": 900}, color_scheme=scheme)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            press, text = page.keyboard.press, page.inner_text
            assert text("#clock") == "0.000 s"
            press("ArrowRight")
            press("ArrowRight")
            press("ArrowRight")
            assert text("#told") == "p0: #1: attempt 1"
            assert "#1 · p0" in text("#board")
            press("End")
            assert text("#clock") == "26.000 s"
            assert text("#verdict") == "No promise broken so far"
            press("ArrowLeft")
            assert text("#log .here .what") == "attempt 1 succeeded after 20.000000 s"
            press("Home")
            assert "Nothing has happened yet." in text("#told")
            assert page.locator(".lanes .break").count() == 0
            press("b")
            assert page.is_visible("#broken")
            assert page.locator(".lanes .break.future").count() > 0
            press("End")
            assert text("#verdict") == "Broken: DISPATCH-1, at 0.020 s"
            assert page.locator(".lanes .break.future").count() == 0
            page.focus("#breaks .jump")
            press("Enter")
            assert text("#log .here.broke .what") == "settled: done"
            press(" ")  # on a button, a space is the button's
            assert text("#play") == "Play"
            page.focus("#scrub")
            press(" ")
            expect(page.locator("#clock")).not_to_have_text("0.020 s")
            assert text("#play") == "Pause"
            press(" ")
            assert text("#play") == "Play"
            page.context.close()
    assert said == []


def test_a_lesson_can_be_read_without_javascript_and_played_without_motion(tmp_path: Path) -> None:
    """As text; and from step to step."""
    path, said = tmp_path / "lesson.html", list[str]()
    path.write_text(page_of(LESSONS[2]), "utf-8")
    with chromium() as browser:
        from playwright.sync_api import expect

        page = opened(browser, path, said, java_script_enabled=False)
        assert "settled: waits 1 s, due at 1.000000" in page.inner_text(".plain.run")
        assert not page.is_visible("#lanes")
        assert not page.is_visible("#plant")
        page = opened(browser, path, said, reduced_motion="reduce")
        page.focus("#scrub")
        page.keyboard.press(" ")
        assert page.inner_text("#told") == "p0: WORKER with 1 threads"  # at once the first step, and no frames between
        expect(page.locator("#told")).to_contain_text("dispatched")
        page.click("#plant")
        page.select_option("#story", index=1)
        assert page.locator(".lanes .break").count() > 1
        assert page.inner_text("#command").endswith("sim:run storm --seed 0")
    assert said == []
