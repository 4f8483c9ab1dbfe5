"""The worker kit's judges, on runs told by hand; and what ``spec:worker`` says when there is nothing to judge."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from kashvi_spec.clauses import load, text_of
from kashvi_spec.kit.commands.worker import worker_command
from kashvi_spec.kit.driver.matrix import write_html
from kashvi_spec.kit.driver.report import Column, as_json
from kashvi_spec.kit.worker import jobs, script
from kashvi_spec.kit.worker.bench import Bench
from kashvi_spec.kit.worker.on_deaths import died_twice, stopped_too_late
from kashvi_spec.kit.worker.process import WorkerProcess
from kashvi_spec.kit.worker.story import Story
from kashvi_spec.kit.worker.unobserved import OF_AREAS, OF_CLAUSES
from kashvi_spec.kit.worker.verdicts import JUDGES, verdicts_on

from tests.servers.launch import RedisServer, until_true

from .worker_story import Tale, cut_short, good


def broken(story: Story) -> set[str]:
    return {verdict.clause.id for verdict in verdicts_on(story) if verdict.outcome == "failed"}


def after(tale: Tale, job: str, at: float) -> None:
    """The trace has no event of the job from then on."""
    tale.entries = [one for one in tale.entries if one.job != job or one.at < tale.began + at]


def change(tale: Tale, job: str, **fields: object) -> None:
    """Of the records of a job."""
    tale.records = [replace(one, **fields) if one.job == job else one for one in tale.records]  # type: ignore[arg-type]


def waits(tale: Tale, job: str, old: bytes, new: bytes) -> None:
    """Bytes of the retries of a job."""
    assert any(old in one.raw for one in tale.waiting if one.job == job)
    tale.waiting = [replace(one, raw=one.raw.replace(old, new)) if one.job == job else one for one in tale.waiting]


def reverse(tale: Tale, situation: str) -> None:
    """The first two jobs run after all others; one alone may have been in another thread."""
    first = sorted(tale.of(situation), key=lambda one: tale.told(one.name)[0].at)[:2]
    for one in first:
        tale.starts(one.name, 9.0)


def second_start(tale: Tale, job: str, at: float, worker: str = "worker-2") -> None:
    tale.tell(at, job, "start", worker)


def moved(tale: Tale, situation: str, later: float) -> None:
    """The starts of a situation's jobs."""
    for one in tale.of(situation):
        tale.starts(one.name, *(entry.at - tale.began + later for entry in tale.told(one.name)))


def done_with(tale: Tale) -> None:
    tale.forget("failing 0")
    tale.tell(10, "failing 0", "start", seen="0")
    tale.record(10.1, "failing 0", tale.told("failing 0")[0].id, 1)


def in_one_instance(tale: Tale) -> None:
    for n, entry in enumerate(tale.told("failing 0")):
        entry.fields["seen"] = str(n)


def left_over(tale: Tale) -> None:
    tale.forget("not started 1")
    tale.left.append(("kashvi:queue:held:x", b'{"name":"not started 1"}'))


def retries_in_the_worker(tale: Tale) -> None:
    tale.waiting = [one for one in tale.waiting if one.job == "no id"]


def scores_in_milliseconds(tale: Tale) -> None:
    tale.waiting = [replace(one, due=one.due * 1000) for one in tale.waiting]


def one_after_the_other(tale: Tale) -> None:
    jobs = [one.name for one in tale.of("at once")]
    tale.forget(*jobs)
    for n, job in enumerate(jobs):
        tale.run(2.0 + n, job, takes=1.0)


def cut_off_at_the_signal(tale: Tale) -> None:
    tale.entries = [one for one in tale.entries if (one.job, one.did) != ("running 1", "end")]


def first_signal_ignored(tale: Tale) -> None:
    tale.handed_back = None


def handed_back_out_of_order(tale: Tale) -> None:
    assert tale.handed_back
    tale.handed_back.reverse()


