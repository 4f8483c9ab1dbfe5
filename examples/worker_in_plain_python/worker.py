"""A worker without kashvi that shares a queue with kashvi's: ``spec/protocol.md`` in plain Python.

    python worker.py [threads] [lease in seconds] [seconds that a job of an unknown type waits]

One thread calls the server, the others run jobs. It is written for readers, not for speed.
"""

from __future__ import annotations

import os
import queue
import random
import signal
import sys
import threading
import time
import uuid
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import redis
from envelope import COUNT_MAX, Envelope, NotAnEnvelope, wrapped
from failures import Table
from jobs import TYPES
from protocol import Answer, Server, Settlement

LIMIT = 3
GRAVE = 2
ERROR_MAX = 10_000
WAIT_S = 0.5
PAUSED_S = 0.5
"""So often it asks whether a pause of the queue is over."""
LOOK_S = 0.05


@dataclass(eq=False)
class Claim:
    """A job that this worker holds."""

    raw: bytes
    place: str
    envelope: Envelope | None
    job_id: str
    since: float = 0.0
    """The time of its start; of a waiting suspect, the beginning of its wait for others."""

    @property
    def lost(self) -> int:
        return self.envelope.lost if self.envelope else 0


@dataclass
class Ended:
    """A settlement to send, with its time: the server gets the seconds since then."""

    move: str
    claim: Claim | None
    new: bytes = b""
    wait_s: float = 0.0
    at: float = 0.0
    owner: str | bytes = ""
    lease_end: float | None = None
    """When the owner's lease ended, if it is another worker."""


def queue_of(ended: Ended) -> str:
    """Our own jobs came from the default queue. A dead worker's go back to the queue that they name."""
    envelope = ended.claim.envelope if ended.claim else None
    return envelope.queue if ended.owner and envelope else "default"


def lock_of(ended: Ended) -> tuple[str, str]:
    """The key of a unique job, which may come to its end."""
    envelope = ended.claim.envelope if ended.claim and ended.move != "start" else None
    return (envelope.unique, ended.claim.job_id) if ended.claim and envelope and envelope.unique else ("", "")


