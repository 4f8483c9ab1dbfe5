"""Walks a trace through the model: each event must be an allowed step, with as few steps without events as possible.

Each job is walked by itself, with all processes that touched it. Relations between jobs (orders, one suspect
at a time, neighbours in a death) are not walked; predicates judge them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from heapq import heappop, heappush
from itertools import count
from typing import NamedTuple

from kashvi.events import AttemptStarted, Event, JobFailed, RetryScheduled

from .explore import Kind, kind_of
from .fitting import fits
from .states import NOBODY, UNLIMITED, State, Step, start_of, steps
from .stories import Story, What, stories
from .table import LIMITS, decisions
from .untold import Untold

LIMITED = (AttemptStarted, RetryScheduled, JobFailed)
"""Events with the own limit of the job's type."""
UNTOLD_MAX = 8
"""The most steps of a job by processes that died before they emitted an event."""
FEW, LOOK_MAX = 3_000, 100_000
"""The most places searched before a story is given up: the second once a story of the trace was given up. Most accepted
stories need some hundreds; one with fifteen deaths around its job needed over thirty thousand."""


NAMES: dict[What, str] = {
    "claimed": "its claim", "cut off": "its end in the middle", "paused": "a pause of its queue", "resumed": "its end",
}  # fmt: skip
"""The names of items without an event."""


class Rejected(NamedTuple):
    """A job whose story is not a path through the model."""

    job_id: str
    why: str


class CannotWalk(ValueError):
    """The trace has a limit of attempts that the model does not cover, or several limits."""


@dataclass
class Walked:
    """The results for the jobs of one or several traces."""

    jobs: int = 0
    excused: int = 0
    """The jobs not walked, since the server lost data about them."""
    rejected: list[Rejected] = field(default_factory=list)
    kinds: Counter[Kind] = field(default_factory=Counter)
    """The steps taken, with or without an event."""

    def add(self, other: Walked) -> None:
        self.jobs += other.jobs
        self.excused += other.excused
        self.rejected += other.rejected
        self.kinds += other.kinds


class _Way(NamedTuple):
    """A path along a story."""

    done: int
    """The items that fit, as bits."""
    state: State
    kinds: tuple[Kind, ...]
    looked_at: int
    given_up: bool
    """True if the limit of places was reached, so that another path may exist."""


def limit_of(trace: Sequence[Event], limit: int | None = None) -> int:
    """The given limit, or that of the trace's failures, or 3. Raises CannotWalk."""
    told = {event.max_attempts for event in trace if isinstance(event, JobFailed) and not event.type_limit}
    told.discard(0)  # of an undeliverable job
    limits = sorted(told if limit is None else {limit, *told})
    if not limits:
        return LIMITS[-1]
    if len(limits) > 1 or limits[0] not in LIMITS:
        raise CannotWalk(
            f"jobs ran under a limit of {' and '.join(map(str, limits))} attempts; "
            f"the model walks traces of one limit, from {LIMITS[0]} to {LIMITS[-1]}"
        )
    return limits[0]


def walk(
    trace: Sequence[Event],
    limit: int | None = None,
    excused: Collection[str] = (),
    look_max: int = LOOK_MAX,
    set_back_s: float = 0.0,
    pauses: bool = True,
) -> Walked:
    """Walk all jobs of a trace except the excused ones. Raises CannotWalk.

    A job is excused, too, if its type's own limit of attempts changed meanwhile, or is none that the table covers.
    ``limit``: by default the trace's. ``set_back_s``: the seconds by which the server's clock was set back meanwhile.
    ``pauses``: False if the server may have lost a pause, or if its clock was set, so that pauses are not walked.
    """
    limit = limit_of(trace, limit)
    walked = Walked()
    for told in stories(trace, set_back_s, pauses):
        walked.jobs += 1
        own = {event.type_limit for event in told.events if isinstance(event, LIMITED)} or {0}
        if told.job_id in excused or len(own) > 1 or not own <= {0, *LIMITS}:
            walked.excused += 1
            continue
        most = max(own) or limit
        all_done = (1 << len(told.events)) - 1
        way = _way(told.story, most, min(look_max, FEW))
        if way.done != all_done and look_max > FEW and not walked.rejected:
            way = _way(told.story, most, look_max)
        if way.done == all_done:
            walked.kinds.update(way.kinds)
        else:
            walked.rejected.append(Rejected(told.job_id, _why(way, told.story, told.events)))
    return walked


