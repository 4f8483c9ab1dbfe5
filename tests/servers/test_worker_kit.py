"""``spec:worker`` on real workers: kashvi's own, one in plain Python, and one that works as the original Go program.

In real time, some 70 s, in which the processor has little to do; so all at once, each on a server of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from kashvi_spec.kit.worker.verdicts import JUDGES

from .launch import RedisServer

ROOT = Path(__file__).parents[2]
KASHVI = f'{sys.executable} -c "from kashvi.cli import main; main()"'
OWN = f"{KASHVI} queue:work --app kashvi_spec.kit.worker.jobs --workers {{threads}} --lease {{lease}} --unknown-for 0"
GO_LIKE = f"{sys.executable} {ROOT}/examples/worker_in_plain_python/go_like.py {{threads}}"
PLAIN = f"{sys.executable} {ROOT}/examples/worker_in_plain_python/worker.py {{threads}} {{lease}} 0"
PATIENCE_S = 240.0

DEPARTURES = {
    "COMMANDS-13": "'running 0', 'running 1', 'running 2' and 2 more, which it was running, did not end",
    "DELAY-8": "20 of 20 due jobs ran more than once when two workers looked at the same moment",
    "DELIVERY-1": "did not come to an end",
    "DELIVERY-2": "ran when the process was killed; within 13 s, no other ran them",
    "DISPATCH-1": "are nowhere on the queue",
    "FAILURES-9": "'unknown type', 'misfit', 'lacks a field', 'garbage', 'garbage with NUL' can't be attempted",
    "JOBS-6": "the type '*spec.Echo' was not run as 'spec.Echo'",
    "JOBS-7": "its attempts were given 0, 1, 2",
    "QUEUES-9": "'cancelled' was cancelled during its first attempt, and was tried again",
    "REDIS-2": "between attempts 1 and 2, 'odd bytes' was not in kashvi:queue:delayed",
    "REDIS-9": "'wrong type 0', 'wrong type 1', 'wrong type 2' were due while kashvi:queue:jobs was no list",
    "RETRY-3": "was recorded as failed only 3",
    "RETRY-4": "the worker waited for their next attempts and did nothing else",
    "TABLE-1": "the table has no column 'job_id'",
    "TABLE-2": "not what was sent",
    "WORKERS-3": "which it was running, did not end",
}
"""Of the original, as far as Redis shows them: the clause, and what the report says."""
SHOWN_BY_OTHERS = {
    "DELIVERY-3", "DELIVERY-5", "DELIVERY-8", "DELIVERY-10", "DELIVERY-14",  # no worker takes over what a dead one held
    "ENVELOPE-5", "RETRY-6",  # retries are not on the server
    "TABLE-5",  # what it would hold is dropped
}  # fmt: skip


@contextmanager
def judged(directory: Path, command: str, *more: str) -> Iterator[subprocess.Popen[str]]:
    """``spec:worker`` on the command, on a new server. It is over when the process is."""
    server = RedisServer("valkey-9", directory).start()
    words = [sys.executable, "-c", "from kashvi.cli import main; main()", "spec:worker", "--json", "--lease", "3"]
    words += ["--redis-url", server.url, "--command", command, *more]
    process = subprocess.Popen(words, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
        assert server.client().keys() == []
    finally:
        process.terminate()
        process.communicate()
        server.stop()


def verdicts(process: subprocess.Popen[str]) -> dict[str, dict[str, Any]]:
    """By clause."""
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode in (0, 1), err
    return {one["id"]: one for one in json.loads(out)["implementations"][0]["clauses"]}


def of(outcome: str, found: dict[str, dict[str, Any]]) -> set[str]:
    return {id_ for id_, one in found.items() if one["outcome"] == outcome}


def test_good_workers_keep_every_clause_and_the_original_breaks_those_that_it_departs_from(tmp_path: Path) -> None:
    """And no other; each with the reason in plain words, and what was seen. The plain one in one fleet with ours."""
    commands = {"ours": (OWN,), "plain": (PLAIN, "--beside", OWN), "go": (GO_LIKE,)}
    with ExitStack() as all_at_once:
        ours, plain, go = (
            all_at_once.enter_context(judged(tmp_path / name, *words)) for name, words in commands.items()
        )
        for good in (ours, plain):
            found = verdicts(good)
            assert {id_: one["reasons"] for id_, one in found.items() if one["outcome"] == "failed"} == {}
            assert of("passed", found) == set(JUDGES)
        found = verdicts(go)
        assert of("failed", found) == set(DEPARTURES)
        assert of("passed", found) == set(JUDGES) - set(DEPARTURES) - SHOWN_BY_OTHERS
        for id_, says in DEPARTURES.items():
            assert any(says in reason for reason in found[id_]["reasons"]), (id_, found[id_]["reasons"])
            assert found[id_]["evidence"] or id_ == "TABLE-1"
