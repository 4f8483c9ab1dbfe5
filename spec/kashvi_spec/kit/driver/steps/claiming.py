"""Steps about pushing, promoting and claiming: jobs, times and order."""

from __future__ import annotations

from kashvi.ports import PAUSED, READ_MAX_BYTES
from kashvi.runtime import SystemRuntime

from . import Bench, envelopes, expect, pausing, step


@step("DISPATCH-1")
def _(bench: Bench) -> None:
    """A pushed job is on the queue, ready or delayed, until it is claimed."""
    bench.push(b"a", b"b")
    bench.push(b"c", delay=5)
    expect(bench.counts(), (2, 1, 0, 0), "ready, delayed, held, unrecorded after two pushes and a delayed one")


@step("DISPATCH-2")
def _(bench: Bench) -> None:
    """A push without delay returns no due time; an exchange claims the job, and so does a wait."""
    w = bench.worker()
    expect(bench.push(b"a"), None, "a push without delay returns")
    expect(w.claim(), [b"a"], "an exchange claims")
    bench.push(b"b")
    expect(bench.driver.wait("w", 0.0), b"b", "a wait of 0 s returns")
    expect(bench.driver.wait("w", 0.0), None, "a wait of 0 s on an empty queue returns")
    expect(bench.counts(), (0, 0, 2, 0), "ready, delayed, held, unrecorded after two claims")


@step("DISPATCH-2")
def _(bench: Bench) -> None:
    """A waiting worker gets a job that is pushed meanwhile; waking a worker does no harm."""
    got: list[bytes] = []
    raised: list[BaseException] = []

    def wait() -> None:
        try:
            for _ in range(1000):  # a wait may end early
                if isinstance(envelope := bench.driver.wait("w", 2.0), bytes):
                    got.append(envelope)
                    return
                SystemRuntime().sleep(0.001)
        except BaseException as error:
            raised.append(error)

    waiting = SystemRuntime().spawn(wait, "waiting")
    waiting.join(0.05)
    bench.driver.wake("nobody")
    bench.push(b"a")
    waiting.join(20)
    for error in raised:
        raise error
    expect(got, [b"a"], "waits of 2 s, one after the other, returned")


@step("DISPATCH-3")
def _(bench: Bench) -> None:
    """Claims come in the order of the pushes, by any worker and in any number."""
    pushed = list(envelopes(9))
    bench.push(*pushed[:4])
    bench.push(pushed[4])
    bench.push(*pushed[5:])
    v, w = bench.worker("v"), bench.worker("w")
    waited = bench.driver.wait("w", 0.0)
    claimed = [*v.claim(3), *w.claim(2), waited or b"", *v.claim(100)]
    expect([claimed[5], *claimed[:5], *claimed[6:]], pushed, "claimed, a wait first")


@step("DISPATCH-5")
def _(bench: Bench) -> None:
    """Two entries of the same bytes are two jobs."""
    bench.push(b"same")
    bench.push(b"same", b"same")
    w = bench.worker()
    expect(w.claim(5), [b"same"] * 3, "an exchange claims")
    expect(w.settle("done", b"same"), True, "the first is settled")
    expect(bench.counts(), (0, 0, 2, 0), "ready, delayed, held, unrecorded after one of three is settled")


@step("DISPATCH-10")
def _(bench: Bench) -> None:
    """An exchange claims no more than it wants, and returns how many are left."""
    bench.push(*envelopes(1500))
    w = bench.worker()
    first = w.exchange(want=700)
    claimed = len(first.claimed)
    if not 0 < claimed <= 700:
        raise AssertionError(f"an exchange that wants 700 of 1,500 claims {claimed}")
    expect((first.holding, first.ready), (claimed, 1500 - claimed), f"holding, ready after {claimed} were claimed")
    answer = w.exchange()
    expect((answer.claimed, answer.holding), ([], claimed), "claimed, holding with want=0")
    expect(claimed + len(w.claim_all()), 1500, "claimed in the end")


