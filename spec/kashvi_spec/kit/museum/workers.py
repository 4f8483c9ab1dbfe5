"""Workers that miscount, hurry, forget or do too much: kashvi's own, with one rule broken."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Any

from kashvi import dispatch, envelope, retry, settle
from kashvi.attempt import Attempts
from kashvi.books import Books
from kashvi.dispatch import Sealed
from kashvi.errors import DriverError
from kashvi.keeper import Keeper
from kashvi.lease import Answered, Lease, Request
from kashvi.ports import Driver, Exchange, Settlement
from kashvi.settle import Delivery, Settling
from kashvi.worker import Worker

from . import Patch, exhibit


@exhibit("ack before handling", "settled as done when it is claimed", "JOBS-2 DISPATCH-1")
def _(patch: Patch) -> None:
    real = Worker._admit

    def _admit(self: Worker, raw: bytes, *args: Any) -> None:
        d = settle.delivery(raw, self.id, self._runtime.new_id, 0.0)
        self._books.outbox.append(settle.succeeded(d, self._runtime.monotonic()))
        real(self, raw, *args)

    patch.setattr(Worker, "_admit", _admit)


@exhibit("errors are swallowed", "a handler that raises has succeeded", "JOBS-2")
def _(patch: Patch) -> None:
    patch.setattr(settle, "failed", lambda d, ended_at, *rest: settle.succeeded(d, ended_at))


@exhibit("only exceptions are failures", "SystemExit ends the thread, and the job with it", "JOBS-2 WORKERS-2")
def _(patch: Patch) -> None:
    real = settle.failed

    def failed(d: Delivery, ended_at: float, error: str, most: int) -> Settling:
        return settle.succeeded(d, ended_at) if error.startswith("SystemExit") else real(d, ended_at, error, most)

    patch.setattr(settle, "failed", failed)


@exhibit("retry off by one", "one attempt more than allowed", "RETRY-1")
def _(patch: Patch) -> None:
    patch.setattr(retry, "decide", lambda n, most: retry.RetryAfter(float(n)) if n <= most else retry.GiveUp())


@exhibit("gives up too early", "one attempt less than allowed", "RETRY-1")
def _(patch: Patch) -> None:
    patch.setattr(retry, "decide", lambda n, most: retry.RetryAfter(float(n)) if n < most - 1 else retry.GiveUp())


@exhibit("constant backoff", "one second after every attempt", "RETRY-2")
def _(patch: Patch) -> None:
    patch.setattr(retry, "decide", lambda n, most: retry.RetryAfter(1.0) if n < most else retry.GiveUp())


@exhibit("exponential backoff", "1, 2, 4 s", "RETRY-2")
def _(patch: Patch) -> None:
    patch.setattr(retry, "decide", lambda n, most: retry.RetryAfter(2.0 ** (n - 1)) if n < most else retry.GiveUp())


@exhibit("backoff in milliseconds", "a unit is lost on the way", "RETRY-2")
def _(patch: Patch) -> None:
    patch.setattr(retry, "decide", lambda n, most: retry.RetryAfter(n / 1000) if n < most else retry.GiveUp())


@exhibit("a wait after the last attempt", "the original sleeps before it looks at the limit", "RETRY-3")
def _(patch: Patch) -> None:
    real = settle._counted

    def _counted(d: Delivery, ended_at: float, error: str, most: int, decision: Any, lost: int | None) -> Settling:
        if isinstance(decision, retry.GiveUp) and d.attempts + 1 == most and b'"rested"' not in d.raw:
            new = envelope.rewrite(d.raw, d.job_id, attempts=most)
            return Settling("retry", d, ended_at, new, most, float(most), error, most)
        return real(d, ended_at, error, most, decision, lost)

    def make(self: Attempts, d: Delivery) -> Settling:
        if d.attempts >= self._max_attempts():
            new = envelope.rewrite(d.raw, d.job_id, error="x")
            at = self._runtime.monotonic()
            return Settling("fail", d, at, new, d.attempts, 0.0, "x", self._max_attempts())
        return real_make(self, d)

    real_make = Attempts.make
    patch.setattr(settle, "_counted", _counted)
    patch.setattr(Attempts, "make", make)


@exhibit("the limit is read once", "a running worker does not hear of a new limit", "RETRY-5")
def _(patch: Patch) -> None:
    real = Attempts.__init__

    def init(self: Attempts, *args: Any, **named: Any) -> None:
        real(self, *args, **named)
        limit = self._max_attempts()
        self._max_attempts = lambda: limit

    patch.setattr(Attempts, "__init__", init)


@exhibit("waits in the worker", "a failed attempt keeps its thread until the next one, as in the original", "RETRY-4")
def _(patch: Patch) -> None:
    real = Attempts.make

    def make(self: Attempts, d: Delivery) -> Settling:
        settling = real(self, d)
        if settling.move == "retry":
            self._runtime.sleep(settling.wait_s)
        return settling

    patch.setattr(Attempts, "make", make)


@exhibit("attempts are counted twice", "every failure costs two", "RETRY-6")
def _(patch: Patch) -> None:
    real = settle._counted

    def _counted(d: Delivery, *args: Any, **named: Any) -> Settling:
        settling = real(d, *args, **named)
        if settling.move == "retry":
            new = envelope.rewrite(d.raw, d.job_id, attempts=settling.attempts + 1)
            return replace(settling, new=new, attempts=settling.attempts + 1)
        return settling

    patch.setattr(settle, "_counted", _counted)


@exhibit("the first error is kept", "what is recorded is why it failed at first", "FAILURES-4")
def _(patch: Patch) -> None:
    first: dict[str, str] = {}
    real = settle.failed

    def failed(d: Delivery, ended_at: float, error: str, most: int) -> Settling:
        return real(d, ended_at, first.setdefault(d.job_id, error + f" (attempt {d.attempts + 1})"), most)

    patch.setattr(settle, "failed", failed)


@exhibit("the error is lost", "a failure is recorded without a reason", "FAILURES-4")
def _(patch: Patch) -> None:
    real = settle.failed
    patch.setattr(settle, "failed", lambda d, ended_at, error, most: real(d, ended_at, "", most))


@exhibit("the limit is recorded", "instead of the attempts that were made", "FAILURES-5")
def _(patch: Patch) -> None:
    real = settle._counted

    def _counted(*args: Any, **named: Any) -> Settling:
        settling = real(*args, **named)
        return replace(settling, attempts=settling.attempts + 1) if settling.move == "fail" else settling

    patch.setattr(settle, "_counted", _counted)


@exhibit("unknown types are dropped", "as the original does, with a line in the log", "FAILURES-6")
def _(patch: Patch) -> None:
    patch.setattr(settle, "undeliverable", lambda d, ended_at, error: settle.succeeded(d, ended_at))


@exhibit("unknown types are tried again", "as if a handler had raised", "FAILURES-6")
def _(patch: Patch) -> None:
    def _undeliverable(self: Attempts, d: Delivery, why: str) -> Settling:
        return settle.failed(d, self._runtime.monotonic(), why, self._max_attempts())

    patch.setattr(Attempts, "_undeliverable", _undeliverable)


@exhibit("ids repeat", "every job of a type has the same id", "DISPATCH-5")
def _(patch: Patch) -> None:
    real = dispatch.seal_job

    def seal_job(job: object, registry: Any, runtime: Any, limit: int) -> Sealed:
        sealed = real(job, registry, runtime, limit)
        same = sealed.job_id[:-12] + "000000000000"
        return Sealed(same, sealed.type, sealed.envelope.replace(sealed.job_id.encode(), same.encode()))

    from kashvi import queues

    patch.setattr(dispatch, "seal_job", seal_job)
    if hasattr(queues, "seal_job"):
        patch.setattr(queues, "seal_job", seal_job)


@exhibit("heartbeat forgotten", "a lease is renewed only when a job ends", "DELIVERY-4")
def _(patch: Patch) -> None:
    patch.setattr(Worker, "exchange_if_due", lambda self: None)


@exhibit("claim reply lost", "what a lost reply handed over is not looked for", "DELIVERY-6")
def _(patch: Patch) -> None:
    real = Books.choose

    def choose(self: Books) -> Any:
        self.audit = False
        return real(self)

    patch.setattr(Books, "choose", choose)


@exhibit("settle sent again under a new number", "a lost reply is answered by doing it twice", "DELIVERY-6")
def _(patch: Patch) -> None:
    real = Lease._send

    def send(self: Lease, request: Request, give_up: Any) -> Answered | None:
        driver: Driver = self._driver

        class Renumbering:
            def exchange(own, worker: str, n: int, *args: Any) -> Exchange:  # noqa: N805
                try:
                    return driver.exchange(worker, self._n, *args)
                except DriverError as error:
                    if error.maybe_sent:
                        self._n += 1
                    raise

        self._driver = Renumbering()  # type: ignore[assignment]
        try:
            return real(self, request, give_up)
        finally:
            self._driver = driver

    patch.setattr(Lease, "_send", send)


@exhibit("wake-up lost", "threads that wait are not told of work or of the end", "WORKERS-1")
def _(patch: Patch) -> None:
    from kashvi_sim.kernel import Condition

    patch.setattr(Condition, "notify_all", lambda self: None)
    patch.setattr(Condition, "notify", lambda self, n=1: None)


@exhibit("nobody reclaims", "jobs of a dead process stay in its list", "DELIVERY-1 DELIVERY-2")
def _(patch: Patch) -> None:
    patch.setattr(Keeper, "_reclaim", lambda self, now: None)


@exhibit("a lost attempt is never counted", "a poison job runs for ever", "DELIVERY-10")
def _(patch: Patch) -> None:
    patch.setattr(retry, "decide_lost", lambda announced, attempts, most: retry.SendBack())


@exhibit("every lost job is counted", "a poison job takes its neighbours along", "DELIVERY-8")
def _(patch: Patch) -> None:
    patch.setattr(retry, "decide_lost", lambda announced, attempts, most: retry.decide(attempts + 1, most))


@exhibit("suspects run together", "so the next death has many suspects", "DELIVERY-9")
def _(patch: Patch) -> None:
    real = Books._may_start_suspect

    def _may_start_suspect(self: Books) -> bool:
        self._suspect_at = None
        return real(self)

    patch.setattr(Books, "_may_start_suspect", _may_start_suspect)


@exhibit("suspects are not announced", "they start like any other job", "DELIVERY-9")
def _(patch: Patch) -> None:
    real = Books.admit

    def admit(self: Books, d: Delivery) -> None:
        place, d.place = d.place, "running"
        real(self, d)
        d.place = place

    patch.setattr(Books, "admit", admit)


@exhibit("one thread too many", "a worker of n runs n + 1", "WORKERS-1")
def _(patch: Patch) -> None:
    real = Worker.__init__

    def init(self: Worker, *args: Any, **named: Any) -> None:
        real(self, *args, **named)
        self.threads -= 1 if self.threads > 1 else 0  # what it says it has

    patch.setattr(Worker, "__init__", init)


@exhibit("claims while it stops", "a worker that was told to stop goes on taking jobs", "WORKERS-3")
def _(patch: Patch) -> None:
    real_sending, real_release = Books.sending, Books.release

    def sending(self: Books, claim: bool) -> Any:
        stopping, self.stopping = self.stopping, False
        try:
            return real_sending(self, claim)
        finally:
            self.stopping = stopping

    patch.setattr(Books, "sending", sending)
    patch.setattr(Books, "release", lambda self: None if self.running else real_release(self))


@exhibit(
    "what was not started is forgotten at the stop", "a worker that stops drops what it had claimed ahead", "WORKERS-3"
)
def _(patch: Patch) -> None:
    def release(self: Books) -> None:
        self._ready = deque()
        self._suspects = deque()

    patch.setattr(Books, "release", release)


@exhibit("running jobs are dropped at the stop", "a stop does not wait for them", "WORKERS-3")
def _(patch: Patch) -> None:
    real = Books.stop

    def stop(self: Books) -> None:
        real(self)
        self.outbox += [settle.returned(d, self._now()) for d in self.running.values()]

    patch.setattr(Books, "stop", stop)


@exhibit("retry by the worker's own clock", "due is what the process thinks the time is", "RETRY-2")
def _(patch: Patch) -> None:
    real = settle.Settling.sent

    def sent(self: Settling, monotonic: float) -> Settlement:
        s = real(self, monotonic)
        return s._replace(in_s=s.in_s - 0.5) if s.move == "retry" else s

    patch.setattr(settle.Settling, "sent", sent)


@exhibit(
    "delays by the producer's clock",
    "the due time is made where the job is dispatched, by that host's clock",
    "DELAY-7",
)
def _(patch: Patch) -> None:
    from kashvi_sim.network import Line

    real = Line.push

    def push(self: Line, envelopes: Any, delay_s: float = 0.0) -> float | None:
        skew = self._process.now() - self._kernel.time
        return real(self, envelopes, max(delay_s + skew, 0.001) if delay_s else 0.0)

    patch.setattr(Line, "push", push)


@exhibit("polls every three seconds", "an idle worker looks for due jobs now and then", "DELAY-2")
def _(patch: Patch) -> None:
    real = Worker._wait

    def _wait(self: Worker) -> None:
        self._books.next_due_at = None
        self._runtime.sleep(3.0)
        real(self)

    patch.setattr(Worker, "_wait", _wait)