def handed_back_and_counted(tale: Tale) -> None:
    assert tale.handed_back
    tale.handed_back = [raw[:-1] + b',"attempts":1}' for raw in tale.handed_back]


def takes_one_more(tale: Tale) -> None:
    tale.forget("not started 0")
    tale.run(53.05, "not started 0", "worker-3")


def second_signal_ignored(tale: Tale) -> None:
    tale.handed_back_at_once = None


def second_signal_loses(tale: Tale) -> None:
    tale.handed_back_at_once = []


def forgotten(tale: Tale) -> None:
    tale.records = [one for one in tale.records if one.job != "failing 0"]


def row_twice(tale: Tale) -> None:
    tale.records.append(replace(tale.recorded("odd bytes")[0], key="99"))


def limit_is(tale: Tale, limit: int) -> None:
    """Two attempts are not enough for the flaky one; more than three change nothing of it."""
    taken_over = ("killed and failing", "paused")
    for job in ("odd bytes", "failing 0", "no id", *taken_over, *(["flaky"] if limit < 3 else [])):
        worker, takes = ("worker-3", 1.0) if job in taken_over else ("worker-1", 0.0)
        not_counted = tale.told(job)[: job in taken_over]
        at = tale.told(job)[len(not_counted)].at - tale.began
        tale.forget(job)
        tale.entries.extend(not_counted)
        for _ in range(tale.pushed[job].copies):
            tale.fail(job, *((at + 3.01 * n, worker) for n in range(limit)), takes=takes)
        change(tale, job, attempts=limit)

    if limit < 3:
        tale.entries.remove(tale.told("dies again")[-1])
    for n in range(3, limit):
        tale.tell(58.0 + 5 * n, "dies again", "start", "worker-3", seen="0")


def slow_to_come_back(tale: Tale) -> None:
    """All that was seen after the kill comes 15 s later."""
    for told in (tale.entries, tale.records, tale.waiting, tale.happened):
        told[:] = [replace(one, at=one.at + 15) if one.at > 1030.07 else one for one in told]  # type: ignore[type-var]
    tale.waiting = [replace(one, due=one.due + 15) if one.at > 1030.07 else one for one in tale.waiting]


def retried_where_a_worker_is_held_up(tale: Tale) -> None:
    """In the middle of the last attempt, which is taken over and made again."""
    tale.done_to(40.6, "worker-3", "SIGSTOP")
    tale.tell(44.5, "killed and failing", "start", "worker-4")
    change(tale, "killed and failing", at=1045.5, failed_at=1045.5)


def retried_late_by_the_worker(tale: Tale) -> None:
    tale.forget("flaky")
    tale.fail("flaky", (10, "worker-1"), (17.5, "worker-1"), last=False)
    tale.run(19.51, "flaky")
    tale.waiting = [one for one in tale.waiting if one.job != "flaky"]


def scores_later(tale: Tale, seconds: Callable[[float], float]) -> None:
    tale.waiting = [replace(one, due=seconds(one.due)) for one in tale.waiting]


def stranded(tale: Tale) -> None:
    tale.push(45, tale.jobs.sleep("across", "across worker 0", 1.7))
    tale.tell(45.01, "across worker 0", "start", "worker-1")


