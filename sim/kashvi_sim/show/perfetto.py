"""A picture as a Chrome trace, which https://ui.perfetto.dev and chrome://tracing open."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec

from .lanes import Picture, Span, told

SERVER = 0
"""The process that shows marks without a process."""


def write_perfetto(path: Path, picture: Picture) -> None:
    """Write attempts as slices, retries and hand-offs as flows, marks as instants, waiting jobs as counters."""
    shown = [*_processes(picture), *_attempts(picture), *_flows(picture), *_marks(picture), *_depths(picture)]
    path.write_bytes(msgspec.json.encode({"displayTimeUnit": "ms", "traceEvents": shown}))


def _us(seconds: float) -> float:
    return round(seconds * 1e6, 3)


def _numbers(picture: Picture) -> dict[str, int]:
    return {name: n for n, name in enumerate(dict.fromkeys(shift.process for shift in picture.shifts), 1)}


def _place(lane: str, numbers: dict[str, int]) -> dict[str, int]:
    process, _, thread = lane.partition(" · ")
    return {"pid": numbers.get(process, SERVER), "tid": int(thread or 0)}


def _processes(picture: Picture) -> list[dict[str, Any]]:
    named = [("jobs that waited", SERVER), *_numbers(picture).items()]
    return [{"ph": "M", "name": "process_name", "pid": pid, "args": {"name": name}} for name, pid in named]


def _attempts(picture: Picture) -> list[dict[str, Any]]:
    numbers = _numbers(picture)
    return [
        {
            "ph": "X", "name": f"#{span.job} {span.type}", "cat": span.how, "ts": _us(span.began),
            "dur": _us(span.ended - span.began), **_place(span.lane, numbers),
            "args": {
                "job": picture.ids[span.job], "attempt": span.attempt, "how": span.how, "error": span.error,
                "suspect": span.suspect, "waited_s": _waited(picture, span),
            },
        }
        for span in picture.spans
    ]  # fmt: skip


def _waited(picture: Picture, span: Span) -> float | None:
    due = picture.due.get(span.job)
    return None if due is None or span.attempt > 1 else round(max(span.began - due, 0.0), 6)


def _flows(picture: Picture) -> list[dict[str, Any]]:
    numbers = _numbers(picture)
    by_job: defaultdict[int, list[Span]] = defaultdict(list)
    for span in sorted(picture.spans, key=lambda span: span.began):
        by_job[span.job].append(span)
    found: list[dict[str, Any]] = []
    for own in by_job.values():
        for one, other in pairwise(own):
            flow = {"name": "retry" if one.how == "failed" else "hand-off", "cat": "flow", "id": len(found)}
            found.append({**flow, "ph": "s", "ts": _us(one.began), **_place(one.lane, numbers)})
            found.append({**flow, "ph": "f", "bp": "e", "ts": _us(other.began), **_place(other.lane, numbers)})
    return found


def _marks(picture: Picture) -> list[dict[str, Any]]:
    numbers = _numbers(picture)
    return [
        {"ph": "i", "s": "p", "name": told(mark), "cat": mark.kind, "ts": _us(mark.at), **_place(mark.lane, numbers)}
        for mark in picture.marks
    ]


def _depths(picture: Picture) -> list[dict[str, Any]]:
    return [
        {"ph": "C", "name": name, "pid": SERVER, "ts": _us(at), "args": {"jobs": depth}}
        for name, points in picture.depths.items()
        for at, depth in points
    ]
