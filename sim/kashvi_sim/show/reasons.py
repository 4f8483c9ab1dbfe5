"""The reasons of a job's lateness: the parts of the time from due to the end of its last attempt."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from typing import NamedTuple

from .lanes import Picture, Span

LEAST_S = 0.001
LEAST_SHARE = 0.03
"""A smaller share of a job's lost time is not a reason."""


class Late(NamedTuple):
    """One job. ``lost_s``: the time beyond its own attempts. ``why``: the reasons in order, with clauses."""

    job: int
    type: str
    due: float
    ended: float
    lost_s: float
    why: list[str]


def latest(picture: Picture, most: int = 12) -> list[Late]:
    """The jobs that lost most time, worst first."""
    attempts: defaultdict[int, list[Span]] = defaultdict(list)
    for span in sorted(picture.spans, key=lambda span: span.began):
        attempts[span.job].append(span)

    def lost_s(job: int) -> float:
        own = sum(span.ended - span.began for span in attempts[job] if span.how != "cut off")
        return attempts[job][-1].ended - picture.due[job] - own

    jobs = sorted((job for job in attempts if job in picture.due), key=lost_s, reverse=True)[:most]
    crew = _Crew(picture)
    found: list[Late] = []
    for job in jobs:
        if lost_s(job) < LEAST_S:
            break
        why: list[str] = []
        before: Span | None = None
        for span in attempts[job]:
            if before is not None and before.how == "cut off":
                why.append(
                    f"{before.process} was killed while it ran it; others take over after its lease (DELIVERY-2): "
                    f"{span.began - before.ended:,.2f} s"
                )
                if span.suspect:
                    why.append("as a suspect it started alone (DELIVERY-14)")
            elif before is not None and before.how == "failed":
                backoff = float(before.attempt)
                why.append(f"attempt {before.attempt} failed ({before.error}): it waits {backoff:g} s (RETRY-2)")
                why += crew.blame(min(before.ended + backoff, span.began), span.began, lost_s(job))
            elif before is None:
                why += crew.blame(picture.due[job], span.began, lost_s(job))
            before = span
        found.append(Late(job, attempts[job][0].type, picture.due[job], attempts[job][-1].ended, lost_s(job), why))
    return found


class _Crew:
    """The numbers of threads and of busy threads over time."""

    def __init__(self, picture: Picture) -> None:
        changes: list[tuple[float, int, int]] = []
        for shift in picture.shifts:
            changes += [(shift.began, shift.threads, 0), (shift.closed, -shift.threads, 0)]
        for span in picture.spans:
            changes += [(span.began, 0, 1), (span.ended, 0, -1)]
        self._steps: list[tuple[float, int, int]] = [(0.0, 0, 0)]
        for at, there, busy in sorted(changes):
            _, threads, running = self._steps[-1]
            self._steps.append((at, threads + there, running + busy))
        self._starts = sorted(span.began for span in picture.spans)

    def blame(self, since: float, until: float, lost_s: float) -> list[str]:
        """The reasons that kept a due job from starting, without those too small against ``lost_s``."""
        least_s = max(LEAST_S, lost_s * LEAST_SHARE)
        first = bisect_right(self._steps, (since, 1 << 30, 0)) - 1
        lost: defaultdict[str, float] = defaultdict(float)
        most = 0
        for step, (at, threads, busy) in enumerate(self._steps[first:], first):
            if at >= until:
                break
            ends = self._steps[step + 1][0] if step + 1 < len(self._steps) else until
            for_s = min(ends, until) - max(at, since)
            if for_s <= 0:
                continue
            if threads <= 0:
                lost["no worker was there to take it"] += for_s
            elif busy >= threads:
                most = max(most, threads)
                lost["busy"] += for_s
            else:
                lost["a process had it and did not start it, though threads were free elsewhere"] += for_s
        ahead = bisect_right(self._starts, until) - bisect_right(self._starts, since) - 1
        texts = []
        for why, for_s in lost.items():
            if for_s >= least_s:
                first_went = f", and {ahead:,} attempts went first" if ahead > 0 else ""
                text = f"all {most} threads were busy{first_went}" if why == "busy" else why
                texts.append(f"{text}: {for_s:,.2f} s")
        return texts