LOST = {"DISPATCH-1", "DELIVERY-1"}
BREAKS: dict[str, tuple[set[str], Callable[[Tale], object]]] = {
    "a job that fails and then succeeds is given up": ({"JOBS-2"} | LOST, lambda tale: tale.forget("flaky")),
    "a failed job is done with": ({"JOBS-2", "RETRY-1"}, done_with),
    "a number goes through a float": ({"JOBS-3"}, lambda tale: tale.told("values")[0].fields.update(number="9.0")),
    "a star is another name": ({"JOBS-6"}, lambda tale: tale.forget("star")),
    "one instance for all attempts": ({"JOBS-7"}, in_one_instance),
    "retries without an id": ({"ENVELOPE-4"}, lambda tale: waits(tale, "no id", b'"id":"new",', b"")),
    "a payload is written anew": ({"ENVELOPE-5"}, lambda tale: waits(tale, "odd bytes", b'"x":1.0', b'"x":1')),
    "an unknown field is dropped": ({"ENVELOPE-5"}, lambda tale: waits(tale, "odd bytes", b'"origin"', b'"o"')),
    "a misfit runs": ({"ENVELOPE-6"}, lambda tale: tale.tell(1.5, "misfit", "start")),
    "a job is lost": (LOST, lambda tale: tale.forget("not started 1")),
    "a job is left over": ({"DELIVERY-1"}, left_over),
    "an idle worker is slow": ({"DISPATCH-2"}, lambda tale: moved(tale, "idle", 6)),
    "the list is a stack": ({"DISPATCH-3", "REDIS-1"}, lambda tale: reverse(tale, "in order")),
    "due jobs start early": ({"DELAY-1"}, lambda tale: tale.starts("delayed 0", 6.45)),
    "due jobs start late": ({"DELAY-2"}, lambda tale: moved(tale, "delayed", 6)),
    "due jobs in any order": ({"DELAY-5"}, lambda tale: reverse(tale, "due before")),
    "ties in any order": ({"DELAY-6"}, lambda tale: reverse(tale, "due together")),
    "promoted twice": ({"DELAY-8"}, lambda tale: second_start(tale, "race 1", 22.6)),
    "delayed jobs die with workers": ({"DELAY-9", "REDIS-3"} | LOST, lambda tale: tale.forget("outlives")),
    "retries wait in the worker": ({"REDIS-2"}, retries_in_the_worker),
    "delayed jobs become another type": (
        {"REDIS-2"},
        lambda tale: tale.wrong_types.update({"kashvi:queue:delayed": "list"}),
    ),
    "the list becomes another type": ({"REDIS-1"}, lambda tale: tale.wrong_types.update({"kashvi:queue:jobs": "set"})),
    "scores in milliseconds": ({"REDIS-2"}, scores_in_milliseconds),
    "a key expires": ({"REDIS-4"}, lambda tale: tale.expiring.update({"kashvi:queue:held": 60_000})),
    "a cut connection is the end": ({"REDIS-8"} | LOST, lambda tale: tale.forget("cut off")),
    "removed before it is added": ({"REDIS-9"} | LOST, lambda tale: tale.forget("wrong type")),
    "an idle worker is busy": ({"REDIS-10"}, lambda tale: tale.asked_idle.extend(['"BLMOVE" …'] * 8)),
    "a killed worker's job is lost": ({"DELIVERY-2"} | LOST, lambda tale: after(tale, "killed 1", 31)),
    "taken over too late": ({"DELIVERY-2"}, lambda tale: tale.starts("killed 1", 30.01, 44.6)),
    "taken over before the lease ends": ({"DELIVERY-3"}, lambda tale: tale.starts("killed 0", 30.01, 31.4)),
    "a long job is started again": ({"DELIVERY-4", "DELIVERY-7"}, lambda tale: second_start(tale, "long", 28.5)),
    "a stale worker may fail a job": ({"DELIVERY-5"}, lambda tale: second_start(tale, "paused", 37.2)),
    "a stale worker may record a job": (
        {"DELIVERY-5"},
        lambda tale: change(tale, "paused last", error=f"failed at {tale.told('paused last')[0].id}"),
    ),
    "a cancelled job is tried again": ({"QUEUES-9"}, lambda tale: tale.tell(27.7, "cancelled", "start", "worker-2")),
    "a cancelled job is recorded": ({"QUEUES-9"}, lambda tale: tale.record(26.8, "cancelled", "failed", 1)),
    "a death is never counted": ({"DELIVERY-10"}, lambda tale: tale.tell(58.0, "dies again", "start", "worker-3")),
    "both deaths are counted": ({"DELIVERY-10"}, lambda tale: tale.entries.remove(tale.told("dies again")[-1])),
    "jobs of the dead of another kind are stranded": ({"DELIVERY-2"} | LOST, stranded),
    "a job is run twice": ({"DELIVERY-7"}, lambda tale: second_start(tale, "in order 3", 1.2)),
    "the first death is counted": ({"DELIVERY-8"}, lambda tale: after(tale, "killed and failing", 40)),
    "suspects beside each other": ({"DELIVERY-14"}, lambda tale: tale.starts("killed 1", 30.01, 34.2)),
    "more at once than threads": ({"WORKERS-1"}, lambda tale: tale.starts("at once 2", 2.5)),
    "fewer at once than threads": ({"WORKERS-1"}, one_after_the_other),
    "a job ends its worker": ({"WORKERS-2"}, lambda tale: tale.done_to(7, "worker-1", "ended", 1, asked=False)),
    "running jobs are cut off": ({"WORKERS-3", "COMMANDS-13"} | LOST, cut_off_at_the_signal),
    "the first signal is ignored": ({"WORKERS-3", "COMMANDS-13"}, first_signal_ignored),
    "handed back out of order": ({"WORKERS-3"}, handed_back_out_of_order),
    "handed back and counted": ({"WORKERS-3"}, handed_back_and_counted),
    "one more is taken after the signal": ({"WORKERS-3"}, takes_one_more),
    "the second signal is ignored": ({"COMMANDS-13"}, second_signal_ignored),
    "the second signal loses jobs": ({"COMMANDS-13"}, second_signal_loses),
    "a fourth attempt": (
        {"RETRY-1", "FAILURES-4", "FAILURES-5"},
        lambda tale: tale.tell(13.025, "failing 0", "start", seen="0"),
    ),
    "a limit of two": ({"RETRY-1"}, lambda tale: limit_is(tale, 2)),
    "a limit of four": ({"RETRY-1"}, lambda tale: limit_is(tale, 4)),
    "two seconds too long are waited": ({"RETRY-2"}, lambda tale: scores_later(tale, lambda due: due + 1.9)),
    "too long is waited in the worker": ({"REDIS-2", "RETRY-2"}, retried_late_by_the_worker),
    "half a second is waited": ({"RETRY-2"}, lambda tale: tale.starts("flaky", 10.0, 10.5, 13.02)),
    "a wait after the last attempt": (
        {"RETRY-3"},
        lambda tale: change(tale, "failing 0", at=1016.1, failed_at=1016.05),
    ),
    "waiting holds a thread": ({"RETRY-4"}, lambda tale: moved(tale, "behind", 3)),
    "attempts are not counted": ({"RETRY-6"}, lambda tale: waits(tale, "flaky", b'"attempts":2', b'"attempts":1')),
    "a done job runs again": ({"RETRY-7"}, lambda tale: second_start(tale, "flaky", 14)),
    "an exhausted job is forgotten": ({"FAILURES-1"} | LOST, forgotten),
    "an exhausted job waits for a table that is there": (
        {"FAILURES-1"},
        lambda tale: change(tale, "failing 0", where="unrecorded"),
    ),
    "a success is recorded": ({"FAILURES-1"}, lambda tale: tale.record(4.1, "idle", "?", 1)),
    "the first error is kept": ({"FAILURES-4"}, lambda tale: change(tale, "odd bytes", error="the first")),
    "the limit is recorded": ({"FAILURES-5"}, lambda tale: change(tale, "odd bytes", attempts=5)),
    "unknown types are dropped": ({"FAILURES-9"}, lambda tale: tale.forget("unknown type")),
    "what waits for a table becomes another type": (
        {"FAILURES-9"},
        lambda tale: tale.wrong_types.update({"kashvi:queue:unrecorded": "list"}),
    ),
    "unknown types are counted": ({"FAILURES-9"}, lambda tale: change(tale, "unknown type", attempts=3)),
    "unknown types wait": ({"FAILURES-9"}, lambda tale: change(tale, "unknown type", at=1009.0)),
    "a column is missing": ({"TABLE-1"}, lambda tale: tale.columns.remove("job_id")),
    "an id is no integer": ({"TABLE-1"}, lambda tale: change(tale, "odd bytes", key="1db45780")),
    "an error is no text": ({"TABLE-2"}, lambda tale: tale.no_text.update(error="odd bytes")),
    "a row has another payload": ({"TABLE-2"}, lambda tale: change(tale, "odd bytes", payload='{"seen":3}')),
    "a row has another type": ({"TABLE-2"}, lambda tale: change(tale, "odd bytes", type="Fail")),
    "a row has no time": ({"TABLE-2"}, lambda tale: change(tale, "odd bytes", failed_at=None)),
    "a row is there twice": ({"TABLE-4"}, row_twice),
    "bytes are stored as if they were text": (
        {"TABLE-5"},
        lambda tale: tale.no_text.update(payload="garbage with NUL"),
    ),
    "bytes are stored as they are": ({"TABLE-5"}, lambda tale: change(tale, "garbage with NUL", payload="?no")),
}