class Worker:
    """The worker of one process, with a new name."""

    def __init__(self, server: Server, table: Table, threads: int, lease_s: float, unknown_for_s: float) -> None:
        self.name = str(uuid.uuid4())
        self.server, self.table, self.threads, self.lease_s = server, table, threads, lease_s
        self.unknown_for_s = unknown_for_s
        self.server_ahead_s = 0.0
        """The server's clock minus our own."""
        self.n = 0
        self.fresh: list[Claim] = []
        self.suspects: list[Claim] = []
        self.running: list[Claim] = []
        self.outbox: list[Ended] = []
        self.holding: Counter[bytes] = Counter()
        self.todo: queue.SimpleQueue[Claim] = queue.SimpleQueue()
        self.done: queue.SimpleQueue[Ended] = queue.SimpleQueue()
        self.told_to_stop = 0
        self.renewed_at = self.looked_at = -lease_s
        self.ready = self.unrecorded = 0
        self.due_at: float | None = None
        self.compare = False
        """True after a lost reply: the worker must reconcile."""
        self.paused = False

    def work(self) -> None:
        """Work until a signal stops it and running jobs have ended."""
        for _ in range(self.threads):
            threading.Thread(target=self.run_jobs, daemon=True).start()
        while True:
            self.collect()
            if self.told_to_stop:
                self.hand_back(also_running=self.told_to_stop > 1)
                if not self.running and not self.outbox:
                    break
            try:
                self.step()
            except redis.RedisError as error:
                print(f"the server: {error}", flush=True)
                time.sleep(0.1 + 0.2 * random.random())
        self.record()
        self.exchange([Ended("leave", None, owner=self.name)], 0)

    def step(self) -> None:
        """Make one call of the server, or wait shortly for a job to end."""
        now = time.monotonic()
        self.make_way()
        if self.compare:
            self.look_at_what_we_hold()
        elif self.outbox or now - self.renewed_at > self.lease_s / 4 or self.wants() or self.may_announce():
            outbox, self.outbox = self.outbox, []
            self.exchange(outbox, self.wants(idle=True))
        elif now - self.looked_at > self.lease_s / 3 and not self.told_to_stop:
            self.looked_at = now
            self.take_over()
        elif self.unrecorded and self.table.may:
            self.record()
        elif self.running or self.suspects or self.told_to_stop:
            self.collect(LOOK_S)
        else:
            self.wait()
        self.start()

    # -- jobs -----------------------------------------------------------------------------------

    def run_jobs(self) -> None:
        while True:
            claim = self.todo.get()
            try:
                self.done.put(self.attempt(claim))
            except BaseException as error:
                self.done.put(self.failed(claim, f"{type(error).__name__}: {error}"))

    def attempt(self, claim: Claim) -> Ended:
        """Make an attempt. Raises the handler's exception."""
        if claim.envelope is None:
            error = "these bytes are no envelope"
            return Ended("fail", claim, wrapped(claim.raw, claim.job_id, error), at=time.monotonic())
        name = claim.envelope.type
        job_type = TYPES.get(name) or TYPES.get(name.removeprefix("*"))
        if job_type is None:
            return self.not_known(claim, claim.envelope)
        try:
            job = job_type(claim.envelope.payload)
        except (LookupError, TypeError) as error:
            new = claim.envelope.rewritten(id=claim.job_id, error=f"does not fit: {error!r}", unknown_since=None)
            return Ended("fail", claim, new, at=time.monotonic())
        job.handle()
        return Ended("done", claim, at=time.monotonic())

    def not_known(self, claim: Claim, envelope: Envelope) -> Ended:
        """Postpone the job: another worker may know the type, while a new version is rolled out."""
        now = time.monotonic() + self.server_ahead_s
        since = min(envelope.unknown_since or now, now)
        if now - since >= self.unknown_for_s:
            new = envelope.rewritten(id=claim.job_id, error=f"unknown type {envelope.type!r}", unknown_since=None)
            return Ended("fail", claim, new, at=time.monotonic())
        new = envelope.rewritten(id=claim.job_id, unknown_since=since)
        return Ended("retry", claim, new, min(max(now - since, 1.0), 10.0), time.monotonic())

    def failed(self, claim: Claim, error: str, lost: int | None = None) -> Ended:
        """The settlement of a counted attempt. ``lost``: given if it died with its process."""
        assert claim.envelope is not None
        number = min(claim.envelope.attempts + 1, COUNT_MAX)
        if number < claim.envelope.limit(LIMIT):
            new = claim.envelope.rewritten(id=claim.job_id, attempts=number, lost=lost, unknown_since=None)
            return Ended("retry", claim, new, float(number), time.monotonic())
        last = {"error": error[:ERROR_MAX], "lost": None, "unknown_since": None}
        new = claim.envelope.rewritten(id=claim.job_id, attempts=number, **last)
        return Ended("fail", claim, new, at=time.monotonic())

    def collect(self, seconds: float = 0.0) -> None:
        """Collect ended attempts, waiting up to ``seconds`` for the first."""
        try:
            while True:
                ended = self.done.get(timeout=seconds) if seconds else self.done.get_nowait()
                seconds = 0.0
                if ended.claim in self.running:  # else it was handed back meanwhile
                    self.running.remove(ended.claim)
                    self.outbox.append(ended)
        except queue.Empty:
            return

    def start(self) -> None:
        """Start the jobs that may start now."""
        while self.fresh and len(self.running) < self.threads and not self.told_to_stop and not self.guarded():
            self.begin(self.fresh.pop(0))

    def begin(self, claim: Claim) -> None:
        claim.since = time.monotonic()
        self.running.append(claim)
        self.todo.put(claim)
        for other in self.suspects if claim.place == "running" else ():
            other.since = claim.since

    # -- suspects -------------------------------------------------------------------------------

    def guarded(self) -> bool:
        """True if a grave suspect waits or runs in its time: no fresh job starts then."""
        first, running = self.suspects[:1], self.alone()
        return any(claim.lost >= GRAVE for claim in [*first, *([running] if running else [])])

    def alone(self) -> Claim | None:
        """The suspect for which the other suspects still wait, or None."""
        now = time.monotonic()
        for claim in self.running:
            if claim.place == "running" and now - claim.since < 10 * self.lease_s * 2 ** min(claim.lost - 1, 20):
                return claim
        return None

    def may_announce(self) -> bool:
        """True if the gravest suspect may start. A thread must be free, since an announced attempt can count."""
        busy = len(self.running) >= self.threads
        if not self.suspects or self.told_to_stop or self.compare or busy or self.alone():
            return False
        first = self.suspects[0]
        patience = self.lease_s * 2 ** min(max(first.lost - GRAVE, 0), 20)
        return first.lost < GRAVE or not self.running or time.monotonic() - first.since > patience

    def make_way(self) -> None:
        """Hand back fresh jobs that may not start: if they stayed here, a death might be theirs."""
        if self.fresh and self.guarded():
            self.outbox += [Ended("return", claim, claim.raw, at=time.monotonic()) for claim in self.fresh[::-1]]
            self.fresh = []

    # -- the exchange ---------------------------------------------------------------------------

    def wants(self, *, idle: bool = False) -> int:
        """The number of jobs to claim; without ``idle``, 0 unless jobs are known to be ready."""
        if self.told_to_stop or self.guarded():
            return 0
        due = self.due_at is not None and time.monotonic() >= self.due_at
        return max(self.threads - len(self.running) - len(self.fresh), 0) if idle or self.ready or due else 0

    def exchange(self, outbox: list[Ended], want: int) -> None:
        """Exchange until there is an answer: a request that may have arrived is repeated under its number."""
        if self.may_announce():
            first = self.suspects.pop(0)
            outbox.append(Ended("start", first, at=time.monotonic()))
            want = max(want - 1, 0) if first.lost < GRAVE else 0
        self.n += 1
        answer, sent_at = self.send(outbox, want)
        self.renewed_at, self.server_ahead_s = sent_at, answer.server_at - sent_at
        for index, ended in enumerate(outbox):
            claim = ended.claim
            if ended.move == "start" and claim is not None:
                if index not in answer.refused:
                    claim.place = "running"
                    self.begin(claim)
            elif claim is not None and not ended.owner:
                self.holding -= Counter([claim.raw])
        self.admit(answer.claimed)
        self.ready, self.unrecorded = 0 if answer.paused else answer.ready, answer.unrecorded
        self.paused = answer.paused
        if answer.paused:
            self.hand_back(also_running=False)
        self.due_at = None if answer.next_due_s is None or answer.paused else sent_at + max(answer.next_due_s, 0.0)
        self.compare = self.compare or answer.listing is not None or answer.holding != self.holding.total()

    def send(self, outbox: list[Ended], want: int) -> tuple[Answer, float]:
        while True:
            now = time.monotonic()
            settlements = [
                Settlement(
                    ended.move,
                    ended.owner or self.name,
                    ended.claim.place if ended.claim else "held",
                    ended.claim.raw if ended.claim else b"",
                    ended.new,
                    ended.wait_s - (now - ended.at),
                    ended.lease_end,
                    queue=queue_of(ended),
                    lock=lock_of(ended),
                    job_id=ended.claim.job_id if ended.claim else "",
                )
                for ended in outbox
            ]
            try:
                return self.server.exchange(self.name, self.n, self.lease_s, settlements, want), now
            except redis.RedisError as error:
                print(f"exchange {self.n}: {error}", flush=True)
                time.sleep(0.1 + 0.2 * random.random())
                if self.told_to_stop and time.monotonic() - self.renewed_at > self.lease_s:
                    os._exit(1)  # by now others may take its jobs over

    def look_at_what_we_hold(self) -> None:
        """Reconcile: repeat the last number, and adopt jobs that only the listing has: their claim had no answer."""
        answer = self.server.exchange(self.name, self.n, self.lease_s, [], 0)
        self.compare = False
        if answer.listing is None:
            return
        for entries, place in ((answer.listing[0], "held"), (answer.listing[1], "running")):
            known = self.holding.copy()
            for raw in entries:
                if known[raw] > 0:
                    known[raw] -= 1
                else:
                    self.admit([raw], place)
        self.holding = Counter(answer.listing[0] + answer.listing[1])

    def admit(self, envelopes: list[bytes], place: str = "held") -> None:
        for raw in envelopes:
            self.holding[raw] += 1
            claim = claimed(raw, place)
            if claim.lost and place == "held":
                claim.since = time.monotonic()
                self.suspects.append(claim)
                self.suspects.sort(key=lambda one: -one.lost)
            else:
                self.fresh.append(claim)

    def wait(self) -> None:
        """Wait on the server for the next job."""
        seconds = WAIT_S
        if self.paused or time.monotonic() - self.renewed_at > WAIT_S / 2:
            self.paused, due = self.server.look()
            if self.paused:
                self.collect(PAUSED_S)
                return
            self.due_at = self.due_at if due is None else time.monotonic() + due
        if self.due_at is not None:
            seconds = min(seconds, self.due_at - time.monotonic())
        if seconds < 0.001:
            self.ready = 1
            return
        try:
            found = self.server.wait(self.name, seconds)
        except redis.RedisError:
            self.compare = True
            raise
        self.admit([found] if found else [])
        self.ready = 1 if found else 0

    # -- dead workers, and failures -------------------------------------------------------------

    def take_over(self) -> None:
        """Settle for workers whose lease is over: each as a whole, in one exchange."""
        found, gone = self.server.dead()
        for owner, left in found.items():
            if owner != self.name.encode():
                ended = [self.of_the_dead(*one) for one in verdicts(left.held, left.running)]
                self.exchange([replace(one, owner=owner, lease_end=left.lease_end) for one in ended], 0)
        if gone:
            self.exchange([Ended("leave", None, owner=owner) for owner in gone], 0)

    def of_the_dead(self, raw: bytes, place: str, deaths: int, certain: bool) -> Ended:
        """The settlement of a dead worker's job. ``deaths``: the number to add to its ``lost``."""
        claim = claimed(raw, place)
        if claim.envelope is None:
            ended = self.attempt(claim)
        elif certain:
            number = claim.envelope.attempts + 1
            ended = self.failed(claim, f"the process died during attempt {number}", claim.lost + deaths)
        else:
            new = claim.envelope.rewritten(id=claim.job_id, lost=min(claim.lost + deaths, COUNT_MAX)) if deaths else raw
            ended = Ended("return", claim, new, at=time.monotonic())
        return ended

    def record(self) -> None:
        while entries := self.server.unrecorded(16):
            if not self.table.record(entries):
                return
            self.server.recorded([raw for raw, _ in entries])
        self.unrecorded = 0

    def hand_back(self, *, also_running: bool) -> None:
        """Hand back jobs that have not started, newest first with unchanged bytes; and running ones, uncounted."""
        back = [*self.suspects[::-1], *self.fresh[::-1], *(self.running if also_running else [])]
        self.outbox += [Ended("return", claim, claim.raw, at=time.monotonic()) for claim in back]
        self.fresh, self.suspects = [], []
        self.running = [] if also_running else self.running


