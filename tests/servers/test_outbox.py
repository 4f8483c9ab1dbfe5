"""Transactional dispatch on real databases and a real server: committed means queued once, rolled back never."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import pytest
import sqlalchemy as sa
from kashvi_spec.kit.driver.outboxes import savepoints
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from kashvi.drivers.redis import RedisDriver
from kashvi.errors import NoOutbox, OutboxUnavailable
from kashvi.outbox.database import Outbox
from kashvi.queues import Queue
from kashvi.registry import Registry
from kashvi.runtime import SystemRuntime

from .databases import DATABASES, Database
from .launch import RedisServer, missing, until_true

ran: list[Any] = []


@dataclass
class Mail:
    to: str

    def handle(self) -> None:
        ran.append(self.to)


@pytest.fixture
def queue(valkey: RedisServer, database: Database) -> Iterator[Queue]:
    ran.clear()
    queue = Queue(RedisDriver(valkey.url), registry=Registry())
    queue.register("jobs.Mail", Mail)
    queue.outbox(database.url)
    yield queue
    for outbox in queue.outboxes():
        outbox.rest()


@pytest.fixture
def engine(database: Database) -> sa.Engine:
    """An app's own. SQLite as SQLAlchemy's recipe has it, so that savepoints work."""
    engine = sa.create_engine(database.engine.url, poolclass=NullPool)
    return savepoints(engine) if database.kind == "sqlite" else engine


def rows(database: Database) -> int:
    return int(database.ask("SELECT count(*) FROM kashvi_outbox")[0][0])


def test_what_is_committed_runs_and_what_is_rolled_back_does_not(
    queue: Queue, engine: sa.Engine, database: Database
) -> None:
    """Whole transactions, savepoints, and a large payload."""
    with Session(engine) as session:
        with session.begin_nested():
            queue.dispatch(Mail("released, and rolled back with the whole"), session=session)
        session.rollback()
        queue.dispatch(Mail("first"), session=session)
        nested = session.begin_nested()
        queue.dispatch(Mail("rolled back"), session=session)
        nested.rollback()
        queue.dispatch_many([Mail(f"{n}") for n in range(20)], session=session)
        queue.dispatch(Mail("x" * 200_000), session=session)
        assert queue.stats().ready == 0
        session.commit()
    with engine.begin() as connection:
        queue.dispatch(Mail("last"), session=connection)
    queue.work(stop_when_empty=True)
    assert ran == ["first", *(f"{n}" for n in range(20)), "x" * 200_000, "last"]
    assert rows(database) == 0


def test_a_chain_begins_once_its_transaction_commits_and_never_if_it_rolls_back(
    queue: Queue, engine: sa.Engine, database: Database
) -> None:
    """One row in the caller's transaction, whatever the number of its links."""
    with Session(engine) as session:
        queue.chain(Mail("rolled back"), Mail("too"), queue="mail", session=session)
        session.rollback()
        nested = session.begin_nested()
        queue.chain(Mail("of a savepoint"), Mail("too"), queue="mail", session=session)
        nested.rollback()
        queue.chain(Mail("a"), Mail("b"), Mail("c"), queue="mail", session=session)
        session.commit()
    assert rows(database) == 1
    queue.work(queues="mail", drain=True)
    assert (ran, rows(database)) == (["a", "b", "c"], 0)


def test_a_transaction_that_the_database_refuses_leaves_no_job(
    queue: Queue, engine: sa.Engine, database: Database
) -> None:
    """The error comes at the end, and takes all."""
    database.run("CREATE TABLE users (name VARCHAR(20) PRIMARY KEY)")
    with Session(engine) as session:
        queue.dispatch(Mail("welcome"), session=session)
        session.execute(sa.text("INSERT INTO users VALUES ('ada')"))
        with pytest.raises(IntegrityError):
            session.execute(sa.text("INSERT INTO users VALUES ('ada')"))
    queue.work(stop_when_empty=True)
    assert (ran, rows(database)) == ([], 0)


