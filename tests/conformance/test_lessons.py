"""The six lessons of spec/lessons.md: each command prints what the lesson says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner
from kashvi_spec.kit.museum import MUSEUM

from kashvi.cli import cli

TEXT = (Path(__file__).parents[2] / "spec" / "lessons.md").read_text()
BLOCKS = re.findall(r"^```console\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
COMMANDS = [
    (line, said.strip().splitlines())
    for block in BLOCKS
    for line, _, said in (part.partition("\n") for part in block.split("$ kashvi ")[1:])
]


def pattern(line: str) -> re.Pattern[str]:
    """A line of the lesson; ``…`` is anything."""
    parts = [r"\s+".join(map(re.escape, part.split())) for part in line.split("…")]
    return re.compile(".*".join(parts))


def test_there_are_six_lessons_of_two_or_more_commands() -> None:
    """One to look at, and one to find a bug with."""
    assert len(re.findall(r"^## \d\. ", TEXT, re.MULTILINE)) == 6
    assert len(COMMANDS) >= 12
    assert sum(line.startswith("spec:plant ") for line, _ in COMMANDS) >= 6


@pytest.mark.parametrize(("line", "said"), COMMANDS, ids=[line for line, _ in COMMANDS])
def test_a_command_prints_what_the_lesson_says(line: str, said: list[str]) -> None:
    """Line by line, in that order; a planted bug is found, so the exit code is 1, and else 0."""
    ran = CliRunner().invoke(cli, shlex.split(line), prog_name="kashvi")
    shown = iter(ran.stdout.splitlines())
    assert said
    for one in said:
        assert any(pattern(one).search(other) for other in shown), f"{one!r} is not there, or not in this place"
    assert ran.exit_code == line.startswith("spec:plant ")


def test_what_a_bug_is_can_be_asked_and_a_misspelt_one_is_named() -> None:
    """With the nearest names there are; without a name, all are listed."""
    ran = CliRunner().invoke(cli, ["spec:plant"])
    assert ran.exit_code == 0
    assert len(ran.stdout.splitlines()) > len(MUSEUM)
    ran = CliRunner().invoke(cli, ["spec:plant", "constant backoff"])
    assert (ran.exit_code, ran.stdout) == (0, "constant backoff: one second after every attempt\nbreaks RETRY-2\n")
    ran = CliRunner().invoke(cli, ["spec:plant", "constant backof", "spec:show", "RETRY-2"])
    assert ran.exit_code == 2
    assert "did you mean 'constant backoff'" in ran.stderr
    ran = CliRunner().invoke(cli, ["spec:plant", "constant backoff", "sim:sweep", "--cores=2"])
    assert ran.exit_code == 2
    assert "leave out --cores" in ran.stderr


def test_the_bug_is_gone_when_the_command_has_ended() -> None:
    """However it ended."""
    assert CliRunner().invoke(cli, ["spec:plant", "constant backoff", "spec:show", "RETRY-2"]).exit_code == 1
    assert CliRunner().invoke(cli, ["spec:show", "RETRY-2"]).exit_code == 0
