"""A recording, replayed: as it was, and with other workers."""

from __future__ import annotations

import heapq
import uuid
from pathlib import Path
from statistics import fmean

import msgspec
import pytest
from kashvi_sim.commands.options import workload_named
from kashvi_sim.runs.arrivals import Poisson
from kashvi_sim.runs.durations import Exponential
from kashvi_sim.runs.play import Played, play
from kashvi_sim.runs.recording import Recording, Shift, record_of
from kashvi_sim.runs.replay import recorded, replay
from kashvi_sim.runs.workload import Crew, JobKind, Workload
from kashvi_sim.world.kernel import EPOCH
from kashvi_sim.world.trace import ProcessKilled, write

from kashvi import events
from kashvi.errors import InvalidSetting
from kashvi.events import Event

from .test_theory import wait_mmc


def shop(**changes: object) -> Workload:
    """Two processes of two threads, busy three quarters of the time; some jobs fail."""
    plain = Workload(
        name="shop",
        about="",
        arrivals=Poisson(jobs=400, rate=15.0),
        job=(JobKind(type="jobs.A", takes=Exponential(mean_s=0.2), fails=0.1),),
        workers=Crew(processes=2, threads=2, lease_s=5.0),
    )
    return msgspec.structs.replace(plain, **changes)  # type: ignore[arg-type]


def record(played: Played, path: Path, *without: type[Event]) -> Recording:
    write([event for event in played.world.events if not isinstance(event, without)], path)
    return record_of([path])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "t.jsonl"


def test_a_replay_with_the_same_workers_comes_to_the_same(path: Path) -> None:
    """Jobs, failures and waits."""
    recording = record(play(shop(), seed=1), path)
    real, again = recorded(recording).figures, replay(recording).figures
    assert (again.jobs, again.succeeded, again.failed) == (real.jobs, real.succeeded, real.failed)
    assert real.wait_s
    assert again.wait_s
    assert again.wait_s.mean == pytest.approx(real.wait_s.mean, rel=0.05)
    assert again.wait_s.p95 == pytest.approx(real.wait_s.p95, rel=0.05)


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("workers", [None, 1, 2, 8])
def test_jobs_and_workers_keep_their_queues(path: Path, workers: int | None, direct: bool) -> None:
    """A single process serves all queues of the recording; more of them serve what the recorded ones did, in turn."""
    kinds = [
        JobKind(type=f"jobs.{name.upper()}", queue=name, takes=Exponential(mean_s=0.1)) for name in ("a", "b", "c")
    ]
    crew = Crew(processes=2, threads=2, lease_s=5.0, queues=("a:2,b:1", "c,b"))
    recording = record(play(shop(job=tuple(kinds), workers=crew), seed=1), path)
    row = replay(recording, workers, direct=direct)
    assert row.played
    assert row.played.violations == []
    story = row.played.world.events
    assert {(e.type, e.queue) for e in story if isinstance(e, events.AttemptStarted)} == {
        ("jobs.A", "a"), ("jobs.B", "b"), ("jobs.C", "c"),
    }  # fmt: skip
    served = {tuple(sorted(e.queues)) for e in story if isinstance(e, events.WorkerStarted)}
    assert served == ({("a", "b", "c")} if workers in (1, 2) else {("a:2", "b:1"), ("b", "c")})


def test_jobs_on_queues_that_no_recorded_worker_serves_are_left_out(path: Path) -> None:
    """They never ran, and would never run."""
    events_of = play(shop(), seed=1).world.events
    lost = events.JobDispatched(job_id="stray", type="jobs.A", queue="strays", at=EPOCH + 1, server_at=EPOCH + 1)
    write([*events_of, lost], path)
    recording = record_of([path])
    assert any("1 jobs are on queues that no recorded worker serves" in note for note in recording.notes)
    assert replay(recording).figures.jobs == 400


def test_more_workers_wait_less_and_cost_more(path: Path) -> None:
    """What the command is for."""
    recording = record(play(shop(), seed=1), path)
    few, many = replay(recording, 4).figures, replay(recording, 8).figures
    assert few.wait_s
    assert many.wait_s
    assert many.wait_s.mean < few.wait_s.mean / 2
    assert many.worker_hours > 1.5 * few.worker_hours


def test_each_number_of_workers_is_spread_over_processes_like_those_recorded(path: Path) -> None:
    """Five are two, two and one."""
    recording = record(play(shop(), seed=1), path)
    assert recording.threads == 2
    row = replay(recording, 5)
    assert row.played
    started = [event.threads for event in row.played.world.events if isinstance(event, events.WorkerStarted)]
    assert started == [2, 2, 1]


def test_a_replay_is_the_same_every_time(path: Path) -> None:
    """To the byte."""
    recording = record(play(shop(), seed=1), path)
    rows = [replay(recording, 3, faults="kill", seed=2).played for _ in range(2)]
    assert rows[0]
    assert rows[1]
    assert rows[0].trace_sha256 == rows[1].trace_sha256


def test_a_job_that_failed_for_good_fails_for_good_whatever_the_limit(path: Path) -> None:
    """Its last outcome is taken for what would have come next."""
    broken = JobKind(type="jobs.Broken", fails=1.0)
    recording = record(play(shop(arrivals=Poisson(jobs=5, rate=1.0), job=(broken,)), seed=1), path)
    row = replay(recording, 1, max_attempts=5)
    assert row.played
    assert {e.attempts for e in row.played.world.events if isinstance(e, events.JobFailed)} == {5}
    assert row.figures.failed == 5


