"""What people get wrong at a shell, and what they are told."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from kashvi.failures.sql import SqlFailures

from .conftest import MAIN, Shell


@pytest.mark.parametrize(
    ("package", "app"),
    [
        ("redis", "from kashvi import queue\nqueue.set_driver('redis://x:1')\n"),
        ("redis", "import myapp\n"),
        ("sqlalchemy", "import myapp\n"),
    ],
)
def test_a_file_with_the_name_of_a_package_is_named(kashvi: Shell, package: str, app: str) -> None:
    """Wherever the import goes wrong: in the app, or in kashvi."""
    (kashvi.directory / f"{package}.py").write_text("clients = []\n")
    (kashvi.directory / "shop.py").write_text(app)
    shown = kashvi("queue:work", "--app", "shop", "--redis-url", "redis://localhost:1/0", "--stop-when-empty")
    assert shown.returncode == 2
    assert f"{package}.py is imported in place of the package {package}, which kashvi needs" in shown.stderr
    assert "Traceback" not in shown.stderr


TAKEN = ("click", "enum", "json", "logging", "msgspec", "queue", "redis", "rich", "sqlalchemy", "typing", "uuid_utils")


@pytest.mark.parametrize("command", [MAIN, [sys.executable, "-m", "kashvi"]])
def test_files_with_the_names_of_packages_are_in_nobodys_way(kashvi: Shell, command: list[str]) -> None:
    """Where a command imports nothing from the directory."""
    for name in TAKEN:
        (kashvi.directory / f"{name}.py").write_text("clients = []\n")
    words = ["queue:failed", "--database-url", "sqlite://"]
    shown = subprocess.run(
        [*command, *words], capture_output=True, text=True, cwd=kashvi.directory, env=kashvi.environment, check=False
    )
    assert shown.returncode == 2
    assert shown.stderr.splitlines()[-1].endswith("sqlite:// has no table kashvi_failed_jobs (queue:work makes it)")


def test_files_with_the_names_of_packages_are_in_the_way_of_no_process(kashvi: Shell) -> None:
    """Of those that the command starts: each refuses to work for an app without jobs, and not for another reason."""
    for name in ("click", "kashvi", "typing"):
        (kashvi.directory / f"{name}.py").write_text("raise SystemExit(77)\n")
    (kashvi.directory / "empty.py").write_text("")
    shown = kashvi("queue:work", "--app", "empty", "--processes=2")
    assert shown.returncode == 2
    assert "'empty' registers no job types" in shown.stderr


def test_a_command_that_is_not_there_is_answered_with_those_like_it(kashvi: Shell) -> None:
    """So is an option."""
    for words, wanted in (
        (["queue:wrok"], "Did you mean queue:work"),
        (["retry"], "Did you mean queue:retry"),
        (["queue:work", "--worker", "3"], "Did you mean '?--workers"),
    ):
        shown = kashvi(*words)
        assert shown.returncode == 2
        assert re.search(wanted, shown.stderr)


def test_python_m_kashvi_is_kashvi(kashvi: Shell) -> None:
    """In an environment whose scripts are not on the path."""
    shown = subprocess.run(
        [sys.executable, "-m", "kashvi", "--version"], capture_output=True, text=True, cwd=kashvi.directory, check=True
    )
    assert shown.stdout.startswith("kashvi, version ")


def test_a_file_that_is_not_there_is_named(kashvi: Shell) -> None:
    """With what was wrong."""
    shown = kashvi("sim:run", "storm", "--trace", "no/such/folder/t.jsonl")
    assert shown.returncode in (1, 2)
    assert "no/such/folder" in shown.stderr


@pytest.mark.parametrize(("encoding", "written"), [("cp1252", "cp1252"), ("ascii", "utf-8")])
def test_no_command_fails_for_a_letter_that_the_terminal_lacks(kashvi: Shell, encoding: str, written: str) -> None:
    """A type, a payload, an error, a file: all in another script. Click takes no stream's word that it is ASCII."""
    (kashvi.directory / "東京.py").write_text(
        "from dataclasses import dataclass\nfrom kashvi import queue\n\n"
        '@queue.job("jobs.東京")\n@dataclass\nclass Note:\n    city: str\n'
        "    def handle(self):\n        raise ValueError(self.city)\n\nqueue.dispatch(Note('京都 😀'))\n"
    )
    environment = {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    worked = ["--stop-when-empty", "--max-retry=1", "--trace=t.jsonl"]
    work = kashvi("queue:work", "--app", "東京", *worked, encoding=written, **environment)
    assert (work.returncode, "FAIL" in work.stdout) == (0, True)
    for words in (["queue:failed"], ["queue:failed", "--json"], ["sim:replay", "t.jsonl"], ["spec:check", "t.jsonl"],
                  ["spec:show", "RETRY-2"], ["spec:list"], ["queue:work", "--app", "大阪"], ["--help"]):  # fmt: skip
        shown = kashvi(*words, encoding=written, **environment)
        assert "Traceback" not in shown.stderr, words
        assert shown.returncode in (0, 2), (words, shown.stderr)


def test_blanks_around_settings_are_dropped(kashvi: Shell) -> None:
    """As a shell leaves them that reads a secret from a file."""
    shown = kashvi("queue:work", "--stop-when-empty", KASHVI_APP=" myapp\n", KASHVI_DATABASE_URL="sqlite:///other.db\n")
    assert shown.returncode == 0
    assert sorted(name for name in os.listdir(kashvi.directory) if ".db" in name) == ["other.db"]  # noqa: PTH208


@pytest.mark.parametrize("words", ["queue:work --app myapp --stop-when-empty", "queue:failed", "queue:failed --group"])
def test_a_command_without_standard_output_does_its_work(kashvi: Shell, words: str) -> None:
    """``kashvi queue:failed >&-``, as a job of cron may find it."""
    SqlFailures(f"sqlite:///{kashvi.directory}/kashvi.db").prepare()
    shown = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *MAIN, *words.split()],
        cwd=kashvi.directory, env=kashvi.environment, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (shown.returncode, shown.stderr) == (0, "")


@pytest.mark.parametrize("words", ["demo", "spec:list", "spec:show RETRY-2", "queue:work --app myapp --max-time 0.1"])
def test_a_reader_that_has_seen_enough_gets_no_traceback(kashvi: Shell, words: str) -> None:
    """``kashvi demo | head -1``."""
    with subprocess.Popen(
        [*MAIN, *words.split()], cwd=kashvi.directory, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()
        assert process.wait(60) in (0, 1)
    assert "Traceback" not in errors
    assert "Exception" not in errors
