"""Steps about outboxes: the server's side of their relays."""

from __future__ import annotations

from kashvi.ports import Shares
from kashvi.relaying import RELAY_S, Stored

from . import Bench, expect, naming, relaying, step

A, B = Stored("a", b"a"), Stored("b", b"b")


@step("OUTBOX-2")
def _(bench: Bench) -> None:
    """A relay's push that is repeated, or comes late, adds no job."""
    driver = relaying(bench.driver)
    expect(driver.take_relay("o", "t", ""), [], "ids of pushed jobs")
    first = driver.relay("o", "t", 1, [A], [])
    expect(first and (first.by, first.holders), (["t 1"], [""]), "by and holders of the first push")
    bench.let_pass(1)
    expect(driver.relay("o", "t", 1, [A], []), first, "its answer, sent again")
    driver.relay("o", "t", 3, [A, B], [])
    driver.relay("o", "t", 2, [Stored("c", b"c")], [])
    expect(bench.worker().claim(5), [b"a", b"b"], "claimed")


@step("OUTBOX-2")
def _(bench: Bench) -> None:
    """One relay of an outbox at a time is let in, and a push with another token does nothing."""
    driver = relaying(bench.driver)
    driver.take_relay("o", "t", "")
    left = driver.take_relay("o", "u", "")
    expect(isinstance(left, float) and 0 < left <= RELAY_S, True, "the other one waits")
    expect(driver.relay("o", "u", 1, [A], []), None, "its push")
    expect(driver.take_relay("p", "v", ""), [], "answer to the relay of another outbox")
    expect(driver.take_relay("o", "w", "t"), [], "answer to the first one, which asks again with a new token")
    expect(driver.relay("o", "t", 1, [A], []), None, "a push with its old token")
    driver.relay("o", "w", 1, [], [])
    left = driver.take_relay("o", "x", "")
    expect(isinstance(left, float) and 0 < left <= RELAY_S, True, "the other one waits after a push, too")
    driver.relay("o", "w", 2, [], [], 0.0)
    expect(driver.take_relay("o", "x", ""), [], "answer to the other one, once the first has stopped")
    expect(bench.worker().claim(5), [], "claimed")


@step("OUTBOX-2")
def _(bench: Bench) -> None:
    """The id of a job that a relay has pushed is kept until its row is gone; so no other relay adds the job again."""
    driver = relaying(bench.driver)
    driver.take_relay("o", "t", "")
    driver.relay("o", "t", 1, [A, B], [])
    driver.relay("o", "t", 2, [], ["a"])
    expect(driver.take_relay("o", "u", "t"), ["b"], "ids of pushed jobs")
    again = driver.relay("o", "u", 1, [B], [])
    expect(again and again.by, ["t 1"], "the push that added b")
    expect(bench.worker().claim(5), [b"a", b"b"], "claimed")


@step("OUTBOX-2", needs_clock=True)
def _(bench: Bench) -> None:
    """Another relay is let in when the first one's time is over, or when the server's clock was set back."""
    driver = relaying(bench.driver)
    driver.take_relay("o", "t", "")
    bench.now += RELAY_S + 1
    expect(driver.take_relay("o", "u", ""), [], "answer after that time")
    expect(driver.relay("o", "t", 1, [A], []), None, "a push of the first one")
    bench.now -= 3600
    expect(driver.take_relay("o", "v", ""), [], "answer after the clock was set back")


@step("OUTBOX-9")
def _(bench: Bench) -> None:
    """A row whose key another job has adds nothing, and is a duplicate again when it is pushed again."""
    naming(bench.driver)
    driver = relaying(bench.driver)
    one, two = (Stored(n, b"m" + n.encode(), 0.0, "mail", ("k", n)) for n in "12")
    driver.take_relay("o", "t", "")
    first = driver.relay("o", "t", 1, [one, two], [])
    expect(first and (first.by, first.holders), (["t 1", "t 1"], ["", "1"]), "by and holders")
    again = driver.relay("o", "t", 2, [one, two], [])
    expect(again and (again.by, again.holders), (["t 1", "t 1"], ["", "1"]), "by and holders, pushed again")
    expect("mail" in naming(bench.driver).queue_stats(), True, "its queue is listed")
    expect(bench.worker().exchange(want=Shares(5, (("mail", 5),))).claimed, [b"m1"], "claimed")


@step("OUTBOX-5")
def _(bench: Bench) -> None:
    """A relay's rows become jobs in their order, and a delayed one when it is due."""
    driver = relaying(bench.driver)
    driver.take_relay("o", "t", "")
    driver.relay("o", "t", 1, [Stored("later", b"later", 10 * bench.second), B, A], [])
    w = bench.worker(lease=60)
    expect(w.claim(5), [b"b", b"a"], "claimed at once")
    bench.let_pass(11)
    expect(w.claim(5), [b"later"], "claimed when it is due")
