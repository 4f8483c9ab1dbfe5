"""The chart of a report: lanes with attempts, hand-offs and marks; jobs that waited; waits and their percentiles."""

from __future__ import annotations

import html
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from plotly.subplots import make_subplots

from .lanes import Mark, Picture, Span, told

ATTEMPTS = {"succeeded": "#2a9d6f", "failed": "#e4572e", "cut off": "#5c677d", "running": "#a8dadc"}
MARKS = {
    "retry": ("arrow-right-open", "#e4572e"),
    "failed": ("x", "#9b2226"),
    "handed back": ("arrow-up", "#7b2cbf"),
    "refused": ("hexagon", "#9b2226"),
    "killed": ("x-thin", "#000000"),
    "fault": ("triangle-down", "#7b2cbf"),
    "stop": ("square-open", "#52606d"),
    "pause": ("line-ew-open", "#52606d"),
    "server": ("diamond", "#0077b6"),
    "table": ("diamond-open", "#0077b6"),
}
DEPTHS = {"ready": "#0077b6", "waiting until due": "#e9c46a", "waiting for the table": "#9b2226"}
PERCENTILES = {"p50": (0.5, "#94d2bd"), "p95": (0.95, "#ee9b00"), "p99": (0.99, "#ae2012")}
SPANS_MAX = 20_000
POINTS_MAX = 5_000
LABELS_MAX = 60
"""With more marks, clauses are shown only on hovering."""
LINKS_MAX = 400
BUCKETS = 60


