"""Simulated traces are ways through the model; traces of an implementation that does otherwise are not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from kashvi_sim.commands.options import workload_named
from kashvi_sim.runs.play import Played, play
from kashvi_sim.runs.workload import Workload
from kashvi_sim.world.trace import write
from kashvi_sim.world.world import World
from kashvi_spec.kit.commands.walking import PAUSES_LOST
from kashvi_spec.kit.example.examples import run
from kashvi_spec.kit.example.situation import example_of
from kashvi_spec.kit.museum import MUSEUM
from kashvi_spec.model.explore import Kind
from kashvi_spec.model.walk import FEW, LOOK_MAX, CannotWalk, Walked, walk

from kashvi.events import Event, JobFailed, SettleRefused

from .test_bad_traces import (
    EXHAUSTED,
    TAKEN_OVER,
    UNSENT,
    about,
    did,
    dispatched,
    gave_up,
    postponed,
    raised,
    retried,
    returned,
    started,
    stopped,
    worker,
)
from .test_spec_commands import kashvi

STORM, QUEUES, CANCELS, PAUSES = map(workload_named, ("storm", "queues", "cancels", "pauses"))
SEEDS = range(120)
NEVER = {Kind("late void"), Kind("renew"), Kind("restart")}
"""What no simulated trace shows; spec/model.md says why."""


@pytest.fixture(scope="module")
def storms() -> list[Played]:
    """With all faults."""
    return [play(STORM, seed=seed, faults="all") for seed in SEEDS]


def walked(played: Played, look_max: int = LOOK_MAX) -> Walked:
    world = played.world
    return walk(
        world.events, 3, {*world.rolled_back, *world.others.repeated}, look_max, world.set_back_s, lasting(world)
    )


def lasting(world: World) -> bool:
    """True if the server can't have lost a pause, and its clock was not set."""
    return not any(world.struck[fault] for fault in PAUSES_LOST)


@pytest.mark.parametrize(
    ("workload", "kinds"),
    [
        (QUEUES, {Kind("pause"), Kind("resume")}),
        (CANCELS, {Kind("cancel"), Kind("ask"), Kind("settle", "failed 1, cancelled"),
                   Kind("take over", "died, cancelled")}),
    ],
    ids=["queues", "cancels"],
)  # fmt: skip
def test_jobs_of_queues_that_are_paused_and_jobs_that_are_cancelled_are_walked(
    workload: Workload, kinds: set[Kind]
) -> None:
    """On their queues, not while these are paused, and to their ends."""
    total = Walked()
    for seed in range(25):
        total.add(walked(play(workload, seed=seed, faults="all")))
    assert total.rejected == []
    assert total.excused < total.jobs * 0.1
    assert kinds <= total.kinds.keys()


