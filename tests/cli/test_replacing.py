"""``queue:work`` puts a new program in the place of one with a stuck thread."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = """
import json, os, sys, threading, types
from kashvi.cli.replacing import replace, started
from kashvi.cli.signals import Signals

signals = Signals(25.0, quiet=True)
if "AGAIN" in os.environ:
    print(json.dumps([os.getpid(), sys.argv[1:], threading.active_count(), os.getcwd()]), flush=True)
    sys.exit()
os.environ["AGAIN"] = "1"
threading.Thread(target=threading.Event().wait, daemon=True).start()
print(os.getpid(), flush=True)
{before}
program = started()
{app}
replace(program, signals, types.SimpleNamespace(taken=3), {limits})
print("goes on", flush=True)
"""


def ran(*words: str, limits: str = "None, None", before: str = "", app: str = "") -> subprocess.CompletedProcess[str]:
    program = PROGRAM.format(limits=limits, before=before, app=app)
    return subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("words", "limits", "wanted"),
    [
        (["queue:work", "--json"], "None, None", ["queue:work", "--json"]),
        (["queue:work", "--max-jobs", "9"], "9, None", ["queue:work", "--max-jobs", "9", "--max-jobs=6"]),
        (["queue:work", "--max-jobs=6", "--max-time=4"], "6, 2.5", ["queue:work", "--max-jobs=3", "--max-time=2.5"]),
        (["queue:work", "--max-time=1"], "None, -1.0", ["queue:work", "--max-time=0.001"]),
    ],
)
def test_the_new_program_has_the_same_number_and_words_and_what_is_left_of_the_limits(
    words: list[str], limits: str, wanted: list[str]
) -> None:
    """And none of the threads."""
    shown = ran(*words, limits=limits)
    number, again = shown.stdout.splitlines()
    assert json.loads(again)[:3] == [int(number), wanted, 1]
    assert "a new process takes the place of this one" in shown.stderr


def test_an_app_that_changes_its_words_and_its_directory_is_started_as_it_was() -> None:
    """As one that strips options of its own does, or one that goes to its data."""
    shown = ran("queue:work", app="sys.argv[1:] = []; os.chdir('/')")
    assert json.loads(shown.stdout.splitlines()[1])[1::2] == [["queue:work"], str(Path.cwd())]


def test_what_was_forked_by_another_program_starts_as_kashvi_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """The words of that program are not its own."""
    shown = ran("nursery", before="sys.argv[1:] = ['--version']")
    assert "kashvi, version" in shown.stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_has_come_wins(number: signal.Signals) -> None:
    """The command ends as without a stuck job."""
    shown = ran(before=f"signals.expect(); os.kill(os.getpid(), {int(number)})")
    assert shown.stdout.splitlines()[1:] == ["goes on"]


def test_a_signal_that_comes_meanwhile_ends_the_process() -> None:
    """It is not lost between the two programs: all is settled by then."""
    late = "Signals.came = property(lambda self: os.kill(os.getpid(), 15))"
    shown = ran(before=late)
    assert len(shown.stdout.splitlines()) == 1
    assert shown.returncode == -signal.SIGTERM


def test_a_program_that_is_gone_ends_with_a_code_of_its_own(tmp_path: Path) -> None:
    """A supervisor starts another."""
    shown: Any = ran(before=f"sys.executable = {str(tmp_path / 'gone')!r}")
    assert shown.returncode == 75
    assert "can't be replaced" in shown.stderr
