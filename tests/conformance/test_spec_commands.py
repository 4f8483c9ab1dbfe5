"""``spec:list``, ``spec:show``, ``spec:check``, ``spec:conformance``: what they print, how they exit."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result
from kashvi_sim.commands.options import workload_named
from kashvi_sim.runs.play import play
from kashvi_sim.world.trace import ProcessKilled, write
from kashvi_spec.clauses import load
from kashvi_spec.kit.commands import COMMANDS
from kashvi_spec.kit.driver.conformance import Verdict
from kashvi_spec.kit.driver.report import Column, write_junit
from kashvi_spec.kit.museum import MUSEUM
from kashvi_spec.traces import KINDS, NotATrace, judge, read

from kashvi.events import Event, JobFailed, JobSucceeded
from kashvi.worker.retry import GiveUp, RetryAfter

from .test_bad_traces import (
    BAD,
    EXHAUSTED,
    TAKEN_OVER,
    did,
    dispatched,
    gave_up,
    raised,
    recorded,
    started,
    stopped,
    worker,
)


def kashvi(command: str, *words: str) -> Result:
    """The command, as the table of the entry point names it."""
    module, _, name = COMMANDS[command][0].partition(":")
    return CliRunner().invoke(getattr(import_module(module), name), [str(word) for word in words])


def written(path: Path, trace: Iterable[Event]) -> str:
    write(trace, path)
    return str(path)


@pytest.fixture(scope="module")
def storm(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A trace of a run without faults, as ``sim:run`` writes it."""
    path = tmp_path_factory.mktemp("storm") / "t.jsonl"
    return written(path, play(workload_named("storm"), seed=11).world.events)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help_with_examples(command: str) -> None:
    """As those of the library and the simulator."""
    shown = kashvi(command, "--help")
    assert shown.exit_code == 0
    assert f"kashvi {command}" in shown.output.partition("Examples:")[2]


def test_the_list_has_every_clause_once() -> None:
    """For people one line each, for programs all there is."""
    lines = [line.split()[0] for line in kashvi("spec:list").output.splitlines() if line.startswith("  ")]
    assert lines == [clause.id for clause in load()]
    listed = json.loads(kashvi("spec:list", "--json").output)
    assert [one["id"] for one in listed] == lines
    assert {"level", "sentence", "why", "kind", "examples", "tests", "predicate"} <= set(listed[0])


def test_the_list_of_some_areas_has_no_other() -> None:
    """In the order of the pages."""
    listed = json.loads(kashvi("spec:list", "retry", "delay", "--json").output)
    assert {one["area"] for one in listed} == {"retry", "delay"}
    assert kashvi("spec:list", "weather").exit_code == 2


def test_a_clause_is_shown_with_its_example_and_its_run() -> None:
    """Also when its id is typed in small letters."""
    shown = kashvi("spec:show", "retry-2")
    assert shown.exit_code == 0
    assert "RETRY-2 MUST: After failed attempt n" in shown.output
    assert '| jobs = [{ outcomes = ["fail", "fail", "ok"] }]' in shown.output
    assert "    3.000000  p0   jobs.Example #1              attempt 3\n" in shown.output
    assert shown.output.count("as expected") == 2


@pytest.mark.parametrize("clause_id", ["JOBS-3", "COMMANDS-6", "DELIVERY-5"])
def test_a_clause_of_any_kind_is_shown(clause_id: str) -> None:
    """As text, and as JSON."""
    assert kashvi("spec:show", clause_id).exit_code == 0
    assert json.loads(kashvi("spec:show", clause_id, "--json").output)["clause"]["id"] == clause_id


def test_an_unknown_clause_is_wrong_usage() -> None:
    """And says where to look."""
    shown = kashvi("spec:show", "NONE-1")
    assert shown.exit_code == 2
    assert "spec:list has them all" in shown.output


