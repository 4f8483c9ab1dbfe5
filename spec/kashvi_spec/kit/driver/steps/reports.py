"""Steps about history: what workers report."""

from __future__ import annotations

from kashvi.ports import Settlement
from kashvi.reporting import Counts

from . import Bench, expect, reporting, step

SOME = Counts({("default", "done", "t"): 3}, {("default", 2): 1}, {})


@step("HISTORY-1")
def _(bench: Bench) -> None:
    """A report that is repeated, or late, changes nothing."""
    driver = reporting(bench.driver)
    minute = int(bench.driver.exchange("w", 1, 30.0, [], 0).server_at // 60)
    for n, about in ((1, b"one"), (1, b"again"), (2, b"two"), (1, b"late")):
        expect(driver.report("w", n, minute, about, SOME), True, f"answer to report {n}")
    expect(driver.counted(range(minute, minute + 1))[minute].ended, {("default", "done", "t"): 6}, "counted")
    expect(driver.reports(["w"])["w"].about, b"two", "what the worker is about")


@step("HISTORY-2")
def _(bench: Bench) -> None:
    """A worker that is off the list, or was never on it, shows no report, and its report is not taken."""
    driver = reporting(bench.driver)
    minute = int(bench.driver.exchange("w", 1, 30.0, [], 0).server_at // 60)
    driver.report("w", 1, minute, b"one", SOME)
    bench.driver.exchange("w", 2, 30.0, [Settlement("leave", "w")], 0)
    expect(driver.reports(["w", "v"]), {}, "reports")
    expect(driver.report("v", 1, minute, b"one", SOME), False, "answer to a report of a stranger")
    expect(driver.counted(range(minute, minute + 1))[minute].ended, SOME.ended, "counted")


@step("HISTORY-2")
def _(bench: Bench) -> None:
    """A worker's last report leaves its counts and nothing else."""
    driver = reporting(bench.driver)
    minute = int(bench.driver.exchange("w", 1, 30.0, [], 0).server_at // 60)
    driver.report("w", 1, minute, b"one", SOME)
    driver.report("w", 2, minute, b"", SOME)
    expect(driver.reports(["w"]), {}, "reports")
    expect(driver.counted(range(minute, minute + 1))[minute].ended, {("default", "done", "t"): 6}, "counted")
