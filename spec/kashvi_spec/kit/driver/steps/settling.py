"""Steps about settling: each move is accepted once, from the owner."""

from __future__ import annotations

from kashvi.ports import FollowUp

from . import Bench, expect, step


@step("JOBS-2")
def _(bench: Bench) -> None:
    """A job settled as done is in no list."""
    bench.push(b"a", b"b")
    w = bench.worker()
    w.claim(2)
    answer = w.exchange(w.settlement("done", b"a"))
    expect((answer.refused, answer.holding), ((), 1), "refused, holding after one of two is done")
    expect(bench.counts(), (0, 0, 1, 0), "ready, delayed, held, unrecorded")


@step("RETRY-2")
def _(bench: Bench) -> None:
    """A job settled as a retry is due after exactly that time, with its new bytes."""
    bench.push(b"old")
    w = bench.worker()
    w.claim()
    settled = w.exchange(w.settlement("retry", b"old", b"new", in_s=3))
    expect((settled.refused, bench.counts()), ((), (0, 1, 0, 0)), "refused; ready, delayed, held, unrecorded")
    bench.let_pass(3 - bench.moment)
    expect(w.claim(), [], f"claimed {bench.moment} s before it is due")
    bench.let_pass(2 * bench.moment)
    expect(w.claim(), [b"new"], f"claimed {bench.moment} s after it is due")


@step("RETRY-7")
def _(bench: Bench) -> None:
    """A job that is done or failed never comes back, even after its worker's lease."""
    bench.push(b"a", b"b")
    w = bench.worker()
    expect(w.claim(2), [b"a", b"b"], "claimed")
    w.exchange(w.settlement("done", b"a"), w.settlement("fail", b"b", b"b2"))
    bench.let_pass(30)
    expect((bench.lost(), bench.worker("v").claim(5)), ([], []), "lost, claimed by another worker")


@step("DELIVERY-5")
def _(bench: Bench) -> None:
    """Each move is accepted once; a worker can't settle a job that it does not hold."""
    w = bench.worker()
    bench.push(b"a", b"b", b"c", b"d", b"e")
    expect(w.claim(4), [b"a", b"b", b"c", b"d"], "claimed")
    moves = [
        w.settlement("done", b"a"),
        w.settlement("retry", b"b", b"b", in_s=60),
        w.settlement("fail", b"c", b"c"),
        w.settlement("return", b"d", b"d"),
    ]
    expect(w.exchange(*moves).refused, (), "refused at first")
    before = bench.counts()
    expect(before, (2, 1, 0, 1), "ready, delayed, held, unrecorded")
    expect(w.exchange(*moves).refused, (0, 1, 2, 3), "refused the second time")
    never_held = (w.settlement("done", b"e"), w.settlement("done", b"z"), w.settlement("done", b"d", place="running"))
    expect(w.exchange(*never_held).refused, (0, 1, 2), "refused of jobs that it does not hold")
    expect(bench.counts(), before, "ready, delayed, held, unrecorded after what was refused")


@step("DELIVERY-5")
def _(bench: Bench) -> None:
    """A worker can't settle a job that was taken over after its lease, but can settle the others."""
    w, v = bench.worker("w"), bench.worker("v")
    bench.push(b"a", b"b")
    w.claim(2)
    bench.let_pass(11)
    expect(v.settle("return", b"a", new=b"a2", owner="w"), True, "taken over after the lease")
    answer = w.exchange(w.settlement("done", b"a"), w.settlement("done", b"b"))
    expect(answer.refused, (0,), "refused of the two that it held")
    expect(v.claim(5), [b"a2"], "claimed after that")


@step("DELIVERY-8")
def _(bench: Bench) -> None:
    """Returned jobs go to the head of the queue, the last returned first, with their new bytes."""
    bench.push(b"a", b"b", b"c")
    w = bench.worker()
    w.claim(2)
    bench.push(b"d")
    returned = w.exchange(w.settlement("return", b"b", b"b2"), w.settlement("return", b"a", b"a2"))
    expect((returned.refused, returned.holding), ((), 0), "refused, holding")
    expect(w.claim(10), [b"a2", b"b2", b"c", b"d"], "claimed")


@step("DELIVERY-14")
def _(bench: Bench) -> None:
    """An announced job is in its owner's other list, and is settled from there."""
    bench.push(b"a", b"b")
    w = bench.worker()
    w.claim(2)
    started = w.exchange(w.settlement("start", b"a"))
    expect((started.refused, started.holding), ((), 2), "refused, holding after the announcement")
    again = w.repeat(w.settlement("start", b"a"))
    expect(again.listing, ([b"b"], [b"a"]), "held and running")
    expect(w.exchange(w.settlement("done", b"a")).refused, (0,), "refused when settled from the list it has left")
    expect(w.settle("done", b"a", place="running"), True, "settled from where it is")
    expect(bench.counts(), (0, 0, 1, 0), "ready, delayed, held, unrecorded")


@step("JOBS-18")
def _(bench: Bench) -> None:
    """The follow-ups of a job that is done are added with it, in order, at once or delayed."""
    bench.needs_follow_ups()
    bench.push(b"a")
    w = bench.worker()
    w.claim()
    follow_ups = (FollowUp(b"b"), FollowUp(b"c", 3 * bench.second), FollowUp(b"d"))
    done = w.exchange(w.settlement("done", b"a")._replace(follow_ups=follow_ups))
    expect((done.refused, bench.counts()), ((), (2, 1, 0, 0)), "refused; ready, delayed, held, unrecorded")
    expect(w.claim(5), [b"b", b"d"], "claimed")
    bench.let_pass(3 + bench.moment)
    expect(w.claim(), [b"c"], f"claimed {bench.moment} s after the delayed one is due")


@step("JOBS-18")
def _(bench: Bench) -> None:
    """No follow-up is added for what is refused, or when a request is repeated."""
    bench.needs_follow_ups()
    bench.push(b"a")
    w, v = bench.worker("w"), bench.worker("v")
    w.claim()
    v.exchange()
    follow_ups = (FollowUp(b"b"), FollowUp(b"c", 60 * bench.second))
    done = w.settlement("done", b"a")._replace(follow_ups=follow_ups)
    expect(v.exchange(done._replace(owner="v")).refused, (0,), "refused of what another worker holds")
    expect(bench.counts(), (0, 0, 1, 0), "ready, delayed, held, unrecorded after that")
    w.exchange(done)
    w.repeat(done)
    expect(w.exchange(done).refused, (0,), "refused the second time")
    expect(bench.counts(), (1, 1, 0, 0), "ready, delayed, held, unrecorded")
