"""A run of the worker kit as it should be, told by hand: no process, no server, no time."""

from __future__ import annotations

import json
from dataclasses import replace

from kashvi_spec.kit.worker.pushing import NUMBER, ROUNDS, TEXT, Jobs, ToPush
from kashvi_spec.kit.worker.story import Entry, Happened, Pushed, Record, Story, Waiting

THREADS = 2
LEASE_S = 3.0


class Tale(Story):
    """A story that can be told; times are seconds since it began, at 1,000."""

    def __init__(self) -> None:
        super().__init__(THREADS, LEASE_S, began=1000.0)
        self.columns = ["id", "job_type", "payload", "error", "attempts", "failed_at", "job_id"]
        self.idle_s = 2.0
        self.asked_idle = ['"BLMOVE" …'] * 8
        self.jobs = Jobs("kashvi-spec:x", THREADS)

    def push(self, at: float, *jobs: ToPush) -> list[str]:
        for one in jobs:
            due = None if one.delay is None else 1000 + at + one.delay
            self.pushed[one.name] = Pushed(
                one.name, one.situation, one.type, one.raw, 1000 + at, due, one.fate, one.copies
            )
        return [one.name for one in jobs]

    def tell(self, at: float, job: str, did: str, worker: str = "worker-1", **fields: str) -> None:
        entry_id = f"{round((1000 + at) * 1000)}-{len(self.entries)}"
        self.entries.append(Entry(1000 + at, entry_id, job, did, worker, fields))
        self.entries.sort(key=lambda entry: entry.at)

    def run(self, at: float, job: str, worker: str = "worker-1", takes: float = 0.0, **fields: str) -> None:
        self.tell(at, job, "start", worker, **fields)
        self.tell(at + takes, job, "end", worker)

    def fail(self, job: str, *attempts: tuple[float, str], takes: float = 0.0, last: bool = True) -> None:
        """Attempts that failed, with what follows each: the job waits, or it is recorded."""
        one = self.pushed[job]
        for n, (at, worker) in enumerate(attempts, 1):
            self.tell(at, job, "start", worker, seen="0")
            if n < 3:
                raw = one.raw if b'"id"' in one.raw else b'{"id":"new",' + one.raw[1:]
                again = raw[:-1] + b',"attempts":%d}' % n
                self.waiting.append(Waiting(1000 + at + takes + 0.01, job, 1000 + at + takes + n, again))
        if last:
            self.record(attempts[-1][0] + takes + 0.01, job, f"failed at {self.told(job)[-1].id}", 3)

    def record(self, at: float, job: str, error: str, attempts: int, payload: str = "") -> None:
        one = self.pushed[job]
        payload = payload or (json.dumps(json.loads(one.raw)["payload"]) if one.type else one.raw.decode())
        key = str(len(self.records))
        self.records.append(Record(1000 + at, job, "table", key, one.type, payload, error, attempts, 1000 + at))

    def done_to(self, at: float, worker: str, what: str, code: int | None = None, *, asked: bool = True) -> None:
        self.happened.append(Happened(1000 + at, worker, what, code, asked))

    def starts(self, job: str, *at: float) -> None:
        """Move the starts of a job to other times."""
        mine = self.told(job)
        moved = [replace(entry, at=1000 + new) for entry, new in zip(mine, at, strict=False)]
        others = [entry for entry in self.entries if entry not in mine]
        self.entries = sorted([*others, *moved], key=lambda entry: entry.at)

    def forget(self, *jobs: str) -> None:
        """The kit has seen no sign of them since they were pushed."""
        self.entries = [entry for entry in self.entries if entry.job not in jobs]
        self.records = [record for record in self.records if record.job not in jobs]
        self.waiting = [wait for wait in self.waiting if wait.job not in jobs]


def good() -> Tale:
    """Every clause that can be watched is kept."""
    tale = Tale()
    _one_worker(tale)
    _failing(tale)
    _two_workers(tale)
    _deaths(tale)
    _stopping(tale)
    return tale


def cut_short() -> Tale:
    """The first scene of it, and no more."""
    tale = Tale()
    tale.cut_short = "worker-2 ran no job"
    _one_worker(tale)
    return tale


