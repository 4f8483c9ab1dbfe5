"""``kashvi dashboard``, the command."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.servers.launch import RedisServer, free_port


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "kashvi", "dashboard", *words],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_it_prints_its_address_answers_there_and_ends_with_ctrl_c(tmp_path: Path, valkey: RedisServer) -> None:
    """And leaves no file behind."""
    process = start(tmp_path, "--port", "0", "--redis-url", valkey.url)
    assert process.stdout is not None
    line = process.stdout.readline()
    [url] = re.findall(r"http://127\.0\.0\.1:\d+/", line)
    assert "read-only" in process.stdout.readline()
    assert "No queue has had a job yet" in httpx.get(url).text
    assert "There is no failure table" in httpx.get(f"{url}failures").text
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_is_taken_is_a_clear_error(tmp_path: Path, valkey: RedisServer) -> None:
    """As is an address that is not this machine's, and a name that is none."""
    for words in (("--port", str(valkey.port)), ("--host", "192.0.2.1"), ("--host", "nö..x"), ("--port", "70000")):
        process = start(tmp_path, *words)
        _, err = process.communicate(timeout=20)
        assert process.returncode == 2
        assert "Traceback" not in err
        assert "another --port or --host" in err or "70000" in err


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    """Not a traceback."""
    (tmp_path / "starlette.py").write_text("raise ModuleNotFoundError('no starlette', name='starlette')")
    code = "import sys; sys.path.insert(0, '.'); sys.argv[1:] = ['dashboard']; from kashvi.cli import main; main()"
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (1, "Error: the dashboard needs starlette: pip install 'kashvi[web]'.\n")


@pytest.mark.parametrize("words", [("--database-url", "nonsense"), ("--app", "nowhere.at.all")])
def test_what_it_is_given_is_checked(tmp_path: Path, words: tuple[str, str]) -> None:
    """Before it listens."""
    process = start(tmp_path, "--port", str(free_port()), *words)
    out, err = process.communicate(timeout=20)
    assert process.returncode in (1, 2)
    assert (out, "Traceback" in err) == ("", False)