def test_a_delayed_job_becomes_due_when_it_should(queue: Queue, engine: sa.Engine) -> None:
    """By the clock of the database, and then that of the server."""
    before = queue.driver._server.call("TIME")  # type: ignore[attr-defined]
    with Session(engine) as session:
        queue.dispatch_after(Mail("later"), 60, session=session)
        session.commit()
    queue._relay_now()
    [job] = queue.jobs("delayed")
    assert job.due is not None
    started = float(before[0]) + float(before[1]) / 1e6
    assert 60 <= job.due.timestamp() - started < 70


def test_a_connection_in_autocommit_mode_is_refused(queue: Queue, database: Database) -> None:
    """However it was switched on."""
    autocommit = sa.create_engine(database.engine.url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with autocommit.connect() as connection, pytest.raises(NoOutbox, match="autocommit"):
        queue.dispatch(Mail("a"), session=connection)
    autocommit.dispose()
    assert rows(database) == 0


def test_a_relay_in_a_worker_waits_for_a_database_that_is_away(
    queue: Queue, engine: sa.Engine, database: Database
) -> None:
    """And goes on when it is back."""
    with queue.start_workers(1):
        until_true(lambda: bool(queue.driver._server.call("HGETALL", "kashvi:queue:relay")), 20)  # type: ignore[attr-defined]
        database.server.stop()
        database.server.start()
        with Session(engine) as session:
            queue.dispatch(Mail("a"), session=session)
            session.commit()
        until_true(lambda: ran == ["a"] and rows(database) == 0, 30)


def test_two_databases_have_two_outboxes(database: Database) -> None:
    """Each its own name, and any number of processes make one table."""
    runtime = SystemRuntime()
    one, same = (Outbox(database.url, runtime, target=lambda: "here") for _ in range(2))
    other = Outbox(database.server.new_database(), runtime, target=lambda: "here")
    assert one.name() == same.name() != other.name()
    for outbox in (one, same, other):
        outbox.rest()


@pytest.mark.parametrize("database", ["mariadb"], indirect=True)
def test_a_table_that_rolls_nothing_back_is_no_outbox(database: Database) -> None:
    """MyISAM."""
    outbox = Outbox(database.url, SystemRuntime(), target=lambda: "here")
    outbox.prepare()
    outbox.rest()
    database.run("ALTER TABLE kashvi_outbox ENGINE=MyISAM")
    again = Outbox(database.url, SystemRuntime(), target=lambda: "here")
    with pytest.raises(OutboxUnavailable, match="myisam"):
        again.prepare()
    again.rest()


ASYNC = {"sqlite": "aiosqlite", "postgresql": "psycopg", "mariadb": "asyncmy"}


def test_an_async_session_commits_and_rolls_back_too(queue: Queue, database: Database) -> None:
    """Given the URL of its database, which a relay reads without an event loop."""
    library = ASYNC[database.kind]
    if find_spec(library) is None:
        missing(library)

    async def app() -> None:
        url = database.engine.url
        engine = create_async_engine(url.set(drivername=f"{url.get_backend_name()}+{library}"))
        async with AsyncSession(engine) as session:
            await queue.adispatch(Mail("rolled back"), session=session)
            await session.rollback()
            await queue.adispatch(Mail("a"), session=session)
            await session.commit()
        async with engine.begin() as connection:
            await queue.adispatch_many([Mail("b"), Mail("c")], session=connection)
            await queue.achain(Mail("d"), Mail("e"), queue="mail", session=connection)
        autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
        async with autocommit.connect() as connection:
            with pytest.raises(NoOutbox, match="autocommit"):
                await queue.adispatch(Mail("can't be rolled back"), session=connection)
        await engine.dispose()

    asyncio.run(app())
    queue.work(queues="default,mail", drain=True)
    assert ran == ["a", "b", "c", "d", "e"]


def test_every_kind_of_database_is_tried() -> None:
    """Those that transactional dispatch names."""
    assert set(DATABASES) == {"sqlite", "postgresql", "mariadb"}
