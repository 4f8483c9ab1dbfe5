"""Steps about leases, takeovers and repeated exchanges."""

from __future__ import annotations

from kashvi.errors import CommandRefused, InvalidSetting
from kashvi.ports import Driver, Settlement
from kashvi.runtime import SystemRuntime

from . import Bench, envelopes, expect, step


@step("DELIVERY-2")
def _(bench: Bench) -> None:
    """``expired`` lists a worker's jobs after its lease, announced ones first; reading changes nothing."""
    bench.push(b"a", b"b", b"c")
    w = bench.worker("w", lease=10)
    w.claim(1)
    expect(bench.driver.wait("w", 0.0), b"b", "a wait returns")
    w.claim(1)
    w.exchange(w.settlement("start", b"b"))
    expect(bench.lost(), [], "lost under the lease")
    bench.let_pass(10.5)
    found = [("w", "held", b"c"), ("w", "held", b"a"), ("w", "running", b"b")]
    expect(sorted(bench.lost()), sorted(found), "lost after the lease")
    expect([e for _, place, e in bench.lost() if place == "held"], [b"c", b"a"], "lost from held, newest first")
    expect(bench.lost(limit=1), [("w", "running", b"b"), ("w", "held", b"c")], "lost, asked for one that is held")
    expect(bench.counts(), (0, 0, 3, 0), "ready, delayed, held, unrecorded after all that reading")


@step("DELIVERY-2")
def _(bench: Bench) -> None:
    """What many dead workers hold is found, all of it."""
    jobs = list(envelopes(60))
    bench.push(*jobs)
    for n in range(len(jobs)):
        bench.worker(f"w{n}").claim(1)
    bench.let_pass(11)
    expect(sorted(one for _, _, one in bench.lost(1000)), jobs, "lost")


@step("DELIVERY-3")
def _(bench: Bench) -> None:
    """Under a worker's lease no other worker settles its jobs; each exchange renews it, for that worker alone."""
    bench.push(b"a", b"b")
    w, v = bench.worker("w"), bench.worker("v")
    w.claim(1)
    v.claim(1)
    bench.let_pass(9)
    w.exchange()
    bench.driver.wait("w", 0.0)
    expect(bench.lost(), [], "lost after a wait that found nothing")
    bench.let_pass(9)
    expect(v.settle("return", b"a", new=b"a", owner="w"), False, "settled for a live worker")
    expect(v.settle("done", b"a", owner="w"), False, "done for a live worker")
    expect(bench.lost(), [], "lost while both exchange")
    expect(w.settle("done", b"a"), True, "settled by its owner")
    bench.let_pass(9)
    w.exchange()
    bench.let_pass(1.5)
    expect(bench.lost(), [("v", "held", b"b")], "lost when one of two is silent")
    expect(w.settle("return", b"b", new=b"b", owner="v"), True, "settled for a dead worker")
    expect(w.claim(5), [b"b"], "claimed after that")


@step("DELIVERY-16")
def _(bench: Bench) -> None:
    """A takeover is refused if its worker came back after the look at its jobs, even if it has died again since."""
    bench.push(b"a", b"b")
    w, v = bench.worker("w"), bench.worker("v")
    w.claim(2)
    bench.let_pass(11)

    def takeover() -> tuple[Settlement, ...]:
        """As a look at its jobs decides it now."""
        seen = bench.lease_end("w")
        expect(seen is not None, True, "expired says when the lease ended")
        back = v.settlement("return", b"b", b"b2", owner="w", lease_end=seen)
        return back, v.settlement("retry", b"a", b"a2", owner="w", in_s=60, lease_end=seen)

    late = takeover()
    w.exchange()
    bench.let_pass(11)
    expect(v.exchange(*late).refused, (0, 1), "refused of a takeover of before it came back")
    expect(bench.counts(), (0, 0, 2, 0), "ready, delayed, held, unrecorded after it")
    expect(v.exchange(*takeover()).refused, (), "refused of one after it")


@step("DELIVERY-2", needs_clock=True)
def _(bench: Bench) -> None:
    """``expired`` lists a job that a worker claimed by a wait, if the worker makes no exchange."""
    bench.push(b"a")
    expect(bench.driver.wait("w", 0.0), b"a", "a wait returns")
    bench.let_pass(29)
    expect(bench.lost(), [], "lost within 30 s")
    bench.let_pass(2)
    expect(bench.lost(), [("w", "held", b"a")], "lost after 30 s")
    expect(bench.worker("v").settle("return", b"a", new=b"a", owner="w"), True, "settled by another worker")


@step("DELIVERY-2")
def _(bench: Bench) -> None:
    """A worker's name that other programs could not read is refused before its first claim."""
    bench.push(b"a")
    for name in ("", "wörker", "line\n", "x" * 201):
        for call in (lambda: bench.driver.wait(name, 0.0), lambda: bench.worker(name).claim()):  # noqa: B023
            try:
                call()
            except InvalidSetting:
                continue
            raise AssertionError(f"a worker that is called {name!r} was not refused with InvalidSetting")
    expect(bench.worker("x" * 200).claim(), [b"a"], "claimed by a worker with a name of 200 characters")


