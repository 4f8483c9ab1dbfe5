"""The suite for drivers, as pytest runs it: memory passes, and so does one that was not written for it.

The others, and real servers, are held to it by ``nox -s conformance``.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from kashvi_spec.clauses import load
from kashvi_spec.kit.driver.conformance import about_drivers, conformance, selected
from kashvi_spec.kit.driver.steps import STEPS, Bench
from kashvi_spec.kit.driver.subject import Clock, subject_of
from kashvi_spec.kit.pytest_plugin import HeldClause

from examples.custom_driver.conformance import sqlite
from kashvi.drivers.lines import MemoryStore
from kashvi.drivers.memory import MemoryDriver
from kashvi.errors import InvalidSetting
from kashvi.runtime import SystemRuntime
from tests.servers.launch import RedisServer

MEMORY = subject_of("memory")
ALONE = replace(MEMORY, name="alone", again=None)


def test_memory_keeps_the_clause(kashvi_clause: HeldClause) -> None:
    """Each clause that is about drivers."""
    kashvi_clause.holds_of(MEMORY)


def test_a_driver_of_another_kind_keeps_the_clause(kashvi_clause: HeldClause) -> None:
    """SQLite, through SQLAlchemy."""
    kashvi_clause.holds_of(sqlite)


def test_a_stranger_writes_fifteen_lines_at_the_most() -> None:
    """To put a driver to the test."""
    lines = Path("examples/custom_driver/conformance.py").read_text().splitlines()
    assert len([line for line in lines if line.strip()]) <= 15


def test_every_trace_clause_is_about_drivers_and_every_step_belongs_to_a_clause() -> None:
    """So that no check stands outside the specification."""
    tested = {clause.id for clause in about_drivers()}
    assert {clause.id for clause in load() if clause.kind == "trace"} <= tested
    assert {step.clause for step in STEPS} <= tested
    assert len({step.says for step in STEPS}) == len(STEPS)


def test_areas_and_ids_select_clauses() -> None:
    """In the order of the specification, whatever the case."""
    found = [clause.id for clause in selected(about_drivers(), "delay-3, Retry")]
    assert found[0] == "DELAY-3"
    assert found[1:] == [f"RETRY-{n}" for n in range(1, 14)]


@pytest.mark.parametrize("wanted", ["NOBODY-1", "JOBS-1", "queue"])
def test_a_selection_of_what_is_not_there_is_refused(wanted: str) -> None:
    """JOBS-1 is there, and is about the library."""
    with pytest.raises(ValueError, match="no clause or area"):
        selected(about_drivers(), wanted)


def test_a_driver_for_one_process_is_not_asked_what_others_see() -> None:
    """And says so in the verdict."""
    [verdict] = conformance(ALONE, selected(about_drivers(), "REDIS-3"))
    assert verdict.outcome == "incapable"
    assert verdict.reasons == ["it says that no other process can open its queue"]
    assert {one.outcome for one in conformance(ALONE, selected(about_drivers(), "DELIVERY"))} == {"passed"}


class Before(MemoryDriver):
    """As one that was written before there were follow-ups."""

    follows_up = False


def test_a_driver_without_follow_ups_is_not_asked_for_them() -> None:
    """And keeps all else."""
    plain = replace(MEMORY, empty=lambda now: Before(store=MemoryStore(now, SystemRuntime().condition())))
    plain = replace(plain, again=lambda one: Before(store=one.store))
    [verdict] = conformance(plain, selected(about_drivers(), "JOBS-18"))
    assert verdict.outcome == "incapable"
    assert verdict.reasons == ["it has no follow-ups, which is allowed: current().dispatch() says so"]
    assert {one.outcome for one in conformance(plain, selected(about_drivers(), "RETRY"))} == {"passed"}


def test_a_driver_with_a_clock_of_its_own_is_held_to_the_steps_alone() -> None:
    """In real time, twenty times as fast as they say."""
    runtime = SystemRuntime()
    own = replace(MEMORY, empty=lambda now: MemoryDriver(runtime=runtime), heeds_clock=False)
    [delayed] = conformance(own, selected(about_drivers(), "DELAY-8"))
    assert (delayed.outcome, delayed.steps, delayed.examples) == ("passed", 1, 0)
    [untested] = conformance(own, selected(about_drivers(), "WORKERS-1"))
    assert untested.outcome == "incapable"


def test_a_driver_that_never_comes_back_is_told_so_and_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is tried after it."""
    monkeypatch.setattr("kashvi_spec.kit.driver.conformance.PATIENCE_S", 0.2)
    bell = SystemRuntime().condition()

    def wait(self: MemoryDriver, worker: str, seconds: float) -> None:
        with bell:
            bell.wait()

    monkeypatch.setattr(MemoryDriver, "wait", wait)
    verdicts = list(conformance(MEMORY, selected(about_drivers(), "RETRY")))
    assert {verdict.outcome for verdict in verdicts} == {"failed"}
    assert "the example: the driver did not come back within 0.2 s" in verdicts[0].reasons
    assert all("not tried, after RETRY-1" in verdict.reasons[0] for verdict in verdicts[1:])
    with bell:
        bell.notify_all()


