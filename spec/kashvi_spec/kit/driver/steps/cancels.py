"""Steps about cancelled jobs: marks, the search for them, and settlements that meet a mark."""

from __future__ import annotations

from kashvi.ports import NO_LOCK, FollowUp, Settlement, Shares

from . import Bench, cancelling, expect, naming, step


@step("QUEUES-9")
def _(bench: Bench) -> None:
    """A settlement that would make a marked job ready again, or a failure of it, only removes it."""
    driver = cancelling(bench.driver)
    bench.push(b"a", b"b", b"c", b"d")
    w = bench.worker()
    w.claim(4)
    marks = {job_id: driver.mark(job_id) for job_id in ("1", "2", "3")}
    answer = w.exchange(
        w.settlement("retry", b"a", b"a again", in_s=1.0, job_id="1"),
        w.settlement("fail", b"b", b"b failed", job_id="2"),
        w.settlement("return", b"c", b"c", job_id="3"),
        w.settlement("retry", b"d", b"d again", in_s=1.0, job_id="4"),
    )
    expect((answer.refused, answer.cancelled), ((), (0, 1, 2)), "refused and cancelled")
    expect(answer.marked_at is not None, True, "that the answer has a mark")
    expect(bench.counts(), (0, 1, 0, 0), "ready, delayed, held and unrecorded jobs")
    expect([driver.unmark(*mark) for mark in marks.items()], [False] * 3, "marks that are left")
    expect(w.exchange().marked_at, None, "the mark of an answer when none is left")


@step("QUEUES-9")
def _(bench: Bench) -> None:
    """It stays so for a repeated request, and for a takeover; a refused settlement takes no mark off."""
    driver = cancelling(bench.driver)
    bench.push(b"a")
    w, other = bench.worker(lease=2.0), bench.worker("other")
    w.claim()
    driver.mark("1")
    stale = w.settlement("retry", b"gone", b"gone again", in_s=1.0, job_id="1")
    answer = w.exchange(stale)
    expect((answer.refused, answer.cancelled), ((0,), ()), "refused and cancelled, of a job that is not there")
    bench.let_pass(3 + bench.moment)
    back = other.settlement("return", b"a", b"a suspect", owner="w", job_id="1")
    answer, again = other.exchange(back), other.repeat(back)
    expect([one.cancelled for one in (answer, again)], [(0,), (0,)], "cancelled, and the same of a repeated request")
    expect(bench.counts(), (0, 0, 0, 0), "ready, delayed, held and unrecorded jobs")


@step("QUEUES-9")
def _(bench: Bench) -> None:
    """A marked job that is done is done, and its follow-ups go out, but for the next link of its chain."""
    driver = cancelling(bench.driver)
    bench.push(b"a", b"b")
    w = bench.worker()
    w.claim(2)
    driver.mark("1")
    driver.mark("2")
    links = (FollowUp(b"own"), FollowUp(b"next", link=True))
    done = Settlement("done", "w", "held", b"a", follow_ups=links, job_id="1")
    answer = w.exchange(done, Settlement("done", "w", "held", b"b", job_id="2"), want=5)
    expect((answer.refused, answer.cancelled), ((), (0,)), "refused and cancelled")
    expect(answer.claimed, [b"own"], "what came of them")


@step("QUEUES-9")
def _(bench: Bench) -> None:
    """A search finds a job in its place, and it is taken out there, once, with its key and its mark."""
    driver = cancelling(bench.driver)
    bench.push(*(b"job %d" % n for n in range(2_500)))
    bench.push(b"job due", delay=5.0)
    held = bench.worker().claim(3)
    for text, where, wanted in (
        (b"job 2499", "ready", [b"job 2499"]),
        (b"job 1500", "ready", [b"job 1500"]),
        (b"job due", "delayed", [b"job due"]),
        (b"job 1", "running", [b"job 1"]),
        (b"job 1500", "delayed", []),
    ):
        expect(sorted({*driver.search(text, where)}), wanted, f"found of {text!r}, {where}")  # type: ignore[arg-type]
    expect(held, [b"job 0", b"job 1", b"job 2"], "claimed")
    mark = driver.mark("7")
    taken = [driver.take_out("7", "ready", "default", b"job 1500", NO_LOCK) is not None for _ in range(2)]
    expect(taken, [True, False], "whether it was taken out")
    expect(driver.take_out("8", "delayed", "default", b"job due", NO_LOCK) is not None, True, "that it was taken out")
    expect((driver.unmark("7", mark), bench.counts()), (False, (2496, 0, 3, 0)), "its mark, and the counts")


@step("QUEUES-10")
def _(bench: Bench) -> None:
    """What is cancelled gives its key back; a worker is told which of its jobs are marked."""
    driver, named = cancelling(bench.driver), naming(bench.driver)
    named.push_unique([b"a", b"b"], 0.0, ["mail", "mail"], [("k", "1"), ("l", "2")])
    driver.mark("1")
    expect(driver.marked(["0", "1", "2"]), ["1"], "the marked ones")
    expect(driver.take_out("1", "ready", "mail", b"a", ("k", "1")) is not None, True, "that it was taken out")
    w = bench.worker()
    expect(w.exchange(want=Shares(1, (("mail", 1),))).claimed, [b"b"], "claimed")
    driver.mark("2")
    w.exchange(w.settlement("retry", b"b", b"b again", in_s=1.0, queue="mail", job_id="2")._replace(lock=("l", "2")))
    added = named.push_unique([b"c", b"d"], 0.0, ["mail", "mail"], [("k", "3"), ("l", "4")])
    expect(added[2], ["", ""], "who has their keys")


@step("QUEUES-9")
def _(bench: Bench) -> None:
    """Each mark has a time of its own, and a cancel takes off its own alone: another's may have found the job."""
    driver = cancelling(bench.driver)
    first, other, second = driver.mark("1"), driver.mark("2"), driver.mark("1")
    expect(first < other < second, True, "that each mark is newer")
    expect(
        (driver.unmark("1", first), driver.marked(["1", "2"])), (True, ["1", "2"]), "whether it is marked, and what is"
    )
    expect((driver.unmark("1", second), driver.marked(["1", "2"])), (True, ["2"]), "the same, by the later cancel")
    expect((driver.unmark("1", first), driver.marked(["2"])), (False, ["2"]), "the same, when none is left")