def test_a_clause_whose_example_does_not_hold_is_shown_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule is broken by hand."""
    monkeypatch.setattr("kashvi.worker.retry.decide", lambda n, most: RetryAfter(n / 2) if n < most else GiveUp())
    shown = kashvi("spec:show", "RETRY-2")
    assert shown.exit_code == 1
    assert "BROKEN  attempts_at is (0.0, 0.5, 1.5), not (0.0, 1.0, 3.0)" in shown.output
    assert "BROKEN  backoff kept" in shown.output


def test_a_trace_of_the_simulator_is_judged_and_nothing_is_broken(storm: str) -> None:
    """Each clause says how often it was put to the test."""
    shown = kashvi("spec:check", storm)
    assert shown.exit_code == 0
    assert "nothing broken" in shown.output
    result = json.loads(kashvi("spec:check", storm, "--json").output)
    assert set(result["judged"]) == {clause.id for clause in load() if clause.predicate}
    assert result["judged"]["RETRY-1"] > 10
    assert (result["broken"], result["not_judged"]) == ([], [])


def test_a_trace_with_faults_is_judged_for_what_it_can_say(tmp_path: Path) -> None:
    """What a killed process could not tell is counted apart; the simulator's own events are passed over."""
    played = play(workload_named("storm"), seed=4, faults="kill,pause,reply_lost,database_down")
    path = written(tmp_path / "t.jsonl", played.world.events)
    result = json.loads(kashvi("spec:check", path, "--json").output)
    assert result["broken"] == []
    assert set(result["passed_over"]) <= {"FaultStruck", "ProcessKilled"}
    assert result["passed_over"]["FaultStruck"] == sum(played.world.struck.values())


def test_a_planted_bug_is_named_with_its_clause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the exit code is 1."""
    monkeypatch.setattr("kashvi.worker.retry.decide", lambda n, most: RetryAfter(float(n)) if n <= most else GiveUp())
    path = written(tmp_path / "t.jsonl", play(workload_named("storm"), seed=0, faults="none").world.events)
    shown = kashvi("spec:check", path, "--max-attempts", "3")
    assert shown.exit_code == 1
    assert "BROKEN  RETRY-1 (attempts bounded)" in shown.output
    assert "BROKEN  RETRY-3 (no wait after the last)" in shown.output


@pytest.mark.parametrize("clause_id", sorted(BAD))
def test_a_bad_trace_is_as_bad_in_a_file(clause_id: str, tmp_path: Path) -> None:
    """Written and read again, it breaks what it broke."""
    trace, _ = BAD[clause_id][0]
    path = written(tmp_path / "t.jsonl", trace)
    shown = kashvi("spec:check", path, "--json", "--rows-told", "--max-attempts", "3")
    assert shown.exit_code == 1
    left_to_tell = json.loads(shown.output)
    assert clause_id in {one["clause"] for one in (*left_to_tell["broken"], *left_to_tell["not_judged"])}


def test_what_is_missing_at_the_end_of_an_unfinished_trace_is_not_judged(tmp_path: Path) -> None:
    """It may be on its way."""
    path = written(tmp_path / "t.jsonl", [dispatched("a"), started("a", 0)])
    assert kashvi("spec:check", path).exit_code == 1
    shown = kashvi("spec:check", path, "--unfinished")
    assert shown.exit_code == 0
    assert "1 not judged" in shown.output


def test_what_a_silent_worker_may_not_have_told_is_not_judged() -> None:
    """It never said that it had ended; of another worker's jobs, all is known."""
    trace = [worker(), dispatched("a"), started("a", 0), dispatched("b")]
    verdict = judge(trace)
    assert {one.job_id for one in verdict.broken} == {"b"}
    assert {one.job_id for one in verdict.open} == {"a"}


def test_what_is_missing_at_the_beginning_of_a_trace_is_not_judged() -> None:
    """It begins in the middle of a worker's life. A job that was dispatched since is judged."""
    late = [started("a", 3, 3), raised("a", 3, 3), gave_up("a", 3), recorded("a")]
    assert [one.predicate for one in judge([worker(), *late, stopped()]).broken] == ["attempts counted"]
    verdict = judge([*late, dispatched("b"), started("b", 4, 2), *did("b", 4, 2), stopped()])
    assert {one.job_id for one in verdict.open} == {"a"}
    assert {one.job_id for one in verdict.broken} == {"b"}


def test_a_missing_row_counts_where_rows_are_told_of() -> None:
    """A recorder whose last reply was lost tells nothing."""
    assert judge(EXHAUSTED[:-1]).broken == []
    assert [one.predicate for one in judge(EXHAUSTED[:-1], rows_told=True).broken] == ["recorded iff exhausted"]


