"""The workloads that come with the simulator: each runs, keeps every promise, and shows what it says it teaches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path

import msgspec
import pytest
from kashvi_sim.commands.options import PLACES, workload_named
from kashvi_sim.runs.arrivals import Daily
from kashvi_sim.runs.figures import Waits
from kashvi_sim.runs.play import Played, play
from kashvi_sim.runs.workload import load
from kashvi_sim.world.kernel import EPOCH
from kashvi_sim.world.tape import Tape
from kashvi_spec.kit.museum import MUSEUM

from kashvi import events
from kashvi.errors import InvalidSetting

NAMES = sorted(path.stem for path in PLACES[0].glob("*.toml"))
README = (PLACES[0].parent / "README.md").read_text()


def run(name: str, seed: int = 1) -> Played:
    """The million-job day is cut to its first three hours, at a hundredth of the load."""
    workload = workload_named(name)
    if isinstance(workload.arrivals, Daily):
        arrivals = msgspec.structs.replace(workload.arrivals, jobs=600, per_day=10_000.0)
        workload = msgspec.structs.replace(workload, arrivals=arrivals, schedule=())
    return play(workload, seed=seed)


def waits_of(played: Played) -> Waits:
    assert played.figures.wait_s
    return played.figures.wait_s


def first_starts(played: Played) -> list[tuple[float, str, float]]:
    """When each job's first attempt began, its type, and how long it had waited."""
    came: dict[str, float] = {}
    found: list[tuple[float, str, float]] = []
    for event in played.world.events:
        if isinstance(event, events.JobDispatched):
            came[event.job_id] = event.at
        elif isinstance(event, events.AttemptStarted) and event.attempt == 1:
            found.append((event.at - EPOCH, event.type, event.at - came[event.job_id]))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_workload_runs_and_every_promise_is_kept(name: str) -> None:
    """All jobs come to an end."""
    played = run(name)
    assert played.violations == []
    figures = played.figures
    assert figures.succeeded + figures.failed + figures.cancelled == figures.jobs > 0
    assert bool(figures.cancelled) == (name == "cancels")


@pytest.mark.parametrize("name", NAMES)
def test_a_workload_says_what_it_teaches(name: str) -> None:
    """In the file, and in the table of the README."""
    about = workload_named(name).about
    assert len(about.split()) > 30
    assert f"| `{name}` |" in README


def test_after_a_deploy_the_backlog_takes_longer_than_the_deploy_did() -> None:
    """Thirty seconds of arrivals, worked off by what is left of the capacity."""
    played = run("deploy")
    assert 28 < waits_of(played).max < 40
    late = [at for at, _, wait in first_starts(played) if at > 90 and wait > 5]
    assert max(late) - 90 > 30


def test_a_herd_that_failed_together_comes_back_together() -> None:
    """Retries come due within one second of each other, and mails that never failed wait with them."""
    played = run("retry_herd")
    due = Counter(int(event.due) for event in played.world.events if isinstance(event, events.RetryScheduled))
    assert max(due.values()) > 60
    innocent = [wait for _, job_type, wait in first_starts(played) if job_type == "jobs.PasswordMailJob"]
    assert max(innocent) > 1.0


def test_one_poison_job_fails_and_none_of_its_neighbours_does() -> None:
    """After as many attempts as any other."""
    played = run("poison")
    assert played.world.struck["poison"] == 1
    (failed,) = (event for event in played.world.events if isinstance(event, events.JobFailed))
    assert failed.attempts == 3
    assert played.figures.succeeded == 399