def test_a_driver_that_raises_what_it_must_not_fails_with_the_error() -> None:
    """Instead of ending the suite."""

    def empty(now: object) -> MemoryDriver:
        raise OSError("no space left")

    [verdict] = conformance(replace(MEMORY, empty=empty), selected(about_drivers(), "DELAY-3"))
    assert verdict.outcome == "failed"
    assert "the driver raised OSError: no space left" in verdict.reasons[0]


def test_on_a_server_it_touches_its_own_keys_alone_and_leaves_none(valkey: RedisServer) -> None:
    """It may belong to another program."""
    valkey.client().set("somebody's", "own")
    subject = subject_of(valkey.url)
    assert [one.outcome for one in conformance(subject, selected(about_drivers(), "DELAY-3"))] == ["passed"]
    assert subject.name.startswith("Valkey 9")
    assert list(valkey.client().scan_iter()) == [b"somebody's"]


def test_a_queue_that_is_not_empty_is_told_so() -> None:
    """Or everything that follows would be puzzling."""
    same = MEMORY.empty(lambda: 1.0)
    same.push([b"left over"])
    verdicts = list(conformance(replace(MEMORY, empty=lambda now: same), selected(about_drivers(), "DELAY-3")))
    assert [verdict.outcome for verdict in verdicts] == ["failed"]
    assert all("empty() returned a queue that is not empty: Stats(ready=1" in why for why in verdicts[0].reasons)


def test_a_driver_that_ends_the_program_or_breaks_in_a_thread_fails_and_does_not_end_the_suite() -> None:
    """SystemExit is an error like any other."""

    class Exits(MemoryDriver):
        def wait(self, worker: str, seconds: float) -> bytes | None:
            raise SystemExit(0)

    inner = MEMORY.empty

    def empty(now: Clock) -> Exits:
        found = inner(now)
        assert isinstance(found, MemoryDriver)
        return Exits(store=found.store)

    verdicts = {one.clause.id: one for one in conformance(replace(MEMORY, empty=empty, again=None))}
    assert any("SystemExit" in why for why in verdicts["DELIVERY-7"].reasons)
    assert verdicts["DISPATCH-2"].outcome == "failed"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("sqlite", "package.module:factory"),
        ("no.such.module:driver", "No module named 'no'"),
        ("kashvi.drivers.memory:Driver2", "no attribute 'Driver2'"),
        ("kashvi.drivers.memory:MemoryDriver", "not a DriverUnderTest"),
    ],
)
def test_a_driver_that_can_not_be_had_is_refused(text: str, why: str) -> None:
    """With what would do instead."""
    with pytest.raises(InvalidSetting, match=why):
        subject_of(text)


def test_a_step_passes_time_only_on_its_own_clock() -> None:
    """No real second goes by."""
    bench = Bench(MEMORY)
    bench.push(b"a", delay=3600)
    bench.let_pass(3600)
    assert bench.worker().claim() == [b"a"]
