"""What queue:work prints: in a pipe, at a terminal, as JSON, and beside the app's own logging and prints."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import termios
import unicodedata
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kashvi import events
from kashvi.cli import listing, output
from kashvi.cli.output import Lines
from kashvi.failures.sql import SqlFailures
from kashvi.ports import Failure

from .conftest import MAIN, Shell

PRINTS = """
import os, subprocess, sys
from dataclasses import dataclass
from kashvi import queue

print("imported", end="")

@queue.job("jobs.Prints")
@dataclass
class Prints:
    def handle(self):
        print("half a line", end="")
        sys.stdout.flush()
        os.write(1, b"raw")
        subprocess.run([sys.executable, "-c", "print('a child', end='')"])

queue.dispatch(Prints())
"""

LOGS = """
import logging, warnings
warnings.simplefilter("ignore")
from dataclasses import dataclass
from kashvi import queue
{setup}
log = logging.getLogger("shop")

@queue.job("jobs.Logs")
@dataclass
class Logs:
    def handle(self):
        log.info("in the handler")
        raise ValueError("first\\nERROR forged")

queue.dispatch(Logs())
"""


def test_json_lines_stay_whole_whatever_handlers_print(kashvi: Shell) -> None:
    """To sys.stdout, to file descriptor 1, or by processes of their own: it goes to standard error."""
    (kashvi.directory / "prints.py").write_text(PRINTS)
    shown = kashvi("queue:work", "--app", "prints", "--stop-when-empty", "--json")
    told = [json.loads(line)["event"] for line in shown.stdout.splitlines()]
    assert "JobSucceeded" in told
    for text in ("imported", "half a line", "raw", "a child"):
        assert text in shown.stderr


AT_EXIT = "\nimport atexit; atexit.register(lambda: (print('goodbye'), os.write(1, b'raw')))\n"


@pytest.mark.parametrize("words", [["queue:failed"], ["queue:work", "--stop-when-empty"]])
def test_json_of_a_command_is_alone_though_the_app_prints(kashvi: Shell, words: list[str]) -> None:
    """When it is imported, and when the process ends."""
    app = PRINTS.replace("queue.dispatch", "queue.use_db('sqlite://'); queue.dispatch") + AT_EXIT
    (kashvi.directory / "prints.py").write_text(app)
    shown = kashvi(*words, "--app", "prints", "--json")
    for line in shown.stdout.splitlines() if words[0] == "queue:work" else [shown.stdout]:
        json.loads(line)
    for text in ("imported", "goodbye", "raw"):
        assert text in shown.stderr


def test_json_of_the_suite_is_alone_though_the_driver_prints(kashvi: Shell) -> None:
    """Whenever it likes."""
    (kashvi.directory / "mine.py").write_text(
        "import os\nprint('imported')\nfrom kashvi_spec.kit.driver.subject import subject_of\n"
        "def driver():\n    print('opened')\n    return subject_of('memory')\n" + AT_EXIT
    )
    shown = kashvi("spec:conformance", "--driver", "mine:driver", "--clauses", "DELAY-1", "--json")
    json.loads(shown.stdout)
    for text in ("imported", "opened", "goodbye", "raw"):
        assert text in shown.stderr


def test_logging_that_the_app_sets_up_is_left_alone(kashvi: Shell) -> None:
    """Its level, its format, one handler."""
    (kashvi.directory / "logs.py").write_text(
        LOGS.format(setup="logging.basicConfig(level='INFO', format='MINE %(message)s')")
    )
    shown = kashvi("queue:work", "--app", "logs", "--stop-when-empty", "--max-retry=1", "-v")
    assert shown.stderr.count("MINE in the handler") == 1
    assert "DEBUG" not in shown.stderr


def test_logging_that_nobody_set_up_shows_warnings_and_with_v_tracebacks(kashvi: Shell) -> None:
    """In lines that no message of others can forge."""
    (kashvi.directory / "logs.py").write_text(LOGS.format(setup=""))
    quiet = kashvi("queue:work", "--app", "logs", "--stop-when-empty", "--max-retry=1")
    assert quiet.stderr == ""
    shown = kashvi("queue:work", "--app", "logs", "--stop-when-empty", "--max-retry=1", "-v")
    assert re.search(r"^DEBUG attempt 1 of jobs\.Logs \S+ failed\n    Traceback", shown.stderr, re.MULTILINE)
    assert not re.search(r"^ERROR forged", shown.stderr, re.MULTILINE)
    assert "in the handler" not in shown.stderr


def test_a_logger_that_dict_config_has_disabled_still_warns(kashvi: Shell) -> None:
    """disable_existing_loggers is the default of logging.config."""
    setup = "import logging.config\nlogging.config.dictConfig({'version': 1, 'root': {'handlers': []}})\n"
    check = "\nimport atexit; atexit.register(lambda: print(logging.getLogger('kashvi').disabled))\n"
    (kashvi.directory / "logs.py").write_text(LOGS.format(setup=setup) + check)
    assert kashvi("queue:work", "--app", "logs", "--stop-when-empty", "--max-retry=1").stdout.endswith("False\n")


def test_in_a_pipe_a_line_is_whole(kashvi: Shell) -> None:
    """Type, id, error, and a time that says its zone; nothing is folded."""
    (kashvi.directory / "long.py").write_text(
        LOGS.format(setup="").replace("first\\nERROR forged", "x" * 500).replace("jobs.Logs", "jobs." + "N" * 200)
    )
    shown = kashvi("queue:work", "--app", "long", "--stop-when-empty", "--max-retry=1")
    [failed] = [line for line in shown.stdout.splitlines() if "FAIL" in line]
    assert re.fullmatch(
        r"  \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ jobs\.N{200} [0-9a-f-]{36} 1/1 [\d.,]+ms FAIL  ValueError: x{500}", failed
    )


def at_a_terminal(kashvi: Shell, columns: int, *words: str, raw: bool = False) -> list[str]:
    """What a command prints there, without colours unless ``raw``."""
    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {k: v for k, v in kashvi.environment.items() if k not in ("COLUMNS", "LINES")}
    with subprocess.Popen(
        [*MAIN, *words], cwd=kashvi.directory, env=environment, stdout=side, stderr=subprocess.DEVNULL
    ) as process:
        os.close(side)
        shown = b""
        try:
            while part := os.read(main, 65536):
                shown += part
        except OSError:
            pass  # the other end is closed
        process.wait(60)
    os.close(main)
    text = shown.decode()
    return (text if raw else re.sub(r"\x1b\[[0-9;]*m", "", text)).replace("\r\n", "\n").split("\n")


def test_at_eighty_columns_a_job_is_a_line(kashvi: Shell) -> None:
    """With the end of its id, and which attempt of how many."""
    (kashvi.directory / "many.py").write_text(
        LOGS.format(setup="").replace("first\\nERROR forged", "no card " * 30).replace("jobs.Logs", "jobs.Welcome")
        + '\n@queue.job("jobs.'
        + "L" * 120
        + '")\n@dataclass\nclass Good:\n    def handle(self): pass\n'
        + "queue.dispatch_many([Good()] * 3)\n"
    )
    lines = at_a_terminal(kashvi, 80, "queue:work", "--app", "many", "--stop-when-empty", "--max-retry=1")
    told = [line for line in lines if re.search("DONE|FAIL|GAVE UP", line)]
    assert len(told) == 5
    assert all(len(line) < 80 for line in told), told
    assert len([line for line in told if re.search(r"  \d\d:\d\d:\d\dZ jobs.* …[0-9a-f]{8} 1/1 ", line)]) == 4
    assert any("FAIL  ValueError: no card" in line for line in told)


def test_no_colour_where_none_is_wanted(kashvi: Shell) -> None:
    """By NO_COLOR, or a terminal that says it has none; in the lines of worker threads, too."""
    work = ("queue:work", "--app", "many", "--stop-when-empty", "--max-retry=1")
    (kashvi.directory / "many.py").write_text(LOGS.format(setup=""))
    kashvi.environment |= {"NO_COLOR": "", "TERM": "xterm"}
    assert "\x1b[" in "".join(at_a_terminal(kashvi, 80, *work, raw=True))
    for setting in ({"NO_COLOR": "1"}, {"NO_COLOR": "", "TERM": "dumb"}):
        kashvi.environment |= setting
        for command in (work, ("queue:doctor",), ("spec:list",)):
            lines = at_a_terminal(kashvi, 80, *command, raw=True)
            assert len(lines) > 3
            assert "\x1b[" not in "".join(lines), command


def test_a_doctors_lines_fit_the_terminal(kashvi: Shell) -> None:
    """Folded between words."""
    lines = at_a_terminal(kashvi, 60, "queue:doctor")
    assert any("not checked" in line for line in lines)
    assert max(map(len, lines)) <= 60


def test_lines_show_the_limit_of_the_type_a_snooze_and_a_policy_that_is_ignored(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Attempt n of m, where m is the type's own limit if it has one."""
    monkeypatch.setattr(output, "terminal_width", lambda: None)
    own, other = ({"job_id": name, "type": f"jobs.{name}", "at": 0.0} for name in ("Own", "Other"))
    lines = Lines(lambda: 3)
    for job, limit in ((own, 5), (other, 0)):
        lines(events.AttemptStarted(attempt=2, worker="w", claim="wait", type_limit=limit, **job))  # type: ignore[arg-type]
        lines(events.AttemptSnoozed(attempt=2, duration_s=0.01, wait_s=90.0, **job))  # type: ignore[arg-type]
    lines(events.PolicyIgnored(attempt=2, why="ValueError: a\x1b[2Jbug", **own))  # type: ignore[arg-type]
    shown = [line.split(" ", 3)[3] for line in capsys.readouterr().out.splitlines()]
    assert shown == [
        "jobs.Own Own 2/5 10.00ms SNOOZED for 90 s",
        "jobs.Other Other 2/3 10.00ms SNOOZED for 90 s",
        "jobs.Own Own 2/5 POLICY IGNORED  ValueError: a\\x1b[2Jbug",
    ]


