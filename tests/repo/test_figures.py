"""The figures of kashvi and its peers that pages show are those that were measured."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")


def rows(page: Path) -> list[tuple[str, str]]:
    """The rows of its tables that begin with kashvi or a peer: the name without its version, and the other cells."""
    found = re.findall(r"^\| ([\w-]+(?: [\w-]+)*?)(?: \d[\d.]*|, a job at a time)? \| (.*) \|$", page.read_text(), re.M)
    return [({"redis-py alone": "bare redis-py"}.get(name, name), cells) for name, cells in found]


def measured() -> dict[str, list[float]]:
    """All that RESULTS.md has of each."""
    numbers: dict[str, list[float]] = {}
    for name, cells in rows(ROOT / "benchmarks" / "RESULTS.md"):
        numbers.setdefault(name, []).extend(float(one.replace(",", "")) for one in NUMBER.findall(cells))
    return numbers


@pytest.mark.parametrize("page", ["README.md", "docs/compare.md"])
def test_a_table_shows_what_was_measured(page: str) -> None:
    """Rounded, perhaps; and in the row of the right queue."""
    there = measured()
    compared = 0
    for name, cells in rows(ROOT / page):
        for one in NUMBER.findall(re.sub(r"\(.*?\)", "", cells)) if name in there else ():
            digits = len(one.partition(".")[2])
            wanted = float(one.replace(",", ""))
            assert any(round(other, digits) == wanted for other in there[name]), f"{one} of {name}"
            compared += 1
    assert compared > 20
