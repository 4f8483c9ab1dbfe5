"""Transactional dispatch: what is committed is queued once, what is rolled back never."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import fakeredis
import pytest
import sqlalchemy as sa
from kashvi_spec.kit.driver.outboxes import Clock, Table, Wire, relay_of, rounds, savepoints
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import QueuePool, StaticPool

from kashvi import events
from kashvi.drivers.memory import MemoryDriver
from kashvi.drivers.redis import RedisDriver
from kashvi.errors import (
    CommandRefused,
    InvalidSetting,
    NoOutbox,
    PayloadTooLarge,
)
from kashvi.outbox.database import Outbox, _left
from kashvi.outbox.insert import check
from kashvi.outbox.relay import FORGET_MAX
from kashvi.outbox.table import OUTBOX
from kashvi.queues import Queue
from kashvi.registry import Registry
from kashvi.relaying import RELAY_S, Stored
from kashvi.testing import Dispatches, recorded
from kashvi.unique import Dispatched

ran: list[Any] = []


@dataclass
class Mail:
    to: str

    def handle(self) -> None:
        ran.append(self.to)


@pytest.fixture
def engine(tmp_path: Any) -> sa.Engine:
    """SQLite as SQLAlchemy's recipe has it, so that savepoints work."""
    return savepoints(sa.create_engine(f"sqlite:///{tmp_path}/app.db"))


@pytest.fixture(params=["memory", "redis"])
def queue(request: pytest.FixtureRequest, engine: sa.Engine) -> Queue:
    ran.clear()
    driver = MemoryDriver() if request.param == "memory" else RedisDriver(fakeredis.FakeRedis())
    queue = Queue(driver, registry=Registry())
    queue.register("jobs.Mail", Mail)
    queue.outbox(engine)
    return queue


def rows(engine: sa.Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.scalars(sa.select(OUTBOX.c.job_id).order_by(OUTBOX.c.id)))


# -- in the caller's transaction ------------------------------------------------------------------


def test_a_committed_job_runs_and_a_rolled_back_one_does_not(queue: Queue, engine: sa.Engine) -> None:
    """In order, and the outbox is empty afterwards."""
    with Session(engine) as session:
        queue.dispatch(Mail("rolled back"), session=session)
        session.rollback()
        queue.dispatch(Mail("first"), session=session)
        queue.dispatch_many([Mail("second"), Mail("third")], session=session)
        assert queue.stats().ready == 0
        session.commit()
    queue.work(stop_when_empty=True)
    assert ran == ["first", "second", "third"]
    assert rows(engine) == []


def test_a_connection_and_a_scoped_session_do_as_well(queue: Queue, engine: sa.Engine) -> None:
    """All that has a transaction."""
    with engine.begin() as connection:
        queue.dispatch(Mail("a"), session=connection)
    scoped = scoped_session(sessionmaker(engine))
    queue.dispatch(Mail("b"), session=scoped)
    scoped.commit()
    scoped.remove()
    queue.work(stop_when_empty=True)
    assert ran == ["a", "b"]


def test_a_chain_begins_once_its_transaction_commits(queue: Queue, engine: sa.Engine) -> None:
    """One row; the events name all links; a test of the app sees all of them."""
    told: list[Any] = []
    queue.observe(told.append)
    with Session(engine) as session:
        queue.chain(Mail("rolled back"), Mail("too"), queue="mail", session=session)
        session.rollback()
        told.clear()
        ids = queue.chain(Mail("a"), Mail("b"), Mail("c"), queue="mail", session=session)
        session.commit()
    assert rows(engine) == ids[:1]
    queue.work(queues="mail", drain=True)
    assert (ran, rows(engine)) == (["a", "b", "c"], [])
    first = [one for one in told if isinstance(one, events.JobStored | events.JobDispatched) and one.chain]
    assert [(type(one), [one.job_id, *one.chain]) for one in first] == [
        (events.JobStored, ids),
        (events.JobDispatched, ids),
    ]
    with recorded() as dispatched, Session(engine) as session:
        queue.chain(Mail("a"), Mail("b"), queue="mail", session=session)
    assert [one.job.to for one in dispatched.all] == ["a", "b"]