@pytest.mark.parametrize("width", [20, 50, 80])
def test_no_line_of_a_job_is_wider_than_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int
) -> None:
    """A Chinese letter takes two columns; on a narrow one, what befell the job comes first."""
    monkeypatch.setattr(output, "terminal_width", lambda: width)
    monkeypatch.setattr(listing, "terminal_width", lambda: width)
    name, error = "jobs.東京タワー通知メール送信", "ValueError: 東京特許許可局" + " 今日休暇" * 20
    job = {"job_id": "0190a0a0-0000-7000-8000-0000deadbeef", "type": name, "at": 3661.0}
    lines = Lines(lambda: 3)
    lines(events.AttemptFailed(attempt=3, duration_s=0.01, error=error, **job))  # type: ignore[arg-type]
    lines(events.JobFailed(attempts=3, max_attempts=3, error=error, undeliverable=False, **job))  # type: ignore[arg-type]
    store = SqlFailures("sqlite://")
    store.record([Failure("job-1", name, b"{}", error, 3, datetime(2026, 11, 24, tzinfo=UTC))])
    listing.print_lines(store.rows())
    listing.print_groups([store.rows()], as_json=False)
    store.engine.dispose()
    shown = capsys.readouterr().out.splitlines()
    taken = [sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in line) for line in shown]
    assert len(taken) == 6
    assert max(taken) <= width
    assert "FAIL" in shown[0]
    assert "GAVE UP" in shown[1]


