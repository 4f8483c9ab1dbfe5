"""Steps about cron entries: the server's step that fires their ticks."""

from __future__ import annotations

from kashvi.ports import NO_LOCK, Lock, Shares
from kashvi.ticking import TICK_AHEAD_S, TICK_OLD_S, Ask, Ticked, TickJob

from . import Bench, expect, naming, step, ticking


def job(tick: float, envelope: bytes, lock: Lock = NO_LOCK) -> TickJob:
    return TickJob(tick, envelope, lock)


def known(bench: Bench, name: str = "a", schedule: str = "s") -> Ticked:
    """The entry, asked for the first time."""
    return ticking(bench.driver).tick(Ask(name, schedule))


@step("CRON-1")
def _(bench: Bench) -> None:
    """Of two that ask for a tick one fires it, and so it is when one asks again."""
    driver, first = ticking(bench.driver), known(bench)
    bench.let_pass(60)
    tick = first.last + 30 * bench.second
    fired = driver.tick(Ask("a", "s", first.last, tick, "default", [job(tick, b"a1")]))
    expect((fired.outcome, fired.last, fired.holders), ("fired", tick, ("",)), "outcome, last and holders of the first")
    again = driver.tick(Ask("a", "s", first.last, tick, "default", [job(tick, b"a1")]))
    expect((again.outcome, again.last), ("moved", tick), "outcome and last, asked again")
    unknown = driver.tick(Ask("a", "s", None, tick, "default", [job(tick, b"a1")]))
    expect(unknown.outcome, "unchanged", "outcome for a caller that knows no last tick")
    expect(bench.worker().claim(5), [b"a1"], "claimed")


@step("CRON-1")
def _(bench: Bench) -> None:
    """A late request for an old tick fires nothing after a newer one has fired."""
    driver, first = ticking(bench.driver), known(bench)
    bench.let_pass(60)
    old, new = first.last + 20 * bench.second, first.last + 40 * bench.second
    driver.tick(Ask("a", "s", first.last, new, "default", [job(new, b"new")]))
    late = driver.tick(Ask("a", "s", first.last, old, "default", [job(old, b"old")]))
    expect((late.outcome, late.last), ("moved", new), "outcome and last of the late one")
    older = driver.tick(Ask("a", "s", new, old, "default", [job(old, b"old")]))
    expect((older.outcome, older.last), ("unchanged", new), "outcome and last of an older tick")
    newer = first.last + 50 * bench.second
    both = driver.tick(Ask("a", "s", new, newer, "default", [job(old, b"old", ("", "o")), job(newer, b"newer")]))
    expect((both.outcome, both.holders), ("fired", ("o", "")), "outcome and holders of an old one beside a new one")
    expect(bench.worker().claim(5), [b"new", b"newer"], "claimed")


@step("CRON-1")
def _(bench: Bench) -> None:
    """A tick that is still to come does not fire."""
    driver, first = ticking(bench.driver), known(bench)
    tick = first.server_at + 3000
    early = driver.tick(Ask("a", "s", first.last, tick, "default", [job(tick, b"a1")]))
    expect((early.outcome, early.last), ("early", first.last), "outcome and last")
    expect(bench.worker().claim(5), [], "claimed")


@step("CRON-3")
def _(bench: Bench) -> None:
    """The first look at a name stores the time, and fires nothing; several ticks fire in their order."""
    driver = ticking(bench.driver)
    first = driver.tick(Ask("a", "s", 0.0, 1.0, "default", [job(1.0, b"a0")]))
    expect((first.outcome, first.last, first.since), ("first", first.server_at, first.server_at), "the first look")
    bench.let_pass(60)
    ticks = [first.last + n * bench.second for n in (10, 20, 30)]
    driver.tick(Ask("a", "s", first.last, ticks[-1], "default", [job(at, b"%d" % n) for n, at in enumerate(ticks)]))
    expect(bench.worker().claim(5), [b"0", b"1", b"2"], "claimed")
    now, last = driver.last_ticks()
    expect((now >= ticks[-1], last), (True, {"a": ticks[-1]}), "the last ticks")
    expect((driver.forget_ticks("a"), driver.forget_ticks("a")), (True, False), "forgotten, and forgotten again")
    expect(known(bench).outcome, "first", "outcome after that")


@step("CRON-4")
def _(bench: Bench) -> None:
    """A schedule that the server has just seen has no tick from before, and the name's last one goes on."""
    driver, first = ticking(bench.driver), known(bench)
    bench.let_pass(60)
    changed = driver.tick(Ask("a", "t", first.last, first.last + 1, "default", [job(first.last + bench.second, b"t0")]))
    expect((changed.outcome, changed.last), ("first", first.last), "outcome and last of the changed schedule")
    bench.let_pass(60)
    before, after = changed.since - bench.second, changed.since + bench.second
    driver.tick(Ask("a", "t", changed.last, after, "default", [job(before, b"before"), job(after, b"after")]))
    expect(bench.worker().claim(5), [b"after"], "claimed")
    expect(known(bench).last, after, "last of the old schedule")
    expect(known(bench).since, first.since, "since of the old schedule")


@step("CRON-4", needs_clock=True)
def _(bench: Bench) -> None:
    """What was written while the server's clock was ahead becomes now; a small jump back changes nothing."""
    driver = ticking(bench.driver)
    bench.now += 1e8
    first = known(bench)
    bench.now -= TICK_AHEAD_S / 2
    expect(known(bench)._replace(server_at=0), first._replace(outcome="unchanged", server_at=0), "after a small jump")
    bench.now -= 1e8
    reset = driver.tick(Ask("a", "s", first.last, bench.now - 1, "default", [job(bench.now - 1, b"a0")]))
    expect((reset.outcome, reset.last, reset.since), ("reset", bench.now, bench.now), "after a large one")
    bench.now += 60
    fired = driver.tick(Ask("a", "s", reset.last, bench.now - 1, "default", [job(bench.now - 1, b"a1")]))
    expect((fired.outcome, bench.worker().claim(5)), ("fired", [b"a1"]), "outcome and claimed, a minute later")


@step("CRON-4", needs_clock=True)
def _(bench: Bench) -> None:
    """A schedule that is not asked for in a week, while another one of its name is, is forgotten; also if the server's
    clock was ahead when it was asked for.
    """
    known(bench)
    bench.now += 1e8
    known(bench)
    bench.now -= 1e8
    known(bench, schedule="t")
    bench.now += TICK_OLD_S + 60
    expect(known(bench, schedule="t").outcome, "unchanged", "outcome for the one that is asked for")
    expect(known(bench).outcome, "first", "outcome for the other one after a week")


@step("CRON-5")
def _(bench: Bench) -> None:
    """A tick's job goes to its queue; one whose key is taken is not added, and the tick counts as fired."""
    naming(bench.driver)
    driver, first = ticking(bench.driver), known(bench)
    bench.let_pass(60)
    one, two = first.last + 10 * bench.second, first.last + 20 * bench.second
    driver.tick(Ask("a", "s", first.last, one, "mail", [job(one, b"m1", ("k", "1"))]))
    second = driver.tick(Ask("a", "s", one, two, "mail", [job(two, b"m2", ("k", "2"))]))
    expect((second.outcome, second.last, second.holders), ("fired", two, ("1",)), "outcome, last and holders")
    expect("mail" in naming(bench.driver).queue_stats(), True, "its queue is listed")
    w = bench.worker()
    expect(w.claim(5), [], "claimed of the default queue")
    expect(w.exchange(want=Shares(5, (("mail", 5),))).claimed, [b"m1"], "claimed of mail")