def test_a_row_with_a_malformed_chain_is_relayed_and_told_without_it(wire: Wire, clock: Clock) -> None:
    """Another program may have written it; the worker that claims it records it as failed."""
    told: list[Any] = []
    table = Table("a")
    table.rows = [table.rows[0]._replace(envelope=b'{"type":"jobs.Mail","id":"a","next":{"not":"a list"}}')]
    rounds(clock, relay_of(wire, table, told=told))
    assert (len(wire.jobs()), table.rows) == (1, [])
    assert [(one.type, one.chain) for one in told if isinstance(one, events.JobDispatched)] == [("jobs.Mail", ())]


def test_a_savepoint_that_is_rolled_back_takes_its_jobs_with_it(queue: Queue, engine: sa.Engine) -> None:
    """And one that is released is rolled back with the whole."""
    with Session(engine) as session:
        with session.begin_nested():
            queue.dispatch(Mail("released"), session=session)
        session.rollback()
        queue.dispatch(Mail("outer"), session=session)
        nested = session.begin_nested()
        queue.dispatch(Mail("inner"), session=session)
        nested.rollback()
        session.commit()
    queue.work(stop_when_empty=True)
    assert ran == ["outer"]


def test_a_job_that_is_committed_while_a_job_runs_is_drained_too(queue: Queue, engine: sa.Engine) -> None:
    """What a job dispatches in a transaction of its own is part of the work."""

    @dataclass
    class Order:
        left: int

        def handle(self) -> None:
            ran.append(self.left)
            if self.left:
                with Session(engine) as session:
                    queue.dispatch(Order(self.left - 1), session=session)
                    session.commit()

    queue.register("jobs.Order", Order)
    queue.dispatch(Order(3))
    queue.work(stop_when_empty=True)
    assert ran == [3, 2, 1, 0]


def test_a_worker_relays_while_it_works(queue: Queue, engine: sa.Engine) -> None:
    """In a thread of its own, and stops with it."""
    done = queue._runtime.condition()

    @dataclass
    class Note:
        def handle(self) -> None:
            with done:
                ran.append("note")
                done.notify_all()

    queue.register("jobs.Note", Note)
    with queue.start_workers(1), Session(engine) as session:
        queue.dispatch(Note(), session=session)
        session.commit()
        with done:
            assert ran or done.wait(10)
    assert ran == ["note"]


def test_a_dispatch_in_a_transaction_is_told_as_stored_and_dispatched_by_the_relay(
    queue: Queue, engine: sa.Engine
) -> None:
    """JobStored is no promise, JobDispatched is."""
    told: list[Any] = []
    queue.observe(told.append)
    with Session(engine) as session:
        job_id = queue.dispatch_after(Mail("a"), 60, session=session)
        assert [(type(one), one.job_id, one.delay_s) for one in told] == [(events.JobStored, job_id, 60)]
        session.commit()
    queue.work(stop_when_empty=True)
    [one] = [one for one in told if isinstance(one, events.JobDispatched)]
    assert one.job_id == job_id
    assert one.due is not None
    assert one.server_at is not None
    assert 55 < one.due - one.server_at <= 60.01
    assert queue.stats().delayed == 1


def test_a_unique_job_is_decided_by_the_relay(queue: Queue, engine: sa.Engine) -> None:
    """Each dispatch has an id of its own; a duplicate is dropped once, and does not come back."""
    told: list[Any] = []
    queue.observe(told.append)
    queue.register("jobs.Unique", type("Unique", (Mail,), {}), queue="mail", unique=lambda job: job.to)
    unique = queue.registry.named("jobs.Unique").job_class
    with Session(engine) as session:
        first = queue.dispatch(unique("ada"), session=session)
        second = queue.dispatch(unique("ada"), session=session)
        assert first != second
        assert not isinstance(first, Dispatched)
        session.commit()
    queue.work(queues="mail", stop_when_empty=True)
    assert ran == ["ada"]
    assert [(one.job_id, one.holder) for one in told if isinstance(one, events.JobDuplicate)] == [(second, first)]
    assert rows(engine) == []
    assert queue.dispatch(unique("ada")).duplicate is False  # type: ignore[attr-defined]


