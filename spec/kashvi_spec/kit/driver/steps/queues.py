"""Steps about named queues: their order and shares, their pauses, and the way back."""

from __future__ import annotations

from kashvi.ports import PAUSED, FollowUp, Shares

from . import Bench, expect, naming, step


def strictly(want: int, *queues: str) -> Shares:
    """As a worker asks that serves them strictly in their order."""
    return Shares(want, tuple((queue, want) for queue in queues))


@step("QUEUES-1")
def _(bench: Bench) -> None:
    """A job is on the queue that it was pushed to, and an exchange claims only of the queues that it names."""
    bench.put("a", b"a1", b"a2")
    bench.put("b", b"b1")
    bench.push(b"d1")
    bench.put("a", b"a3", delay=5)
    w = bench.worker()
    first = w.exchange(want=strictly(10, "a"))
    expect(first.claimed, [b"a1", b"a2"], "claimed of a")
    expect((first.claimed_of, first.ready), ((("a", 2),), 0), "claimed_of and ready, of a")
    expect(w.claim(10), [b"d1"], "claimed of the default queue")
    expect(w.exchange(want=strictly(10, "b", "c")).claimed, [b"b1"], "claimed of b and c")
    bench.let_pass(5 + bench.moment)
    expect(
        w.exchange(want=strictly(10, "b", "default")).claimed, [], "claimed of b and the default queue, when a3 is due"
    )
    expect(w.exchange(want=strictly(10, "a")).claimed, [b"a3"], "claimed of a when a3 is due")


@step("QUEUES-1")
def _(bench: Bench) -> None:
    """One push puts each job on its own queue, in order."""
    naming(bench.driver).push([b"1", b"2", b"3", b"4"], 0.0, ["a", "default", "a", "b"])
    w = bench.worker()
    expect(
        w.exchange(want=strictly(10, "b", "a", "default")).claimed, [b"4", b"1", b"3", b"2"], "claimed of b, a, default"
    )


@step("QUEUES-2")
def _(bench: Bench) -> None:
    """Claims come from the first queue until it is empty; due jobs of all queues are promoted before."""
    bench.put("low", b"l1", b"l2")
    bench.put("high", b"h1", b"h2", b"h3")
    w = bench.worker()
    expect(w.exchange(want=strictly(2, "high", "low")).claimed, [b"h1", b"h2"], "two claimed of high and low")
    answer = w.exchange(want=strictly(2, "high", "low"))
    expect((answer.claimed, answer.claimed_of), ([b"h3", b"l1"], (("high", 1), ("low", 1))), "two more")
    bench.put("high", b"h4", delay=3)
    bench.let_pass(3 + bench.moment)
    expect(w.exchange(want=strictly(1, "high", "low")).claimed, [b"h4"], "one claimed when h4 is due")


@step("QUEUES-3")
def _(bench: Bench) -> None:
    """Each queue gives its share; what one can't give, the others do, up to the total."""
    bench.put("a", *(b"a%d" % n for n in range(6)))
    bench.put("b", b"b0")
    w = bench.worker()
    answer = w.exchange(want=Shares(4, (("a", 2), ("b", 2))))
    expect(
        sorted(answer.claimed), [b"a0", b"a1", b"a2", b"b0"], "claimed, wanting two of a and two of b, which has one"
    )
    expect((sum(n for _, n in answer.claimed_of), answer.ready), (4, 3), "as many by claimed_of; ready")
    expect(
        w.exchange(want=Shares(2, (("b", 2), ("a", 0)))).claimed,
        [b"a3", b"a4"],
        "claimed, wanting two of b, which is empty",
    )