@step("DELIVERY-13")
def _(bench: Bench) -> None:
    """A claim ends with the job that reaches 4 MiB, and one larger than that is claimed alone."""
    large = [one + b" " * (READ_MAX_BYTES // 2) for one in envelopes(3)]
    huge = b"{}" + b" " * READ_MAX_BYTES
    bench.push(*large, huge, b"small")
    w = bench.worker()
    expect([len(w.claim(300)) for _ in range(4)], [2, 2, 1, 0], "claimed in four exchanges")


@step("ENVELOPE-5")
def _(bench: Bench) -> None:
    """Any bytes come back unchanged."""
    odd = [b"\x00", b"\xff\xfe not UTF-8", b"a\r\nb\n", bytes(range(256)), b"x" * 1_048_576, "ü—日本".encode()]
    bench.push(*odd)
    expect(bench.worker().claim(10), odd, "claimed")


@step("DELAY-1")
def _(bench: Bench) -> None:
    """A delayed job is claimed when it is due, and not a moment before."""
    due = bench.push(b"a", delay=5)
    w = bench.worker()
    first = w.exchange(want=1)
    if due is None or abs(due - first.server_at - 5 * bench.second) > bench.second:
        raise AssertionError(f"a push with a delay of 5 s at {first.server_at} returned {due}, not when it is due")
    expect(first.claimed, [], "claimed at once")
    left = first.next_due_s or 0.0
    if not 0 < left <= (5 + bench.moment) * bench.second:
        raise AssertionError(f"next_due_s is {first.next_due_s} at once after a push with a delay of 5 s")
    bench.let_pass(5 - bench.moment)
    expect(bench.driver.wait("w", 0.0), None, f"a wait {bench.moment} s before it is due returns")
    expect(w.claim(), [], f"claimed {bench.moment} s before it is due")
    bench.let_pass(2 * bench.moment)
    answer = w.exchange(want=1)
    expect(answer.claimed, [b"a"], f"claimed {bench.moment} s after it is due")
    expect(answer.next_due_s, None, "next_due_s when none is delayed")
    if answer.server_at < due:
        raise AssertionError(f"claimed at {answer.server_at}, before it was due at {due}")


@step("DELAY-1")
def _(bench: Bench) -> None:
    """``next_due`` returns the due time of the earliest delayed job, and None if there is none."""
    expect(bench.driver.next_due(), None, "next_due() of an empty queue")
    bench.push(b"later", delay=9)
    due = bench.push(b"sooner", delay=5)
    expect(bench.driver.next_due(), due, "next_due()")
    bench.let_pass(5 + bench.moment)
    expect(bench.driver.next_due(), due, "next_due() of a job that is due and not promoted yet")
    expect(bench.worker().claim(2), [b"sooner"], "claimed when it is due")


@step("DELAY-3")
def _(bench: Bench) -> None:
    """A delay of zero, or less, joins the queue where a push without delay would."""
    bench.push(b"a")
    bench.push(b"b", delay=0)
    bench.push(b"c")
    expect(bench.worker().claim(5), [b"a", b"b", b"c"], "claimed")


@step("DELAY-5")
def _(bench: Bench) -> None:
    """Due jobs are promoted in the order of their due times, behind the ready jobs."""
    w = bench.worker()
    for name, delay in ((b"3", 3), (b"1", 1), (b"2", 2), (b"4", 30)):
        bench.push(name, delay=delay)
    bench.push(b"0")
    bench.let_pass(5)
    expect(w.exchange().ready, 4, "ready after an exchange that wants none")
    answer = w.exchange(want=10)
    expect(answer.claimed, [b"0", b"1", b"2", b"3"], "claimed after 5 s")
    expect(bench.counts()[1], 1, "delayed after 5 s")


@step("DELAY-6")
def _(bench: Bench) -> None:
    """Jobs with one due time are promoted in the order of their bytes, which is that of their ids."""
    batch = list(envelopes(20))
    bench.push(*batch[10:][::-1], *batch[:10], delay=2)
    bench.let_pass(3)
    expect(bench.worker().claim_all(), batch, "claimed")


@step("DELAY-8")
def _(bench: Bench) -> None:
    """A due job is promoted once, by any worker, and is no longer delayed."""
    bench.push(*envelopes(50), delay=1)
    bench.let_pass(2)
    expect(bench.worker("v").exchange().ready, 50, "ready after an exchange that wants none")
    claimed = [one for n in range(5) for one in bench.worker(f"w{n}").claim_all()]
    expect(claimed, list(envelopes(50)), "claimed by five workers")
    expect(bench.counts(), (0, 0, 50, 0), "ready, delayed, held, unrecorded")


@step("REDIS-3", needs_again=True)
def _(bench: Bench) -> None:
    """Another process counts, claims and settles the jobs that one process pushed."""
    bench.push(b"a", b"b")
    bench.push(b"c", delay=1)
    bench.driver = bench.another_handle()
    bench.let_pass(2)
    w = bench.worker()
    expect(w.claim(5), [b"a", b"b", b"c"], "claimed through another handle")
    expect(w.settle("done", b"b"), True, "one of them is settled")
    expect(bench.another_handle().stats().held, 2, "held, counted through a third handle")


@step("WORKERS-21")
def _(bench: Bench) -> None:
    """While the queue is paused, exchanges settle, promote and say so, and claim nothing; then they claim again."""
    driver = pausing(bench.driver)
    bench.push(b"a", b"b")
    w = bench.worker()
    w.claim(1)
    since = driver.pause()
    bench.let_pass(1)
    bench.push(b"c", delay=1)
    bench.let_pass(2)
    expect(driver.pause(), since, "the time of a pause that is made again")
    expect(driver.paused_since(), since, "the time of the pause")
    expect(bench.driver.next_due(), PAUSED, "next_due of a paused queue")
    answer = w.exchange(w.settlement("done", b"a"), want=5)
    got = answer.paused, answer.claimed, answer.refused, answer.ready
    expect(got, (True, [], (), 2), "paused, claimed, refused, ready")
    expect(w.repeat().paused, True, "paused, when repeated")
    driver.resume()
    expect((driver.paused_since(), bench.driver.next_due()), (None, None), "since when, and what is due, when resumed")
    answer = bench.worker("v").exchange(want=5)
    expect((answer.paused, sorted(answer.claimed)), (False, [b"b", b"c"]), "paused, claimed after that")


@step("WORKERS-21", needs_again=True)
def _(bench: Bench) -> None:
    """A pause that one process makes holds for another one."""
    pausing(bench.another_handle()).pause()
    bench.push(b"a")
    expect(bench.worker().claim(5), [], "claimed under another handle's pause")
    pausing(bench.driver).resume()
    bench.driver = bench.another_handle()
    expect(bench.worker("v").claim(5), [b"a"], "claimed through another handle after that")