def test_jobs_with_policies_come_to_all_their_ends_and_keep_every_promise() -> None:
    """By their own backoff, given up, snoozed, with a policy that is broken; under every kind of fault."""
    kinds: Counter[str] = Counter()
    for seed in range(30):
        played = play(workload_named("policies"), seed=seed, faults="all")
        assert played.violations == []
        for event in played.world.events:
            kinds[type(event).__name__] += 1
            kinds["own"] += isinstance(event, events.RetryScheduled) and event.backoff.startswith("Schedule")
            kinds["jitter"] += isinstance(event, events.RetryScheduled) and "jitter=True" in event.backoff
            kinds["given up"] += isinstance(event, events.JobFailed) and event.gave_up
            kinds["its own limit"] += isinstance(event, events.JobFailed) and event.attempts == event.type_limit == 2
    for kind in ("own", "jitter", "given up", "its own limit", "JobSnoozed", "PolicyIgnored", "AttemptLost"):
        assert kinds[kind] > 0, kind


@pytest.mark.parametrize(
    ("bug", "predicate"),
    [
        ("a snooze counts", "snooze uncounted"),
        ("jitter is added", "own backoff kept"),
        ("a schedule begins with its second wait", "own backoff kept"),
        ("retry_on beats the limit", "no wait after the last"),
    ],
)
def test_a_bug_of_a_policy_is_seen_among_them(bug: str, predicate: str) -> None:
    """Without faults, within ten seeds."""
    with MUSEUM[bug].planted():
        runs = (play(workload_named("policies"), seed=seed) for seed in range(10))
        assert any(one.predicate == predicate for played in runs for one in played.violations)


def test_attempts_with_time_limits_come_to_all_their_ends_and_keep_every_promise() -> None:
    """Obeyed, late and stuck; under every kind of fault."""
    kinds: Counter[str] = Counter()
    for seed in range(20):
        played = play(workload_named("limits"), seed=seed, faults="all")
        assert played.violations == []
        for event in played.world.events:
            kinds[type(event).__name__] += 1
            kinds["late success"] += isinstance(event, events.AttemptSucceeded) and event.late
            kinds[event.timed_out if isinstance(event, events.AttemptFailed) else ""] += 1
    for kind in ("AttemptStuck", "late success", "obeyed", "late", "stuck", "AttemptLost"):
        assert kinds[kind] > 0, kind


@pytest.mark.parametrize(
    ("bug", "predicate"),
    [
        ("the next job is timed out", "time limits kept"),
        ("a limit for all attempts", "time limits kept"),
        ("who is late may snooze", "time limits kept"),
        ("neighbours pay for a stuck attempt", "each end settled"),
        ("a stuck process goes without a word", "lease kept"),
    ],
)
def test_a_bug_of_time_limits_is_seen_among_them(bug: str, predicate: str) -> None:
    """Without faults, within a hundred seeds."""
    with MUSEUM[bug].planted():
        runs = (play(workload_named("limits"), seed=seed) for seed in range(100))
        assert any(one.predicate == predicate for played in runs for one in played.violations)


def test_follow_ups_keep_every_promise() -> None:
    """Under every kind of fault, also where a worker that was taken for dead comes back with some."""
    kinds: Counter[str] = Counter()
    for seed in range(12):
        played = play(workload_named("follow_ups"), seed=seed, faults="all")
        assert played.violations == []
        for event in played.world.events:
            kinds["kept"] += isinstance(event, events.FollowUpKept)
            kinds["sent"] += isinstance(event, events.JobDispatched) and event.parent != ""
            kinds["delayed"] += isinstance(event, events.JobDispatched) and event.parent != "" and event.due is not None
            kinds["refused"] += isinstance(event, events.SettleRefused) and event.move == "done"
    assert kinds["kept"] > kinds["sent"] > kinds["delayed"] > 0
    assert kinds["refused"] > 0


@pytest.mark.parametrize(
    ("bug", "faults"),
    [
        ("follow-ups are sent at once", "none"),
        ("what fails has follow-ups, too", "none"),
        ("follow-ups come before the fence", "pause"),
        ("a repeated request sends follow-ups again", "reply_lost"),
        ("a second try sends no follow-ups", "unreachable"),
    ],
)
def test_a_bug_of_follow_ups_is_seen_among_them(bug: str, faults: str) -> None:
    """Within twenty seeds."""
    with MUSEUM[bug].planted():
        runs = (play(workload_named("follow_ups"), seed=seed, faults=faults) for seed in range(20))
        assert any(played.violations for played in runs)