def test_jobs_nobody_told_of_came_when_their_ids_say(path: Path) -> None:
    """To the millisecond; and the notes say so."""
    played = play(shop(), seed=1)
    whole = record(played, path)
    partial = record(played, path, events.JobDispatched)
    assert len(partial.jobs) == len(whole.jobs)
    for one, other in zip(partial.jobs, whole.jobs, strict=True):
        assert one.at_s == pytest.approx(other.at_s, abs=0.0021)
        assert one.attempts == other.attempts
    assert "400 jobs were dispatched by processes without a trace" in partial.notes[0]


def test_delays_are_kept(path: Path) -> None:
    """A delayed job does not wait before it is due."""
    recording = record(play(workload_named("orders"), seed=1), path)
    assert {round(job.delay_s) for job in recording.jobs if job.delay_s} == {1800}
    waits = replay(recording, 16).figures.wait_s
    assert waits
    assert waits.max < 60


def test_a_process_that_was_killed_is_killed_again(path: Path) -> None:
    """Others tell that it died; it was last heard of at its last event."""
    played = play(workload_named("outage"), seed=1)
    [victim] = {event.victim_id for event in played.world.events if isinstance(event, ProcessKilled)}
    last = max(event.at for event in played.world.events if event.process == victim)
    recording = record(played, path, ProcessKilled)
    [dead] = [shift for shift in recording.shifts if shift.killed]
    assert dead.ended_s == pytest.approx(last - EPOCH)
    row = replay(recording)
    assert row.played
    assert row.played.violations == []
    assert row.played.world.struck["kill"] == 1
    assert row.figures.failed == recorded(recording).figures.failed


def test_a_host_whose_clock_is_wrong_is_put_right_by_the_servers(path: Path) -> None:
    """Its events carry both clocks."""
    played = play(shop(), seed=1)
    write(played.world.events, path)
    straight = record_of([path])
    victim = next(event.process for event in played.world.events if isinstance(event, events.WorkerStarted))
    write([msgspec.structs.replace(e, at=e.at + 3600) if e.process == victim else e for e in played.world.events], path)
    skewed = record_of([path])
    assert recorded(skewed).figures.wait_s == recorded(straight).figures.wait_s
    assert f"{victim} is +3600.000 s off" in skewed.notes[0]


def test_several_files_are_one_recording(tmp_path: Path) -> None:
    """As several processes write them."""
    played = play(shop(), seed=1)
    by_process: dict[str, list[Event]] = {}
    for event in played.world.events:
        by_process.setdefault(event.process, []).append(event)
    paths = [tmp_path / f"{n}.jsonl" for n in range(len(by_process))]
    for path, trace in zip(paths, by_process.values(), strict=True):
        write(trace, path)
    write(played.world.events, tmp_path / "all.jsonl")
    assert record_of(paths[::-1]).jobs == record_of([tmp_path / "all.jsonl"]).jobs


def test_a_job_without_an_end_takes_what_is_usual(path: Path) -> None:
    """The trace was cut off while it ran."""
    recording = record(play(shop(), seed=1), path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[: len(lines) // 2]) + b'{"event":"JobSucc')
    cut = record_of([path])
    assert 0 < len(cut.jobs) < len(recording.jobs)
    assert "was begun and not ended: left out" in cut.notes[0]
    assert "they take what is usual for their type" in cut.notes[-1]
    assert replay(cut, 4).figures.jobs == len(cut.jobs)


def test_a_trace_without_a_worker_is_refused(path: Path) -> None:
    """There is nothing to replay."""
    write([events.JobDispatched(job_id=str(uuid.uuid4()), type="jobs.A")], path)
    with pytest.raises(InvalidSetting, match="no worker runs a job in it"):
        record_of([path])


def test_a_worker_that_stopped_after_the_last_job_would_have_gone_on(path: Path) -> None:
    """Its end says that all was done, not that it had to go."""
    recording = record(play(shop(), seed=1), path)
    assert {shift.ended_s for shift in recording.shifts} == {None}
    assert all(isinstance(shift, Shift) for shift in recording.shifts)


def test_the_what_if_table_agrees_with_queueing_theory(path: Path) -> None:
    """M/M/c: each number of workers comes to what the recursion makes of the recorded jobs, and near Erlang's C."""
    plain = JobKind(type="jobs.A", takes=Exponential(mean_s=1.0))
    busy = shop(arrivals=Poisson(jobs=2_500, rate=2.5), job=(plain,), workers=Crew(processes=1, threads=4))
    recording = record(play(busy, seed=4), path)
    for workers in (3, 4, 6):
        row = replay(recording, workers, threads=workers)
        assert row.figures.wait_s
        exact = kiefer_wolfowitz(recording, workers)
        assert row.figures.wait_s.mean == pytest.approx(exact, abs=1e-4)
        assert row.figures.wait_s.mean == pytest.approx(wait_mmc(2.5, workers), rel=0.25, abs=0.005)


def kiefer_wolfowitz(recording: Recording, workers: int) -> float:
    """The mean wait, first come first served, of these very jobs."""
    free, waits = [0.0] * workers, []
    for job in recording.jobs:
        start = max(job.at_s, heapq.heappop(free))
        waits.append(start - job.at_s)
        heapq.heappush(free, start + job.attempts[0].takes_s)
    return fmean(waits)