def test_a_run_as_it_should_be_breaks_nothing_and_shows_every_clause_that_has_a_judge() -> None:
    """So that what breaks one below does so alone."""
    shown = {verdict.clause.id for verdict in verdicts_on(good()) if verdict.outcome == "passed"}
    assert shown == set(JUDGES)


@pytest.mark.parametrize(("clauses", "breaks"), BREAKS.values(), ids=BREAKS)
def test_a_departure_breaks_its_clauses_and_no_other(clauses: set[str], breaks: Callable[[Tale], object]) -> None:
    """With a reason that says what was seen."""
    tale = good()
    breaks(tale)
    assert broken(tale) == clauses
    assert all(verdict.reasons for verdict in verdicts_on(tale) if verdict.outcome == "failed")


@pytest.mark.parametrize(
    "happens",
    [
        slow_to_come_back,
        retried_where_a_worker_is_held_up,
        lambda tale: scores_later(tale, lambda due: float(math.ceil(due))),
        lambda tale: change(tale, "paused", where="unrecorded", at=1055.0),
    ],
    ids=[
        "workers that start slowly",
        "a retry in a worker that is held up",
        "scores in whole seconds",
        "nobody lived long enough to write a row",
    ],
)
def test_what_only_looks_like_a_departure_breaks_nothing(happens: Callable[[Tale], object]) -> None:
    """A good worker is not accused."""
    tale = good()
    happens(tale)
    assert broken(tale) == set()