def test_an_async_session_has_a_call_of_its_own(queue: Queue, engine: sa.Engine) -> None:
    """As SQLAlchemy's own: the call runs in its greenlet."""

    class Async:
        def __init__(self, inner: Session) -> None:
            self.inner = inner

        async def run_sync(self, call: Callable[[Session], Any]) -> Any:
            return call(self.inner)

    with Session(engine) as session:
        with pytest.raises(InvalidSetting, match=r"await queue\.adispatch"):
            queue.dispatch(Mail("a"), session=Async(session))  # type: ignore[arg-type]
        with pytest.raises(InvalidSetting, match=r"queue\.dispatch\("):
            queue.adispatch(Mail("a"), session=session)  # type: ignore[arg-type]
        with pytest.raises(InvalidSetting, match="timeout"):
            queue.adispatch(Mail("a"), session=Async(session), timeout=1)  # type: ignore[arg-type]

        async def app() -> None:
            one: Any = Async(session)
            await queue.adispatch(Mail("a"), session=one)
            await queue.adispatch_many([Mail("b")], session=one)
            assert len(await queue.achain(Mail("c"), Mail("d"), queue="mail", session=one)) == 2
            await queue.adispatch_after(Mail("later"), 60, session=one)

        asyncio.run(app())
        session.commit()
    queue.work(stop_when_empty=True)
    assert ran == ["a", "b"]


def test_a_dispatch_is_one_statement_in_a_transaction_that_has_begun(queue: Queue, engine: sa.Engine) -> None:
    """The check for autocommit costs none."""
    sent: list[str] = []
    sa.event.listen(engine, "before_cursor_execute", lambda *named: sent.append(named[2].split()[0]))
    with Session(engine) as session:
        for name in "abc":
            queue.dispatch(Mail(name), session=session)
        session.commit()
    assert sent == ["BEGIN", "INSERT", "INSERT", "INSERT"]


# -- refused --------------------------------------------------------------------------------------


def test_a_session_of_another_database_is_refused(queue: Queue, tmp_path: Any) -> None:
    """No relay would find the job."""
    other = sa.create_engine(f"sqlite:///{tmp_path}/other.db")
    with Session(other) as session, pytest.raises(NoOutbox, match=r"other\.db .*queue\.outbox\(engine\)"):
        queue.dispatch(Mail("a"), session=session)
    with Session() as session, pytest.raises(NoOutbox, match="several engines, or none"):
        queue.dispatch(Mail("a"), session=session)
    with pytest.raises(InvalidSetting, match="a Session or a Connection"):
        queue.dispatch(Mail("a"), session=other)  # type: ignore[arg-type]
    other.dispose()


def test_an_engine_of_the_same_database_is_the_same_outbox(queue: Queue, engine: sa.Engine) -> None:
    """Whatever driver its URL names; a database in memory is only its engine's."""
    again = sa.create_engine(engine.url)
    with again.begin() as connection:
        queue.dispatch(Mail("a"), session=connection)
    again.dispose()
    queue.work(stop_when_empty=True)
    assert ran == ["a"]
    memory = sa.create_engine("sqlite://")
    queue.outbox(sa.create_engine("sqlite://"))
    with memory.begin() as connection, pytest.raises(NoOutbox):
        queue.dispatch(Mail("a"), session=connection)
    memory.dispose()


def test_a_connection_in_autocommit_mode_is_refused(queue: Queue, engine: sa.Engine, tmp_path: Any) -> None:
    """A rollback would not take the job back."""
    plain = sa.create_engine(f"sqlite:///{tmp_path}/app.db", isolation_level="AUTOCOMMIT")
    with plain.connect() as connection, pytest.raises(NoOutbox, match="autocommit"):
        queue.dispatch(Mail("a"), session=connection)
    plain.dispose()
    assert rows(engine) == []


def test_a_database_of_another_kind_is_refused() -> None:
    """Its clock, its savepoints and its autocommit are unknown."""
    connection: Any = SimpleNamespace(dialect=SimpleNamespace(name="oracle"))
    with pytest.raises(NoOutbox, match="oracle"):
        check(connection)


def test_a_savepoint_in_the_legacy_mode_of_sqlite3_is_refused(queue: Queue, engine: sa.Engine, tmp_path: Any) -> None:
    """No BEGIN is sent before it, so the row would stay. Without a savepoint that mode is as good as any."""
    plain = sa.create_engine(f"sqlite:///{tmp_path}/app.db")
    with Session(plain) as session:
        with session.begin_nested(), pytest.raises(NoOutbox, match="BEGIN"):
            queue.dispatch(Mail("a"), session=session)
        session.rollback()
        queue.dispatch(Mail("b"), session=session)
        session.rollback()
        assert rows(engine) == []
        queue.dispatch(Mail("c"), session=session)
        session.commit()
    plain.dispose()
    queue.work(stop_when_empty=True)
    assert ran == ["c"]


