"""The simulator's commands: what they print, how they exit."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from kashvi_sim.commands import COMMANDS
from kashvi_sim.commands.options import PLACES

from tests.servers.launch import RedisServer, until_true

from .conftest import Shell

ROOT = Path(__file__).parents[2]

JSON_KEYS = {
    "seed", "driver", "trace_sha256", "jobs", "succeeded", "failed", "cancelled", "duplicates", "violations",
    "virtual_s", "wall_s", "wait_s", "utilisation",
}  # fmt: skip


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help_with_examples(kashvi: Shell, command: str) -> None:
    """As those of the library."""
    shown = kashvi(command, "--help")
    assert shown.returncode == 0
    assert f"kashvi {command}" in shown.stdout.partition("Examples:")[2]


def test_a_run_tells_its_story_and_its_figures(kashvi: Shell) -> None:
    """Aligned lines, then what it comes to."""
    shown = kashvi("sim:run", "storm", "--seed", "7")
    assert shown.returncode == 0
    assert "    0.000000  p0   jobs." in shown.stdout
    assert "utilisation" in shown.stdout
    assert "every promise kept" in shown.stdout


def test_the_showcase_shows_kills_a_poison_job_and_duplicates(kashvi: Shell) -> None:
    """The command of README.md; lines of jobs that nothing befell are folded, and every promise is kept."""
    text = (ROOT / "README.md").read_text()
    [command] = re.findall(r"^    kashvi (sim:run storm --seed \d+ --faults all) ", text, re.MULTILINE)
    shown = kashvi(*command.split())
    assert shown.returncode == 0
    for what in ("FAULT poison", "KILLED", "died with its process", "lines of jobs that nothing befell"):
        assert what in shown.stdout
    assert not re.search(r"attempts made twice +0", shown.stdout)
    assert "every promise kept" in shown.stdout
    assert len(kashvi(*command.split(), "-v").stdout.splitlines()) > len(shown.stdout.splitlines())


@pytest.mark.parametrize("driver", ["memory", "fakeredis", "redis"])
def test_a_run_is_the_same_on_every_driver(kashvi: Shell, valkey: RedisServer, driver: str) -> None:
    """One JSON object, with the hash of the trace that is written."""
    words = [
        "sim:run",
        "storm",
        "--seed",
        "11",
        "--faults",
        "all",
        "--driver",
        driver,
        "--json",
        "--trace",
        "out.jsonl",
    ]
    shown = kashvi(*words, *(["--redis-url", valkey.url] if driver == "redis" else []))
    result = json.loads(shown.stdout)
    assert set(result) >= JSON_KEYS
    assert (result["seed"], result["driver"], result["violations"]) == (11, driver, [])
    memory = json.loads(kashvi("sim:run", "storm", "--seed", "11", "--faults", "all", "--json").stdout)
    assert result["trace_sha256"] == memory["trace_sha256"]
    trace = (kashvi.directory / "out.jsonl").read_bytes().splitlines()
    assert len(trace) == result["events"]
    assert all(json.loads(line)["event"] for line in trace)


def test_a_token_repeats_a_run(kashvi: Shell) -> None:
    """Without the seed."""
    first = json.loads(kashvi("sim:run", "storm", "--seed", "5", "--faults", "all", "--json").stdout)
    again = json.loads(kashvi("sim:run", "storm", "--token", first["token"], "--faults", "all", "--json").stdout)
    assert again["trace_sha256"] == first["trace_sha256"]
    assert first["repeat"] == "kashvi sim:run storm --seed 5 --faults all"


def test_a_broken_promise_is_named_with_the_command_that_repeats_it(kashvi: Shell) -> None:
    """And the exit code is 1. The bug is planted by an app that is imported first."""
    (kashvi.directory / "sitecustomize.py").write_text(
        "import kashvi.worker.retry as r\n"
        "r.decide = lambda n, most: r.RetryAfter(float(n)) if n <= most else r.GiveUp()\n"
    )
    shown = kashvi("sim:run", "storm", "--seed", "0", "--faults", "all", PYTHONPATH=str(kashvi.directory))
    assert shown.returncode == 1
    assert "BROKEN  attempts bounded" in shown.stdout
    assert "to repeat it: kashvi sim:run storm --seed 0 --faults all" in shown.stdout
    swept = kashvi("sim:sweep", "--seeds", "2", "--cores", "1", "--json", PYTHONPATH=str(kashvi.directory))
    assert swept.returncode == 1
    failing = json.loads(swept.stdout)["failing"][0]
    assert failing["choices"] <= 8
    repeat = failing["repeat"].split()[1:]
    assert kashvi(*repeat, PYTHONPATH=str(kashvi.directory)).returncode == 1
    assert kashvi(*repeat).returncode == 0


def test_a_sweep_counts_what_it_met(kashvi: Shell) -> None:
    """On both cores; too few seeds are a code of their own."""
    shown = kashvi("sim:sweep", "--seeds", "20", "--json", "--state", "state/sweep.jsonl")
    result = json.loads(shown.stdout)
    assert shown.returncode == 3
    assert (result["seeds"], result["failing"]) == (20, [])
    assert result["missing"]
    assert result["judged"]["DISPATCH-1"] > 100
    again = kashvi("sim:sweep", "--seeds", "20", "--state", "state/sweep.jsonl")
    assert "20 seeds" in again.stdout


def test_a_search_that_is_exhausted_proves_and_one_that_is_not_fails(kashvi: Shell) -> None:
    """For people and for programs; a limit that was reached has an exit code of its own."""
    small = ("sim:explore", "--workers", "1", "--jobs", "1")
    shown = kashvi(*small)
    assert shown.returncode == 0
    assert "every promise kept in all of them" in shown.stdout
    result = json.loads(kashvi(*small, "--json").stdout)
    assert (result["exhausted"], result["violations"], result["scope"]["crashes"]) == (True, [], 1)
    assert min(result["steps"], result["states"], result["states_per_s"]) > 10
    limited = kashvi("sim:explore", "--limit", "5")
    assert limited.returncode == 3
    assert "not proven: 5 states were not enough" in limited.stdout


@pytest.mark.parametrize(
    "more", ["--lost 1", "--delayed 1 --long", "--threads 2 --follow-ups 1", "--threads 2 --stuck"]
)
def test_more_is_searched_if_the_scope_says_so(kashvi: Shell, more: str) -> None:
    small = ("sim:explore", "--workers", "1", "--jobs", "1", "--crashes", "0", "--max-retry", "1")
    least, found = (json.loads(kashvi(*small, *some, "--json").stdout) for some in ([], more.split()))
    assert (found["exhausted"], found["violations"]) == (True, [])
    assert found["states"] > least["states"]


def test_a_search_prints_a_broken_promise_with_the_command_that_repeats_it(kashvi: Shell) -> None:
    """Which shows the run as a timeline, and is no trouble for the good code."""
    (kashvi.directory / "sitecustomize.py").write_text(
        "from kashvi.worker import settle\nsettle.lost = lambda d, at, *rest: settle.succeeded(d, at)\n"
    )
    bad = {"PYTHONPATH": str(kashvi.directory)}
    found = kashvi("sim:explore", "--workers", "1", "--jobs", "1", "--json", **bad)
    assert found.returncode == 1
    violation = json.loads(found.stdout)["violations"][0]
    assert violation["predicate"] == "none lost"
    repeat = violation["repeat"].split()[1:]
    again = kashvi(*repeat, **bad)
    assert again.returncode == 1
    assert "BROKEN  none lost: job 0" in again.stdout
    assert "WORKER with 1 threads" in again.stdout
    assert json.loads(kashvi(*repeat, "--json", **bad).stdout)["broken"]["predicate"] == "none lost"
    assert f"kashvi {' '.join(repeat)}" in kashvi("sim:explore", "--workers", "1", "--jobs", "1", **bad).stdout
    (kashvi.directory / "sitecustomize.py").unlink()
    assert kashvi(*repeat).returncode in (0, 2)  # the choices after the bug may be others
    assert "it is not a token of sim:explore" in kashvi("sim:explore", "--token", "e1-nothing").stderr
    assert "--delayed 3 is more than" in kashvi("sim:explore", "--delayed", "3").stderr


def test_a_report_is_one_page_that_needs_nothing_else(kashvi: Shell) -> None:
    """It holds its own script."""
    assert kashvi("sim:run", "outage", "--report", "out.html").returncode == 0
    page = (kashvi.directory / "out.html").read_text()
    assert "Every promise was kept" in page
    assert "<script src=" not in page


def test_faults_are_listed_with_what_they_excuse(kashvi: Shell) -> None:
    """For people and for programs."""
    rows = json.loads(kashvi("sim:faults", "--json").stdout)
    assert len(rows) >= 15
    assert [row["name"] for row in rows if row["excuses"]] == [
        "restart",
        "failover",
        "server_back",
        "server_forward",
        "repeated_id",
    ]
    assert "database_down" in kashvi("sim:faults").stdout


@pytest.mark.parametrize("name", sorted({path.stem for path in PLACES[0].glob("*.toml")} - {"million"}))
def test_every_workload_of_ours_runs_and_says_what_it_teaches(kashvi: Shell, name: str) -> None:
    """By its name alone. (The day of a million jobs takes minutes; test_workloads.py runs some of it.)"""
    shown = kashvi("sim:run", name, "--json")
    assert (shown.returncode, json.loads(shown.stdout)["violations"]) == (0, [])


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["sim:run", "no-such"], "the workload must be a .toml file, or one of"),
        (["sim:run", "bad.toml"], "arrivals"),
        (["sim:run", "typo.toml"], "fials"),
        (["sim:run", "storm", "--faults", "gremlins"], "a fault must be none, all, or some of kill"),
        (["sim:run", "storm", "--token", "k2-nonsense"], "it is not a token of a sweep"),
        (["sim:run", "storm", "--token", "k2-AAAA", "--seed", "1"], "leave --seed out"),
        (["sim:run", "storm", "--driver", "redis"], "it needs --redis-url"),
        (["sim:run", "storm", "--driver", "redis", "--redis-url", "redis://localhost:1/0"], "can't be reached"),
        (["sim:sweep", "--faults", "kill,gremlins"], "'gremlins'"),
        (["sim:replay", "bad.toml"], "bad.toml can't be used: line 1 is no event"),
        (["sim:replay", "bad.toml", "--workers", "2,none"], "'2,none' is not a list of numbers"),
    ],
)
def test_wrong_words_get_an_error_that_says_what_to_do(kashvi: Shell, words: list[str], wanted: str) -> None:
    """And no traceback."""
    Path(kashvi.directory / "bad.toml").write_text('name = "x"\nabout = ""\n[[job]]\ntype = "a.B"\n')
    Path(kashvi.directory / "typo.toml").write_text(
        'name = "x"\nabout = ""\n[arrivals]\nprocess = "at_once"\njobs = 1\n[[job]]\ntype = "a.B"\nfials = 1.0\n'
    )
    shown = kashvi(*words)
    assert shown.returncode in (1, 2)
    assert wanted in " ".join(shown.stderr.split())
    assert "Traceback" not in shown.stderr


def test_a_trace_is_replayed_beside_what_was_recorded(kashvi: Shell) -> None:
    """A row for each number of workers, in a table and as JSON."""
    kashvi("sim:run", "orders", "--seed", "7", "--workers", "1", "--trace", "t.jsonl")
    shown = kashvi("sim:replay", "t.jsonl", "--workers", "4,8")
    assert shown.returncode == 0, shown.stderr
    rows = [
        line.split() for line in shown.stdout.splitlines() if line.startswith((" recorded", " as it was", " 4", " 8"))
    ]
    assert [row[0] for row in rows] == ["recorded", "as", "4", "8"]
    assert "jobs wait" in shown.stdout
    result = json.loads(kashvi("sim:replay", "t.jsonl", "--workers", "4,8", "--json").stdout)
    assert [row["workers"] for row in result["rows"]] == ["recorded", "as it was", "4", "8"]
    assert {"mean", "p50", "p95", "p99", "max"} == set(result["rows"][2]["wait_s"])
    assert {row["jobs"] for row in result["rows"]} == {2000}


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for children in /proc")
def test_a_sweep_that_is_killed_leaves_no_process_behind(kashvi: Shell) -> None:
    """Its helpers end with it; what was finished is kept."""
    process = kashvi.start("sim:sweep", "--seeds", "100000", "--state", "sweep.jsonl")
    state = kashvi.directory / "sweep.jsonl"
    until_true(state.exists, 60)
    children = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    assert children
    process.kill()
    process.wait()
    until_true(lambda: not any(_is_alive(pid) for pid in children), 60)


def _is_alive(pid: int) -> bool:
    """Not gone, and no zombie that its parent has still to collect."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_without_the_extra_the_help_works_and_a_command_says_what_to_install(kashvi: Shell) -> None:
    """``pip install kashvi`` alone has no greenlets."""
    (kashvi.directory / "sitecustomize.py").write_text("import sys\nsys.modules['greenlet'] = None\n")
    bare = {"PYTHONPATH": str(kashvi.directory)}
    assert "sim:sweep" in kashvi("--help", **bare).stdout
    assert kashvi("sim:run", "--help", **bare).returncode == 0
    shown = kashvi("sim:run", "storm", **bare)
    assert (shown.returncode, shown.stderr) == (1, "Error: this command needs greenlet: pip install 'kashvi[sim]'.\n")
    (kashvi.directory / "sitecustomize.py").write_text("import sys\nsys.modules['msgspec'] = None\n")
    assert "kashvi[sim]" not in kashvi("queue:stats", **bare).stderr