def claimed(raw: bytes, place: str) -> Claim:
    try:
        envelope = Envelope(raw)
    except NotAnEnvelope:
        return Claim(raw, place, None, str(uuid.uuid4()))
    return Claim(raw, place, envelope, envelope.id or str(uuid.uuid4()))


def verdicts(held: list[bytes], running: list[bytes]) -> list[tuple[bytes, str, int, bool]]:
    """For each job its bytes, place, deaths to add, and True if it alone can be the cause; in the order of going back.

    Both lists have the newest first.
    """
    read = [claimed(raw, "held") for raw in held]
    certain = len(running) == 1 and not any(claim.envelope and not claim.lost for claim in read)
    found = [(claim.raw, "held", 0 if claim.lost else 1, False) for claim in read]
    announced = [(raw, "running", 1 if n or certain else 2, certain) for n, raw in enumerate(running)]
    return found + announced[::-1]


def main() -> None:
    threads = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    lease_s = float(sys.argv[2]) if len(sys.argv) > 2 else 30.0
    unknown_for_s = float(sys.argv[3]) if len(sys.argv) > 3 else 600.0
    client: Any = redis.Redis.from_url(os.environ["KASHVI_REDIS_URL"], socket_timeout=10.0)
    worker = Worker(Server(client), Table(os.environ["KASHVI_DATABASE_URL"]), threads, lease_s, unknown_for_s)

    told_at = 0.0

    def stop(number: int, frame: object) -> None:
        nonlocal told_at
        if not worker.told_to_stop or time.monotonic() - told_at >= 1.0:  # else it is a duplicate
            worker.told_to_stop, told_at = worker.told_to_stop + 1, time.monotonic()

    signal.signal(signal.SIGTERM, stop)
    worker.work()
    os._exit(128 + signal.SIGTERM if worker.told_to_stop > 1 else 0)


if __name__ == "__main__":
    main()