@step("QUEUES-4")
def _(bench: Bench) -> None:
    """Retries, returns and follow-ups reach their queues, from a worker that serves none of them."""
    bench.put("a", b"a1", b"a2")
    bench.push(b"d1")
    w = bench.worker()
    w.exchange(want=strictly(2, "a"))
    w.claim()
    back = w.settlement("return", b"a1", b"a1", queue="a")
    again = w.settlement("retry", b"a2", b"a2!", in_s=3, queue="b")
    done = w.settlement("done", b"d1")
    if getattr(bench.driver, "follows_up", False):
        done = done._replace(follow_ups=(FollowUp(b"f1", 0.0, "c"), FollowUp(b"f2", 3 * bench.second, "c")))
    expect(w.exchange(back, again, done, want=strictly(5, "e")).refused, (), "refused")
    v = bench.worker("v")
    expect(v.exchange(want=strictly(5, "a")).claimed, [b"a1"], "claimed of a after the return")
    bench.let_pass(3 + bench.moment)
    expect(v.exchange(want=strictly(5, "b")).claimed, [b"a2!"], "claimed of b after the retry")
    if done.follow_ups:
        expect(v.exchange(want=strictly(5, "c")).claimed, [b"f1", b"f2"], "claimed of c, the follow-ups")
    expect(v.claim(5), [], "claimed of the default queue")


@step("QUEUES-4")
def _(bench: Bench) -> None:
    """What a dead worker claimed of any queue is found and goes back to that queue, from a worker of another one."""
    bench.put("a", b"a1")
    bench.put("b", b"b1")
    dead = bench.worker("dead", lease=5)
    expect(dead.exchange(want=strictly(2, "a", "b")).claimed, [b"a1", b"b1"], "claimed")
    bench.let_pass(6)
    expect(sorted(bench.lost()), [("dead", "held", b"a1"), ("dead", "held", b"b1")], "found after the lease")
    w, end = bench.worker("w"), bench.lease_end("dead")
    back = [
        w.settlement("return", raw, raw, owner="dead", lease_end=end, queue=queue)
        for raw, queue in ((b"b1", "b"), (b"a1", "a"))
    ]
    expect(w.exchange(*back, want=strictly(5, "c")).refused, (), "refused")
    expect(w.exchange(want=strictly(5, "b")).claimed, [b"b1"], "claimed of b")
    expect(w.exchange(want=strictly(5, "a")).claimed, [b"a1"], "claimed of a")


@step("QUEUES-5")
def _(bench: Bench) -> None:
    """A paused queue gives nothing, and the others go on; an answer tells which are paused."""
    driver = naming(bench.driver)
    bench.put("a", b"a1")
    bench.put("b", b"b1", b"b2")
    since = driver.pause("a")
    expect((driver.paused_since("a"), driver.paused_since("b")), (since, None), "paused_since of a and b")
    w = bench.worker()
    answer = w.exchange(want=strictly(1, "a", "b"))
    expect(
        (answer.claimed, answer.paused_queues, answer.paused),
        ([b"b1"], ("a",), False),
        "claimed, paused queues, paused",
    )
    expect(answer.ready, 1, "ready, of what is not paused")
    alone = w.exchange(want=strictly(1, "a"))
    expect((alone.claimed, alone.paused), ([], True), "claimed, paused, of a alone")
    expect(driver.next_due(("a",)), PAUSED, "next_due of a")
    expect(driver.next_due(("a", "b")), None, "next_due of a and b")
    driver.resume("a")
    expect(w.exchange(want=strictly(1, "a", "b")).claimed, [b"a1"], "claimed after the resume")


@step("QUEUES-5")
def _(bench: Bench) -> None:
    """A pause of the default queue pauses no other, and it is heard before a wait."""
    driver = naming(bench.driver)
    bench.put("a", b"a1", delay=5)
    bench.push(b"d1")
    driver.pause()
    expect(
        (driver.next_due(), driver.paused_since("a")),
        (PAUSED, None),
        "next_due of the default queue; since when a is paused",
    )
    expect(driver.next_due(("default", "a")) is PAUSED, False, "next_due of both says that both are paused")
    driver.resume()
    expect(bench.worker().claim(), [b"d1"], "claimed after the resume")
