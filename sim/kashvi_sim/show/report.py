"""A run or a recording as one page: lanes, marks, waits, and the reasons of the latest jobs."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

import msgspec
from kashvi_spec.clauses import load

from ..runs.figures import Figures
from .lanes import Mark, Picture, told
from .plot import chart_of
from .reasons import Late, latest
from .tokens import TOKENS

if TYPE_CHECKING:
    from ..runs.replay import Row

STEPS_MAX = 2_000
CLAUSE = re.compile(r"\b[A-Z]+-[1-9][0-9]*\b")


def write_report(
    path: Path,
    picture: Picture,
    figures: Figures,
    *,
    name: str,
    about: str,
    broken: Sequence[str] | None = None,
    rows: Sequence[Row] = (),
) -> None:
    """Write one self-contained HTML file.

    ``broken``: the violations; None if nothing was judged. ``rows``: the results for other numbers of workers.
    """
    late = latest(picture)
    marks = _worth_a_look(picture.marks)
    page = Template(files(__package__).joinpath("page.html").read_text("utf-8"))
    path.write_text(
        page.substitute(
            tokens=TOKENS,
            name=html.escape(name),
            about=html.escape(" ".join(about.split())),
            facts=" · ".join(_facts(figures)),
            verdict=_verdict(broken),
            rows=_table_of_rows(rows),
            chart=chart_of(picture),
            late=_table_of_late(late),
            clauses=_clauses({mark.clause for mark in marks} | set(CLAUSE.findall(repr(late)))),
            marks=_json([(round(mark.at, 6), f"{mark.at:,.3f} s: {told(mark)}") for mark in marks]),
            ends=_json(picture.ends),
        ),
        "utf-8",
    )


def _worth_a_look(marks: Sequence[Mark]) -> list[Mark]:
    """The marks to step through; if there are too many, rare ones first."""
    if len(marks) > STEPS_MAX:
        marks = [mark for mark in marks if mark.kind != "retry"]
    return sorted(marks[:STEPS_MAX])


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode().replace("</", "<\\/")


def _facts(figures: Figures) -> list[str]:
    waits = figures.wait_s
    return [
        f"<b>{figures.jobs:,}</b> jobs, {figures.succeeded:,} succeeded, {figures.failed:,} failed",
        f"<b>{figures.virtual_s:,.1f} s</b>",
        f"waits: mean {waits.mean:,.3f} s, p50 {waits.p50:,.3f}, p95 {waits.p95:,.3f}, p99 {waits.p99:,.3f}, "
        f"max {waits.max:,.3f}"
        if waits
        else "no waits",
        f"threads busy {figures.utilisation or 0:.1%} of the time",
        f"{figures.worker_hours:,.2f} worker-hours",
    ]


def _verdict(broken: Sequence[str] | None) -> str:
    if broken is None:
        return ""
    if not broken:
        return "<p class=good>Every promise was kept.</p>"
    return "<ul class=bad>" + "".join(f"<li>BROKEN: {html.escape(line)}</li>" for line in broken) + "</ul>"


def _table_of_rows(rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    heads = ("mean wait", "p50", "p95", "p99", "max", "busy", "drain", "worker-hours", "failed")
    lines = [
        "<h2>What happened, and with other workers</h2><table><tr><th>workers",
        *(f"<th class=n>{head}" for head in heads),
        "</tr>",
    ]
    for row in rows:
        figures, waits = row.figures, row.figures.wait_s
        cells = [f"{wait:,.3f} s" for wait in msgspec.structs.astuple(waits)] if waits else ["–"] * 5
        cells += [f"{figures.utilisation or 0:.0%}", f"{figures.drain_s:,.1f} s", f"{figures.worker_hours:,.3f}"]
        cells += [f"{figures.failed:,}"]
        real = "" if row.played else " class=real"
        lines.append(f"<tr{real}><td>{html.escape(row.name)}" + "".join(f"<td class=n>{cell}" for cell in cells))
    return "".join(lines) + "</table>"


def _table_of_late(late: Sequence[Late]) -> str:
    if not late:
        return "<h2>No job was late</h2>"
    lines = [
        "<h2>The latest jobs, and why</h2><p class=note>Time between due and end that was not the job's own. "
        "Click on one to see it above.</p><table><tr><th>job<th class=n>due<th class=n>lost<th>why</tr>"
    ]
    for one in late:
        why = "; ".join(one.why) or "the way to the worker"
        lines.append(
            f'<tr class=go data-from="{one.due:.6f}" data-to="{one.ended:.6f}" '
            f'data-told="job #{one.job}: {html.escape(why)}"><td>#{one.job} {html.escape(one.type)}'
            f"<td class=n>{one.due:,.2f} s<td class=n>{one.lost_s:,.2f} s<td>{html.escape(why)}"
        )
    return "".join(lines) + "</table>"


def _clauses(named: set[str]) -> str:
    lines = [
        f"<tr><td><code>{clause.id}</code><td>{html.escape(clause.sentence)}" for clause in load() if clause.id in named
    ]
    return f"<table>{''.join(lines)}</table>"
