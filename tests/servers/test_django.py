"""Jobs in the transactions of Django's own connections: committed with the models' rows, and rolled back with them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import count
from typing import Any

import pytest
import sqlalchemy as sa

from kashvi.drivers.redis import RedisDriver
from kashvi.errors import InvalidSetting, NoOutbox
from kashvi.queues import Queue
from kashvi.registry import Registry

from .databases import Database
from .launch import RedisServer, missing, until_true

pytestmark = pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)
ran: list[str] = []
numbers = count(1)


@dataclass
class Mail:
    to: str

    def handle(self) -> None:
        ran.append(self.to)


def settings_of(database: Database) -> dict[str, Any]:
    """As an app has them in DATABASES."""
    url = sa.make_url(database.url)
    if database.kind == "sqlite":
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": url.database}
    host = url.host or url.query.get("host", "")
    about = {"NAME": url.database, "USER": url.username, "PASSWORD": url.password, "HOST": host, "PORT": url.port or ""}
    return {"ENGINE": "django.db.backends.postgresql", "OPTIONS": {"connect_timeout": "5"}} | about


@pytest.fixture
def alias(database: Database) -> Iterator[str]:
    """Of a connection of Django to the database, which has a table of users."""
    if find_spec("django") is None:
        missing("Django")
    import django
    from django.conf import settings
    from django.db import connections

    if not settings.configured:
        settings.configure(LOGGING_CONFIG=None)
        django.setup()
    name = f"app_{next(numbers)}"
    connections.settings[name] = connections.configure_settings({"default": {}, name: settings_of(database)})[name]
    database.run("CREATE TABLE users (name VARCHAR(20) PRIMARY KEY)")
    yield name
    connections[name].close()
    del connections.settings[name]


@pytest.fixture
def connection(alias: str) -> Any:
    from django.db import connections

    return connections[alias]


@pytest.fixture
def queue(valkey: RedisServer, connection: Any) -> Iterator[Queue]:
    ran.clear()
    queue = Queue(RedisDriver(valkey.url), registry=Registry())
    queue.register("jobs.Mail", Mail)
    queue.outbox(connection)
    yield queue
    for outbox in queue.outboxes():
        outbox.rest()


def sign_up(connection: Any, name: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO users VALUES (%s)", [name])


def left(database: Database) -> int:
    return int(database.ask("SELECT count(*) FROM kashvi_outbox")[0][0])


def test_what_is_committed_runs_with_its_rows_and_what_is_rolled_back_does_not(
    queue: Queue, connection: Any, alias: str, database: Database
) -> None:
    """Every kind of dispatch, and a large payload."""
    from django.db import IntegrityError, transaction

    with transaction.atomic(alias):
        sign_up(connection, "ada")
        queue.dispatch(Mail("ada"), session=connection)
        queue.dispatch_many([Mail("bob"), Mail("x" * 200_000)], session=connection)
        queue.chain(Mail("c"), Mail("d"), queue="mail", session=connection)
        queue.dispatch_after(Mail("later"), 60, session=connection)
        assert queue.stats().ready == 0

    @transaction.atomic(alias)
    def again() -> None:
        queue.dispatch(Mail("of one that is there"), session=connection)
        sign_up(connection, "ada")

    with pytest.raises(IntegrityError):
        again()
    assert left(database) == 5
    queue.work(queues="default,mail", stop_when_empty=True)
    assert ran == ["ada", "bob", "x" * 200_000, "c", "d"]
    [job] = queue.jobs("delayed")
    assert job.due is not None
    assert (left(database), database.ask("SELECT name FROM users")) == (0, [("ada",)])


def test_a_savepoint_takes_its_jobs_back_and_the_whole_takes_back_a_released_one(
    queue: Queue, connection: Any, alias: str, database: Database
) -> None:
    """Atomic blocks in atomic blocks, with an error inside or outside."""
    from django.db import transaction

    class Stop(Exception): ...

    @transaction.atomic(alias)
    def block(*names: str, fails: bool) -> None:
        for name in names[:1]:
            queue.dispatch(Mail(name), session=connection)
            block(*names[1:], fails=False)
        if fails:
            raise Stop

    with transaction.atomic(alias):
        queue.dispatch(Mail("outer"), session=connection)
        with pytest.raises(Stop):
            block("inner, rolled back", fails=True)
        block("inner", fails=False)
    with pytest.raises(Stop):
        block("of the whole", "of a block that ended well in it", fails=True)
    with transaction.atomic(alias):
        queue.dispatch(Mail("rolled back by hand"), session=connection)
        transaction.set_rollback(True, using=alias)
    queue.work(stop_when_empty=True)
    assert (ran, left(database)) == (["outer", "inner"], 0)


def test_outside_of_an_atomic_block_it_is_refused(
    queue: Queue, connection: Any, alias: str, database: Database
) -> None:
    """There Django commits each statement; and one without autocommit nests savepoints that SQLite does not begin."""
    from django.db import transaction

    with pytest.raises(NoOutbox, match="atomic"):
        queue.dispatch(Mail("a"), session=connection)
    transaction.set_autocommit(False, using=alias)
    with pytest.raises(NoOutbox, match="atomic"), transaction.atomic(alias):
        queue.dispatch(Mail("a"), session=connection)
    transaction.rollback(using=alias)
    transaction.set_autocommit(True, using=alias)
    assert left(database) == 0


def test_after_an_error_in_the_block_django_refuses_a_dispatch(
    queue: Queue, connection: Any, alias: str, database: Database
) -> None:
    """As any other query: the block will be rolled back."""
    from django.db import IntegrityError, transaction
    from django.db.transaction import TransactionManagementError

    with transaction.atomic(alias):
        sign_up(connection, "ada")
        with pytest.raises(IntegrityError), transaction.atomic(alias, savepoint=False):
            sign_up(connection, "ada")
        with pytest.raises(TransactionManagementError):
            queue.dispatch(Mail("a"), session=connection)
    assert left(database) == 0


def test_a_database_that_is_no_outbox_and_a_missing_table_are_named(
    queue: Queue, connection: Any, alias: str, database: Database
) -> None:
    from django.db import transaction

    other = Queue(registry=queue.registry)
    with transaction.atomic(alias), pytest.raises(NoOutbox, match="is no outbox of this queue"):
        other.dispatch(Mail("a"), session=connection)
    database.run("DROP TABLE kashvi_outbox")
    with pytest.raises(NoOutbox, match="has no table kashvi_outbox"), transaction.atomic(alias):
        queue.dispatch(Mail("a"), session=connection)
    for about in ({"NAME": ":memory:"}, {"NAME": "file:m?mode=memory&cache=shared"}):
        connection.settings_dict, before = connection.settings_dict | about, connection.settings_dict
        if database.kind == "sqlite":
            with pytest.raises(NoOutbox, match="path of a file"):
                other.outbox(connection)
        connection.settings_dict = before
    with pytest.raises(InvalidSetting, match=r"queue\.dispatch\("):
        queue.adispatch(Mail("a"), session=connection)


def test_a_commit_wakes_the_relay_of_its_process_and_a_url_is_as_good_as_a_connection(
    valkey: RedisServer, connection: Any, alias: str, database: Database
) -> None:
    """A worker beside the app."""
    from django.db import transaction

    ran.clear()
    queue = Queue(RedisDriver(valkey.url), registry=Registry())
    queue.register("jobs.Mail", Mail)
    queue.outbox(database.url)
    hints: list[bool] = []
    [outbox] = queue.outboxes()
    outbox.watch(lambda: hints.append(connection.in_atomic_block))
    with queue.start_workers(1):
        with transaction.atomic(alias):
            queue.dispatch(Mail("a"), session=connection)
            assert hints == []
        until_true(lambda: ran == ["a"], 20)
    assert hints == [False]
    outbox.rest()
