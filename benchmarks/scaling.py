"""``python -m benchmarks.scaling``: what a job costs beside 1,000 others, and beside a million. It should be the same.

Each figure is the median of some calls of the real driver on a Valkey of our own, in microseconds a job; and the
longest time for which any of them held the server up, by the server's own slow log.
"""

from __future__ import annotations

import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from benchmarks.install import BUILD
from benchmarks.server import Server
from kashvi.drivers.redis import RedisDriver
from kashvi.failures.sql import SqlFailures
from kashvi.failures.table import FailedJobRecord
from kashvi.jobs.envelope import seal
from kashvi.ports import Settlement
from kashvi.runtime import SystemRuntime
from kashvi.worker.keeper import LOST_MAX
from kashvi.worker.machine.choose import BATCH_MAX
from kashvi.worker.machine.suspects import after_death

CALLS = 10
LEASE_S = 30.0
CHUNK = 10_000
SHOWN = 50

Measured = Callable[[Server, int], float]


def claim(server: Server, n: int) -> float:
    """Settle a full batch and claim the next, beside ``n`` jobs."""
    driver = RedisDriver(server.url)
    for part in _envelopes(n):
        driver.push(part)
    done: list[Settlement] = []
    took: list[float] = []
    for number in range(1, min(CALLS, n // BATCH_MAX) + 1):
        began = time.perf_counter()
        answer = driver.exchange("worker", number, LEASE_S, done, BATCH_MAX)
        took.append(_us(began) / len(answer.claimed))
        done = [Settlement("done", "worker", "held", raw) for raw in answer.claimed]
    return statistics.median(took)


def promote(server: Server, n: int) -> float:
    """Move what is due, 500 at a time, while ``n`` jobs are."""
    driver = RedisDriver(server.url)
    _delayed(server, n, time.time() - 1)
    took: list[float] = []
    ready = 0
    for number in range(1, min(CALLS, n // 500) + 1):
        began = time.perf_counter()
        now_ready = driver.exchange("worker", number, LEASE_S, [], 0).ready
        took.append(_us(began) / (now_ready - ready))
        ready = now_ready
    return statistics.median(took)


def look(server: Server, n: int) -> float:
    """An exchange that finds none of ``n`` delayed jobs due."""
    driver = RedisDriver(server.url)
    _delayed(server, n, time.time() + 3600)
    took: list[float] = []
    for number in range(1, CALLS + 1):
        began = time.perf_counter()
        driver.exchange("worker", number, LEASE_S, [], BATCH_MAX)
        took.append(_us(began))
    return statistics.median(took)


def reclaim(server: Server, n: int) -> float:
    """Read and settle for workers that died with ``n`` jobs in all, each with a full batch."""
    driver, runtime = RedisDriver(server.url), SystemRuntime()
    for owner, part in enumerate(_envelopes(n, BATCH_MAX)):
        server.client.lpush(f"kashvi:queue:held:dead{owner}", *part)
        server.client.zadd("kashvi:queue:workers", {f"dead{owner}": time.time() - 1})
    took: list[float] = []
    for number in range(1, max(min(CALLS, n // LOST_MAX), 1) + 1):
        began = time.perf_counter()
        found = driver.expired(LOST_MAX)
        lost = [
            settling.sent(0.0)
            for _, theirs in itertools.groupby(found.lost, key=lambda one: one.owner)
            for settling in after_death(list(theirs), True, 0.0, runtime.new_id, 3, 0.0)
        ]
        assert not driver.exchange("worker", number, LEASE_S, lost, 0).refused
        took.append(_us(began) / len(lost))
    return statistics.median(took)


def failed(server: Server, n: int) -> float:
    """What ``queue:failed`` reads: the newest 50 of ``n`` rows, and how many there are, in SQLite."""
    import sqlalchemy as sa

    with TemporaryDirectory() as directory:
        store = SqlFailures(f"sqlite:///{directory}/kashvi.db")
        store.prepare()
        row = {"job_type": "bench.Noop", "payload": "{}", "error": "e", "attempts": 3}
        rows = (row | {"job_id": str(i)} for i in range(n))
        with store.engine.begin() as connection:
            while part := list(itertools.islice(rows, CHUNK)):
                connection.execute(sa.insert(FailedJobRecord), part)
        took: list[float] = []
        for _ in range(CALLS):
            began = time.perf_counter()
            store.rows(limit=SHOWN)
            store.count()
            took.append(_us(began) / SHOWN)
    return statistics.median(took)


MEASURED: tuple[Measured, ...] = (claim, promote, look, reclaim, failed)


def _envelopes(n: int, size: int = CHUNK) -> Iterator[list[bytes]]:
    new_id = SystemRuntime().new_id
    one = (seal(new_id(), b'"bench.Noop"', b'{"user_id":%d,"email":"user@example.com"}' % i) for i in range(n))
    while part := list(itertools.islice(one, size)):
        yield part


def _delayed(server: Server, n: int, due: float) -> None:
    for part in _envelopes(n):
        server.client.zadd("kashvi:queue:delayed", dict.fromkeys(part, due))


def _us(began: float) -> float:
    return (time.perf_counter() - began) * 1e6


def _longest_ms(server: Server) -> float:
    """Of the scripts the server ran since the slow log was cleared."""
    entries: Any = server.client.slowlog_get(10_000)
    return max((e["duration"] for e in entries if e["command"].startswith(b"EVAL")), default=0) / 1000


def plot(figures: dict[str, dict[int, tuple[float, float]]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.5))
    for name, by_size in figures.items():
        axes.plot(list(by_size), [us for us, _ in by_size.values()], marker="o", label=name)
    axes.set(xscale="log", yscale="log", xlabel="jobs queued, delayed, held by the dead, or failed", ylabel="µs a job")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


@click.command()
@click.option("--up-to", type=click.IntRange(1_000), default=1_000_000, show_default=True, help="The largest size.")
@click.option("--json", "as_json", is_flag=True, help="JSON, for programs; no plot.")
@click.option("--out", type=click.Path(path_type=Path), default=Path(__file__).parent / "scaling.png")
def main(up_to: int, as_json: bool, out: Path) -> None:
    """Measure the cost of a job beside few others and beside many."""
    sizes = [size for size in (1_000, 10_000, 100_000, 1_000_000) if size <= up_to]
    figures: dict[str, dict[int, tuple[float, float]]] = {}
    with Server(BUILD) as server:
        server.client.config_set("slowlog-log-slower-than", 500)
        server.client.config_set("slowlog-max-len", 10_000)
        for measured, size in itertools.product(MEASURED, sizes):
            server.empty()
            server.client.slowlog_reset()
            us = measured(server, size)
            figures.setdefault(measured.__name__, {})[size] = us, _longest_ms(server)
            click.echo(f"{measured.__name__:<8} {size:>9,}: {us:8.2f} µs a job, {_longest_ms(server):.1f} ms", err=True)
    if as_json:
        click.echo(json.dumps(figures))
    else:
        plot(figures, out)


if __name__ == "__main__":
    main(prog_name="benchmarks.scaling")
