"""The picture of a run: lanes, marks with their clauses, waiting jobs, and why the latest were late."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from kashvi_sim.commands.options import workload_named
from kashvi_sim.runs.play import Played, play
from kashvi_sim.runs.recording import record_of
from kashvi_sim.runs.replay import recorded
from kashvi_sim.show.lanes import CLAUSES, OF_FAULTS, Picture, picture_of
from kashvi_sim.show.perfetto import write_perfetto
from kashvi_sim.show.plot import MARKS
from kashvi_sim.show.reasons import latest
from kashvi_sim.show.report import write_report
from kashvi_sim.world.faults import RULES
from kashvi_sim.world.trace import ProcessKilled, write
from kashvi_spec.clauses import load

from kashvi import events
from kashvi.events import Event


def picture(played: Played) -> Picture:
    return picture_of(played.world.times, played.world.events, played.world.names)


@pytest.fixture(scope="module")
def poison() -> Played:
    return play(workload_named("poison"), seed=1)


@pytest.fixture(scope="module")
def page(poison: Played, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("report") / "poison.html"
    write_report(path, picture(poison), poison.figures, name="a <poison> job", about="What it teaches.")
    return path.read_text()


def test_every_thread_has_a_lane_and_every_attempt_is_on_one(poison: Played) -> None:
    """As many spans as attempts that started, none on top of another."""
    shown = picture(poison)
    started = [event for event in poison.world.events if isinstance(event, events.AttemptStarted)]
    assert len(shown.spans) == len(started)
    assert {span.lane for span in shown.spans} <= set(shown.lanes)
    assert {lane.partition(" · ")[2] for lane in shown.lanes} == {"1", "2", "3", "4"}
    by_lane: dict[str, float] = {}
    for span in sorted(shown.spans, key=lambda span: span.began):
        assert span.began >= by_lane.get(span.lane, 0.0)
        by_lane[span.lane] = span.ended


def test_every_mark_names_a_clause_that_exists() -> None:
    """For each kind of event that is marked, and each fault."""
    clauses = {clause.id for clause in load()}
    assert {*CLAUSES.values(), *OF_FAULTS.values()} <= clauses
    assert set(OF_FAULTS) <= {rule.name for rule in RULES}


def test_what_a_storm_marks_has_a_symbol_and_a_clause() -> None:
    """Thirty seeds with every fault, and one with pauses."""
    kinds: Counter[str] = Counter()
    for workload, seed in [*(("storm", seed) for seed in range(30)), ("pauses", 0)]:
        for mark in picture(play(workload_named(workload), seed=seed, faults="all")).marks:
            kinds[mark.kind] += 1
            assert mark.clause
            assert mark.text
    assert set(kinds) == set(MARKS)


def test_a_retry_is_marked_with_the_clause_that_says_how_long_it_waits() -> None:
    """RETRY-2, on the lane of the attempt that failed."""
    shown = picture(play(workload_named("retry_herd"), seed=1))
    marks = [mark for mark in shown.marks if mark.kind == "retry"]
    assert {mark.clause for mark in marks} == {"RETRY-2"}
    failed = {(span.job, span.lane) for span in shown.spans if span.how == "failed"}
    assert {(mark.job, mark.lane) for mark in marks} <= failed


def test_deaths_hand_offs_and_the_end_of_a_poison_job_are_marked(poison: Played) -> None:
    """Three processes killed, and what followed."""
    kinds = Counter(mark.kind for mark in picture(poison).marks)
    killed = sum(isinstance(event, ProcessKilled) for event in poison.world.events)
    assert (kinds["killed"], kinds["failed"], kinds["fault"]) == (killed, 1, 1)
    assert kinds["handed back"] >= 1
    assert sum(span.how == "cut off" for span in picture(poison).spans) >= killed


def test_the_latest_job_is_explained_by_the_deaths_it_brought(poison: Played) -> None:
    """Each with the clause."""
    worst = latest(picture(poison))[0]
    assert worst.lost_s > 30
    assert sum("was killed while it ran it" in why and "(DELIVERY-2)" in why for why in worst.why) >= 3


def test_a_job_that_came_during_a_deploy_was_late_since_nobody_was_there() -> None:
    """And those behind it since all threads were busy."""
    late = latest(picture(play(workload_named("deploy"), seed=3)), most=2_000)
    first = next(one for one in late if 60 < one.due < 61)
    assert re.fullmatch(r"no worker was there to take it: 2\d\.\d\d s", first.why[0])
    later = next(one for one in late if 95 < one.due < 96)
    assert re.match(r"all 8 threads were busy, and \d+ attempts went first: \d", later.why[0])


def test_a_retried_job_was_late_since_it_waited_its_turn() -> None:
    """One second, then two."""
    late = latest(picture(play(workload_named("outage"), seed=1)))
    assert [why.partition(":")[0] for why in late[0].why if "RETRY-2" in why] == [
        "attempt 1 failed (RuntimeError",
        "attempt 2 failed (RuntimeError",
    ]


def test_jobs_that_wait_are_counted_and_come_back_to_none() -> None:
    """Ready, delayed and for the table; also where a start is told before its dispatch."""
    played = play(workload_named("outage"), seed=1)
    swapped = sorted(
        zip(played.world.times, played.world.events, strict=True),
        key=lambda one: (one[0], isinstance(one[1], events.JobDispatched)),
    )
    for times, trace in ((played.world.times, played.world.events), tuple(zip(*swapped, strict=True))):
        depths = picture_of(list(times), list(trace), played.world.names).depths
        assert depths["ready"][-1][1] == 0
        assert max(depth for _, depth in depths["waiting for the table"]) > 1
        assert all(depth >= 0 for points in depths.values() for _, depth in points)


def test_a_job_that_a_process_took_into_its_death_waits_once() -> None:
    """It was claimed, no event shows a start, and it comes back."""
    depths = picture(play(workload_named("poison"), seed=0)).depths
    assert [points[-1][1] for points in depths.values()] == [0, 0, 0]
    assert all(depth >= 0 for points in depths.values() for _, depth in points)


def test_the_page_holds_its_lanes_marks_clauses_and_reasons(page: str) -> None:
    """By name; and what comes from outside is escaped."""
    assert "p1 \\u00b7 1" in page
    for word in ("RETRY-1", "DELIVERY-2", "DELIVERY-8", "hand-off", "cut off", "waiting for the table", "p99"):
        assert word in page
    assert "After failed attempt n, n seconds pass" in page
    assert "was killed while it ran it" in page
    assert "a &lt;poison&gt; job" in page
    assert "<poison>" not in page


def test_the_page_asks_nothing_of_the_network(page: str) -> None:
    """One file, and no more: no script, style or image from elsewhere."""
    assert not re.search(r"<(script|link|img|iframe)[^>]+(src|href)\s*=", page.partition("</style>")[0])
    assert re.findall(r"<script[^>]+src=", page) == []
    assert "@import" not in page.partition("</style>")[0]


def test_a_recording_has_the_same_picture(poison: Played, tmp_path: Path) -> None:
    """With the names that processes get by default."""
    write(poison.world.events, tmp_path / "t.jsonl")
    recording = record_of([tmp_path / "t.jsonl"])
    shown = picture_of(recording.times, recording.events, recording.names)
    assert [(round(s.began, 5), s.how, s.job) for s in shown.spans] == [
        (round(s.began, 5), s.how, s.job) for s in picture(poison).spans
    ]
    write_report(tmp_path / "r.html", shown, recorded(recording).figures, name="", about="", rows=[recorded(recording)])
    assert "<tr class=real><td>recorded" in (tmp_path / "r.html").read_text()


def test_a_perfetto_trace_has_slices_flows_instants_and_counters(poison: Played, tmp_path: Path) -> None:
    """As the format's description asks: microseconds, and every flow with both ends."""
    write_perfetto(tmp_path / "t.json", picture(poison))
    shown: list[dict[str, Any]] = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    phases = Counter(event["ph"] for event in shown)
    assert phases["X"] == len(picture(poison).spans)
    assert phases["s"] == phases["f"] >= 3
    assert phases["i"] == len(picture(poison).marks)
    assert phases["C"] > 0
    first = next(event for event in shown if event["ph"] == "X")
    assert {"name", "ts", "dur", "pid", "tid", "args"} <= set(first)
    named = {event["pid"] for event in shown if event["ph"] == "M"}
    assert {event["pid"] for event in shown} == named


def test_a_story_without_events_has_a_page_too(tmp_path: Path, poison: Played) -> None:
    """Nothing to draw is no error."""
    nothing: list[Event] = []
    write_report(tmp_path / "r.html", picture_of([], nothing, {}), poison.figures, name="", about="")
    assert "No job was late" in (tmp_path / "r.html").read_text()