@pytest.mark.parametrize("command", [["spec:list"], ["spec:show", "RETRY-2"], ["spec:show", "DELIVERY-10"]])
def test_at_eighty_columns_no_word_is_broken(kashvi: Shell, command: list[str]) -> None:
    """Lines are folded between words; in a pipe they are whole."""
    words = {word for line in kashvi(*command).stdout.split("\n") for word in line.split()}
    lines = at_a_terminal(kashvi, 80, *command)
    assert {word for line in lines for word in line.split()} == words
    assert all(len(line) <= 80 or len(max(line.split(), key=len)) > 30 for line in lines)


def test_what_befell_a_job_is_told_in_a_word(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taken over, handed back, lost; each of whose it is."""
    monkeypatch.setattr(output, "terminal_width", lambda: 80)
    lines = Lines(lambda: 3)
    job = {"job_id": "0190a0a0-0000-7000-8000-0000deadbeef", "type": "jobs.Note", "at": 3661.0}
    lines(events.WorkerStarted(worker="w-ours", threads=1, lease_s=30.0, driver=""))
    lines(events.JobReturned(owner="w-other", suspect=True, **job))  # type: ignore[arg-type]
    lines(events.JobReturned(owner="w-ours", suspect=False, **job))  # type: ignore[arg-type]
    lines(events.AttemptLost(owner="w-other", attempt=2, **job))  # type: ignore[arg-type]
    lines(events.AttemptSucceeded(attempt=3, duration_s=0.01234, **job))  # type: ignore[arg-type]
    taken, back, lost, done = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"  01:01:01Z jobs.Note …deadbeef \.+ TAKEN OVER  worker w-other died", taken)
    assert back.endswith(". HANDED BACK")
    assert re.search(r"…deadbeef 2/3 \.+ LOST  worker w-other died$", lost)
    assert re.search(r"…deadbeef 3/3 \.+ 12\.34ms DONE$", done)


def test_project_files_are_where_the_docs_say() -> None:
    """The paragraph on logging stands in docs/overview.md."""
    assert "root logger" in (Path(__file__).parents[2] / "docs" / "overview.md").read_text()
