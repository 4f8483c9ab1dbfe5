"""Steps about exhausted jobs, which are kept until a table has them."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

from kashvi_sim.runs.undisturbed import undisturbed

from kashvi.ports import READ_MAX_BYTES, Failure, Refusal
from kashvi.runtime import SystemRuntime
from kashvi.stream import EventStream
from kashvi.worker.recorder import Recorder

from . import Bench, envelopes, expect, step


@step("FAILURES-1")
def _(bench: Bench) -> None:
    """A job settled as failed is kept with its new bytes and its time of failure."""
    bench.push(b"a")
    w = bench.worker()
    w.claim()
    answer = w.exchange(w.settlement("fail", b"a", b"a failed", in_s=-2))
    expect((answer.refused, answer.holding, answer.unrecorded), ((), 0, 1), "refused, holding, unrecorded")
    found = bench.driver.unrecorded(10)
    expect([entry.envelope for entry in found], [b"a failed"], "unrecorded")
    [entry] = found
    if abs(entry.failed_at - (answer.server_at - 2 * bench.second)) > 0.001:
        raise AssertionError(f"it failed two seconds before {answer.server_at}, and is kept as {entry.failed_at}")


@step("FAILURES-8")
def _(bench: Bench) -> None:
    """Failed jobs stay, oldest first, until they are recorded; ``recorded`` is idempotent."""
    names = [b"c", b"a", b"b"]
    bench.push(*names)
    w = bench.worker()
    w.claim(5)
    for name in names:
        w.exchange(w.settlement("fail", name, name))
        bench.let_pass(1)
    expect([one.envelope for one in bench.driver.unrecorded(2)], [b"c", b"a"], "the two oldest")
    bench.driver.recorded([b"c", b"b"])
    bench.driver.recorded([b"c", b"nobody's"])
    expect([one.envelope for one in bench.driver.unrecorded(9)], [b"a"], "unrecorded after two were recorded")
    expect(w.exchange().unrecorded, 1, "unrecorded, as an exchange has it")


ODD = (0, 400, 499, 500, 700)


class Odd:
    """A table that refuses some rows for their content."""

    def __init__(self) -> None:
        self.rows: list[str] = []

    def record(self, failures: Sequence[Failure]) -> dict[str, Refusal]:
        refused = {one.job_id: Refusal("too odd") for one in failures if int(one.job_id) in ODD}
        self.rows += [one.job_id for one in failures if one.job_id not in refused]
        return refused


@step("FAILURES-8")
def _(bench: Bench) -> None:
    """However many wait, all are recorded in one go, save those that the table refuses; these stay."""
    failed = list(envelopes(800))
    bench.push(*failed)
    w = bench.worker(lease=1000)
    for _ in failed:  # bounded, since a faulty driver may return a job for ever
        if not (claimed := w.claim(300)):
            break
        w.exchange(*(w.settlement("fail", one, one) for one in claimed))
    table, runtime = Odd(), SystemRuntime()
    recorder = Recorder(bench.driver, table, runtime, EventStream("", runtime.now, lambda: False), lambda *_: None)
    with undisturbed():
        expect(recorder.run(len(failed)), False, "that nothing waits any more, with rows that were refused")
    odd = [failed[n] for n in ODD]
    expect(len(table.rows), len(failed) - len(odd), "rows")
    expect(sorted(one.envelope for one in bench.driver.unrecorded(1000)), odd, "unrecorded")


@step("FAILURES-8", needs_clock=True)
def _(bench: Bench) -> None:
    """A failure that waits in the place of one that another process recorded is recorded within half a minute."""
    odd, good = envelopes(2)
    table, runtime = Odd(), SimpleNamespace(monotonic=lambda: bench.now, sleep=lambda seconds: None)
    stream = EventStream("", lambda: bench.now, lambda: False)
    recorder = Recorder(bench.driver, table, runtime, stream, lambda *_: None)
    w = bench.worker(lease=1000)
    with undisturbed():
        for one in (odd, good):
            bench.push(one)
            w.claim()
            w.exchange(w.settlement("fail", one, one))
            recorder.run(1)
            bench.driver.recorded([odd])
        bench.let_pass(31)
        recorder.run(1)
    expect(table.rows, ["000001"], "rows")


@step("DELIVERY-13")
def _(bench: Bench) -> None:
    """Failures are read up to the one that reaches 4 MiB, from any place on; dead workers' jobs, too."""
    large = [one + b" " * (READ_MAX_BYTES // 2) for one in envelopes(5)]
    bench.push(*large)
    w, v = bench.worker("w"), bench.worker("v", lease=1000)
    for _ in large:  # bounded, since a faulty driver may return a job for ever
        v.exchange()
        for one in w.claim(300)[: 3 - bench.counts()[3]]:
            w.exchange(w.settlement("fail", one, one))
            bench.let_pass(0.1)
    read = [[large.index(one.envelope) for one in bench.driver.unrecorded(300, skip)] for skip in range(4)]
    expect(read, [[0, 1], [1, 2], [2], []], "unrecorded, past the first 0, 1, 2 and 3")
    expect(len(bench.driver.unrecorded(1, 1)), 1, "unrecorded, asked for one")
    bench.let_pass(20)
    expect(len(bench.lost()), 2, "lost")
    bench.push(large[0])
    u = bench.worker("u")
    u.claim(1)
    bench.let_pass(20)
    found = bench.driver.expired(300)
    expect((len(found.lost), found.more), (2, True), "lost, and whether there is more, of three")
