"""Reads a trace file from any source, and judges it against every trace clause.

The simulator's own events, and those of future versions, are skipped. Facts outside a trace are not judged:
- A worker without an event of its end may have died between the server's step and its event, so *missing* events of
  its jobs prove nothing.
- A trace with attempts of a worker and no ``WorkerStarted`` of it begins in the middle, so events of its jobs are
  missing at the beginning: of those whose first event is not their dispatch, nothing is judged.
- A process emits ``FailureRecorded`` right after it wrote the row, and may be killed in between. So a missing one
  counts only if the caller promises an event for every row.
- If the limit of attempts changed, the trace does not show which limit held for which attempt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import get_args

import msgspec

from kashvi.events import (
    AnyEvent,
    AttemptStarted,
    Event,
    JobDispatched,
    JobEvent,
    JobFailed,
    WorkerStarted,
    WorkerStopped,
)

from .judging import Judge, Violation
from .predicates.every import OF_ONE_LIMIT, every_predicate

KINDS: dict[str, type[Event]] = {kind.__name__: kind for kind in get_args(AnyEvent)}
BEGINS = b'{"event":"'


class NotATrace(ValueError):
    """A line that is not an event. The message has its number and the reason."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(f"line {line} is no event: {why}")


@dataclass
class Verdict:
    """The results of a trace."""

    judged: dict[str, int]
    """The number of checks by predicate."""
    broken: list[Violation]
    open: list[Violation] = field(default_factory=list)
    """What may be due to missing events, lost with a process or from before the trace: not judged."""


def read(
    lines: Iterable[bytes],
    passed_over: Counter[str] | None = None,
    torn: list[int] | None = None,
    kinds: Mapping[str, type[Event]] = KINDS,
) -> Iterator[Event]:
    """The events in lines of JSON. Raises NotATrace.

    ``passed_over`` counts kinds that are not among ``kinds``. ``torn`` gets the numbers of unfinished lines, as left by
    a killed process; without it they are an error.
    """
    for number, line in enumerate(lines, 1):
        if not (text := line.strip()):
            continue
        try:
            fields = msgspec.json.decode(text, type=dict[str, object])
            kind = kinds.get(name := str(fields.get("event")))
            if "event" not in fields:
                raise NotATrace(number, "it has no field 'event'")
            if kind is not None:
                yield msgspec.convert(fields, kind)
            elif passed_over is not None:
                passed_over[name] += 1
        except RecursionError:
            raise NotATrace(number, "it is nested too deeply") from None
        except msgspec.ValidationError as error:
            raise NotATrace(number, str(error)) from None
        except msgspec.DecodeError as error:
            if torn is None or text[: len(BEGINS)] != BEGINS[: len(text)]:
                raise NotATrace(number, str(error)) from None
            torn.append(number)


def judge(
    trace: Sequence[Event], *, max_attempts: int | None = None, unfinished: bool = False, rows_told: bool = False
) -> Verdict:
    """Judge the trace by every predicate. ``max_attempts``: by default the trace's, else 3.

    ``unfinished``: the trace was cut off, so missing events at its end are not judged.
    ``rows_told``: every row of the failure table has an event.
    """
    limits = {event.max_attempts for event in trace if isinstance(event, JobFailed) and not event.type_limit}
    limits.discard(0)  # of an undeliverable job
    limit = max_attempts if max_attempts is not None else max(limits, default=3)
    predicates = every_predicate(limit, with_store=rows_told)
    changed = max_attempts is None and len(limits) > 1
    bench = Judge(one for one in predicates if not (changed and one.name in OF_ONE_LIMIT))
    for event in trace:
        bench.see(event)
    before, told = _begun_before(trace), _told_by_the_silent(trace)
    verdict = Verdict({one.name: one.judged for one in predicates}, [])
    for predicate in bench.predicates:
        for violation in predicate.violations:
            (verdict.open if violation.job_id in before else verdict.broken).append(violation)
        for missing in predicate.at_end():
            lost = unfinished or missing.job_id in told or missing.job_id in before
            (verdict.open if lost else verdict.broken).append(missing)
    return verdict


def _begun_before(trace: Sequence[Event]) -> set[str]:
    """The jobs that may have events from before the trace, if it begins in the middle."""
    started = {event.worker for event in trace if isinstance(event, WorkerStarted)}
    if all(event.worker in started for event in trace if isinstance(event, AttemptStarted)):
        return set()
    first: dict[str, Event] = {}
    for event in trace:
        if isinstance(event, JobEvent):
            first.setdefault(event.job_id, event)
    return {job_id for job_id, event in first.items() if not isinstance(event, JobDispatched)}


def _told_by_the_silent(trace: Sequence[Event]) -> set[str]:
    """The jobs of workers without an event of their end with all jobs settled."""
    working: dict[str, set[str]] = {}
    for event in trace:
        if isinstance(event, WorkerStarted):
            working.setdefault(event.process, set()).add(event.worker)
        elif isinstance(event, WorkerStopped) and not event.unsettled:
            working.get(event.process, set()).discard(event.worker)
    silent = {process for process, workers in working.items() if workers}
    return {event.job_id for event in trace if isinstance(event, JobEvent) and event.process in silent}
