"""What was measured, as a table for the terminal, as benchmarks/RESULTS.md and as a plot."""

from __future__ import annotations

import os
import platform
import statistics
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Group
from rich.table import Table

from benchmarks.install import Installed
from benchmarks.peers import Peer
from benchmarks.subject import Sizes


class Row(NamedTuple):
    """A line of the report. ``ratio``: whether more or less is better; 0 where neither is."""

    name: str
    title: str
    format: str
    better: int


GROUPS = {
    "Work": (
        Row("drain", "drain, one process, ten threads: jobs/s", ",.0f", 1),
        Row("drain_2", "drain, two processes: jobs/s", ",.0f", 1),
        Row("naps", "10 ms jobs, ten threads: time over the ideal", ".2f", -1),
        Row("burns", "jobs of 1 ms CPU, two processes: time over the ideal", ".2f", -1),
    ),
    "Dispatch": (
        Row("dispatch", "one a call: jobs/s", ",.0f", 1),
        Row("many", "1,000 a call: jobs/s", ",.0f", 1),
        Row("bytes", "bytes per queued job", ".0f", -1),
    ),
    "Waiting": (
        Row("pickup_p50", "dispatch to start, idle worker, p50: ms", ".2f", -1),
        Row("pickup_p99", "p99: ms", ".2f", -1),
        Row("late_p50", "delayed, all due at once: lateness p50: s", ".3f", -1),
        Row("late_max", "max: s", ".3f", -1),
        Row("late_min", "min: s (below 0: early)", ".3f", 0),
        Row("in_order", "neighbours started in order", ".0%", 0),
        Row("spread_p50", "delayed, spread over 10 s: lateness p50: ms", ".1f", -1),
        Row("spread_p99", "p99: ms", ".1f", -1),
    ),
    "Cost": (
        Row("trips", "round trips per job", ".3f", -1),
        Row("commands", "commands run per job, scripts' own included", ".2f", -1),
        Row("idle_trips", "round trips per second, idle", ".1f", -1),
        Row("idle", "commands run per second, idle", ".1f", -1),
        Row("rss_mb", "worker's RSS: MB", ".0f", -1),
        Row("import_ms", "import: ms", ".0f", -1),
    ),
}
PLOTTED = ("drain", "dispatch", "pickup_p50", "trips")


