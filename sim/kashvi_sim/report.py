"""A run as one page to look at: a lane for each thread, faults where they struck, and how many jobs waited when."""

from __future__ import annotations

import html
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

from plotly.subplots import make_subplots

from kashvi import events
from kashvi.events import Event

from .kernel import EPOCH
from .play import Played
from .timeline import Timeline
from .trace import FaultStruck, ProcessKilled, ServerRolledBack
from .workload import Workload

COLORS = {"succeeded": "#2a9d6f", "failed": "#d1495b", "cut off": "#8d99ae"}
SPANS_MAX = 20_000


class Span(NamedTuple):
    """One attempt."""

    lane: str
    began: float
    ended: float
    how: str
    text: str


def write_report(played: Played, workload: Workload, path: Path) -> None:
    """One HTML file that needs nothing else."""
    figure = _figure(played)
    chart = figure.to_html(full_html=False, include_plotlyjs=True, config={"scrollZoom": True, "displaylogo": False})
    figures, waits = played.figures, played.figures.wait_s
    facts = [
        f"{figures.jobs:,} jobs, {figures.succeeded:,} succeeded, {figures.failed:,} failed",
        f"{figures.virtual_s:,.1f} s of virtual time",
        f"waits p50 {waits.p50:g} s, p95 {waits.p95:g} s, max {waits.max:g} s" if waits else "no waits",
        f"threads busy {figures.utilisation:.1%} of the time" if figures.utilisation is not None else "",
    ]
    broken = [f"{v.predicate}: {v.job_id} {v.why}" for v in played.violations]
    verdict = (
        "<ul class=bad>" + "".join(f"<li>{html.escape(line)}</li>" for line in broken) + "</ul>"
        if broken
        else "<p class=good>Every promise was kept.</p>"
    )
    path.write_text(
        PAGE.format(
            name=html.escape(workload.name),
            about=html.escape(workload.about.strip()),
            facts=" · ".join(html.escape(fact) for fact in facts if fact),
            verdict=verdict,
            chart=chart,
        ),
        "utf-8",
    )


PAGE = """<!doctype html><html lang=en><meta charset=utf-8><title>{name} – kashvi</title>
<style>body{{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:1200px;padding:0 1rem;color:#222}}
h1{{margin:0}}.good{{color:#2a9d6f}}.bad{{color:#d1495b}}.facts{{color:#555}}</style>
<h1>{name}</h1><p>{about}</p><p class=facts>{facts}</p>{verdict}{chart}
<p class=facts>A bar is an attempt: green succeeded, red failed, grey was cut off by its process's end. A triangle is a
fault. Drag to zoom, double-click to see all again; hover for the job.</p></html>
"""


def _figure(played: Played) -> Any:
    world = played.world
    spans, marks = _spans(Timeline(world.names), world.times, world.events)
    lanes = sorted({span.lane for span in spans} | {mark[1] for mark in marks}, key=_natural, reverse=True)
    figure = make_subplots(
        rows=2, cols=1, shared_xaxes=True, row_heights=[0.7, 0.3], vertical_spacing=0.06,
        subplot_titles=("who did what", "jobs that waited"),
    )  # fmt: skip
    for how, color in COLORS.items():
        mine = [span for span in spans if span.how == how][:SPANS_MAX]
        figure.add_bar(
            base=[span.began for span in mine],
            x=[max(span.ended - span.began, 1e-3) for span in mine],
            y=[span.lane for span in mine],
            orientation="h", marker={"color": color}, name=how,
            hovertext=[span.text for span in mine], hoverinfo="text", row=1, col=1,
        )  # fmt: skip
    if marks:
        figure.add_scatter(
            x=[mark[0] for mark in marks],
            y=[mark[1] for mark in marks],
            mode="markers", marker={"symbol": "triangle-down", "size": 10, "color": "#7b2cbf"}, name="fault",
            hovertext=[mark[2] for mark in marks], hoverinfo="text", row=1, col=1,
        )  # fmt: skip
    for name, points in _depths(world.times, world.events).items():
        figure.add_scatter(
            x=[x for x, _ in points],
            y=[y for _, y in points],
            mode="lines",
            line={"shape": "hv"},
            name=name,
            row=2,
            col=1,
        )
    figure.update_yaxes(categoryorder="array", categoryarray=lanes, row=1, col=1)
    figure.update_xaxes(title_text="virtual seconds", row=2, col=1)
    height = 420 + 22 * len(lanes)
    figure.update_layout(barmode="overlay", height=height, template="plotly_white", hovermode="closest", bargap=0.15)
    return figure