def test_a_trace_in_which_the_limit_changed_is_not_judged_by_one_limit() -> None:
    """A trace does not show which one held when."""
    other = [
        dispatched("b"), started("b", 0, worker="v"), raised("b", 0),
        JobFailed(job_id="b", type="t", attempts=1, max_attempts=1, error="e"), recorded("b"),
    ]  # fmt: skip
    assert judge([*EXHAUSTED, *other]).broken == []
    assert [one.predicate for one in judge([*EXHAUSTED, *other], max_attempts=3).broken] == ["attempts bounded"]


def test_events_are_read_as_they_were_and_the_simulators_are_passed_over(tmp_path: Path) -> None:
    """Every kind of the library's is known."""
    killed = ProcessKilled(process="sim", victim="p1", victim_id="p")
    written(tmp_path / "t.jsonl", [*TAKEN_OVER, killed, *EXHAUSTED])
    with (tmp_path / "t.jsonl").open("rb") as lines:
        assert list(read(lines)) == [*TAKEN_OVER, *EXHAUSTED]
    assert len(KINDS) == 40
    assert KINDS["JobSucceeded"] is JobSucceeded


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "holds no event of kashvi"),
        ('{"event":"FaultStruck"}\n', "holds no event of kashvi"),
        ("not json\n", "line 1 is no event"),
        ("[]\n", "line 1 is no event"),
        ('\n{"at":1}\n', "line 2 is no event: it has no field 'event'"),
        ('{"event":"JobSucceeded"}\n', "line 1 is no event"),
    ],
)
def test_what_is_no_trace_is_wrong_usage(text: str, why: str, tmp_path: Path) -> None:
    """With the line that is wrong."""
    (tmp_path / "t.jsonl").write_text(text)
    shown = kashvi("spec:check", str(tmp_path / "t.jsonl"))
    assert shown.exit_code == 2
    assert why in " ".join(shown.output.split())
    assert kashvi("spec:check", str(tmp_path / "none.jsonl")).exit_code == 2


def test_a_line_that_is_no_event_is_an_error_of_its_own() -> None:
    """For those who read traces by themselves."""
    with pytest.raises(NotATrace, match="line 1"):
        list(read([msgspec.json.encode({"event": "JobFailed", "job_id": 5})]))
    assert gave_up("a", 0) in list(read([msgspec.json.encode(gave_up("a", 0))]))


def test_conformance_of_a_good_driver_ends_with_0_and_says_so_in_every_form(tmp_path: Path) -> None:
    """JSON, JUnit, HTML."""
    junit, html = tmp_path / "c.xml", tmp_path / "c.html"
    words = ("--driver", "memory", "--clauses", "RETRY,DELAY-1", "--json", "--junit", junit, "--html", html)
    ran = kashvi("spec:conformance", *map(str, words))
    assert ran.exit_code == 0, ran.output
    said = json.loads(ran.stdout)
    [memory] = said["implementations"]
    assert (said["conforms"], memory["name"], memory["passed"], memory["failed"]) == (True, "memory", 14, 0)
    assert memory["clauses"][0]["id"] == "DELAY-1"
    assert memory["clauses"][0]["judged"] > 0
    cases = ET.parse(junit).getroot().findall(".//testcase")
    assert len(cases) == 14
    assert [one.get("value") for one in cases[0].findall("./properties/property")] == ["DELAY-1", "MUST"]
    page = html.read_text()
    assert 'id="RETRY-2"' in page
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page), "the page loads something"


def test_conformance_of_a_bad_driver_ends_with_1_and_names_the_clause(tmp_path: Path) -> None:
    """In every form, with what was seen and what was expected."""
    junit, html = tmp_path / "c.xml", tmp_path / "c.html"
    with MUSEUM["early promotion"].planted():
        ran = kashvi(
            "spec:conformance", "--driver", "memory", "--clauses", "DELAY-1", "--junit", str(junit), "--html", str(html)
        )
    assert ran.exit_code == 1
    assert "memory breaks DELAY-1" in ran.output
    assert "claimed 0.01 s before it is due" in ran.output
    [failure] = ET.parse(junit).getroot().findall(".//failure")
    assert "before it is due" in (failure.get("message") or "")
    assert "before it is due" in html.read_text()


