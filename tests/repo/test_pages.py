"""The pages that are typed along: their files are written and their commands run, in one shell, as a reader does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.servers.launch import RedisServer

DOCS = Path(__file__).resolve().parents[2] / "docs"
FENCE = re.compile(r"^```(python|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ANNOUNCED = "=== the next command of the page ==="


def typed(page: str) -> tuple[str, list[tuple[str, list[str]]]]:
    """A script for bash, and each of its commands with the lines that the page says it prints."""
    script, commands = ["set -m"], []
    for kind, text in FENCE.findall(page):
        if kind == "python":
            first, _, code = text.partition("\n")
            how = re.fullmatch(r"# (at the end of )?(\w+\.py)", first)
            assert how, f"a block of Python begins with {first!r}, not with the name of its file"
            script.append(f"cat {'>>' if how[1] else '>'} {how[2]} <<'END-OF-FILE'\n{code}END-OF-FILE")
            continue
        for command, _, said in (part.partition("\n") for part in ("\n" + text).split("\n$ ")[1:]):
            script += [f"echo '{ANNOUNCED}'", command]
            commands.append((command, [line for line in said.splitlines() if line not in ("", "…")]))
    return "\n".join([*script, "wait", ""]), commands


def pattern(line: str) -> str:
    """A line of the page; ``…`` is anything, and blanks may be wider."""
    return ".*".join(r"\s+".join(map(re.escape, part.split())) for part in line.split("…"))


@contextmanager
def server(directory: Path, needed: bool) -> Iterator[str]:
    """The address of a server that no other test uses, since a page may change its users."""
    if not needed:
        yield ""
        return
    running = RedisServer("valkey-9", directory / "server").start()
    try:
        yield f"127.0.0.1:{running.port}"
    finally:
        running.stop()


@pytest.mark.parametrize("page", ["capacity", "server", "start", "testing", "tutorial"])
def test_a_page_that_is_typed_along_says_what_its_reader_sees(page: str, tmp_path: Path) -> None:
    """Each command exits with 0 and prints the lines below it, in their order."""
    script, commands = typed((DOCS / f"{page}.md").read_text())
    assert commands
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("KASHVI_", "PYTEST_"))}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
    environment |= {"COLUMNS": "200", "PYTHONDONTWRITEBYTECODE": "1"}
    with server(tmp_path, "localhost:6379/" in script) as address:
        ran = subprocess.run(
            ["bash", "-e", "-c", script.replace("localhost:6379/", f"{address}/")],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            cwd=tmp_path,
            env=environment,
            check=False,
        )
    shown = ran.stdout.split(f"{ANNOUNCED}\n")[1:]
    for (command, lines), printed in zip(commands, shown, strict=False):
        rest = iter(printed.splitlines())
        for line in lines:
            assert any(re.search(pattern(line), other) for other in rest), f"$ {command}\nsays not {line!r}:\n{printed}"
    assert (ran.returncode, len(shown)) == (0, len(commands)), ran.stdout