@dataclass
class Result:
    """Everything measured in one run."""

    sizes: Sizes
    rounds: int
    server: str = ""
    peers: dict[str, tuple[Peer, Installed]] = field(default_factory=dict)
    figures: dict[str, dict[str, list[float]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    failed: dict[tuple[str, str], str] = field(default_factory=dict)
    memory: list[float] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        return {
            "server": self.server,
            "versions": {name: at.version or at.why_not for name, (_, at) in self.peers.items()},
            "figures": self.figures,
            "failed": {" ".join(key): why for key, why in self.failed.items()},
            "memory_driver": self.memory,
        }

    def cell(self, row: Row, name: str) -> tuple[str, str, str]:
        """Median, range and ratio: how many times as good kashvi is."""
        values = self.figures[name][row.name]
        if not values:
            return "–", "", ""
        median = statistics.median(values)
        span = f"{min(values):{row.format}}–{max(values):{row.format}}"
        ours = self.figures["kashvi"][row.name]
        if name == "kashvi" or not (row.better and ours and median):
            return f"{median:{row.format}}", span, ""
        ratio = (statistics.median(ours) / median) ** row.better if statistics.median(ours) else 0.0
        return f"{median:{row.format}}", span, f"× {ratio:.2g}" if ratio < 10 else f"× {ratio:.0f}"

    def groups(self) -> Iterator[tuple[str, list[Row]]]:
        """What there are figures for."""
        for title, rows in GROUPS.items():
            if measured := [row for row in rows if any(self.figures[name][row.name] for name in self.shown)]:
                yield title, measured

    @property
    def shown(self) -> list[str]:
        return [name for name, (_, at) in self.peers.items() if not at.why_not]

    def title(self, name: str) -> str:
        peer, at = self.peers[name]
        return f"{peer.title} {at.version}"


def table(result: Result) -> Group:
    """For the terminal: a table for each kind of figure, a line for each queue."""
    tables: list[Table | str] = [_about(result)]
    for title, rows in result.groups():
        shown = Table(title=title, title_justify="left")
        shown.add_column("")
        for row in rows:
            shown.add_column(row.title, justify="right")
        for name in result.shown:
            shown.add_row(result.title(name), *("\n".join(filter(None, result.cell(row, name))) for row in rows))
        tables.append(shown)
    return Group(*tables)


def write(result: Result, out: Path) -> None:
    """RESULTS.md and results.png."""
    (out / "RESULTS.md").write_text(markdown(result))
    plot(result, out / "results.png")


def _about(result: Result) -> str:
    cores = len(os.sched_getaffinity(0))
    day = datetime.now(UTC).date()
    return (
        f"{day}, {cores} cores, Python {platform.python_version()}, {result.server}: "
        f"{result.sizes.jobs:,} no-op jobs, {result.rounds} rounds in alternation"
    )


def markdown(result: Result) -> str:
    names = result.shown
    lines = [
        "# What was measured",
        "",
        "Written by `nox -s bench`. " + _about(result) + ".",
        "",
        "The median, in brackets the least and the most; then how many times as good kashvi is by the medians (below",
        "1: the other is better). Rates run from the first job's start to the last one's. All share two cores with",
        "the server, the producer and whatever else the machine does: read the ratios. A peer that needs longer than",
        f"{result.sizes.limit_s:g} s is judged by what it did in that time, and what it has later is not seen.",
        "",
    ]
    for title, rows in result.groups():
        lines += ["", f"## {title}", "", "| | " + " | ".join(row.title for row in rows) + " |"]
        lines.append("|---|" + "---:|" * len(rows))
        for name in names:
            cells = (result.cell(row, name) for row in rows)
            texts = (" ".join(filter(None, (m, span and f"({span})", ratio))) for m, span, ratio in cells)
            lines.append(f"| {result.title(name)} | " + " | ".join(texts) + " |")
    lines += ["", "![drain and pick-up](results.png)", ""]
    if result.memory:
        lines += [f"The memory driver, dispatch and `work()` on one thread: {statistics.median(result.memory):,.0f} "
                  f"jobs/s ({min(result.memory):,.0f}–{max(result.memory):,.0f}).", ""]  # fmt: skip
    lines += ["## Who ran, and how", "", "| | Python | delivery | settings |", "|---|---|---|---|"]
    for peer, at in result.peers.values():
        how = f"not measured: {at.why_not}" if at.why_not else peer.settings
        lines.append(f"| {peer.title} {at.version} | {at.python_version} | {peer.guarantee} | {how} |")
    lines += [f"\n{name}, {part}: failed, {why}" for (name, part), why in result.failed.items()]
    return "\n".join(lines) + "\n"


def plot(result: Result, path: Path) -> None:
    """Four of the rows, as bars with their range, on a scale that fits them all."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    rows = [row for _, measured in result.groups() for row in measured if row.name in PLOTTED]
    if not rows:
        return
    figure, axes = plt.subplots(1, len(rows), figsize=(3.5 * len(rows), 4), layout="constrained", squeeze=False)
    for row, axis in zip(rows, axes[0], strict=True):
        names = [name for name in result.shown if result.figures[name][row.name]][::-1]
        values = [result.figures[name][row.name] for name in names]
        medians = [statistics.median(v) for v in values]
        spread = [[m - min(v) for m, v in zip(medians, values, strict=True)],
                  [max(v) - m for m, v in zip(medians, values, strict=True)]]  # fmt: skip
        colors = ["#c0392b" if name == "kashvi" else "#95a5a6" for name in names]
        axis.barh([result.peers[name][0].title for name in names], medians, xerr=spread, color=colors, log=True)
        axis.set_title(row.title, fontsize=9)
        axis.bar_label(axis.containers[-1], [f"{m:{row.format}}" for m in medians], fontsize=8, padding=3)
        axis.set_xmargin(0.25)
        axis.xaxis.set_minor_formatter("")
    figure.savefig(path, dpi=110)
    plt.close(figure)
