"""``spec:try``: an example of one's own runs, and is judged."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from kashvi_spec.kit.example.own import NotAnExample, of_text, tried

from tests.servers.launch import until_true

from .conftest import MAIN, Shell

TWICE = """
jobs = [{ outcomes = ["fail", "fail", "ok"] }]
attempts_at = { a = [0, 1, 3] }
"""
APP = """
from __future__ import annotations
from dataclasses import dataclass
from datetime import datetime
from kashvi import queue

@queue.job
@dataclass
class Remind:
    who: str

    def handle(self) -> None:
        print("reminding", self.who, "at", datetime.now())
        if self.who == "Ann":
            raise ValueError("no address")

def story(sim):
    sim.workers(2)
    queue.dispatch(Remind("Ann"))
    queue.dispatch_after(Remind("Bob"), 60)
    sim.run_until_idle()
"""


def written(shell: Shell, name: str, text: str) -> Path:
    path = shell.directory / name
    path.write_text(text)
    return path


def test_an_example_in_the_clauses_format_is_a_timeline_and_is_judged(kashvi: Shell) -> None:
    written(kashvi, "mine.toml", TWICE)
    shown = kashvi("spec:try", "mine.toml")
    assert shown.returncode == 0, shown.stderr
    assert "    1.000000  p0   jobs.Example #1              attempt 2\n" in shown.stdout
    assert "as expected; judged " in shown.stdout


def test_a_planted_bug_shows_where_the_promise_breaks(kashvi: Shell) -> None:
    """With the clause, and the name that the timeline gives the job."""
    written(kashvi, "mine.toml", TWICE)
    shown = kashvi("spec:try", "mine.toml", "--plant", "constant backoff")
    assert shown.returncode == 1
    assert "with the bug 'constant backoff'" in shown.stdout
    assert "BROKEN  attempts_at is {'a': (0.0, 1.0, 2.0)}, not {'a': (0.0, 1.0, 3.0)}" in shown.stdout
    assert "BROKEN  backoff kept (RETRY-2): jobs.Example #1 waits 1 s after attempt 2, not 2 s" in shown.stdout


def test_job_classes_of_ones_own_run_in_virtual_time(kashvi: Shell) -> None:
    """Their prints do not mix with JSON; a bug that is planted breaks the same promise."""
    written(kashvi, "mine.py", APP)
    shown = kashvi("spec:try", "mine.py", "--json")
    assert shown.returncode == 0, shown.stderr
    [run] = json.loads(shown.stdout)["runs"]
    assert "   60.000000  p1   mine.Remind #2               attempt 1" in run["timeline"]
    assert run["judged"]["backoff kept"] > 0
    assert "reminding Bob at 2027-01-15" in shown.stderr
    shown = kashvi("spec:try", "mine.py", "--json", "--plant", "constant backoff")
    assert shown.returncode == 1
    assert {one["clause"] for one in json.loads(shown.stdout)["runs"][0]["violations"]} == {"RETRY-2"}


def test_the_timeline_of_an_interrupted_story_is_shown_with_its_traceback(kashvi: Shell) -> None:
    written(kashvi, "mine.py", APP + "    raise LookupError('of the story')\n")
    shown = kashvi("spec:try", "mine.py")
    assert shown.returncode == 1
    assert "mine.Remind #2" in shown.stdout
    assert shown.stdout.count("LookupError: of the story") == 1


def test_an_example_is_read_from_standard_input(tmp_path: Path) -> None:
    """One without expectations says so."""
    words = [*MAIN, "spec:try", "-"]
    shown = subprocess.run(words, input="jobs = [{}]", capture_output=True, text=True, check=False, cwd=tmp_path)
    assert shown.returncode == 0
    assert "no promise broken, and nothing else expected" in shown.stdout


def test_the_run_is_written_as_a_page(kashvi: Shell) -> None:
    written(kashvi, "mine.toml", TWICE)
    assert kashvi("spec:try", "mine.toml", "--html", "mine.html").returncode == 0
    page = (kashvi.directory / "mine.html").read_text()
    assert "mine.toml" in page
    assert "Every promise was kept." in page


def test_it_runs_again_each_time_that_the_file_is_saved(kashvi: Shell) -> None:
    """Until Ctrl-C; a file that can't be run, or is gone for a moment, does not end it."""
    path, seen = written(kashvi, "mine.toml", TWICE), kashvi.directory / "seen.txt"
    with seen.open("w") as out:
        process = kashvi.start("spec:try", str(path), "--watch", stdout=out)
        until_true(lambda: seen.read_text().count("as expected") == 1, 20)
        path.write_text("jobs = [{ outcome = 1 }]")
        until_true(lambda: "was saved" in seen.read_text(), 20)
        path.unlink()
        until_true(lambda: "was removed" in seen.read_text(), 20)
        path.write_text(TWICE.replace("3]", "4]"))
        until_true(lambda: "not {'a': (0.0, 1.0, 4.0)}" in seen.read_text(), 20)
        process.send_signal(2)
        assert process.wait(timeout=10) == 1


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["gone.toml"], "does not exist"),
        (["mine.toml", "--plant", "constant backof"], "did you mean 'constant backoff'"),
        (["-", "--watch"], "--watch needs a file"),
        (["mine.toml", "--html", "gone/a.html"], "there is no folder 'gone'"),
        (["page.md", "--html", "a.html"], "page.md has 2 examples, and a page shows one"),
    ],
)
def test_a_mistake_of_the_caller_is_named(kashvi: Shell, words: list[str], why: str) -> None:
    written(kashvi, "mine.toml", TWICE)
    written(kashvi, "page.md", f"```example\n{TWICE}```\n\n```example\n{TWICE}```\n")
    shown = kashvi("spec:try", *words)
    assert shown.returncode == 2
    assert why in " ".join(shown.stderr.split())


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("a.toml", 'jobs = [{ outcome = ["ok"] }]', "unknown field `outcome` - at `jobs[0]`; did you mean 'outcomes'?"),
        ("a.toml", "job = [{}]", "unknown field `job`; did you mean 'jobs'?"),
        ("a.toml", "jobs = [{ takes = inf }]", "`jobs[0].takes`"),
        ("a.toml", "jobs = [{ outcomes = [] }]", "`jobs[0].outcomes`"),
        (
            "a.toml",
            "jobs = [{}]\nattempts_at = { b = [0] }",
            "something is expected of ['b'], and there are only ['a']",
        ),
        ("a.toml", "jobs = [{}]\norder = ['a', 'b']", "something is expected of ['b'], and there are only ['a']"),
        ("a.toml", "jobs = [{}]\nrows = { a = 3 }", "there is no table: add table = true"),
        (
            "a.toml",
            "jobs = [{}]\nworkers = [{ at = 2 }]\nhappens = [{ at = 1, what = 'kill' }]",
            "something happens to a worker before it starts",
        ),
        ("a.toml", "jobs = [{ queue = 'a b' }]", "the name of a queue must be"),
        ("a.toml", "cron = [{ tz = 'Mars/Base' }]", "a time zone must be"),
        ("a.toml", "jobs = [", "Invalid value"),
        ("a.toml", "", "it has neither jobs nor cron"),
        ("a.toml", 'jobs = [{ takes = "long" }]', "`jobs[0].takes`"),
        ("a.md", "no block", "no block that begins with ```example"),
        ("a.py", "import nothing_like_it", "No module named 'nothing_like_it'"),
        ("a.py", "raise SystemExit(3)", "SystemExit: 3"),
        ("a.py", "x = 1", "it has no function story(sim)"),
        ("a.py", "def f(:", "SyntaxError"),
    ],
)
def test_a_file_that_is_no_example_says_why(tmp_path: Path, name: str, text: str, why: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(NotAnExample) as refused:
        tried(path)
    assert why in str(refused.value)


def test_the_traceback_of_an_import_begins_with_the_file(kashvi: Shell) -> None:
    """In lines; the error's last line is short."""
    written(kashvi, "mine.py", "def of_mine():\n    raise LookupError('no shop')\n\nof_mine()\n")
    shown = kashvi("spec:try", "mine.py")
    assert shown.returncode == 2
    head, first, *_, last = shown.stderr.splitlines()
    assert head == "Traceback (most recent call last):"
    assert "mine.py" in first
    assert last == "Error: Invalid value for FILE: mine.py: it can't be imported: LookupError: no shop"


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(NotAnExample, match="no text in UTF-8"):
        tried(path)


def test_each_example_of_a_page_of_clauses_is_run(tmp_path: Path) -> None:
    path = tmp_path / "draft.md"
    path.write_text(
        f"## MINE-1 MUST: It waits.\n\n```example\n{TWICE}```\n\n```example\n{TWICE.replace('3]', '4]')}```\n"
    )
    assert [one.good for one in tried(path)] == [True, False]


def test_every_fault_of_the_format_is_an_example_that_is_judged() -> None:
    """A worker that dies, by its own hand: the job is done by another."""
    ran = of_text('jobs = [{ takes = 5 }]\nworkers = [{}, { at = 1 }]\nhappens = [{ at = 2, what = "kill" }]')
    assert ran.good
    assert ran.judged["none lost"] == 1