def test_it_is_said_when_a_worker_held_nothing_that_it_could_hand_back() -> None:
    """The clause is kept, but that part of it was not seen."""
    tale = good()
    stopping = {verdict.clause.id: verdict for verdict in verdicts_on(tale)}["WORKERS-3"]
    assert (stopping.outcome, stopping.evidence) == ("passed", [])
    tale.held = 0
    stopping = {verdict.clause.id: verdict for verdict in verdicts_on(tale)}["WORKERS-3"]
    assert (stopping.outcome, stopping.reasons) == ("passed", [])
    assert stopping.evidence == ["the worker had taken no job that it had not started, so nothing was handed back"]


def test_what_a_run_that_was_cut_short_did_not_show_is_not_judged() -> None:
    """And it is said why."""
    verdicts = {verdict.clause.id: verdict for verdict in verdicts_on(cut_short())}
    assert broken(cut_short()) == set()
    assert verdicts["DISPATCH-3"].outcome == "passed"
    assert verdicts["RETRY-1"].reasons == ["the kit did not come so far: worker-2 ran no job"]
    assert verdicts["DELIVERY-2"].outcome == verdicts["WORKERS-3"].outcome == "unobserved"


def test_every_judge_is_put_to_the_test_here() -> None:
    """A judge that finds nothing is none."""
    assert set().union(*(clauses for clauses, _ in BREAKS.values())) == set(JUDGES)


