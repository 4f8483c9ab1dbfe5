"""``python -m benchmarks.outbox``: jobs that an app dispatches in transactions, and that a relay pushes, a second.

One process inserts, in transactions of one job and of twenty; then one relay reads, pushes and deletes all rows. The
server is a Valkey of our own, the database an SQLite file unless a URL is given. The best of some rounds counts.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import sqlalchemy as sa
from sqlalchemy.orm import Session

from benchmarks.install import BUILD
from benchmarks.server import Server
from kashvi.queue import Queue, Registry

SIZES = (1, 20)


@dataclass
class Noop:
    user_id: int
    email: str

    def handle(self) -> None: ...


def inserted(queue: Queue, engine: sa.Engine, jobs: int, each: int) -> float:
    """Dispatch jobs, ``each`` in a transaction; returns jobs a second."""
    began = time.perf_counter()
    for first in range(0, jobs, each):
        with Session(engine) as session:
            for n in range(first, first + each):
                queue.dispatch(Noop(n, f"user{n}@example.com"), session=session)
            session.commit()
    return jobs / (time.perf_counter() - began)


def relayed(queue: Queue, jobs: int) -> float:
    """Let a relay push all rows; returns jobs a second."""
    [relay] = queue.relays()
    before = queue.stats().ready
    began = time.perf_counter()
    relay.flush()
    took = time.perf_counter() - began
    assert queue.stats().ready - before == jobs
    return jobs / took


@click.command()
@click.option("--database-url", help="SQLAlchemy URL of an empty database.  [default: an SQLite file]")
@click.option("--jobs", type=click.IntRange(20), default=10_000, show_default=True, help="How many in each round.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="The best of them counts.")
@click.option("--json", "as_json", is_flag=True, help="JSON, for programs.")
def main(database_url: str | None, jobs: int, rounds: int, as_json: bool) -> None:
    """Measure transactional dispatch."""
    jobs -= jobs % max(SIZES)
    figures: dict[str, float] = {}
    with TemporaryDirectory() as directory, Server(BUILD) as server:
        engine = sa.create_engine(database_url or f"sqlite:///{Path(directory, 'app.db')}")
        queue = Queue(server.url, registry=Registry())
        queue.register("bench.Noop", Noop)
        queue.outbox(engine)
        for each in SIZES * rounds:
            found = {
                f"inserted, {each} a transaction": inserted(queue, engine, jobs, each),
                "relayed": relayed(queue, jobs),
            }
            figures |= {name: max(rate, figures.get(name, 0.0)) for name, rate in found.items()}
        engine.dispose()
    if as_json:
        click.echo(json.dumps(figures))
        return
    for name, rate in figures.items():
        click.echo(f"  {name:<28}  {rate:>9,.0f} jobs/s")


if __name__ == "__main__":
    main(prog_name="benchmarks.outbox")
