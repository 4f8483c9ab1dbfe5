"""Workers in another language that break one rule of the protocol: the kit rejects each, and by the right clause.

They are the worker in plain Python with one line changed. In real time, some 15 s of waiting, so all at once.
"""

from __future__ import annotations

import shutil
import sys
import threading
from pathlib import Path
from typing import NamedTuple

from kashvi_spec.kit.worker.bench import Bench
from kashvi_spec.kit.worker.script import Run
from kashvi_spec.kit.worker.verdicts import verdicts_on

from .launch import RedisServer

GOOD = Path(__file__).parents[2] / "examples" / "worker_in_plain_python"
THREADS, LEASE_S = 2, 2.5
LOOK = "if not redis.call('LPOS', list, old, 'RANK', from) then return false end"


class Bad(NamedTuple):
    """A line of a file, and what stands there instead; in which scene it is seen, and by which clause."""

    file: str
    line: str
    instead: str
    scene: str
    clause: str


WORKERS = {
    "good, held up": Bad("worker.py", "", "", "held_up", ""),
    "good, killed": Bad("worker.py", "", "", "dies_again", ""),
    "good, cancelled": Bad("worker.py", "", "", "cancelled", ""),
    "retries without a look": Bad(
        "exchange.lua", LOOK, LOOK.replace("if not", "if move ~= 'retry' and not"), "held_up", "DELIVERY-5"
    ),
    "records without a look": Bad(
        "exchange.lua", LOOK, LOOK.replace("if not", "if move ~= 'fail' and not"), "held_up", "DELIVERY-5"
    ),
    "retries a cancelled job": Bad(
        "exchange.lua", "(move == 'retry' or move == 'fail'", "(move == 'fail'", "cancelled", "QUEUES-9"
    ),
    "never counts a death": Bad(
        "worker.py", "certain = len(running) == 1 and", "certain = False and", "dies_again", "DELIVERY-10"
    ),
    "announces no suspect": Bad(
        "worker.py", 'if claim.lost and place == "held":', "if False:", "dies_again", "DELIVERY-10"
    ),
    "marks no suspect": Bad("worker.py", "0 if claim.lost else 1, False)", "0, False)", "dies_again", "DELIVERY-10"),
    "counts the first death": Bad(
        "worker.py", "0 if claim.lost else 1, False)", "1, len(held) == 1)", "dies_again", "DELIVERY-10"
    ),
}


def judged(directory: Path, bad: Bad, url: str) -> dict[str, list[str]]:
    """The clauses that it breaks, and why."""
    shutil.copytree(GOOD, directory)
    path = directory / bad.file
    assert bad.line in path.read_text()
    path.write_text(path.read_text().replace(bad.line, bad.instead) if bad.line else path.read_text())
    command = f"{sys.executable} {directory}/worker.py {{threads}} {{lease}} 0"
    with Bench(url, command, "", THREADS, LEASE_S) as bench:
        run = Run(bench)
        run.failing()
        getattr(run, bad.scene)()
        verdicts = {one.clause.id: one for one in verdicts_on(bench.story)}
        if bad.clause and verdicts[bad.clause].outcome == "unobserved":
            return {"unobserved": verdicts[bad.clause].reasons}
        return {name: one.reasons for name, one in verdicts.items() if one.outcome == "failed"}


def test_the_kit_rejects_each_worker_by_the_rule_that_it_breaks_and_a_good_one_by_none(tmp_path: Path) -> None:
    """Each in a database of its own."""
    server = RedisServer("valkey-9", tmp_path / "server").start()
    found: dict[str, dict[str, list[str]] | Exception] = {}

    def judge(n: int, name: str) -> None:
        try:
            found[name] = judged(tmp_path / str(n), WORKERS[name], f"redis://127.0.0.1:{server.port}/{n}")
        except Exception as error:
            found[name] = error

    threads = [threading.Thread(target=judge, args=(n, name)) for n, name in enumerate(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    server.stop()
    assert {name: said for name, said in found.items() if not as_expected(WORKERS[name].clause, said)} == {}
    assert found.keys() == WORKERS.keys()


def as_expected(clause: str, said: dict[str, list[str]] | Exception) -> bool:
    """A bad worker may break other clauses, too."""
    return isinstance(said, dict) and (clause in said if clause else not said)
