"""A driver and the model side by side: each call is a step of both, and their states must agree.

The library's own functions make the settlements, as in workers; the model has their results. The oracle adds what the
model leaves out: the order of ready jobs, and the due times of delayed ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from typing import Literal

from msgspec.structs import replace

from kashvi.jobs.envelope import read, seal
from kashvi.ports import Exchange, LostDelivery
from kashvi.worker import settle
from kashvi.worker.machine.suspects import after_death
from kashvi.worker.settle import Delivery, Settling

from ...model.states import NOBODY, UNLIMITED, Action, Job, Late, Stage, State, Step, Worker, steps
from ...model.table import LIMITS, End, decisions
from .steps import Bench, Hand
from .subject import DriverUnderTest

LEASE_S = 10.3
"""No sum of the steps' durations equals this."""
Outcome = Literal["succeed", "fail", "void"]


class Disagreement(AssertionError):
    """The driver's answer differs from the model's."""


def agree(got: object, wanted: object, what: str) -> None:
    if got != wanted:
        raise Disagreement(f"{what}: the driver says {got!r}, the model {wanted!r}")


class Oracle:
    """Workers on one empty queue. A new worker replaces a dead one that holds no jobs any more."""

    def __init__(self, subject: DriverUnderTest, workers: int = 3, limit: int = LIMITS[-1]) -> None:
        self.bench = Bench(subject)
        self.limit = limit
        self.state = State((), (Worker(),) * workers, UNLIMITED, UNLIMITED)
        self.now = self.bench.now
        self.taken: Counter[Action] = Counter()
        self.views: list[list[Delivery]] = [[] for _ in range(workers)]
        """The jobs that each worker believes it holds."""
        self._table = decisions(limit)
        self._names = 0
        self._lease_ends: dict[str, float] = {}
        self._ready: list[int] = []
        """In the order of claims."""
        self._due: dict[int, float] = {}
        self._failed: list[tuple[float, bytes]] = []
        """The times of settling, and the envelopes to record."""
        self._raw: list[bytes] = []
        """Each job's envelope on the server."""
        self._hands = [self._hand(w) for w in range(workers)]

    @property
    def delayed(self) -> bool:
        """True if any job is delayed."""
        return bool(self._due)

    # -- steps --------------------------------------------------------------------------------------

    def push(self, jobs: int, delay_s: float = 0.0) -> None:
        """Push some jobs, all at once."""
        first = len(self._raw)
        fresh = [seal(f"{n:06d}", b'"t"', b"{}") for n in range(first, first + jobs)]
        self.bench.push(*fresh, delay=delay_s)
        for j, raw in enumerate(fresh, first):
            self._raw.append(raw)
            self.state = self.state._replace(jobs=(*self.state.jobs, Job()))
            self._take("dispatch after" if delay_s else "dispatch", j)
            if delay_s:
                self._due[j] = self.now + delay_s
            else:
                self._ready.append(j)
        self.compare()

    def let_pass(self, seconds: float) -> None:
        """Let time pass, and leases run out."""
        self.now += seconds
        self.bench.let_pass(seconds)
        self._let_leases_end()
        self.compare()

    def reach_due(self, w: int) -> None:
        """Check that the first delayed job is not promoted shortly before its due time, and is shortly after."""
        first = min(self._due.values())
        for at in (first - 0.02, first + 0.02):
            self.let_pass(max(at - self.now, 0.0))
            self.claim(w, 0)

    def claim(self, w: int, want: int) -> None:
        """Claim by an exchange, which promotes the due jobs first."""
        answer = self._exchange(w, [], want)
        agree(len(answer.claimed) + answer.ready, len(self._ready), "claimed and left ready")
        self._claimed(w, answer.claimed, self._ready[:want])

    def wait(self, w: int) -> None:
        """Claim by a wait, which promotes no job and renews no lease."""
        raw = self.bench.driver.wait(self._hands[w].name, 0.0)
        self._claimed(w, [raw] if isinstance(raw, bytes) else [], self._ready[:1])

    def announce(self, w: int, d: Delivery) -> Delivery:
        """Announce a suspect that has not started; refused if this worker no longer holds it."""
        job = self._job_of(w, d)
        refused = self._settle(w, settle.started(d, self.now))
        agree(refused, job == NOBODY, f"announcing {d.raw!r} is refused")
        if job == NOBODY:
            self._late(w, d, "claimed")
        else:
            self._take("announce", job, w)
            moved = replace(d, place="running")
            self.views[w][self.views[w].index(d)] = moved
            d = moved
            self.repeat(w)
        self.compare()
        return d

    def finish(self, w: int, d: Delivery, outcome: Outcome) -> None:
        """Make an attempt, end and settle it; refused if this worker no longer holds the job."""
        made = {
            "succeed": lambda: settle.succeeded(d, self.now),
            "fail": lambda: settle.failed(d, self.now, "told to fail", self.limit),
            "void": lambda: settle.undeliverable(d, self.now, "no such type"),
        }[outcome]()
        job = self._job_of(w, d)
        if job != NOBODY:
            if outcome != "void":
                self._take("start", job, w)
            self._take(outcome, job, w)
        refused = self._settle(w, made)
        agree(refused, job == NOBODY, f"settling {d.raw!r} as {made.move!r} is refused")
        if job == NOBODY:
            self._late(w, d, "ended")
        else:
            self._follow("settle", job, w, made)
        self.compare()

    def give_back(self, w: int, d: Delivery) -> None:
        """Hand back a job that has not started."""
        job, made = self._job_of(w, d), settle.returned(d, self.now)
        refused = self._settle(w, made)
        agree(refused, job == NOBODY, f"giving {d.raw!r} back is refused")
        if job == NOBODY:
            self._late(w, d, "claimed")
        else:
            self._follow("return", job, w, made)
        self.compare()

    def take_over(self, v: int, early: bool = False) -> None:
        """Take over all jobs of expired workers; with ``early``, check that jobs of live workers are refused."""
        if early:
            found = [
                LostDelivery(self._hands[job.owner].name, job.place, self._raw[j])  # type: ignore[arg-type]
                for j, job in enumerate(self.state.jobs)
                if job.owner not in (NOBODY, v) and self.state.workers[job.owner].leased
            ]
        else:
            found = [one for one in self.bench.driver.expired(1000).lost if one.owner != self._hands[v].name]
        made = [
            settling
            for _, theirs in groupby(found, key=lambda one: one.owner)
            for settling in after_death(list(theirs), True, self.now, str, self.limit, self.now)
        ]
        answer = self._exchange(v, made, 0)
        agree(answer.refused, tuple(range(len(made))) if early else (), "settling for others is refused")
        for settling in [] if early else made:
            j = int(settling.delivery.job_id)
            end: End = "lost" if settling.lost else "beside" if self.state.jobs[j].place == "running" else "died"
            self._follow("take over", j, self.state.jobs[j].owner, settling, end)
        self.compare()

    def crash(self, w: int) -> None:
        """Kill the worker's process."""
        self._take("crash", NOBODY, w)
        self.views[w].clear()
        self._let_leases_end()
        self.compare()

    def restart(self, w: int) -> None:
        """Replace a dead worker by one with another name."""
        self._take("restart", NOBODY, w)
        self._hands[w] = self._hand(w)

    def repeat(self, w: int) -> None:
        """Repeat the last exchange's number: nothing changes, and the listing has all jobs of the worker."""
        hand = self._hands[w]
        if hand.n:
            listing = hand.repeat().listing
            agree(listing and tuple(map(sorted, listing)), (self._held(w, "held"), self._held(w, "running")), "listed")
            self.compare()

    def record(self, most: int) -> None:
        """Read at most ``most`` exhausted jobs, and remove them."""
        found = self.bench.driver.unrecorded(most)
        oldest = [raw for _, raw in sorted(self._failed)[:most]]
        agree([one.envelope for one in found], oldest, "unrecorded, the oldest first")
        self._failed = sorted(self._failed)[most:]
        for one in found:
            j = int(read(one.envelope).id)
            self._take("record", j)
        self.bench.driver.recorded([one.envelope for one in found])
        self.compare()

    def compare(self) -> None:
        """Compare the observable state of both."""
        places = Counter(job.place for job in self.state.jobs)
        wanted = places["ready"], places["delayed"], places["held"] + places["running"], places["unrecorded"]
        agree(self.bench.counts(), wanted, "ready, delayed, held, unrecorded")
        lost = sorted(
            (self._hands[job.owner].name, job.place, self._raw[j])
            for j, job in enumerate(self.state.jobs)
            if job.owner != NOBODY and not self.state.workers[job.owner].leased
        )
        agree(sorted(self.bench.lost(1000)), lost, "held by workers whose lease is over")

    # -- both sides -----------------------------------------------------------------------------------

    def _hand(self, w: int) -> Hand:
        """The worker's hand. Its first call is an exchange, which makes it known to the server."""
        self._names += 1
        hand = self.bench.worker(f"w{w}-{self._names}", LEASE_S)
        self._lease_ends[hand.name] = self.now + LEASE_S
        hand.exchange()
        self._promote()
        return hand

    def _exchange(self, w: int, settlings: Sequence[Settling], want: int) -> Exchange:
        """The driver's answer to an exchange. The model renews the lease and promotes due jobs."""
        hand = self._hands[w]
        answer = hand.exchange(*(one.sent(self.now) for one in settlings), want=want)
        self._lease_ends[hand.name] = self.now + LEASE_S
        if not self.state.workers[w].leased:
            self._take("renew", NOBODY, w)
        self._promote()
        return answer

    def _promote(self) -> None:
        """Promote the due jobs in the model."""
        due = sorted((at, self._raw[j], j) for j, at in self._due.items() if at <= self.now)
        for _, _, j in due:
            del self._due[j]
            self._take("promote", j)
            self._ready.append(j)

    def _settle(self, w: int, made: Settling) -> bool:
        """True if the settlement is refused."""
        if made.move != "start":
            self.views[w].remove(made.delivery)
        return bool(self._exchange(w, [made], 0).refused)

    def _claimed(self, w: int, claimed: Sequence[bytes], wanted: list[int]) -> None:
        agree(list(claimed), [self._raw[j] for j in wanted], "claimed")
        del self._ready[: len(wanted)]
        for j, raw in zip(wanted, claimed, strict=True):
            d = settle.delivery(raw, self._hands[w].name, str, self.now)
            for same in [one for one in self.views[w] if one.raw == raw and one.place == "held"]:
                self.views[w].remove(same)  # the worker reconciles, and finds the job once
                self._late(w, same, "claimed")
            lapsed = not self.state.workers[w].leased
            self._take("claim", j, w)
            job = self.state.jobs[j]
            agree((d.attempts, d.suspect), (job.attempts, job.suspect), f"attempts and suspicion of {raw!r}")
            self.views[w].append(d)
            if lapsed:
                self._take("lapse", NOBODY, w)
        self._let_leases_end()
        self.compare()

    def _follow(self, action: Action, j: int, w: int, made: Settling, end: End | None = None) -> None:
        """Move the job to the place in the model's row, with its due time."""
        step = self._take(action, j, w, end)
        assert step.row is not None
        self._raw[j] = made.new
        if step.row.to == "ready":
            self._ready.insert(0, j)
        elif step.row.to == "delayed":
            self._due[j] = self.now + step.row.wait_s
        elif step.row.to == "unrecorded":
            self._failed.append((self.now, made.new))

    def _late(self, w: int, d: Delivery, stage: Stage) -> None:
        """Drop a job that the worker no longer holds, at this stage."""
        late = list(self.state.workers[w].late)
        mine = next((one for one in late if one.attempts == d.attempts), None)
        if mine is None:
            raise Disagreement(f"{d.raw!r} was taken from a worker that the model knows nothing late of")
        late.remove(mine)
        if stage == "ended" and mine.stage == "claimed":
            self._take("late void", NOBODY, w, late=(*late, Late("ended", d.attempts)))
        self._take("refused", NOBODY, w, late=late)
        if d in self.views[w]:
            self.views[w].remove(d)

    def _take(
        self,
        action: Action,
        j: int = NOBODY,
        w: int = NOBODY,
        end: End | None = None,
        late: Sequence[Late] | None = None,
    ) -> Step:
        """Take a step of the model. ``end`` and ``late`` select the step if there are several."""
        for step in steps(self.state, self._table):
            if (step.action, step.job) != (action, j) or w not in (step.worker, NOBODY):
                continue
            if end is not None and (step.row is None or step.row.end != end):
                continue
            if late is not None and sorted(step.state.workers[w].late) != sorted(late):
                continue
            self.state = step.state
            self.taken[action] += 1
            return step
        raise Disagreement(f"the model does not allow: {action}, job {j}, worker {w}, in {self.state}")

    def _let_leases_end(self) -> None:
        for w, worker in enumerate(self.state.workers):
            over = self._lease_ends.get(self._hands[w].name, self.now + 1) <= self.now
            if over and worker.leased and any(job.owner == w for job in self.state.jobs):
                self._take("lapse", NOBODY, w)

    def _job_of(self, w: int, d: Delivery) -> int:
        """The number of the job if this worker still holds it, else NOBODY."""
        j = int(d.job_id)
        job = self.state.jobs[j]
        return j if (job.owner, job.place, self._raw[j]) == (w, d.place, d.raw) else NOBODY

    def _held(self, w: int, place: str) -> list[bytes]:
        return sorted(self._raw[j] for j, job in enumerate(self.state.jobs) if (job.owner, job.place) == (w, place))