def test_a_missing_table_is_named(queue: Queue, engine: sa.Engine) -> None:
    """It is never made in the caller's transaction."""
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE kashvi_outbox")
    with Session(engine) as session, pytest.raises(NoOutbox, match="no table kashvi_outbox"):
        queue.dispatch(Mail("a"), session=session)


def test_a_job_that_can_not_be_dispatched_is_not_stored(queue: Queue, engine: sa.Engine) -> None:
    """All or none, as ever."""
    queue.payload_limit = 20
    with Session(engine) as session:
        with pytest.raises(PayloadTooLarge):
            queue.dispatch_many([Mail("a"), Mail("a" * 100)], session=session)
        assert queue.dispatch_many([], session=session) == []
        session.commit()
    assert rows(engine) == []


def test_a_driver_that_outboxes_are_not_relayed_to_is_refused(engine: sa.Engine) -> None:
    """Before a row is there."""

    class Other:
        def exchange(self) -> None: ...

    queue = Queue(Other(), registry=Registry())  # type: ignore[arg-type]
    queue.register("jobs.Mail", Mail)
    queue.outbox(engine)
    with Session(engine) as session, pytest.raises(InvalidSetting, match=r"kashvi\.relaying"):
        queue.dispatch(Mail("a"), session=session)


def test_a_test_without_a_database_may_assert_what_was_dispatched(
    queue: Queue, engine: sa.Engine, assert_dispatched: Dispatches
) -> None:
    """Recorded dispatches reach no transaction."""
    with Session(engine) as session:
        queue.dispatch(Mail("a"), session=session)
        session.commit()
    assert_dispatched(Mail, times=1)
    assert rows(engine) == []


def test_rows_of_another_queue_stay(queue: Queue, engine: sa.Engine) -> None:
    """A shell with a queue in memory must not take what production has stored."""
    other = Queue(MemoryDriver(), registry=queue.registry)
    other.outbox(engine)
    with Session(engine) as session:
        job_id = other.dispatch(Mail("of another"), session=session)
        session.commit()
    queue.work(stop_when_empty=True)
    assert (ran, rows(engine)) == ([], [job_id])
    other.work(stop_when_empty=True)
    assert (ran, rows(engine)) == (["of another"], [])


def test_rows_are_counted_by_queue_and_age(queue: Queue, engine: sa.Engine) -> None:
    """For people."""
    [outbox] = queue.outboxes()
    with Session(engine) as session:
        queue.dispatch_many([Mail("a"), Mail("b")], session=session)
        session.commit()
    [counted] = outbox.counted()
    assert (counted.target, counted.rows) == (queue.driver.relay_target, 2)  # type: ignore[attr-defined]
    assert 0 <= counted.oldest_s < 60


@pytest.mark.parametrize("pool", [None, StaticPool])
def test_a_relay_beside_the_app_that_would_share_its_connection_is_refused(pool: Any) -> None:
    """It would push what is not committed, or find no table. In the thread of the app it waits for the commit."""
    engine = sa.create_engine("sqlite://", poolclass=pool)
    queue = Queue(MemoryDriver(), registry=Registry())
    queue.register("jobs.Mail", Mail)
    ran.clear()
    queue.outbox(engine)
    for start in (queue.start_workers, queue.work):
        with pytest.raises(InvalidSetting, match="one connection"):
            start()
    with engine.connect() as connection:
        queue.dispatch(Mail("a"), session=connection)
        queue.work(stop_when_empty=True)
        assert ran == []
        if pool is None:
            connection.commit()
    queue.work(stop_when_empty=True)
    assert ran == (["a"] if pool is None else [])
    with engine.begin() as connection:
        queue.dispatch(Mail("b"), session=connection)
    queue.work(stop_when_empty=True)
    assert ran[-1] == "b"