@lru_cache(50_000)
def _way(story: Story, limit: int, look_max: int) -> _Way:
    """The path through all items with the fewest steps without events; if there is none, one that leads farthest."""
    items, hidden = story.items, Untold(story)
    others = sum(
        item.what in ("settled", "returned", "cancelled") and item.owner not in (NOBODY, item.actor) for item in items
    )
    workers = max(len(story.silent) + story.ghosts, 1)
    first: _At = 0, start_of(
        workers, 1, UNLIMITED, others + 2 * hidden.anybody, True, queues=story.queues,
        pauses=UNLIMITED * any(item.what == "paused" for item in items),
        cancels=UNLIMITED * any(item.what in ("asked", "cancelled") for item in items),
    )  # fmt: skip
    all_done = (1 << len(items)) - 1
    came: _Came = {first: None}
    farthest, number = first, count()
    todo: list[tuple[int, int, int, _At]] = [(0, 0, 0, first)]
    cost_of = {first: 0}
    while todo and len(came) < look_max:
        cost, _, _, at = heappop(todo)
        done, state = at
        if cost > cost_of[at]:
            continue
        if done.bit_count() > farthest[0].bit_count():
            farthest = at
            if done == all_done:
                break
        ready = [i for i, item in enumerate(items) if not done >> i & 1 and not item.after & ~done]
        for step, kind in _steps(state, limit):
            after = [(0, (done | 1 << i, step.state)) for i in ready if fits(items[i], state, step)]
            if (untold := hidden.cost(step, state, done)) is not None:
                after.append((untold, (done, step.state)))
            for more, then in after:
                if cost + more <= UNTOLD_MAX and cost + more < cost_of.get(then, UNTOLD_MAX + 1):
                    cost_of[then], came[then] = cost + more, (at, kind)
                    heappush(todo, (cost + more, -then[0].bit_count(), next(number), then))
    return _Way(*farthest, tuple(_back(came, farthest))[::-1], len(came), len(came) >= look_max)


_At = tuple[int, State]
_Came = dict[_At, tuple[_At, Kind] | None]


def _back(came: _Came, at: _At) -> Iterator[Kind]:
    while (link := came[at]) is not None:
        at, kind = link
        yield kind


@lru_cache(200_000)
def _steps(state: State, limit: int) -> tuple[tuple[Step, Kind], ...]:
    return tuple((step, kind_of(state, step)) for step in steps(state, decisions(limit)))


def _why(way: _Way, story: Story, events: Sequence[Event]) -> str:
    briefs = [NAMES.get(item.what) or _brief(event) for item, event in zip(story.items, events, strict=True)]
    told = [brief for i, brief in enumerate(briefs) if way.done >> i & 1]
    left = [brief for i, brief in enumerate(briefs) if not way.done >> i & 1]
    job = way.state.jobs[0]
    after = f"after {', '.join(told)}" if told else "at the start"
    return (
        f"{after}, a job that is {job.place}, {job.attempts} attempts counted{', a suspect' if job.suspect else ''}, "
        f"can't go on with any of: {', '.join(left)}"
        + (f" (given up: {way.looked_at:,} places were looked at)" if way.given_up else "")
    )


def _brief(event: Event) -> str:
    number = getattr(event, "attempt", getattr(event, "attempts", None))
    return type(event).__name__ + (f" {number}" if number is not None else "")