def test_a_failure_is_reported_with_what_was_pushed_and_seen_and_when(tmp_path: Path) -> None:
    """As JSON and as a page."""
    tale = good()
    tale.starts("delayed 0", 6.45)
    column = Column("a worker", {one.clause.id: one for one in verdicts_on(tale)}, 40.0)
    report = json.loads(as_json([column], strict=False))["implementations"][0]
    assert (report["conforms"], report["failed"], report["passed"]) == (False, 1, len(JUDGES) - 1)
    [early] = [one for one in report["clauses"] if one["outcome"] == "failed"]
    assert (early["id"], early["reasons"]) == ("DELAY-1", ["'delayed 0' started 0.050 s before it was due"])
    assert early["evidence"][0].startswith("+4.000 s pushed delayed 0 to kashvi:queue:delayed: {")
    assert "+6.450 s delayed 0: start in worker-1" in early["evidence"]
    write_html([column], tmp_path / "worker.html")
    page = (tmp_path / "worker.html").read_text()
    assert "+6.450 s delayed 0: start in worker-1" in page
    assert f"{report['unobserved']} can&#39;t be seen" in page


def test_every_clause_has_a_judge_or_a_reason_and_no_stranger_has_one() -> None:
    """A clause that is added is not forgotten here."""
    clauses = load()
    assert set(JUDGES) | set(OF_CLAUSES) <= {clause.id for clause in clauses}
    assert set(JUDGES).isdisjoint(OF_CLAUSES)
    for clause in clauses:
        assert clause.id in JUDGES or clause.id in OF_CLAUSES or clause.area in OF_AREAS, clause.id


def test_a_clause_that_was_forgotten_here_does_not_hinder_the_judgement_of_the_others() -> None:
    """The test above asks for its reason; the kit says that it has none."""
    clauses = {clause.id: clause for clause in load()}
    new, old = verdicts_on(good(), [replace(clauses["REDIS-1"], id="UNHEARD-1"), clauses["REDIS-1"]])
    assert (new.outcome, new.reasons, old.outcome) == ("unobserved", ["the kit has no judge for it yet"], "passed")


def test_the_page_says_what_the_job_types_are_and_which_clauses_are_judged() -> None:
    """Field by field, as the kit's own job types have them."""
    page = text_of("worker-kit")
    for job_type in (jobs.Echo, jobs.Fail, jobs.Flaky, jobs.Sleep):
        fields = ", ".join(f"`{field.name}`" for field in dataclasses.fields(job_type)[2:])
        assert f"| `spec.{job_type.__name__}` | {fields} |" in page
    judged = page.partition("## What is judged")[2]
    assert set(re.findall(r"\b[A-Z]+-[0-9]+\b", judged.partition("## ")[0])) == set(JUDGES)


def spec_worker(server: RedisServer, *words: str) -> Result:
    given = ["--redis-url", server.url] if "--redis-url" not in words else []
    return CliRunner().invoke(worker_command, [*given, *words])


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--redis-url", "http://somewhere"), "Invalid value for --redis-url"),
        (("--redis-url", "redis://127.0.0.1:1"), "Invalid value for --redis-url"),
        (("--command", "no-such-program --at all"), "can't start 'no-such-program': No such file or directory"),
        (("--command", "an 'open quotation"), "can't be split into words"),
        (("--command", ""), "it is empty"),
        (
            ("--command", "sh -c 'echo no such option; exit 3'"),
            "before it ran a job, with exit code 3. It printed: no such",
        ),
        (("--database-url", "sqlite:////no/such/folder/x.db"), "Invalid value for --database-url: the failure table's"),
        (("--database-url", "nonsense"), "Invalid value for --database-url"),
        (("--redis-url", "{url}?foo=1"), "Invalid value for --redis-url"),
        (("--lease", "nan"), "Invalid value for '--lease'"),
        (("--lease", "inf"), "Invalid value for '--lease'"),
    ],
)
def test_where_there_is_nothing_to_judge_the_command_ends_with_2_and_says_why(
    valkey: RedisServer, words: tuple[str, ...], why: str
) -> None:
    """And the server is as it was."""
    given = () if "--command" in words else ("--command", "sleep 60")
    ran = spec_worker(valkey, *given, *(word.replace("{url}", valkey.url) for word in words))
    assert ran.exit_code == 2
    assert why in " ".join(ran.output.replace("│", " ").split())
    assert valkey.client().keys() == []