def test_a_database_in_memory_is_an_outbox_by_its_engine_alone() -> None:
    """Another engine of the same URL is another database. One that is shared by connections has transactions."""
    queue = Queue(MemoryDriver(), registry=Registry())
    for url in ("sqlite://", "sqlite:///:memory:", "sqlite:///file:m?mode=memory&cache=shared&uri=true"):
        with pytest.raises(InvalidSetting, match="only its engine reaches it"):
            queue.outbox(url)
    queue.outbox(sa.create_engine("sqlite:///file:m?mode=memory&cache=shared&uri=true", poolclass=QueuePool))
    queue.check_threads()


# -- the relay ------------------------------------------------------------------------------------


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "redis"])
def wire(request: pytest.FixtureRequest, clock: Clock) -> Wire:
    return Wire(clock, fakeredis.FakeRedis() if request.param == "redis" else None)


def test_each_row_is_pushed_once_and_deleted_and_then_the_server_forgets_it(wire: Wire, clock: Clock) -> None:
    """Read, push, delete, each for itself."""
    table = Table(*(f"{n}" for n in range(1203)))
    rounds(clock, relay_of(wire, table))
    assert wire.jobs() == [f"{n}" for n in range(1203)]
    assert (table.rows, wire.kept()) == ([], set())
    assert [len(job_ids) for _, job_ids, _ in wire.pushes if job_ids] == [500, 500, 203]


@pytest.mark.parametrize("fault", ["down", "lost", "late"])
@pytest.mark.parametrize("at", range(4))
def test_a_request_that_fails_is_made_again_and_nothing_is_pushed_twice(
    wire: Wire, clock: Clock, fault: str, at: int
) -> None:
    """Whatever becomes of it; and if it arrives at last, it is refused or has been done. Each job is told once."""
    table, told = Table("a", "b"), list[Any]()
    wire.faults = [""] * at + [fault]
    relay = relay_of(wire, table, told=told)
    for _ in range(8):
        relay.step()
        clock.time += 0.7
    wire.arrive()
    rounds(clock, relay)
    assert sorted(wire.jobs()) == ["a", "b"]
    assert (table.rows, wire.kept()) == ([], set())
    assert sorted(one.job_id for one in told if isinstance(one, events.JobDispatched)) == ["a", "b"]


def test_a_relay_that_stood_still_between_read_and_push_pushes_nothing(wire: Wire, clock: Clock) -> None:
    """Another one was let in meanwhile: its token is not the server's."""
    table, as_it_was = Table("a"), Table()
    slow, quick = relay_of(wire, as_it_was), relay_of(wire, table)
    rounds(clock, slow)  # its pushes have higher numbers than the other's
    as_it_was.rows = table.rows[:]
    clock.time += RELAY_S + 1
    rounds(clock, quick, many=5)
    assert (wire.jobs(), table.rows, wire.kept()) == (["a"], [], set())
    slow.step()
    assert wire.jobs() == ["a"]


def test_a_relay_that_lost_its_place_takes_it_again_once_the_other_is_gone(wire: Wire, clock: Clock) -> None:
    """It begins anew: a token that was refused is never let in again."""
    table = Table()
    slow, quick = relay_of(wire, table), relay_of(wire, table)
    slow.step()
    clock.time += RELAY_S + 1
    quick.step()
    table.rows = Table("a").rows
    slow.step()
    assert wire.jobs() == []
    quick.leave()
    rounds(clock, slow, many=9)
    assert (wire.jobs(), table.rows) == (["a"], [])


def test_two_relays_take_turns_and_push_each_row_once(wire: Wire, clock: Clock) -> None:
    """Only one is let in at a time."""
    table = Table(*(f"{n}" for n in range(40)))
    first, second = relay_of(wire, table), relay_of(wire, table)
    assert first.step() == 0
    assert 0 < second.step() <= RELAY_S
    rounds(clock, first, second)
    assert sorted(wire.jobs(), key=int) == [f"{n}" for n in range(40)]


def test_a_deletion_that_the_server_was_not_told_is_found_by_the_next_relay(wire: Wire, clock: Clock) -> None:
    """The first one died after it: the server would keep the id for ever."""
    table = Table("a", "b")
    dies = relay_of(wire, table)
    dies.step()
    dies.step()
    assert (table.rows, wire.kept()) == ([], {"a", "b"})
    clock.time += RELAY_S + 1
    rounds(clock, relay_of(wire, table))
    assert (wire.jobs(), wire.kept()) == (["a", "b"], set())