def _natural(lane: str) -> tuple[int, str]:
    digits = "".join(c for c in lane.partition(".")[0] if c.isdigit())
    return (int(digits or 0), lane)


def _spans(story: Timeline, times: list[float], trace: list[Event]) -> tuple[list[Span], list[tuple[float, str, str]]]:
    """Attempts, each on the first free lane of its process; and faults, on its process's first lane."""
    open_: dict[tuple[str, str], tuple[str, int, float, str]] = {}
    busy: defaultdict[str, set[int]] = defaultdict(set)
    spans: list[Span] = []
    marks: list[tuple[float, str, str]] = []

    def close(key: tuple[str, str], at: float, how: str, more: str) -> None:
        if key in open_:
            name, lane, began, text = open_.pop(key)
            busy[key[0]].discard(lane)
            spans.append(Span(f"{name}.{lane}", began, at - EPOCH, how, f"{text}<br>{more}"))

    for at, event in zip(times, trace, strict=True):
        line = story.line(at, event) or ""
        match event:
            case events.AttemptStarted():
                lane = next(n for n in range(1, 10_000) if n not in busy[event.process])
                busy[event.process].add(lane)
                name = story.short(event.process)
                open_[event.process, event.job_id] = (name, lane, at - EPOCH, html.escape(line.strip()))
            case events.AttemptSucceeded():
                close((event.process, event.job_id), at, "succeeded", "succeeded")
            case events.AttemptFailed():
                close((event.process, event.job_id), at, "failed", html.escape(event.error))
            case ProcessKilled():
                for key in [key for key in open_ if key[0] == event.victim_id]:
                    close(key, at, "cut off", "its process was killed")
                marks.append((at - EPOCH, f"{event.victim}.1", "killed"))
            case FaultStruck():
                marks.append((at - EPOCH, f"{event.victim}.1", f"{event.fault}, {event.call}"))
            case ServerRolledBack():
                marks.append((at - EPOCH, "server", html.escape(line.strip())))
            case _:
                pass
    return spans, marks


def _depths(times: list[float], trace: list[Event]) -> dict[str, list[tuple[float, int]]]:
    """How many jobs are ready, and how many wait until they are due, as far as the events tell."""
    due: dict[str, float | None] = {}
    changes: list[tuple[float, str, int]] = []

    def leave(job_id: str, at: float) -> None:
        if job_id in due:
            when = due.pop(job_id)
            if when is not None:
                moved = min(max(when - EPOCH, 0.0), at)
                changes.extend([(moved, "waiting until due", -1), (moved, "ready", 1)])
            changes.append((at, "ready", -1))

    for at, event in zip(times, trace, strict=True):
        now = at - EPOCH
        match event:
            case events.JobDispatched() | events.RetryScheduled():
                due[event.job_id] = event.due
                changes.append((now, "ready" if event.due is None else "waiting until due", 1))
            case events.JobReturned():
                due[event.job_id] = None
                changes.append((now, "ready", 1))
            case events.AttemptStarted():
                leave(event.job_id, now)
            case _:
                pass
    found: dict[str, list[tuple[float, int]]] = {"ready": [(0.0, 0)], "waiting until due": [(0.0, 0)]}
    for at, name, change in sorted(changes):
        found[name].append((at, found[name][-1][1] + change))
    return found