@pytest.mark.parametrize(
    ("workload", "bug"),
    [
        (QUEUES, "a retry goes to the default queue"),
        (QUEUES, "a job comes back to the first queue of its worker"),
        (PAUSES, "only waits heed a pause"),
        (CANCELS, "only a retry looks at the marks"),
        (CANCELS, "a cancelled job that fails is recorded"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bug_of_queues_pauses_or_cancels_leaves_the_model(workload: Workload, bug: str) -> None:
    """Within ten seeds."""
    with MUSEUM[bug].planted():
        assert any(walked(play(workload, seed=seed, faults="kill,sigterm"), FEW).rejected for seed in range(10))


def test_every_simulated_trace_is_accepted(storms: list[Played]) -> None:
    """Job by job, whatever strikes; few are excused, and only what no trace can show is never taken."""
    total = Walked()
    for played in storms:
        total.add(walked(played, FEW))
    assert total.rejected == []
    assert total.jobs > 1_500
    assert total.excused < total.jobs * 0.05
    assert not total.kinds.keys() & NEVER
    assert len(total.kinds) > 30


@pytest.mark.parametrize(
    "bug",
    ["retry off by one", "constant backoff", "ack before handling", "settle not fenced", "every lost job is counted"],
)
def test_a_known_bad_implementation_leaves_the_model(bug: str) -> None:
    """Within sixty seeds, of which all are accepted as fast without it."""
    with MUSEUM[bug].planted():
        assert any(walked(play(STORM, seed=seed, faults="all"), FEW).rejected for seed in range(60))


BEFORE_THE_DEATH = [worker(), dispatched("a"), started("a", 0)]


@pytest.mark.parametrize(
    ("trace", "why"),
    [
        ([*BEFORE_THE_DEATH, raised("a", 1), retried("a", 1, wait_s=5.0), stopped()],
         "after JobDispatched, its claim, AttemptStarted 1, AttemptFailed 1, a job that is held, 0 attempts counted, "
         "can't go on with any of: RetryScheduled 1"),
        ([*BEFORE_THE_DEATH, started("a", 1), stopped()],
         "after JobDispatched, its claim, AttemptStarted 1, a job that is held, 0 attempts counted, "
         "can't go on with any of: its claim, AttemptStarted 1"),
        ([*BEFORE_THE_DEATH, raised("a", 1), gave_up("a", 1, 1), stopped()],
         "after JobDispatched, its claim, AttemptStarted 1, AttemptFailed 1, a job that is held, 0 attempts counted, "
         "can't go on with any of: JobFailed 1"),
    ],
    ids=["another wait", "started twice", "failed too early"],
)  # fmt: skip
def test_a_bad_trace_is_rejected_with_what_it_could_not_do(trace: list[Event], why: str) -> None:
    """And with where the job stood by then."""
    [rejected] = walk(trace).rejected
    assert (rejected.job_id, rejected.why) == ("a", why)


GIVEN_BACK = [
    *BEFORE_THE_DEATH, raised("a", 0), retried("a", 0), started("a", 1, 2),
    returned("a", 2, suspect=False, process="p"), stopped(),
    worker("v", process="q"), started("a", 3, 2, "v", "q"), *did("a", 3, 2, "q"), stopped("v", "q"),
]  # fmt: skip
"""In the middle of its second attempt, by a second signal."""
SUSPECT_GIVEN_BACK = [
    *BEFORE_THE_DEATH, worker("v", process="q"), returned("a", 30), started("a", 31, 1, "v", "q", suspect=True),
    did("a", 31)[0], SettleRefused(move="done", owner="w", **about("a", 31)), stopped(),
    returned("a", 32, "v", suspect=True, process="q"), stopped("v", "q"),
    worker("u", process="r"), started("a", 33, 1, "u", "r", suspect=True), *did("a", 34, 1, "r"), stopped("u", "r"),
]  # fmt: skip


CUT_OFF = [
    *BEFORE_THE_DEATH, worker("v", process="q"), returned("a", 30), started("a", 30, 1, "v", "q", suspect=True),
    *did("a", 31, process="q"), SettleRefused(move="return", owner="w", **about("a", 32)), stopped(), stopped("v", "q"),
]  # fmt: skip
"""It gives back in the middle of an attempt what is no longer its own."""
POSTPONED = [
    worker(), dispatched("a"), postponed("a", 0, 1.0), postponed("a", 1, 1.0), stopped(),
    worker("v", process="q"), started("a", 3, 1, "v", "q"), *did("a", 4, 1, "q"), stopped("v", "q"),
]  # fmt: skip
"""One worker does not know its type, the other does."""


@pytest.mark.parametrize("trace", [EXHAUSTED, TAKEN_OVER, GIVEN_BACK, SUSPECT_GIVEN_BACK, CUT_OFF, POSTPONED, UNSENT])
def test_a_good_trace_is_accepted(trace: list[Event]) -> None:
    """Also where a process is silent at the end."""
    assert walk(trace).rejected == []


def test_a_job_is_postponed_by_a_worker_that_has_it_and_uncounted() -> None:
    """Not while another attempt runs, and not as one that was made."""
    assert walk([worker(), dispatched("a"), postponed("a", 0, 1.0, n=1), stopped()]).rejected
    assert walk([*BEFORE_THE_DEATH, postponed("a", 1, 1.0), *did("a", 2), stopped()]).rejected


def test_who_was_refused_had_started_the_job_and_lost_it() -> None:
    """No worker is refused twice for one attempt, or ends it afterwards, or is refused what is still its own."""
    refused = SettleRefused(move="return", owner="w", **about("a", 33))
    before, after = CUT_OFF[:-2], CUT_OFF[-2:]
    assert walk([*before, refused, *after]).rejected
    assert walk([*before, did("a", 33)[0], *after]).rejected
    assert walk([*BEFORE_THE_DEATH, refused, stopped()]).rejected


def test_jobs_that_snooze_or_are_given_up_are_walked_by_the_limit_of_their_type() -> None:
    """Of the workload with policies; its type with five attempts is beyond the table."""
    total, policies = Walked(), workload_named("policies")
    for seed in range(25):
        total.add(walked(play(policies, seed=seed, faults="all"), 10 * FEW))
    assert total.rejected == []
    assert total.excused < total.jobs / 3
    assert {Kind("settle", "gave up"), Kind("settle", "snoozed"), Kind("settle", "failed 2")} <= total.kinds.keys()
    given_up = [worker(), dispatched("a"), started("a", 0), raised("a", 0), JobFailed(
        attempts=1, max_attempts=3, error="e", gave_up=True, **about("a", 0))]  # fmt: skip
    assert walk([*given_up, stopped()]).rejected == []
    assert walk([*given_up[:-1], gave_up("a", 0, 1), stopped()]).rejected


def retried_at(failed: float, again: float) -> list[Event]:
    """An attempt that fails, and the second one; when, as the server has it."""
    return [
        *BEFORE_THE_DEATH, raised("a", failed), retried("a", failed), started("a", again, 2), *did("a", again + 1, 2),
        stopped(),
    ]  # fmt: skip


def test_a_clock_of_the_server_that_was_set_back_orders_what_is_further_apart() -> None:
    """By how much is what a simulation knows."""
    set_back = retried_at(failed=15, again=6)
    assert walk(set_back).rejected
    assert walk(set_back, set_back_s=9.0).rejected == []
    assert walk(set_back, set_back_s=8.0).rejected
    assert walk(retried_at(failed=15, again=17), set_back_s=9.0).rejected == []


ONE_PROCESS = [*BEFORE_THE_DEATH, raised("a", 1), retried("a", 1), started("a", 2, 2), *did("a", 2, 2)]


@pytest.mark.parametrize("stops", [[stopped()], []], ids=["that stops", "that is killed"])
@pytest.mark.parametrize(
    "order",
    [(0, 1, 2, 4, 3, 5, 6, 7), (0, 1, 2, 4, 5, 6, 7), (0, 1, 2, 2, 3, 4, 5, 6, 7), (0, 1, 2, 3, 4, 5, 7, 6)],
    ids=["waits before it failed", "failure left out", "start told twice", "done before it succeeded"],
)
def test_what_one_process_tells_is_told_in_its_order_and_whole(order: tuple[int, ...], stops: list[Event]) -> None:
    """Also by one that is killed: it tells up to some point, and then nothing."""
    assert walk([*ONE_PROCESS, *stops]).rejected == []
    assert walk([*(ONE_PROCESS[i] for i in order), *stops]).rejected
    assert all(walk(ONE_PROCESS[:n]).rejected == [] for n in range(len(ONE_PROCESS)))


CLAIMED_AGAIN = """
lease = 5
jobs = [
    { name = "long", takes = 30 },
    { name = "twice", takes = 12 },
    { name = "elsewhere", at = 2.5, takes = 60 },
]
workers = [{ threads = 2 }, { at = 2 }, { at = 3, threads = 3 }]
happens = [
    { at = 1, what = "kill", worker = 1 },
    { at = 7.1, what = "cut off", worker = 3, for_s = 9 },
]
starts_of = { "long" = 3, "twice" = 2, "elsewhere" = 1 }
"""


def test_a_suspect_that_comes_back_to_the_same_worker_is_started_once() -> None:
    """Taken over before it started, and claimed again unchanged, it was twice on that worker's books."""
    ran = run(example_of(CLAIMED_AGAIN))
    assert ran.mistakes == []
    assert walk(ran.world.events).rejected == []


def test_a_limit_that_the_table_does_not_know_is_refused() -> None:
    """With what it does."""
    failed = JobFailed(attempts=7, max_attempts=7, error="e", **about("a", 1))
    with pytest.raises(CannotWalk, match="a limit of 7 attempts; the model walks traces of one limit, from 1 to 3"):
        walk([failed])


def test_the_command_walks_files_and_seeds(tmp_path: Path) -> None:
    """Exit code 1 where a trace is rejected, 2 where there is nothing to do."""
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    write(TAKEN_OVER, good)
    write([*BEFORE_THE_DEATH, started("a", 1), stopped()], bad)
    shown = kashvi("spec:walk", str(good), "--seeds", "2")
    assert shown.exit_code == 0
    assert "3 traces" in shown.output
    assert "never taken: " in shown.output
    shown = kashvi("spec:walk", str(good), str(bad), "--json")
    assert shown.exit_code == 1
    result = json.loads(shown.output)
    assert [(one["trace"], one["job_id"]) for one in result["rejected"]] == [(str(bad), "a")]
    assert (result["traces"], result["jobs"], result["excused"]) == (2, 2, 0)
    assert kashvi("spec:walk").exit_code == 2
    (empty := tmp_path / "empty.jsonl").write_bytes(b"")
    shown = kashvi("spec:walk", str(good), str(empty))
    assert (shown.exit_code, "empty.jsonl holds no event of kashvi" in shown.stderr) == (2, True)
    assert kashvi("spec:walk", "--seeds", "1", "--workload", "no such").exit_code == 2