def test_however_many_ids_the_server_kept_it_forgets_them_all(wire: Wire, clock: Clock) -> None:
    """By 5,000 in one push."""
    wire.take_relay("outbox", "t", "")
    many = FORGET_MAX + 10
    wire.relay("outbox", "t", 1, [Stored(f"{n}", b"%d" % n) for n in range(many)], [])
    clock.time += RELAY_S + 1
    rounds(clock, relay_of(wire, Table()), many=20)
    assert (len(wire.jobs()), wire.kept()) == (many, set())
    assert max(len(gone) for _, _, gone in wire.pushes) == FORGET_MAX


@pytest.mark.parametrize("call", ["delete", "after delete", "present", "waiting"])
def test_a_database_that_goes_away_costs_nothing_but_time(wire: Wire, clock: Clock, call: str) -> None:
    """Whether or not the deletion was committed. It is told once that it is lost, and once that it is back."""
    table, told = Table("a", "b"), list[Any]()
    relay = relay_of(wire, table, told=told)
    table.fails = [call]
    rounds(clock, relay, many=10)
    table.fails = []
    rounds(clock, relay)
    assert (sorted(wire.jobs()), table.rows, wire.kept()) == (["a", "b"], [], set())
    if call != "present":
        assert [type(one) for one in told if not isinstance(one, events.JobDispatched)] == [
            events.RelayLost,
            events.RelayBack,
        ]
        assert {one.outbox for one in told if isinstance(one, events.RelayLost | events.RelayBack)} == {"a list"}
    assert sum(isinstance(one, events.JobDispatched) for one in told) == 2