def test_a_queue_that_is_not_empty_is_left_alone(valkey: RedisServer) -> None:
    """The kit clears up behind itself, so it must not begin where others are."""
    valkey.client().lpush("kashvi:queue:jobs", "somebody's")
    ran = spec_worker(valkey, "--command", "sleep 60")
    assert ran.exit_code == 2
    assert "the queue is not empty: there is kashvi:queue:jobs. Pass an unused database" in ran.output
    assert valkey.client().lrange("kashvi:queue:jobs", 0, -1) == [b"somebody's"]


def test_a_command_that_takes_no_job_is_an_error_and_its_processes_are_ended(
    valkey: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole group, also what ignores SIGTERM."""
    monkeypatch.setattr(script, "START_S", 0.5)
    child = tmp_path / "pid"
    command = f"sh -c 'trap \"\" TERM; sleep 60 & echo $! > {child}; echo here I am; wait'"
    ran = spec_worker(valkey, "--command", command)
    assert ran.exit_code == 2
    assert "no job of the kit told of its start within 0.5 s" in ran.output
    assert "here I am" in ran.output
    pid = int(child.read_text())
    until_true(lambda: not alive(pid), 10, "its child is still there")
    assert valkey.client().keys() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_kit_ends_its_workers_when_it_is_told_to_stop_itself(
    valkey: RedisServer, tmp_path: Path, number: signal.Signals
) -> None:
    """And clears up, its folder too. A SIGHUP that is ignored, as under nohup, stays ignored: so it is not, here."""
    child = tmp_path / "pid"
    command = f"sh -c 'echo $$ > {child}.new; mv {child}.new {child}; sleep 60'"
    words = ["spec:worker", "--redis-url", valkey.url, "--command", command]
    heard = "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL)"
    main = [sys.executable, "-c", f"{heard}; from kashvi.cli import main; main()"]
    own = tmp_path / "tmp"
    own.mkdir()
    kit = subprocess.Popen([*main, *words], stderr=subprocess.PIPE, env={**os.environ, "TMPDIR": str(own)})
    until_true(child.exists, 20)
    kit.send_signal(number)
    kit.communicate(timeout=20)
    assert kit.returncode == 128 + number
    assert list(own.iterdir()) == []
    until_true(lambda: not alive(int(child.read_text())), 10, "its worker is still there")
    assert valkey.client().keys() == []


TABLES = {
    "without an id": ("", ""),
    "with an id of text": ("id text,", "'a7',"),
    "with an id that is null": ("id text,", "NULL,"),
    "with an id": ("id integer,", "7,"),
}


@pytest.mark.parametrize(("id_column", "id_"), TABLES.values(), ids=TABLES)
def test_whatever_table_a_worker_has_made_is_read_and_left_without_the_rows_of_the_kit(
    valkey: RedisServer, tmp_path: Path, id_column: str, id_: str
) -> None:
    """Bytes that are no text hide no other row, and no other column."""
    path = tmp_path / "failures.db"
    with sqlite3.connect(path, isolation_level=None) as table:
        table.execute(f"CREATE TABLE kashvi_failed_jobs ({id_column} job_type text, payload text, error text)")
        insert = "INSERT INTO kashvi_failed_jobs VALUES ({} 'x', CAST(? AS TEXT), CAST(? AS TEXT))"
        table.execute(insert.format("NULL," if id_column else ""), (b"{}", b"\xfe"))
        with Bench(valkey.url, "sleep 60", f"sqlite:///{path}", 2, 3.0) as bench:
            bench.push([one for one in bench.jobs.before_any_worker() if one.situation == "undeliverable"])
            pushed = bench.story.pushed
            table.execute(insert.format(id_), (json.dumps(json.loads(pushed["misfit"].raw)["payload"]), b"\xfe"))
            table.execute(insert.format(id_.replace("7", "8")), (pushed["garbage with NUL"].raw, b"a text"))
            bench.watch.until(lambda: len(bench.story.records) == 2, 5)
            found = {one.job: one.error for one in bench.story.records}
            assert found == {"misfit": "\\xfe", "garbage with NUL": "a text"}
            assert bench.story.no_text == {"error": "misfit", "payload": "garbage with NUL"}
        assert [row[0] for row in table.execute("SELECT payload FROM kashvi_failed_jobs")] == ["{}"]


def test_keys_that_a_worker_makes_another_type_are_told_of_and_the_run_goes_on(valkey: RedisServer) -> None:
    """Until the kit itself can push no more: then it is cut short, and the key is named."""
    with Bench(valkey.url, "sleep 60", "", 2, 3.0) as bench:
        for key in ("delayed", "unrecorded"):
            bench.client.lpush(f"kashvi:queue:{key}", "x")
        bench.watch.look()
        bench.client.set("kashvi:queue:jobs", "x")
        story = script.play(bench, lambda title: None)
    assert story.wrong_types == {
        "kashvi:queue:delayed": "list",
        "kashvi:queue:unrecorded": "list",
        "kashvi:queue:jobs": "string",
    }
    assert "kashvi:queue:jobs was a string" in story.cut_short
    assert broken(story) == {"REDIS-1", "REDIS-2", "FAILURES-9"}


@pytest.mark.parametrize(
    ("what", "at", "too_late"),
    [("SIGSTOP", 31.05, False), ("SIGSTOP", 31.9, True), ("SIGCONT", 36.1, False), ("SIGCONT", 36.4, True)],
)
def test_a_scene_whose_signal_came_too_late_is_played_again(what: str, at: float, too_late: bool) -> None:
    """The job takes 1.7 s, and its retry waits 1 s: then two retries would be one member of the set."""
    tale = good()
    tale.happened = [replace(one, at=1000 + at) if one.what == what else one for one in tale.happened]
    assert stopped_too_late(tale, "paused") == too_late


def test_a_job_died_twice_if_both_kills_came_during_it() -> None:
    tale = good()
    assert died_twice(tale, "dies again")
    tale.starts("dies again", 43.01, 44.8)
    assert not died_twice(tale, "dies again")


def test_a_worker_has_ended_when_all_of_its_group_has(tmp_path: Path) -> None:
    """A shell around it dies at the signal, and the worker may still have jobs to end."""
    there = tmp_path / "there"
    words = ["sh", "-c", f"(trap '' TERM; echo > {there}; exec sleep 60) & wait"]
    worker = WorkerProcess("worker-1", words, {}, tmp_path / "out")
    until_true(there.exists, 20)
    worker.send(signal.SIGTERM)
    until_true(lambda: worker.code() is not None, 20)
    assert not worker.ended()
    worker.send(signal.SIGKILL)
    until_true(worker.ended, 20)


def test_of_what_a_worker_printed_only_the_end_is_read(tmp_path: Path) -> None:
    """It may have printed more than the memory holds."""
    worker = WorkerProcess("worker-1", ["true"], {}, tmp_path / "out")
    until_true(worker.ended, 20)
    with (tmp_path / "out").open("r+b") as out:
        out.seek(2**42)
        out.write(b" the last words")
    assert worker.tail().endswith("the last words")


def alive(pid: int) -> bool:
    """A zombie is not."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"
