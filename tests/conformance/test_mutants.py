"""``spec:mutants`` and what is behind it: processes that hang or die, what is said of them, and how it exits."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from kashvi_spec.kit.museum import MUSEUM, Exhibit, Patch, mutants, where
from kashvi_spec.kit.museum.mutants import Row, Trial, judging, run_all

from kashvi.drivers.memory import MemoryDriver
from kashvi.runtime import SystemRuntime

from .test_spec_commands import kashvi

CLAUSES = judging()


def of(plant: object, clauses: str = "RETRY-4", also: str = "", legal: bool = False) -> Exhibit:
    return Exhibit("mine", "", "ours", frozenset(clauses.split()), frozenset(also.split()), plant, "retry", legal)  # type: ignore[arg-type]


def row_of(exhibit: Exhibit, *only: str) -> Row:
    [row] = run_all([Trial(exhibit, CLAUSES, frozenset(only), 1.0)], 1)
    return row


def waits_for_ever(patch: Patch) -> None:
    bell = SystemRuntime().condition()

    def push(self: MemoryDriver, *args: object) -> None:
        with bell:
            bell.wait()

    patch.setattr(MemoryDriver, "push", push)


def ends_the_process(patch: Patch) -> None:
    patch.setattr(MemoryDriver, "push", lambda self, *args: os._exit(7))


def test_a_mutant_that_hangs_is_rejected_by_the_clause_that_meets_it_and_the_others_go_on() -> None:
    """In another process, where they may hang, too."""
    row = row_of(of(waits_for_ever), "RETRY-4", "TABLE-1", "RETRY-5")
    assert row.rejected.keys() == {"RETRY-4", "RETRY-5"}
    assert row.rejected["RETRY-4"] == ["its checks did not end within 1 s: something waits for ever"]


def test_a_mutant_that_ends_its_process_takes_nothing_along() -> None:
    """But the verdict of the clause that met it."""
    row = row_of(of(ends_the_process), "RETRY-4", "TABLE-1")
    assert row.rejected == {"RETRY-4": ["its checks ended the process, with 7"]}


@pytest.mark.parametrize(
    ("exhibit", "wrong"),
    [
        (of(ends_the_process), ""),
        (of(lambda patch: None), "survives RETRY-4"),
        (of(ends_the_process, "TABLE-1", "RETRY-4"), "survives TABLE-1"),
        (of(ends_the_process, "RETRY-4", "TABLE-1"), "is not rejected, though that would follow, by TABLE-1"),
        (of(ends_the_process, "TABLE-1"), "survives TABLE-1; is rejected, though unrelated, by RETRY-4"),
        (of(ends_the_process, legal=True), "is legal, and rejected by RETRY-4"),
        (of(lambda patch: None, legal=True), ""),
    ],
)
def test_a_row_says_where_it_is_not_as_the_exhibit_says(exhibit: Exhibit, wrong: str) -> None:
    """Three ways to be wrong, and one for what is legal."""
    assert row_of(exhibit, "RETRY-4", "TABLE-1").wrong == wrong


def test_what_chance_decided_is_not_held_against_the_exhibit() -> None:
    """A clause on real threads may see a bug in one trial of two."""
    exhibit = of(ends_the_process, "RETRY-4", "TABLE-1")
    first, again = Row(exhibit, {"RETRY-4": ["a"], "RETRY-5": ["b"]}), Row(exhibit, {"TABLE-1": ["c"]})
    assert first.wrong
    assert again.wrong
    assert first.confirmed_by(again).wrong == ""


def test_what_two_trials_found_stands() -> None:
    """So chance excuses nothing."""
    row = Row(of(ends_the_process, "RETRY-4", "TABLE-1"), {"RETRY-5": ["b"]})
    assert row.confirmed_by(row).wrong == row.wrong != ""


def test_a_change_under_a_condition_is_made_there_alone() -> None:
    """Elsewhere the function is kashvi's own."""
    driver = MemoryDriver()
    with of(
        lambda patch: where(patch, MemoryDriver, "push", lambda self, jobs: jobs == [b"a"], lambda *args: 5.0)
    ).planted():
        assert (driver.push([b"a"]), driver.push([b"b"])) == (5.0, None)
    assert driver.stats().ready == 1


@pytest.fixture
def few_clauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command has nothing to judge by but these."""
    few = [clause for clause in CLAUSES if clause.area in ("delivery", "failures")]
    monkeypatch.setattr(mutants, "judging", lambda: few)


@pytest.mark.usefixtures("few_clauses")
def test_the_command_tells_people_and_programs_what_rejects_a_mutant(tmp_path: Path) -> None:
    """And writes the matrix as a page."""
    page = tmp_path / "mutants.html"
    ran = kashvi("spec:mutants", "all that is lost at once", "a wait that never waits", "--json", "--html", page)
    assert ran.exit_code == 0
    told = json.loads(ran.stdout)
    [mutant], [variant] = told["mutants"], told["variants"]
    assert told["as_they_say"]
    assert told["clauses"] == {"DELIVERY-2": ["all that is lost at once"]}
    assert "But lost, asked for one that is held: " in mutant["rejected_by"]["DELIVERY-2"][0]
    assert (mutant["wrong"], variant["wrong"], variant["rejected_by"]) == ("", "", {})
    assert "But lost, asked for one that is held: " in page.read_text()


@pytest.mark.usefixtures("few_clauses")
def test_the_command_exits_with_1_for_one_that_survives_and_shows_it_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what rejects it instead."""
    wrong = replace(MUSEUM["all that is lost at once"], clauses=frozenset({"DELIVERY-1"}))
    monkeypatch.setitem(MUSEUM, wrong.name, wrong)
    ran = kashvi("spec:mutants", wrong.name, "the dead are forgotten with their jobs")
    assert ran.exit_code == 1
    assert "survives DELIVERY-1; is rejected, though unrelated, by DELIVERY-2" in " ".join(ran.output.split())
    assert ran.output.index("all that is lost at once") < ran.output.index("the dead are forgotten")
    assert "1 of 2 mutants" in ran.output


@pytest.mark.usefixtures("few_clauses")
def test_the_command_exits_with_1_where_kashvi_itself_breaks_a_clause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then nothing can be said of others. Several clauses see this; their checks run beside each other."""
    monkeypatch.setattr(MemoryDriver, "recorded", lambda self, envelopes: self.store.unrecorded.clear())
    ran = kashvi("spec:mutants", "all that is lost at once")
    assert ran.exit_code == 1
    why = r"Error: kashvi as it is breaks FAILURES-[0-9]+, so nothing can be said of others"
    assert re.search(why, ran.stderr)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("nobody's bug",), 'none is called "nobody\'s bug"'),
        (("--clauses", "HOBBIES-1"), "no clause or area 'HOBBIES-1'"),
        (("all that is lost at once", "--clauses", "RETRY"), "none of them is about RETRY"),
        (("--html", "nowhere/m.html"), "there is no folder 'nowhere'"),
    ],
)
def test_used_wrongly_it_ends_with_2(words: tuple[str, ...], why: str) -> None:
    """And says why."""
    ran = kashvi("spec:mutants", *words)
    assert ran.exit_code == 2
    assert why in " ".join(ran.output.replace("│", " ").split())