def chart_of(picture: Picture) -> str:
    """The chart as self-contained HTML."""
    lanes = picture.lanes
    tall = min(max(26 * len(lanes), 120), 900)
    figure: Any = make_subplots(
        rows=3, cols=1, shared_xaxes=True, vertical_spacing=70 / (tall + 560),
        row_heights=[tall, 170, 170],
        subplot_titles=("attempts, by process · thread", "jobs that waited", "seconds from due to start"),
    )  # fmt: skip
    figure.update_annotations(x=0, xanchor="left")
    _there(figure, picture)
    _attempts(figure, picture.spans)
    _links(figure, picture.spans)
    _marks(figure, picture.marks, picture.ends / 9)
    for name, points in picture.depths.items():
        thin = points[:: len(points) // POINTS_MAX + 1] + points[-1:]
        figure.add_scatter(
            x=[x for x, _ in thin], y=[y for _, y in thin], mode="lines", name=name, legend="legend2",
            line={"shape": "hv", "color": DEPTHS[name], "width": 1.5}, fill="tozeroy" if name == "ready" else None,
            hovertemplate="%{y:,} " + name + "<extra></extra>", row=2, col=1,
        )  # fmt: skip
    _waits(figure, picture)
    figure.update_yaxes(categoryorder="array", categoryarray=lanes[::-1], range=[-0.6, len(lanes) + 0.1], row=1, col=1)
    figure.update_yaxes(rangemode="tozero", row=2, col=1)
    figure.update_yaxes(rangemode="tozero", row=3, col=1)
    figure.update_xaxes(range=[-picture.ends * 0.01, picture.ends * 1.01])
    figure.update_xaxes(title_text="seconds", row=3, col=1)
    beside = {"x": 1.01, "xanchor": "left", "bgcolor": "rgba(0,0,0,0)"}
    figure.update_layout(
        barmode="overlay", bargap=0.25, height=tall + 560, template="plotly_white", hovermode="closest",
        margin={"l": 70, "r": 20, "t": 40, "b": 50}, dragmode="zoom", font={"family": "system-ui, sans-serif"},
        legend={**beside, "y": 1}, legend2={**beside, "y": 380 / (tall + 470)},
        legend3={**beside, "y": 150 / (tall + 470), "itemsizing": "constant"},
        uniformtext={"mode": "hide", "minsize": 9},
    )  # fmt: skip
    return str(
        figure.to_html(full_html=False, include_plotlyjs=True, config={"scrollZoom": True, "displaylogo": False})
    )


def _there(figure: Any, picture: Picture) -> None:
    """Draw the lifetimes of threads, behind everything else."""
    rows = [(shift, thread) for shift in picture.shifts for thread in range(1, shift.threads + 1)]
    figure.add_bar(
        base=[shift.began for shift, _ in rows], x=[shift.ended - shift.began for shift, _ in rows],
        y=[f"{shift.process} · {thread}" for shift, thread in rows], orientation="h", width=0.75,
        marker={"color": "#edf0f3"}, name="idle", hoverinfo="skip", row=1, col=1,
    )  # fmt: skip


def _attempts(figure: Any, spans: Sequence[Span]) -> None:
    drawn = spans[:SPANS_MAX]
    for how, color in ATTEMPTS.items():
        mine = [span for span in drawn if span.how == how]
        if mine:
            figure.add_bar(
                base=[span.began for span in mine], x=[max(span.ended - span.began, 1e-3) for span in mine],
                y=[span.lane for span in mine], orientation="h", width=0.75, name=how,
                marker={"color": color, "line": {"color": "white", "width": 0.5}},
                text=[f"#{span.job}" for span in mine] if len(drawn) <= POINTS_MAX else None,
                textposition="inside", insidetextanchor="middle", textfont={"color": "white", "size": 11},
                customdata=[_about(span) for span in mine], hovertemplate="%{customdata}<extra></extra>", row=1, col=1,
            )  # fmt: skip
    if len(spans) > SPANS_MAX:
        figure.add_annotation(
            text=f"the first {SPANS_MAX:,} of {len(spans):,} attempts are drawn", xref="paper", yref="paper",
            x=1, y=1.02, xanchor="right", showarrow=False,
        )  # fmt: skip


def _about(span: Span) -> str:
    lines = [
        f"<b>#{span.job} {html.escape(span.type)}</b>, attempt {span.attempt}"
        + (", a suspect" if span.suspect else ""),
        f"{span.began:,.3f} s to {span.ended:,.3f} s ({span.ended - span.began:,.3f} s) on {span.lane}",
        span.how + (f": {html.escape(span.error)}" if span.error else ""),
    ]
    return "<br>".join(lines)


def _links(figure: Any, spans: Sequence[Span]) -> None:
    """Draw a line from each attempt to the job's next one: a retry, or a hand-off from a dead process."""
    by_job: defaultdict[int, list[Span]] = defaultdict(list)
    for span in sorted(spans, key=lambda span: span.began):
        by_job[span.job].append(span)
    pairs = [(one, other) for own in by_job.values() for one, other in pairwise(own)]
    kinds = {
        "hand-off": ([pair for pair in pairs if pair[0].how == "cut off"], {"color": "#7b2cbf", "width": 2.5}),
        "retried": ([p for p in pairs if p[0].how == "failed"], {"color": "#e4572e", "width": 1, "dash": "dot"}),
    }
    for name, (mine, line) in kinds.items():
        xs: list[float | None] = []
        ys: list[str | None] = []
        for one, other in mine[:LINKS_MAX]:
            xs += [one.ended, other.began, None]
            ys += [one.lane, other.lane, None]
        if xs:
            figure.add_scatter(x=xs, y=ys, mode="lines", line=line, name=name, hoverinfo="skip", row=1, col=1)


def _marks(figure: Any, marks: Sequence[Mark], near_s: float) -> None:
    by_kind: defaultdict[str, list[Mark]] = defaultdict(list)
    size = 11 if len(marks) <= LABELS_MAX else 7
    for mark in marks:
        by_kind[mark.kind].append(mark)
    for kind, mine in by_kind.items():
        symbol, color = MARKS[kind]
        figure.add_scatter(
            x=[mark.at for mark in mine], y=[mark.lane for mark in mine], name=kind,
            mode="markers",
            marker={"symbol": symbol, "size": size, "color": color, "line": {"width": size / 6, "color": color}},
            customdata=[html.escape(told(mark)) for mark in mine],
            hovertemplate="%{x:,.3f} s<br>%{customdata}<extra></extra>", row=1, col=1,
        )  # fmt: skip
    for x, lane, text in _labels(marks, near_s):
        figure.add_annotation(
            x=x, y=lane, text=text, yshift=12, showarrow=False, bgcolor="rgba(255,255,255,0.75)", borderpad=0,
            font={"size": 10, "color": "#3d2c5e"}, row=1, col=1,
        )  # fmt: skip


def _labels(marks: Sequence[Mark], near_s: float) -> Iterator[tuple[float, str, str]]:
    """The clauses next to the marks; close marks share a label."""
    groups: list[tuple[float, str, list[str]]] = []
    last: dict[str, int] = {}
    for mark in sorted(marks):
        group = last.get(mark.lane)
        if group is None or mark.at - groups[group][0] > near_s:
            last[mark.lane] = group = len(groups)
            groups.append((mark.at, mark.lane, []))
        if mark.clause not in groups[group][2]:
            groups[group][2].append(mark.clause)
    if len(groups) <= LABELS_MAX:
        for at, lane, clauses in groups:
            yield at, lane, " ".join(clauses)


def _waits(figure: Any, picture: Picture) -> None:
    """Draw each job's wait at its start, and percentiles of jobs that started at about the same time."""
    firsts: dict[int, Span] = {}
    for span in picture.spans:
        if span.job in picture.due and (span.job not in firsts or span.began < firsts[span.job].began):
            firsts[span.job] = span
    waits = sorted((span.began, max(span.began - picture.due[job], 0.0), job) for job, span in firsts.items())
    if not waits:
        return
    thin = waits[:: len(waits) // POINTS_MAX + 1]
    figure.add_scattergl(
        x=[at for at, _, _ in thin], y=[wait for _, wait, _ in thin], mode="markers", name="a job", legend="legend3",
        marker={"size": 3, "color": "#9aa5b1"}, customdata=[job for *_, job in thin],
        hovertemplate="#%{customdata} waited %{y:,.3f} s<extra></extra>", row=3, col=1,
    )  # fmt: skip
    width = max(picture.ends / BUCKETS, 1e-6)
    buckets: defaultdict[int, list[float]] = defaultdict(list)
    for at, wait, _ in waits:
        buckets[int(at / width)].append(wait)
    for name, (share, color) in PERCENTILES.items():
        figure.add_scatter(
            x=[(n + 0.5) * width for n in range(BUCKETS + 1)],
            y=[_quantile(buckets[n], share) if n in buckets else None for n in range(BUCKETS + 1)],
            mode="lines+markers", marker={"size": 4}, name=name, legend="legend3", line={"color": color, "width": 2},
            hovertemplate=name + " %{y:,.3f} s<extra></extra>", row=3, col=1,
        )  # fmt: skip


def _quantile(waits: list[float], share: float) -> float:
    return sorted(waits)[min(int(share * len(waits)), len(waits) - 1)]