@pytest.mark.parametrize(
    ("bug", "faults"),
    [
        ("all links of a chain are sent at once", "none"),
        ("a retry forgets the rest of its chain", "none"),
        ("a chain goes on after a link that failed", "none"),
        ("a repeated request sends follow-ups again", "reply_lost"),
    ],
)
def test_a_bug_of_chains_is_seen_among_them(bug: str, faults: str) -> None:
    """Within twenty seeds, by the predicate."""
    with MUSEUM[bug].planted():
        runs = (play(workload_named("chains"), seed=seed, faults=faults) for seed in range(20))
        assert any(one.predicate == "chains in order" for played in runs for one in played.violations)


def test_a_slow_consumer_falls_behind_until_it_gets_help() -> None:
    """Waits grow with time, not with the load."""
    played = run("slow_consumer")
    starts = first_starts(played)

    def mean(since: float, until: float) -> float:
        some = [wait for at, _, wait in starts if since <= at < until]
        return sum(some) / len(some)

    assert mean(0, 200) < mean(400, 600)
    assert mean(900, 1100) < 1.0


def test_clocks_that_are_wrong_start_nothing_early_and_take_nothing_away() -> None:
    """Five of them, by up to an hour."""
    played = run("skew")
    assert sum(played.world.struck.values()) == 5
    assert played.world.judged()["never early"] > 300
    assert not any(isinstance(event, events.AttemptLost | events.JobReturned) for event in played.world.events)


def test_a_day_has_its_hours() -> None:
    """A hundred thousand arrivals, by the hour they come in."""
    hours = (3.0, 2.0, 1.0, 1.0, 0.0, 2.0, 4.0, 8.0, 12.0, 14.0, 14.0, 13.0) + (20.0,) * 12
    came = list(accumulate(Daily(jobs=100_000, per_day=100_000, hours=hours).gaps(Tape(1).workload)))
    by_hour = Counter(int(at // 3600) % 24 for at in came)
    for hour, weight in enumerate(hours):
        assert by_hour[hour] == pytest.approx(100_000 * weight / sum(hours), rel=0.1, abs=1)
    assert came[-1] == pytest.approx(86_400, rel=0.05)


WORKLOAD = """
name = "recorded"
about = ""
[arrivals]
process = "times"
file = "times.csv"
[[job]]
type = "jobs.A"
"""


@pytest.fixture
def by_file(tmp_path: Path) -> Callable[[str], list[float]]:
    """When jobs come, by a file of these lines."""
    (tmp_path / "w.toml").write_text(WORKLOAD)

    def times(text: str) -> list[float]:
        (tmp_path / "times.csv").write_text(text)
        played = play(load(tmp_path / "w.toml"), seed=1)
        return [
            at - EPOCH
            for at, e in zip(played.world.times, played.world.events, strict=True)
            if isinstance(e, events.JobDispatched)
        ]

    return times


def test_jobs_come_when_a_csv_file_says(by_file: Callable[[str], list[float]]) -> None:
    """With a heading and other columns, or without; in any order."""
    assert by_file("0\n1.5\n1.5\n60\n") == [0, 1.5, 1.5, 60]
    assert by_file("at,who\n2,ann\n\n1,bob\n") == [1, 2]


@pytest.mark.parametrize("line", ["soon", "-1", "nan", "inf"])
def test_a_time_that_is_none_is_named_with_its_line(by_file: Callable[[str], list[float]], line: str) -> None:
    """Not skipped."""
    with pytest.raises(InvalidSetting, match=f"line 3 of .*times.csv.* not '{line}'"):
        by_file(f"at\n1\n{line}\n")


def test_a_file_of_times_that_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    """With where it was looked for: beside the workload."""
    (tmp_path / "w.toml").write_text(WORKLOAD)
    with pytest.raises(InvalidSetting, match=r"times\.csv"):
        load(tmp_path / "w.toml")