@step("DELIVERY-3")
def _(bench: Bench) -> None:
    """A worker that has waited and made no exchange yet is alive: no other worker settles its jobs."""
    bench.push(b"a")
    expect(bench.driver.wait("w", 0.0), b"a", "a wait returns")
    bench.let_pass(9)
    expect(bench.worker("v").settle("return", b"a", new=b"a", owner="w"), False, "settled by another worker")
    expect(bench.worker("w").settle("done", b"a"), True, "settled by the one that has it")


@step("DELIVERY-6")
def _(bench: Bench) -> None:
    """A repeated number settles and claims nothing again, and returns the refusals and the worker's jobs."""
    bench.push(*envelopes(5))
    a, b, c, d, e = envelopes(5)
    w = bench.worker()
    w.claim(2)
    settlements = (w.settlement("done", a), w.settlement("done", b"never held"))
    first = w.exchange(*settlements, want=2)
    expect((first.refused, list(first.claimed), first.listing), ((1,), [c, d], None), "refused, claimed, listing")
    bench.let_pass(1)
    again = w.repeat(*settlements, want=2)
    expect((again.refused, list(again.claimed)), ((1,), []), "refused, claimed when repeated")
    expect(again.listing, ([b, c, d], []), "held and running, oldest first")
    expect(again.settled_at, first.settled_at, "settled_at when repeated")
    expect(bench.counts(), (1, 0, 3, 0), "ready, delayed, held, unrecorded")
    bench.worker("v").exchange()
    expect(w.repeat(want=2).listing, ([b, c, d], []), "held and running, repeated after another worker's exchange")
    expect(w.claim(2), [e], "claimed by the next number")


@step("DELIVERY-6")
def _(bench: Bench) -> None:
    """An exchange with a number below the last one is refused as a whole: an outdated request changes nothing."""
    bench.push(b"a", b"b")
    w = bench.worker()
    w.claim(1)
    w.exchange()
    try:
        bench.driver.exchange("w", 1, w.lease_s, (w.settlement("done", b"a"),), 1)
    except CommandRefused:
        pass
    else:
        raise AssertionError("exchange 1 after exchange 2 was not refused with CommandRefused")
    expect(bench.counts(), (1, 0, 1, 0), "ready, delayed, held, unrecorded")
    expect(w.settle("done", b"a"), True, "settled by the next number")


@step("DELIVERY-7")
def _(bench: Bench) -> None:
    """Concurrent claims, by exchange and by wait, get each job once."""
    jobs = list(envelopes(300))
    bench.push(*jobs[:150])
    bench.push(*jobs[150:], delay=1)
    bench.let_pass(1.5)
    got: list[bytes] = []
    raised: list[BaseException] = []
    runtime = SystemRuntime()

    def claim(name: str, driver: Driver) -> None:
        hand = bench.worker(name)
        hand.driver = driver
        try:
            for _ in range(60):
                got.extend(hand.claim(7))
                if isinstance(waited := driver.wait(name, 0.0), bytes):
                    got.append(waited)
        except BaseException as error:
            raised.append(error)

    handles = [bench.driver if n == 0 else _handle(bench) for n in range(4)]
    tasks = [runtime.spawn(lambda n=n: claim(f"w{n}", handles[n]), f"w{n}") for n in range(4)]  # type: ignore[misc]
    for task in tasks:
        task.join()
    for error in raised:
        raise error
    expect(sorted(got), jobs, "claimed by four threads")
    expect(bench.counts(), (0, 0, 300, 0), "ready, delayed, held, unrecorded")


def _handle(bench: Bench) -> Driver:
    return bench.another_handle() if bench.shared else bench.driver


@step("WORKERS-3")
def _(bench: Bench) -> None:
    """A worker that leaves without jobs is gone; one that holds a job stays, until its lease is over."""
    bench.push(b"a", b"b")
    w, v = bench.worker("w"), bench.worker("v")
    w.claim(1)
    v.claim(1)
    expect(bench.driver.stats().workers, 2, "workers that have exchanged")
    w.exchange(w.settlement("return", b"a", b"a"), w.settlement("leave"))
    v.exchange(v.settlement("leave"))
    expect(bench.driver.stats().workers, 1, "workers after both left, one of them with a job")
    bench.let_pass(11)
    expect(bench.lost(), [("v", "held", b"b")], "lost")


@step("DELIVERY-1", needs_clock=True)
def _(bench: Bench) -> None:
    """A dead worker without jobs is in ``gone`` an hour after its lease, and its entry can be removed."""
    w, v, u = bench.worker("w"), bench.worker("v"), bench.worker("u")
    bench.push(b"a", b"b")
    w.claim(1)
    u.claim(1)
    w.settle("done", b"a")
    bench.let_pass(10 + 3500)
    v.exchange()
    expect(bench.driver.expired(10).gone, [], "gone within the hour")
    expect(v.settle("leave", b"", owner="w"), False, "taken off the list within the hour")
    bench.let_pass(200)
    v.exchange()
    expect(bench.driver.expired(10).gone, ["w"], "gone after an hour")
    expect(v.settle("leave", b"", owner="u"), False, "taken off the list with a job")
    expect(v.settle("leave", b"", owner="w"), True, "taken off the list")
    expect((bench.driver.stats().workers, bench.driver.expired(10).gone), (2, []), "workers, gone after that")
    expect(bench.lost(), [("u", "held", b"b")], "lost")
