"""A trace file, wherever it came from: read it, and judge what it holds against every trace clause.

Events of the simulator's own, and of versions to come, are passed over. What a trace cannot say is not judged:

- A worker of which no end is told may have died between what the server did and telling of it, so what is *missing*
  about the jobs it touched proves nothing.
- A row is told of by the process that wrote it, right after that, and it may be killed in between. So a missing
  ``FailureRecorded`` counts only where the caller says that all rows are told of.
- Where the limit of attempts changed, nobody can say afterwards which one held for which attempt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import get_args

import msgspec

from kashvi.events import AnyEvent, Event, JobEvent, JobFailed, WorkerStarted, WorkerStopped

from .every import OF_ONE_LIMIT, every_predicate
from .judging import Judge, Violation

KINDS: dict[str, type[Event]] = {kind.__name__: kind for kind in get_args(AnyEvent)}
BEGINS = b'{"event":"'


class NotATrace(ValueError):
    """A line that is no event. The message says which, and why."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(f"line {line} is no event: {why}")


@dataclass
class Verdict:
    """What a trace was found to hold."""

    judged: dict[str, int]
    """By predicate: how often it tested something."""
    broken: list[Violation]
    open: list[Violation] = field(default_factory=list)
    """What is missing, and may have happened untold: not judged."""


def read(
    lines: Iterable[bytes],
    passed_over: Counter[str] | None = None,
    torn: list[int] | None = None,
    kinds: Mapping[str, type[Event]] = KINDS,
) -> Iterator[Event]:
    """Events from lines of JSON. Raises NotATrace.

    ``passed_over`` counts kinds that are not among ``kinds``. ``torn`` takes the numbers of lines that were begun and
    not ended, as by a process that was killed; without it they are an error.
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
    """Show the trace to every predicate. ``max_attempts``: by default what the trace says, else 3.

    ``unfinished``: it was cut off, so nothing that is missing at its end is judged.
    ``rows_told``: every row of the failure table is told of.
    """
    limits = {event.max_attempts for event in trace if isinstance(event, JobFailed) and event.max_attempts}
    limit = max_attempts if max_attempts is not None else max(limits, default=3)
    predicates = every_predicate(limit, with_store=rows_told)
    changed = max_attempts is None and len(limits) > 1
    bench = Judge(one for one in predicates if not (changed and one.name in OF_ONE_LIMIT))
    for event in trace:
        bench.see(event)
    told = _told_by_the_silent(trace)
    verdict = Verdict({one.name: one.judged for one in predicates}, [])
    for predicate in bench.predicates:
        verdict.broken += predicate.violations
        for missing in predicate.at_end():
            (verdict.open if unfinished or missing.job_id in told else verdict.broken).append(missing)
    return verdict


def _told_by_the_silent(trace: Sequence[Event]) -> set[str]:
    """Jobs that a worker had to do with which never said that it had ended, with everything settled."""
    working: dict[str, set[str]] = {}
    for event in trace:
        if isinstance(event, WorkerStarted):
            working.setdefault(event.process, set()).add(event.worker)
        elif isinstance(event, WorkerStopped) and not event.unsettled:
            working.get(event.process, set()).discard(event.worker)
    silent = {process for process, workers in working.items() if workers}
    return {event.job_id for event in trace if isinstance(event, JobEvent) and event.process in silent}