def test_of_several_outboxes_the_one_that_is_away_is_named_without_its_password(
    queue: Queue, engine: sa.Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """In the event and in the log; the other goes on."""
    told: list[Any] = []
    queue.observe(told.append)
    queue.outbox("postgresql+psycopg://app:secret@127.0.0.1:1/other?password=secret")
    with Session(engine) as session:
        queue.dispatch(Mail("a"), session=session)
        session.commit()
    queue.work(stop_when_empty=True)
    away = "postgresql+psycopg://app:***@127.0.0.1:1/other"
    assert ran == ["a"]
    assert {one.outbox for one in told if isinstance(one, events.RelayLost)} == {away}
    assert f"the outbox in {away} waits" in caplog.text
    assert "secret" not in caplog.text


def test_a_full_server_pauses_the_relay_and_a_row_it_refuses_is_read_past(wire: Wire, clock: Clock) -> None:
    """By its state it refuses all, by its content one."""
    table, told = Table(*(f"{n}" for n in range(30))), list[Any]()
    relay = relay_of(wire, table, told=told)
    wire.full = True
    assert relay.step() == 0
    assert [relay.step() for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    wire.full, wire.refuses = False, {"7"}
    rounds(clock, relay)
    assert [row.job_id for row in table.rows] == ["7"]
    assert sorted(wire.jobs(), key=int) == [f"{n}" for n in range(30) if n != 7]
    assert [one.job_id for one in told if isinstance(one, events.JobRefused)] == ["7"]
    wire.refuses = set()
    clock.time += 600
    rounds(clock, relay)
    assert table.rows == []


def test_a_row_on_hold_is_pushed_again_if_the_server_lost_it(wire: Wire, clock: Clock) -> None:
    """A failover takes the job and the id, and the row is still there."""
    table = Table("a")
    relay = relay_of(wire, table, hold_s=5.0)
    relay.step()
    relay.step()
    assert (wire.jobs(), len(table.rows)) == (["a"], 1)
    wire.forget()
    rounds(clock, relay, many=9)
    assert (wire.jobs(), len(table.rows)) == (["a"], 1)  # it is on hold anew
    rounds(clock, relay)
    assert (wire.jobs(), table.rows, wire.kept()) == (["a"], [], set())


def test_a_server_whose_clock_was_set_back_lets_a_relay_in(wire: Wire, clock: Clock) -> None:
    """The last one's time lies further ahead than any."""
    table = Table("a")
    relay_of(wire, Table()).step()
    clock.time -= 3600
    assert relay_of(wire, table).step() == 0


@pytest.mark.parametrize("key", ["names", "unique", "mail:jobs", "mail:delayed", "relayed:o"])
def test_a_key_of_the_wrong_type_refuses_a_push_which_has_changed_nothing(key: str) -> None:
    """Another program made it; once that is mended, the same push is carried out."""
    client = fakeredis.FakeRedis()
    driver = RedisDriver(client)
    rows = [Stored("a", b"a", 0.0, "mail", ("k", "a")), Stored("b", b"b", 60.0, "mail")]
    wrong = f"kashvi:queue:{key}"
    client.set(wrong, "a string")
    if key == "relayed:o":
        with pytest.raises(CommandRefused, match="WRONGTYPE"):
            driver.take_relay("o", "t", "")
        assert client.keys() == [wrong.encode()]
        client.delete(wrong)
    driver.take_relay("o", "t", "")
    client.set(wrong, "a string")
    before = client.hgetall("kashvi:queue:relay")
    with pytest.raises(CommandRefused, match="WRONGTYPE"):
        driver.relay("o", "t", 1, rows, [])
    assert sorted(client.keys()) == sorted([wrong.encode(), b"kashvi:queue:relay"])
    assert client.hgetall("kashvi:queue:relay") == before
    client.delete(wrong)
    answer = driver.relay("o", "t", 1, rows, [])
    assert answer is not None
    assert (answer.by, driver.queue_stats()["mail"].ready, driver.queue_stats()["mail"].delayed) == (["t 1"] * 2, 1, 1)


def test_a_relay_that_stops_lets_another_in_at_once(wire: Wire) -> None:
    """No five seconds at each deploy."""
    first = relay_of(wire, Table())
    first.step()
    first.leave()
    assert relay_of(wire, Table()).step() == 0


def test_the_name_of_an_outbox_is_made_with_its_table(engine: sa.Engine, tmp_path: Any) -> None:
    """Two databases must not confirm each other's ids."""
    from kashvi.runtime import SystemRuntime

    def outbox(database: sa.Engine | str) -> Outbox:
        return Outbox(database, SystemRuntime(), target=lambda: "here")

    assert outbox(engine).name() == outbox(engine).name()
    assert outbox(engine).name() != outbox(f"sqlite:///{tmp_path}/other.db").name()
    named = Outbox(engine, SystemRuntime(), target=lambda: "staging", own=False)
    assert named.name() == f"{outbox(engine).name()}:staging"  # two queues in one database have a relay each


def test_a_delay_counts_by_the_clock_of_the_database(engine: sa.Engine) -> None:
    """The relay pushes what is left of it."""
    from kashvi.runtime import SystemRuntime

    outbox = Outbox(engine, SystemRuntime(), target=lambda: "here")
    outbox.prepare()
    with engine.begin() as connection:
        for name, delay, age in (
            ("new", 60, 0),
            ("old", 60, 50),
            ("over", 60, 70),
            ("ahead", 60, -3600),
            ("none", 0, 0),
        ):
            connection.exec_driver_sql(
                "INSERT INTO kashvi_outbox (job_id, target, envelope, delay_s, at) VALUES "
                f"('{name}', 'here', x'', {delay}, (julianday('now') - 2440587.5) * 86400.0 - {age})"
            )
    left = {row.job_id: row.in_s for row in outbox.waiting((), 10, 1 << 20)}
    assert left["new"] == pytest.approx(60, abs=1)
    assert left["old"] == pytest.approx(10, abs=1)
    assert (left["over"], left["ahead"], left["none"]) == (0, 60, 0)
    assert _left(60, 1000.0, 1000.002) == 60  # SQLite's clock counts milliseconds


def test_a_batch_ends_with_the_row_that_fills_it(engine: sa.Engine) -> None:
    """Large jobs must not fill a process's memory."""
    from kashvi.runtime import SystemRuntime

    outbox = Outbox(engine, SystemRuntime(), target=lambda: "here")
    outbox.prepare()
    with engine.begin() as connection:
        one = {"target": "here", "envelope": b"x" * 1000, "delay_s": 0.0}
        connection.execute(sa.insert(OUTBOX), [one | {"job_id": f"{n}"} for n in range(10)])
    assert [row.job_id for row in outbox.waiting(("1",), 10, 2500)] == ["0", "2", "3"]
    assert [row.job_id for row in outbox.waiting(("0", "1", "2"), 2, 2500)] == ["3", "4"]  # these hold up no others