def test_conformance_strictly_counts_what_a_driver_says_it_can_not_do() -> None:
    """Else it is shown, and no failure."""
    words = ("--driver", "tests.conformance.test_drivers:ALONE", "--clauses", "REDIS-3")
    assert kashvi("spec:conformance", *words).exit_code == 0
    assert kashvi("spec:conformance", *words, "--strict").exit_code == 1


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((), "Missing option '--driver'"),
        (("--driver", "nobody"), "must be memory, fakeredis, a redis:// URL or package.module:factory"),
        (("--driver", "redis://localhost:1"), "can't be reached"),
        (("--driver", "memory", "--clauses", "HOBBIES-1"), "no clause or area 'HOBBIES-1'"),
        (("--driver", "memory", "--clauses", "COMMANDS"), "no clause of COMMANDS is about drivers"),
        (("--driver", "memory", "--tests", "nowhere.xml"), "does not exist"),
    ],
)
def test_conformance_used_wrongly_ends_with_2(words: tuple[str, ...], why: str) -> None:
    """And says what would be right."""
    ran = kashvi("spec:conformance", *words)
    assert ran.exit_code == 2
    assert why in " ".join(ran.output.replace("│", " ").split())


def test_the_library_itself_is_a_column_of_the_matrix(tmp_path: Path) -> None:
    """From its Python, which is run, and from the results of the tests that clauses cite."""
    results = tmp_path / "tests.xml"
    good, bad, unrun = next(one for one in load() if len(one.tests) >= 3).tests[:3]
    cases = case(good) + case(bad, '<failure message="1 == 2"/>')
    results.write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>")
    ran = kashvi("spec:conformance", "--driver", "memory", "--tests", str(results), "--json")
    itself = json.loads(ran.stdout)["implementations"][1]
    reasons = {why for one in itself["clauses"] for why in one["reasons"]}
    assert (ran.exit_code, itself["name"]) == (1, "kashvi itself")
    assert f"{bad.partition('::')[2]}[a]: 1 == 2" in reasons
    assert f"{unrun} is not among the results" in reasons
    assert not any(good in why for why in reasons)
    by_id = {one["id"]: one for one in itself["clauses"]}
    assert by_id["JOBS-1"]["outcome"] == "passed", "its Python holds"
    assert not {one.id for one in load() if not one.code and not one.tests} & by_id.keys()


def test_a_skipped_test_is_not_tried_at_a_desk_and_a_failure_in_ci(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing server accuses no code; a test that failed does, whatever else was skipped."""
    results, html = tmp_path / "tests.xml", tmp_path / "c.html"
    clause = next(one for one in load() if one.id == "REDIS-7")
    words = ("spec:conformance", "--driver", "memory", "--clauses", "REDIS-7", "--strict", "--html", str(html))
    skip = '<skipped type="pytest.skip" message="redis-7 is not installed">launch.py:60</skipped>'

    def held(result: str) -> Result:
        cases = "".join(case(test, result) + case(test).replace("[a]", "[b]") for test in clause.tests)
        results.write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>")
        return kashvi(*words, "--tests", str(results))

    monkeypatch.delenv("CI", raising=False)
    desk = held(skip)
    assert desk.exit_code == 0, desk.output
    assert "kashvi itself, not tried here:" in desk.output
    assert "REDIS-7: skipped, " in desk.output
    assert "redis-7 is not installed" in desk.output
    assert "breaks" not in desk.output
    assert "kashvi itself: 1 not tried here in" in desk.output
    assert "redis-7 is not installed" in html.read_text()
    assert held('<failure message="1 == 2"/>').exit_code == 1
    monkeypatch.setenv("CI", "true")
    ran = held(skip)
    assert ran.exit_code == 1
    assert "kashvi itself breaks REDIS-7: skipped, " in ran.output


def case(test: str, result: str = "") -> str:
    """As pytest writes it."""
    path, _, name = test.partition("::")
    module = path.removesuffix(".py").replace("/", ".")
    return f'<testcase classname="{module}" name="{name}[a]">{result}</testcase>'


def test_what_xml_can_not_hold_is_escaped_in_a_junit_file(tmp_path: Path) -> None:
    """Names and reasons are other people's text."""
    verdict = Verdict(load()[0], "failed", reasons=["claimed \x00\ud800, not \x1b"])
    write_junit([Column("odd\x07", {verdict.clause.id: verdict}, 1.0)], path := tmp_path / "odd.xml")
    root = ET.parse(path).getroot()
    assert [suite.get("name") for suite in root.iter("testsuite")] == ["odd\\x07"]
    assert [failure.get("message") for failure in root.iter("failure")] == ["claimed \\x00\\ud800, not \\x1b"]