def _one_worker(tale: Tale) -> None:
    jobs = tale.jobs
    tale.push(0, *jobs.before_any_worker())
    tale.done_to(0, "worker-1", "started")
    for situation, key in (
        ("in order", lambda one: one.at),
        ("due before", lambda one: one.due),
        ("due together", lambda one: one.raw),
    ):
        for n, one in enumerate(sorted(tale.of(situation), key=key)):
            tale.run(1 + n / 100, one.name)
    tale.run(1.5, "values", text=TEXT, number=str(NUMBER))
    tale.run(1.5, "star")
    for one in tale.of("undeliverable"):
        payload = "base64:/wBubw==" if b"\0" in one.raw else ""
        tale.record(1.5, one.name, "can't be attempted", 0, payload)
    for n, name in enumerate(tale.push(2, *(jobs.sleep("at once", f"at once {n}", 1.0) for n in range(4)))):
        tale.run(2 + n // 2 * 1.0, name, takes=1.0)
    for situation in ("idle", "cut off"):
        tale.push(4, jobs.echo(situation, situation))
        tale.run(4.01, situation)
    tale.push(4, jobs.echo("delayed", "delayed 0", 2.5))
    tale.run(6.6, "delayed 0")


def _failing(tale: Tale) -> None:
    tale.push(10, *tale.jobs.failing(), tale.jobs.echo("behind", "behind"))
    for job in ("odd bytes", "failing 0"):
        tale.fail(job, (10, "worker-1"), (11.01, "worker-1"), (13.02, "worker-1"))
    for n in (0, 0.001):
        tale.fail("no id", (10 + n, "worker-1"), (11.01 + n, "worker-1"), (13.02 + n, "worker-1"))
    tale.fail("flaky", (10, "worker-1"), (11.01, "worker-1"), last=False)
    tale.run(13.02, "flaky")
    tale.run(10.01, "behind")


def _two_workers(tale: Tale) -> None:
    jobs = tale.jobs
    tale.done_to(20, "worker-2", "started")
    for name in tale.push(20, *(jobs.echo("race", f"race {n}", 0.1) for n in range(3))):
        tale.run(22.5, name)
    tale.push(22, jobs.echo("wrong type", "wrong type", 0.1))
    tale.run(25, "wrong type")
    tale.push(25, jobs.sleep("long", "long", LEASE_S + 1.5))
    tale.run(25, "long", takes=LEASE_S + 1.5)
    tale.push(25, jobs.cancelled(ROUNDS[0]))
    tale.tell(25.01, "cancelled", "start", "worker-2", seen="0")
    tale.cancelled["cancelled"] = 1025.03


def _deaths(tale: Tale) -> None:
    jobs = tale.jobs
    killed = [jobs.sleep("killed", f"killed {n}", 1.0) for n in range(2)]
    tale.push(30, jobs.echo("outlives", "outlives", 1.5), jobs.fail("killed", "killed and failing", 1.0), *killed)
    for one in tale.of("killed"):
        tale.tell(30.01, one.name, "start", "worker-1", seen="0")
    for worker in ("worker-1", "worker-2"):
        tale.done_to(30.05, worker, "SIGKILL")
        tale.done_to(30.06, worker, "ended", -9)
    for worker in ("worker-3", "worker-4"):
        tale.done_to(30.1, worker, "started")
    tale.run(31.51, "outlives", "worker-3")
    tale.run(33.5, "killed 0", "worker-3", takes=1.0)
    tale.run(34.5, "killed 1", "worker-3", takes=1.0)
    tale.fail("killed and failing", (35.5, "worker-3"), (37.51, "worker-3"), (40.52, "worker-3"), takes=1.0)
    held_up, last = jobs.held_up()
    tale.push(31, held_up, last)
    for job in ("paused", "paused last"):
        tale.tell(31.01, job, "start", "worker-4", seen="0")
    tale.done_to(31.05, "worker-4", "SIGSTOP")
    tale.fail("paused", (36, "worker-3"), (38.71, "worker-3"), (42.42, "worker-3"), takes=1.7)
    tale.tell(37.71, "paused last", "start", "worker-3", seen="0")
    tale.record(39.42, "paused last", f"failed at {tale.told('paused last')[-1].id}", 3)
    tale.done_to(36.1, "worker-4", "SIGCONT")
    tale.push(43, jobs.fail("dies again", "dies again", 1.7))
    for at, worker in ((43.01, "worker-6"), (46.5, "worker-7")):
        tale.tell(at, "dies again", "start", worker, seen="0")
        tale.done_to(at + 0.1, worker, "SIGKILL")
        tale.done_to(at + 0.11, worker, "ended", -9)
    tale.fail("dies again", (50.5, "worker-3"), (54.21, "worker-3"), takes=1.7)
    tale.tell(44, "greeting 1", "start", "worker-8")


def _stopping(tale: Tale) -> None:
    jobs = tale.jobs
    tale.done_to(50, "worker-4", "SIGTERM")
    tale.done_to(50.1, "worker-4", "ended", 0)
    tale.push(51, *(jobs.sleep("stopped", f"running {n}", 2.0) for n in range(2)))
    waiting = [jobs.echo("stopped", f"not started {n}") for n in range(3)]
    tale.push(51, *waiting)
    for n in range(2):
        tale.run(51.01, f"running {n}", "worker-3", takes=2.0)
    tale.done_to(51.1, "worker-3", "SIGTERM")
    tale.done_to(53.1, "worker-3", "ended", 0)
    tale.handed_back = [one.raw for one in waiting]
    tale.held = 2
    tale.done_to(54, "worker-5", "started")
    for one in waiting:
        tale.run(55, one.name, "worker-5")
    tale.push(56, *(jobs.sleep("told twice", f"told twice {n}", 60.0, "left") for n in range(2)))
    for n in range(2):
        tale.tell(56.01, f"told twice {n}", "start", "worker-5")
    for at in (56.1, 57.1):
        tale.done_to(at, "worker-5", "SIGTERM")
    tale.done_to(57.2, "worker-5", "ended", 143)
    tale.handed_back_at_once = [one.raw for one in tale.of("told twice")]
