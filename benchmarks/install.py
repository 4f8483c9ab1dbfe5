"""An environment for each peer under ``build/``, made once and kept."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from shutil import which
from typing import NamedTuple

from benchmarks.peers import Peer

BUILD = Path(__file__).parents[1] / "build" / "bench"
VERSIONS = "import importlib.metadata as m, platform, sys; print(m.version(sys.argv[1]), platform.python_version())"


class Installed(NamedTuple):
    """Where a peer runs. ``why_not``: why it doesn't."""

    python: str
    version: str = ""
    python_version: str = ""
    why_not: str = ""


def interpreters() -> list[str]:
    """This Python, then others this machine has: a peer may want a later one."""
    others = [which(f"python3.{minor}") for minor in (13, 12, 14)]
    kept = sorted(Path.home().glob(".pyenv/versions/3.1[2-9].*/bin/python3"), reverse=True)
    return [sys.executable, *filter(None, others), *map(str, kept)]


def install(name: str, peer: Peer) -> Installed:
    if not peer.requires:
        return Installed(sys.executable, version(peer.package), sys.version.split()[0])
    home = BUILD / "venvs" / name
    python = str(home / "bin" / "python")
    if found := _versions(python, peer):
        return found
    why = ""
    for base in interpreters():
        if _run(base, "-c", "import venv"):
            continue  # a name that stands for nothing
        why = _run(base, "-m", "venv", "--clear", str(home)) or _run(python, "-m", "pip", "install", *peer.requires)
        if not why and (found := _versions(python, peer)):
            return found
    return Installed(python, why_not=why)


def _versions(python: str, peer: Peer) -> Installed | None:
    if not Path(python).exists():
        return None
    shown = subprocess.run([python, "-c", VERSIONS, peer.package], capture_output=True, text=True, check=False)
    return Installed(python, *shown.stdout.split()) if shown.returncode == 0 else None


def _run(*command: str) -> str:
    """Nothing, or why it failed in a line."""
    try:
        shown = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return str(error)
    lines = [line for line in (shown.stderr or shown.stdout).splitlines() if "ERROR" in line] or ["it failed"]
    return "" if shown.returncode == 0 else lines[0].removeprefix("ERROR: ")[:200]


def import_ms(python: str, module: str) -> float:
    """What ``import module`` adds to starting Python."""
    code = f"import time; b = time.perf_counter(); import {module}; print((time.perf_counter() - b) * 1000)"
    shown = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True, cwd=BUILD)
    return float(json.loads(shown.stdout))
