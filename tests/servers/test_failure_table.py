"""The table ``kashvi_failed_jobs`` on SQLite, PostgreSQL and MariaDB: made, adopted, written whatever happens."""

from __future__ import annotations

import multiprocessing
import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import CreateTable

from kashvi.errors import InvalidSetting, StoreUnavailable
from kashvi.failures import table
from kashvi.failures.engine import engine_of
from kashvi.failures.sql import SqlFailures
from kashvi.failures.table import FailedJobRecord, prepare
from kashvi.jobs.envelope import bytes_of
from kashvi.ports import Failure, Refusal
from tests.servers.databases import PASSWORD, Database, Server

AT = datetime(2026, 11, 24, 3, 14, 23, 442263, UTC)
MIB = 1024 * 1024
SECRET = b'{"card":"4242-4242"}'

GO_TABLE = {
    "sqlite": "CREATE TABLE `kashvi_failed_jobs` (`id` integer,`job_type` text NOT NULL,`payload` text NOT NULL,"
    "`error` text,`attempts` integer NOT NULL DEFAULT 0,`failed_at` datetime,PRIMARY KEY (`id`))",
    "postgresql": 'CREATE TABLE "kashvi_failed_jobs" ("id" bigserial,"job_type" varchar(255) NOT NULL,"payload" text '
    'NOT NULL,"error" text,"attempts" bigint NOT NULL DEFAULT 0,"failed_at" timestamptz,PRIMARY KEY ("id"))',
    "mariadb": "CREATE TABLE `kashvi_failed_jobs` (`id` bigint unsigned AUTO_INCREMENT,`job_type` varchar(255) "
    "NOT NULL,`payload` text NOT NULL,`error` text,`attempts` bigint NOT NULL DEFAULT 0,`failed_at` datetime(3) NULL,"
    "PRIMARY KEY (`id`))",
}
GO_INDEX = "CREATE INDEX idx_kashvi_failed_jobs_job_type ON kashvi_failed_jobs(job_type)"
GO_ROW = "INSERT INTO kashvi_failed_jobs (job_type,payload,error,attempts,failed_at) VALUES "
GO_ROWS = {
    "sqlite": [
        f"{GO_ROW} ('jobs.A','{{\"n\":1}}','no card',3,'2026-11-24 03:14:23.44226309+00:00')",
        f"{GO_ROW} ('jobs.B','{{}}',NULL,1,'2026-11-24 08:52:12.636582284+05:30')",
    ],
    "postgresql": [
        f"{GO_ROW} ('jobs.A','{{\"n\":1}}','no card',3,'2026-11-24 03:14:23.442263+00:00')",
        f"{GO_ROW} ('jobs.B','{{}}',NULL,1,'2026-11-24 08:52:12.636582+05:30')",
    ],
    "mariadb": [
        f"{GO_ROW} ('jobs.A','{{\"n\":1}}','no card',3,'2026-11-24 03:14:23.442')",
        f"{GO_ROW} ('jobs.B','{{}}',NULL,1,'2026-11-24 03:22:12.636')",
    ],
}
COLUMNS = {  # name, type, nullable
    "sqlite": [
        ("id", "INTEGER", 0),
        ("job_type", "TEXT", 0),
        ("payload", "TEXT", 0),
        ("error", "TEXT", 1),
        ("attempts", "INTEGER", 0),
        ("failed_at", "DATETIME", 1),
        ("job_id", "VARCHAR(64)", 1),
        ("traceback", "TEXT", 1),
        ("queue", "VARCHAR(64)", 1),
        ("extra", "TEXT", 1),
    ],
    "postgresql": [
        ("id", "bigint", "NO"),
        ("job_type", "character varying(255)", "NO"),
        ("payload", "text", "NO"),
        ("error", "text", "YES"),
        ("attempts", "bigint", "NO"),
        ("failed_at", "timestamp with time zone", "YES"),
        ("job_id", "character varying(64)", "YES"),
        ("traceback", "text", "YES"),
        ("queue", "character varying(64)", "YES"),
        ("extra", "text", "YES"),
    ],
    "mariadb": [
        ("id", "bigint(20) unsigned", "NO"),
        ("job_type", "varchar(255)", "NO"),
        ("payload", "longtext", "NO"),
        ("error", "longtext", "YES"),
        ("attempts", "bigint(20)", "NO"),
        ("failed_at", "datetime(3)", "YES"),
        ("job_id", "varchar(64)", "YES"),
        ("traceback", "longtext", "YES"),
        ("queue", "varchar(64)", "YES"),
        ("extra", "longtext", "YES"),
    ],
}
COLUMNS_QUESTION = {
    "sqlite": "SELECT name, upper(type), NOT (\"notnull\" OR pk) FROM pragma_table_info('kashvi_failed_jobs')",
    "postgresql": "SELECT column_name, concat(data_type, '(' || character_maximum_length || ')'), is_nullable "
    "FROM information_schema.columns WHERE table_name = 'kashvi_failed_jobs' ORDER BY ordinal_position",
    "mariadb": "SELECT column_name, column_type, is_nullable FROM information_schema.columns "
    "WHERE table_schema = database() ORDER BY ordinal_position",
}
INDEXES = {"idx_kashvi_failed_jobs_job_type": (["job_type"], False), "uq_kashvi_failed_jobs_job_id": (["job_id"], True)}


def failure(job_id: str = "job-1", payload: bytes = b'{"n":1}', **others: Any) -> Failure:
    usual = Failure(job_id, "jobs.Email", payload, "ValueError: no card", 3, AT)
    return usual._replace(**others)


def indexes(database: Database) -> dict[str | None, tuple[list[str | None], bool]]:
    found = sa.inspect(database.engine).get_indexes("kashvi_failed_jobs")
    return {index["name"]: (index["column_names"], bool(index["unique"])) for index in found}


def made_by_go(database: Database) -> SqlFailures:
    database.run(GO_TABLE[database.kind], GO_INDEX, *GO_ROWS[database.kind])
    return SqlFailures(database.url)


def only(kind: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("database", [kind], indirect=True)


@pytest.fixture
def store(database: Database) -> SqlFailures:
    return SqlFailures(database.url)


# -- the table -----------------------------------------------------------------------------


def test_new_table_has_the_documented_columns(database: Database, store: SqlFailures) -> None:
    """The columns and types are those of the Go program, and ours; the database numbers the rows."""
    store.prepare()
    assert database.ask(COLUMNS_QUESTION[database.kind]) == COLUMNS[database.kind]
    assert sa.inspect(database.engine).get_pk_constraint("kashvi_failed_jobs")["constrained_columns"] == ["id"]
    database.run(*["INSERT INTO kashvi_failed_jobs (job_type, payload) VALUES ('jobs.A', '{}')"] * 2)
    [(first,), (second,)] = database.ask("SELECT id FROM kashvi_failed_jobs ORDER BY id")
    assert second == first + 1 > 1


def test_new_table_has_both_indexes(database: Database, store: SqlFailures) -> None:
    """job_type under the documented name; job_id, unique."""
    store.prepare()
    found = indexes(database)
    assert {name: found[name] for name in INDEXES} == INDEXES


def test_attempts_are_zero_where_nobody_says(database: Database, store: SqlFailures) -> None:
    """The default of the column is the documented one."""
    store.prepare()
    database.run("INSERT INTO kashvi_failed_jobs (job_type, payload) VALUES ('jobs.A', '{}')")
    assert [row.attempts for row in store.rows()] == [0]


def test_preparing_twice_is_harmless(database: Database, store: SqlFailures) -> None:
    """Neither rows nor indexes change."""
    store.record([failure()])
    before = indexes(database)
    store.prepare()
    SqlFailures(database.url).prepare()
    assert indexes(database) == before
    assert store.count() == 1


def test_table_of_the_go_program_is_adopted(database: Database) -> None:
    """It gets job_id and its index; the columns that were there stay."""
    made_by_go(database).prepare()
    assert database.ask(COLUMNS_QUESTION[database.kind]) == COLUMNS[database.kind]
    assert {name: indexes(database)[name] for name in INDEXES} == INDEXES


def test_rows_of_the_go_program_stay_and_can_be_read(database: Database) -> None:
    """With times in UTC, whatever zone they were written in, and no job id."""
    newest, oldest = made_by_go(database).rows()
    assert (oldest.job_type, oldest.payload, oldest.error, oldest.attempts) == ("jobs.A", '{"n":1}', "no card", 3)
    assert (newest.error, newest.job_id, oldest.job_id) == (None, None, None)
    times = [row.failed_at for row in (oldest, newest) if row.failed_at]
    assert [time.tzinfo for time in times] == [UTC, UTC]
    expected = [AT, datetime(2026, 11, 24, 3, 22, 12, 636582, UTC)]
    assert all(abs(time - wanted) < timedelta(milliseconds=1) for time, wanted in zip(times, expected, strict=True))


def test_failures_go_into_an_adopted_table(database: Database) -> None:
    """Beside the rows of the Go program."""
    store = made_by_go(database)
    assert store.record([failure()]) == {}
    assert [row.job_id for row in store.rows()] == ["job-1", None, None]


def test_the_go_program_can_write_into_our_table(database: Database, store: SqlFailures) -> None:
    """Two rows without a job id do not collide."""
    store.prepare()
    database.run(*GO_ROWS[database.kind])
    assert [row.job_type for row in store.rows()] == ["jobs.B", "jobs.A"]


@only("sqlite")
@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("2026-11-24 03:14:23.44226309+00:00", datetime(2026, 11, 24, 3, 14, 23, 442263, UTC)),
        ("2026-11-24 08:52:12.636582284+05:30", datetime(2026, 11, 24, 3, 22, 12, 636582, UTC)),
        ("2026-11-24 03:14:23.5-07:00", datetime(2026, 11, 24, 10, 14, 23, 500000, UTC)),
        ("2026-11-24 03:14:23+00:00", datetime(2026, 11, 24, 3, 14, 23, 0, UTC)),
        ("2026-11-24T03:14:23Z", datetime(2026, 11, 24, 3, 14, 23, 0, UTC)),
        ("2026-11-24 03:14:23", datetime(2026, 11, 24, 3, 14, 23, 0, UTC)),
        ("yesterday", None),
        ("", None),
    ],
)
def test_every_time_that_go_writes_on_sqlite_can_be_read(
    database: Database, store: SqlFailures, text: str, wanted: datetime | None
) -> None:
    """Up to nine digits, trailing zeros dropped, any offset; nonsense is no time, and no error."""
    store.prepare()
    database.run(f"INSERT INTO kashvi_failed_jobs (job_type, payload, failed_at) VALUES ('jobs.A', '{{}}', '{text}')")
    assert [row.failed_at for row in store.rows()] == [wanted]


GO_REBUILD = [
    "CREATE TABLE `kashvi_failed_jobs__temp` (`id` integer,`job_type` text NOT NULL,`payload` text NOT NULL,`error` "
    "text,`attempts` integer NOT NULL DEFAULT 0,`failed_at` datetime,job_id VARCHAR(64),traceback TEXT,"
    "queue VARCHAR(64),extra TEXT,PRIMARY KEY (`id`))",
    "INSERT INTO `kashvi_failed_jobs__temp` SELECT * FROM `kashvi_failed_jobs`",
    "DROP TABLE `kashvi_failed_jobs`",
    "ALTER TABLE `kashvi_failed_jobs__temp` RENAME TO `kashvi_failed_jobs`",
    GO_INDEX,
]


@only("sqlite")
def test_index_that_the_go_program_dropped_comes_back(database: Database, store: SqlFailures) -> None:
    """Its start rebuilds the table without our index; the next record of the same store makes it again."""
    store.record([failure("a")])
    database.run(*GO_REBUILD)
    assert store.record([failure("a"), failure("b")]) == {}
    assert {name: indexes(database)[name] for name in INDEXES} == INDEXES
    assert [row.job_id for row in store.rows()] == ["b", "a"]


def test_job_recorded_twice_while_the_index_was_away_is_kept_once(database: Database, store: SqlFailures) -> None:
    """The first row stays, and rows without a job id are left alone."""
    store.record([failure("a")])
    on = " ON kashvi_failed_jobs" if database.kind == "mariadb" else ""
    database.run(
        f"DROP INDEX uq_kashvi_failed_jobs_job_id{on}",
        "INSERT INTO kashvi_failed_jobs (job_type, payload, job_id) VALUES ('again', '{}', 'a')",
        *GO_ROWS[database.kind],
    )
    store.prepare()
    assert [(row.job_type, row.job_id) for row in store.rows()] == [
        ("jobs.B", None),
        ("jobs.A", None),
        ("jobs.Email", "a"),
    ]


@only("mariadb")
def test_text_columns_that_the_go_program_narrowed_are_widened(database: Database, store: SqlFailures) -> None:
    """Its start makes payload a 64 KiB TEXT again; a larger payload is recorded all the same."""
    store.record([failure("a")])
    database.run("ALTER TABLE kashvi_failed_jobs MODIFY payload text NOT NULL")
    assert store.record([failure("b", b'"%s"' % (b"x" * MIB))]) == {}
    assert [len(row.payload) for row in store.rows(limit=1)] == [MIB + 2]


def test_many_threads_prepare_at_once(database: Database) -> None:
    """The slower thread finds the work done, on a table to make and on one to adopt."""
    made_by_go(database)
    together(8, lambda number: SqlFailures(database.url).prepare())
    assert {name: indexes(database)[name] for name in INDEXES} == INDEXES
    database.run("DROP TABLE kashvi_failed_jobs")
    together(8, lambda number: SqlFailures(database.url).prepare())
    assert {name: indexes(database)[name] for name in INDEXES} == INDEXES


@only("postgresql")
def test_table_that_can_not_be_altered_is_filled_without_the_new_columns(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """By a user who may write and nothing else. It is said once."""
    columns = "id bigserial PRIMARY KEY, job_type varchar(255) NOT NULL, payload text NOT NULL, error text, "
    columns += "attempts bigint NOT NULL DEFAULT 0, failed_at timestamptz, job_id varchar(64)"
    database.run(
        f"CREATE TABLE kashvi_failed_jobs ({columns})",
        "CREATE UNIQUE INDEX uq_kashvi_failed_jobs_job_id ON kashvi_failed_jobs (job_id)",
        GO_INDEX,
        "CREATE ROLE writer",
        "GRANT writer TO kashvi",
        "GRANT SELECT, INSERT, DELETE ON kashvi_failed_jobs TO writer",
        "GRANT USAGE ON SEQUENCE kashvi_failed_jobs_id_seq TO writer",
    )
    writing = {"options": "-c role=writer"}
    store = SqlFailures(sa.create_engine(database.engine.url, poolclass=NullPool, connect_args=writing))
    assert store.record([failure("a", traceback="File app.py", extra="{}"), failure("b")]) == {}
    assert store.record([failure("c")]) == {}
    assert [(row.job_id, row.traceback, row.extra) for row in store.rows()] == [(one, None, None) for one in "cba"]
    assert [record.message.count("can't be added") for record in caplog.records] == [1]


def test_what_takes_no_row_is_found_by_a_trial_that_leaves_none(database: Database) -> None:
    """A user may read everything, and write nothing."""
    store = SqlFailures(database.url)
    store.prepare()
    store.try_insert()
    assert store.rows() == []
    read_only = {
        "sqlite": "PRAGMA query_only = 1",
        "postgresql": "SET default_transaction_read_only = on",
        "mysql": "SET SESSION TRANSACTION READ ONLY",
    }
    engine = sa.create_engine(database.engine.url, poolclass=NullPool)
    words = read_only[engine.dialect.name]

    @sa.event.listens_for(engine, "connect")
    def only_reads(connection: Any, _: object) -> None:
        connection.cursor().execute(words)
        connection.commit()

    with pytest.raises(StoreUnavailable):
        SqlFailures(engine).try_insert()


# -- recording -----------------------------------------------------------------------------


def test_row_reads_back_as_it_was_recorded(store: SqlFailures) -> None:
    """With a timezone-aware time in UTC, to the millisecond or better."""
    assert store.record([failure(failed_at=AT.astimezone(timezone(timedelta(hours=5, minutes=30))))]) == {}
    (row,) = store.rows()
    found = (row.job_id, row.job_type, row.payload, row.error, row.attempts)
    assert found == ("job-1", "jobs.Email", '{"n":1}', "ValueError: no card", 3)
    assert row.failed_at
    assert row.failed_at.tzinfo is UTC
    assert abs(row.failed_at - AT) < timedelta(milliseconds=1)


def test_recording_again_changes_nothing(store: SqlFailures) -> None:
    """A batch may be repeated whole, in part, within itself, and by another process."""
    store.record([failure("a"), failure("b")])
    assert store.record([failure("b"), failure("c"), failure("c")]) == {}
    assert SqlFailures(store.engine).record([failure("a"), failure("c")]) == {}
    assert [row.job_id for row in store.rows()] == ["c", "b", "a"]


def test_large_batch_keeps_its_order(store: SqlFailures) -> None:
    """A thousand rows in one call; none at all is fine too."""
    names = [f"job-{number:04}" for number in range(1000)]
    assert store.record([]) == {}
    assert store.record([failure(name) for name in names]) == {}
    assert [row.job_id for row in store.rows()] == names[::-1]


def test_threads_recording_the_same_failures_write_each_once(database: Database) -> None:
    """In different orders, so that they get in each other's way."""
    names = [f"job-{number:03}" for number in range(60)]

    def record(number: int) -> dict[str, str]:
        turned = names[number * 10 :] + names[: number * 10]
        return SqlFailures(database.url).record([failure(name) for name in turned])

    assert together(4, record) == [{}] * 4
    assert sorted(row.job_id or "" for row in SqlFailures(database.url).rows()) == names


def record_in_a_process(url: str) -> dict[str, str]:
    return SqlFailures(url).record([failure(f"job-{number:03}") for number in range(200)])


def test_processes_recording_the_same_failures_write_each_once(database: Database) -> None:
    """On a table that none of them finds ready."""
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as processes:
        refused = list(processes.map(record_in_a_process, [database.url] * 4))
    assert refused == [{}] * 4
    assert SqlFailures(database.url).count() == 200


ODD = {
    "nul-payload": failure("nul-payload", b'{"a":"\0"}'),
    "not-utf8": failure("not-utf8", b"\xff\xfe{}"),
    "surrogate-in-utf8": failure("surrogate-in-utf8", b"\xed\xa0\x80"),
    "looks-like-base64": failure("looks-like-base64", b"base64:e30="),
    "empty": failure("empty", b""),
    "emoji": failure("emoji", '{"😀":"ü"}'.encode(), job_type="jobs.😀", error="😀"),
    "large": failure("large", b'"%s"' % (b"x" * MIB)),
    "large-bytes": failure("large-bytes", b"\xff" * MIB),
    "nul-elsewhere": failure("nul-elsewhere", job_type="a\0b", error="a\0b"),
    "lone-surrogate": failure("lone-surrogate", job_type="a\ud800b", error="\udcff"),
    "long-error": failure("long-error", error="é" * 100_000),
    "attempts": failure("attempts", attempts=2**31 - 1),
    "quotes": failure("quotes", b"'; DROP TABLE x; -- \\ %s :a"),
}


def test_odd_content_never_blocks_its_batch(store: SqlFailures) -> None:
    """All of it is in, and every payload's bytes can be had back."""
    assert store.record([failure("before"), *ODD.values(), failure("after")]) == {}
    rows = {row.job_id: row for row in store.rows()}
    assert set(rows) == {"before", "after", *ODD}
    assert {name: bytes_of(rows[name].payload) for name in ODD} == {name: odd.payload for name, odd in ODD.items()}
    assert rows["emoji"].payload == '{"😀":"ü"}'
    assert (rows["emoji"].job_type, rows["emoji"].error) == ("jobs.😀", "😀")
    assert (rows["nul-elsewhere"].job_type, rows["lone-surrogate"].job_type) == ("a\\x00b", "a\\ud800b")
    assert rows["long-error"].error == "é" * 100_000


def test_very_long_job_type_is_cut_and_kept_whole_in_the_error(store: SqlFailures) -> None:
    """The column holds 255 characters everywhere."""
    name = "jobs." + "ü" * 3000
    assert store.record([failure(job_type=name)]) == {}
    (row,) = store.rows()
    assert row.job_type == name[:255]
    assert row.error == f"ValueError: no card\nThe whole job type: {name}"


@pytest.mark.parametrize(
    "ids", [["a", "A"], ["a", "a "], ["x" * 64 + "1", "x" * 64 + "2"], ["a\0", "ä", "a\ud800", "a"]]
)
def test_two_job_ids_that_a_database_could_confuse_stay_two(store: SqlFailures, ids: list[str]) -> None:
    """By case, trailing space, length, or characters that it does not take; repeating stays harmless."""
    failures = [failure(job_id, attempts=number) for number, job_id in enumerate(ids)]
    assert store.record(failures) == {}
    assert store.record(failures) == {}
    assert sorted(row.attempts for row in store.rows()) == list(range(len(ids)))


def test_jobs_without_an_id_are_told_apart_by_what_they_are(store: SqlFailures) -> None:
    """Two different ones are two rows, one twice is one."""
    failures = [failure("", b"1"), failure("", b"2")]
    assert store.record(failures) == {}
    assert store.record(failures) == {}
    assert sorted(row.payload for row in store.rows()) == ["1", "2"]


anything = st.text(st.characters(exclude_categories=()), max_size=300)
contents = st.tuples(anything, anything, st.binary(max_size=300) | st.text(max_size=100).map(str.encode), anything)


def test_random_content_always_lands(store: SqlFailures) -> None:
    """Random ids, types, payloads and errors, ten in a batch: none refused, no byte of a payload lost."""
    numbers = count()

    @settings(max_examples=30, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(contents, min_size=10, max_size=10))
    def lands(batch: list[tuple[str, str, bytes, str]]) -> None:
        failures = {}
        for job_id, name, payload, error in batch:
            number = next(numbers)
            failures[number] = Failure(f"{number}{job_id}", name, payload, error, number, AT)
        assert store.record(list(failures.values())) == {}
        rows = {row.attempts: row for row in store.rows(limit=10)}
        assert {number: bytes_of(rows[number].payload) for number in failures} == {
            number: one.payload for number, one in failures.items()
        }

    lands()


@pytest.mark.parametrize(
    ("kind", "options"),
    [("postgresql", "ENCODING 'LATIN1' LOCALE 'C'"), ("mariadb", "CHARACTER SET latin1")],
)
def test_database_in_an_old_character_set_takes_any_text(
    database_servers: Callable[[str], Server], kind: str, options: str
) -> None:
    """What it can't hold as text is escaped or in base64; what it can is left as it is."""
    database = Database(kind, database_servers(kind), options)
    store = made_by_go(database)
    emoji = '{"😀":1}'.encode()
    long_name = "😀" * 200
    assert store.record([failure("plain"), failure("emoji", emoji, job_type=long_name, error="😀")]) == {}
    row, plain = store.rows(limit=2)
    assert plain.payload == '{"n":1}'
    assert bytes_of(row.payload) == emoji
    escaped = "\\U0001f600" * 200
    assert (row.job_type, row.error) == (escaped[:255], f"\\U0001f600\nThe whole job type: {escaped}")


@pytest.fixture
def latin1(database_servers: Callable[[str], Server]) -> Database:
    return Database("mariadb", database_servers("mariadb"), "CHARACTER SET latin1")


def test_new_table_takes_emoji_whatever_the_database_says(latin1: Database) -> None:
    """It names its own character set."""
    store = SqlFailures(latin1.url)
    assert store.record([failure("emoji", "😀".encode(), job_type="😀")]) == {}
    assert [(row.job_type, row.payload) for row in store.rows()] == [("😀", "😀")]


@pytest.fixture
def compact(database_servers: Callable[[str], Server]) -> Iterator[Database]:
    """Rows as they were by default before MariaDB 10.2 and MySQL 5.7: an index takes 767 bytes of a column."""
    database = Database("mariadb", database_servers("mariadb"))
    database.run("SET GLOBAL innodb_default_row_format = compact")
    yield database
    database.run("SET GLOBAL innodb_default_row_format = dynamic")


def test_failures_are_recorded_where_an_index_may_not_be_long(compact: Database) -> None:
    """A type of 255 letters of four bytes is longer than the index; the row is whole."""
    store = SqlFailures(compact.url)
    assert store.record([failure("long", b"{}", job_type="😀" * 255)]) == {}
    assert [row.job_type for row in store.rows()] == ["😀" * 255]
    assert len(indexes(compact)) == 2


def test_server_that_is_not_strict_loses_nothing(latin1: Database) -> None:
    """Our connections are strict: a character that does not fit is escaped by us, not replaced by the server."""
    store = made_by_go(latin1)
    ((usual,),) = latin1.ask("SELECT @@GLOBAL.sql_mode")
    latin1.run("SET GLOBAL sql_mode = ''")
    try:
        assert store.record([failure(job_type="😀")]) == {}
    finally:
        latin1.run(f"SET GLOBAL sql_mode = '{usual}'")
    assert [row.job_type for row in store.rows(limit=1)] == ["\\U0001f600"]


def with_a_condition(database: Database, condition: str) -> None:
    table = GO_TABLE[database.kind]
    database.run(f"{table[:-1]}, CHECK ({condition}))")


def test_row_that_the_database_refuses_is_named_and_all_others_are_in(database: Database, store: SqlFailures) -> None:
    """The reason is the database's, without the row."""
    with_a_condition(database, "job_type <> 'cursed'")
    cursed = failure("bad", SECRET, job_type="cursed")
    refused = store.record([*(failure(f"a{n}") for n in range(20)), cursed, *(failure(f"b{n}") for n in range(20))])
    assert set(refused) == {"bad"}
    assert "constraint" in refused["bad"].why.lower()
    assert "4242" not in refused["bad"].why
    assert not refused["bad"].passing
    assert store.count() == 40
    assert set(store.record([cursed, failure("later")])) == {"bad"}
    assert store.count() == 41


@only("mariadb")
def test_row_over_the_limit_of_the_server_is_refused_and_all_others_are_in(
    database: Database, store: SqlFailures
) -> None:
    """Though the server hangs up on it."""
    ((usual,),) = database.ask("SELECT @@GLOBAL.max_allowed_packet")
    database.run(f"SET GLOBAL max_allowed_packet = {MIB}")
    try:
        refused = store.record([failure("a"), failure("huge", b"x" * 3 * MIB), failure("b")])
    finally:
        database.run(f"SET GLOBAL max_allowed_packet = {usual}")
    assert set(refused) == {"huge"}
    assert [row.job_id for row in store.rows()] == ["b", "a"]


@only("sqlite")
def test_row_that_a_full_disk_refuses_is_put_off_and_all_others_are_in(database: Database) -> None:
    """The large row finds no room where the small ones do; with room again, it goes in."""
    most = "PRAGMA max_page_count = 40"
    engine = sa.create_engine(database.engine.url, poolclass=NullPool)
    sa.event.listen(engine, "connect", lambda connection, _: connection.execute(most))
    store = SqlFailures(engine)
    failures = [failure("a"), failure("huge", b"x" * MIB), failure("b")]
    assert store.record(failures) == {"huge": Refusal("database or disk is full", passing=True)}
    assert [row.job_id for row in store.rows()] == ["b", "a"]
    most = "PRAGMA max_page_count = 4000"
    assert store.record(failures) == {}
    assert [row.job_id for row in store.rows()] == ["huge", "b", "a"]


def raising(kind: str, code: str) -> list[str]:
    """A table that answers each row with this error."""
    if kind == "mariadb":
        signal = f"SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = {code}, MESSAGE_TEXT = 'refused'"
        return [
            "CREATE TRIGGER refuse BEFORE INSERT ON kashvi_failed_jobs FOR EACH ROW "
            f"BEGIN IF NEW.job_type = 'cursed' THEN {signal}; END IF; END"
        ]
    raised = f"RAISE EXCEPTION 'refused' USING ERRCODE = '{code}'"
    return [
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$BEGIN IF NEW.job_type = 'cursed' THEN {raised}; END IF; RETURN NEW; END$$",
        "CREATE TRIGGER refuse BEFORE INSERT ON kashvi_failed_jobs FOR EACH ROW EXECUTE FUNCTION refuse()",
    ]


@pytest.mark.parametrize(
    ("database", "code", "passing"),
    [
        ("postgresql", "53100", True),  # disk full
        ("postgresql", "40P01", True),  # deadlock
        ("postgresql", "55P03", True),  # lock not available
        ("postgresql", "57014", True),  # statement timeout
        ("postgresql", "25006", True),  # read only
        ("postgresql", "22001", False),  # too long
        ("postgresql", "23514", False),  # check
        ("postgresql", "P0001", False),  # a trigger says no
        ("mariadb", "1021", True),  # disk full
        ("mariadb", "1114", True),  # table full
        ("mariadb", "1205", True),  # lock wait timeout
        ("mariadb", "1226", True),  # a quota
        ("mariadb", "1290", True),  # read only
        ("mariadb", "1406", False),  # too long
        ("mariadb", "1644", False),  # a trigger says no
    ],
    indirect=["database"],
)
def test_what_passes_is_told_from_what_is_in_the_row(
    database: Database, store: SqlFailures, code: str, passing: bool
) -> None:
    """By the database's own codes; either way the others are in."""
    store.prepare()
    database.run(*raising(database.kind, code))
    refused = store.record([failure("a"), failure("bad", job_type="cursed"), failure("b")])
    assert [(name, one.passing) for name, one in refused.items()] == [("bad", passing)]
    assert "refused" in refused["bad"].why
    assert [row.job_id for row in store.rows()] == ["b", "a"]


# -- a database that is away -----------------------------------------------------------------


def shown(error: BaseException) -> str:
    """All that a log could show of it."""
    return "".join(traceback.format_exception(error))


@pytest.mark.parametrize(
    ("database", "pooled"),
    [("sqlite", False), ("postgresql", False), ("postgresql", True), ("mariadb", False), ("mariadb", True)],
    indirect=["database"],
)
def test_database_that_is_down_is_unavailable_until_it_is_back(database: Database, pooled: bool) -> None:
    """Nothing is lost or forgotten: the same call works later. Neither password nor payload is shown."""
    engine = sa.create_engine(database.engine.url) if pooled else None
    store = SqlFailures(engine or database.url)
    store.record([failure("before")])
    database.server.stop()
    try:
        with pytest.raises(StoreUnavailable) as caught:
            store.record([failure("during", SECRET)])
        with pytest.raises(StoreUnavailable):
            store.rows()
        with pytest.raises(StoreUnavailable):
            SqlFailures(database.url).prepare()
    finally:
        database.server.start()
    assert "4242" not in shown(caught.value)
    assert PASSWORD not in shown(caught.value)
    assert store.record([failure("during", SECRET)]) == {}
    assert [row.job_id for row in store.rows()] == ["during", "before"]
    store.engine.dispose()


@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)
def test_wrong_password_is_unavailable_and_not_shown(database: Database) -> None:
    """An administrator may yet set it right on the server."""
    store = SqlFailures(database.url.replace(PASSWORD, "wrong-word"))
    with pytest.raises(StoreUnavailable, match="can't be used right now") as caught:
        store.record([failure(payload=SECRET)])
    assert "wrong-word" not in shown(caught.value) + repr(store)
    assert "4242" not in shown(caught.value)


@pytest.mark.parametrize("url", ["mysql://me@127.0.0.1:1/app?shoes=9", "postgresql://me@127.0.0.1:1/app?shoes=9"])
def test_option_that_the_driver_meets_when_it_connects_is_named(url: str) -> None:
    """No driver of ours says sooner that it does not know it, and each says it in its own way."""
    with pytest.raises(StoreUnavailable, match="shoes"):
        SqlFailures(url).record([failure()])


def test_table_dropped_meanwhile_is_made_again(database: Database, store: SqlFailures) -> None:
    """By the next record of the same store."""
    store.record([failure("a")])
    database.run("DROP TABLE kashvi_failed_jobs")
    assert store.record([failure("b")]) == {}
    assert [row.job_id for row in store.rows()] == ["b"]


@only("sqlite")
def test_file_deleted_meanwhile_is_made_again(database: Database, store: SqlFailures) -> None:
    """Rows do not vanish into a file that no other process can see."""
    store.record([failure("a")])
    Path(database.engine.url.database or "").unlink()
    assert store.record([failure("b")]) == {}
    assert database.ask("SELECT job_id FROM kashvi_failed_jobs") == [("b",)]


def test_table_that_takes_nothing_is_unavailable_rather_than_refusing_rows(database: Database) -> None:
    """The rows are not to blame, and are not shown, even by an engine that shows parameters."""
    with_a_condition(database, "attempts < 0")
    engine = sa.create_engine(database.engine.url, poolclass=NullPool)
    tries: list[str] = []
    sa.event.listen(engine, "before_cursor_execute", lambda *about: tries.extend(re.findall("^INSERT", about[2])))
    with pytest.raises(StoreUnavailable) as caught:
        SqlFailures(engine).record([failure(f"{number}", SECRET) for number in range(100)])
    assert "4242" not in shown(caught.value)
    assert len(tries) == 2  # the batch and a probe; each may have to wait for a timeout


def test_table_without_a_column_we_need_is_unavailable(database: Database, store: SqlFailures) -> None:
    """Whatever stands under our name is not ours to repair, nor a reason to crash."""
    database.run("CREATE TABLE kashvi_failed_jobs (id integer PRIMARY KEY, job_type varchar(255))")
    with pytest.raises(StoreUnavailable):
        store.record([failure()])


@only("mariadb")
def test_table_with_a_narrow_type_is_filled_without_its_index(database: Database) -> None:
    """MySQL indexes no more of a column than there is; the index is for speed alone."""
    columns = (
        "id bigint unsigned AUTO_INCREMENT PRIMARY KEY, job_type varchar(100) NOT NULL, payload longtext NOT NULL, "
    )
    database.run(f"CREATE TABLE kashvi_failed_jobs ({columns} error longtext, attempts bigint, failed_at datetime(3))")
    assert SqlFailures(database.url).record([failure("a")]) == {}
    assert database.ask("SELECT job_id FROM kashvi_failed_jobs") == [("a",)]


def test_locked_table_is_unavailable_within_seconds(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its thread is to end soon when the worker stops. Shorter here than usual."""
    monkeypatch.setattr("kashvi.failures.table.LOCK_WAIT_MS", 200)
    short = {"sqlite": "?timeout=0.2", "postgresql": "", "mariadb": "?read_timeout=1"}[database.kind]
    store = SqlFailures(database.url + short)
    store.prepare()
    lock = {
        "sqlite": "BEGIN IMMEDIATE",
        "postgresql": "LOCK TABLE kashvi_failed_jobs",
        "mariadb": "LOCK TABLES kashvi_failed_jobs WRITE",
    }[database.kind]
    with database.engine.connect() as other:
        other.exec_driver_sql(lock)
        with pytest.raises(StoreUnavailable):
            store.record([failure()])
        other.invalidate()  # closes it, and with it the lock
    assert store.record([failure()]) == {}


# -- engines -------------------------------------------------------------------------------


def test_memory_is_shared_by_threads() -> None:
    """One database for all of them, one at a time."""
    store = SqlFailures("sqlite://")
    together(8, lambda number: store.record([failure(f"{number}-{n}") for n in range(20)]))
    assert store.count() == 160
    store.engine.dispose()


def test_a_schema_that_changes_while_it_is_looked_at_is_not_known_as_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process adds the indexes in between; a table without them, as it was, gets them all the same."""
    first, second = (sa.create_engine(f"sqlite:///{tmp_path}/{name}.db") for name in "ab")
    schema_of = table._sqlite_schema
    others = [lambda: prepare(first)]

    def then_another_process(connection: sa.Connection) -> tuple[str, ...]:
        schema = schema_of(connection)
        if others:
            others.pop()()
        return schema

    monkeypatch.setattr(table, "_WHOLE", set())
    for engine in (first, second):
        with engine.begin() as connection:
            connection.execute(CreateTable(FailedJobRecord.__table__))
    with monkeypatch.context() as patch:
        patch.setattr(table, "_sqlite_schema", then_another_process)
        prepare(first)
    prepare(second)
    indexes = [{index["name"] for index in sa.inspect(engine).get_indexes(table.TABLE)} for engine in (first, second)]
    assert indexes[0] == indexes[1] != set()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x?mode=memory&uri=true"])
def test_every_spelling_of_memory_outlives_a_connection(url: str) -> None:
    """Or each call would find it empty."""
    store = SqlFailures(url)
    store.record([failure()])
    assert store.count() == 1
    store.engine.dispose()


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("postgresql://localhost/app", "psycopg"),
        ("postgres://localhost/app", "psycopg"),
        ("postgresql+psycopg://localhost/app", "psycopg"),
        ("mysql://localhost/app", "pymysql"),
        ("mariadb://localhost/app", "pymysql"),
        ("sqlite:///app.db", "pysqlite"),
    ],
)
def test_url_picks_the_driver_that_the_extras_install(url: str, driver: str) -> None:
    """Whatever SQLAlchemy's own default is."""
    assert engine_of(url).dialect.driver == driver


def test_settings_in_the_url_win() -> None:
    """Ours are defaults."""
    assert engine_of("mysql://localhost/app?connect_timeout=77").url.query["connect_timeout"] == "77"
    assert engine_of("mysql://localhost/app").url.query["connect_timeout"] == "5"


def test_engine_is_taken_as_it_is() -> None:
    """It is the caller's."""
    engine = sa.create_engine("sqlite://")
    assert engine_of(engine) is engine
    engine.dispose()


NO_URL, NO_DRIVER, NO_OPTION = "must be an SQLAlchemy URL", "has no such database", "rejects the options after the ?"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", NO_URL),
        ("kashvi.db", NO_URL),
        ("postgresql//me:hush@localhost/app", NO_URL),
        ("postgresql://me:hush@localhost:port/app", NO_URL),
        ("nosuchdatabase://me:hush@localhost/app?password=hush", NO_DRIVER),
        ("postgresql+nosuchdriver://me:hush@localhost/app", NO_DRIVER),
        ("postgresql+asyncpg://me:hush@localhost/app", "asyn"),
        ("sqlite:///app.db?timeout=hush", NO_OPTION),
        ("mysql://me:hush@localhost/app?connect_timeout=hush", NO_OPTION),
    ],
)
def test_url_that_cannot_be_used_is_an_invalid_setting(url: str, why: str) -> None:
    """At once, and without showing the password."""
    with pytest.raises(InvalidSetting, match="the database URL") as caught:
        engine_of(url)
    assert why in str(caught.value)
    assert "hush" not in shown(caught.value)


@pytest.mark.parametrize(
    ("url", "module", "package"),
    [
        ("postgresql://h/a", "psycopg", "'kashvi[postgresql]'"),
        ("mysql://h/a", "pymysql", "'kashvi[mysql]'"),
        ("mssql+pyodbc://h/a", "pyodbc", "pyodbc"),
    ],
)
def test_driver_that_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, url: str, module: str, package: str
) -> None:
    """With how to get it."""
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InvalidSetting, match=re.escape(f"pip install {package}")):
        engine_of(url)


def test_password_in_a_query_is_not_shown() -> None:
    """Some drivers take one there."""
    assert "hush" not in repr(SqlFailures("postgresql://me@localhost/app?password=hush"))


# -- what the command line needs -----------------------------------------------------------


def test_rows_are_found_by_number_and_by_job_id(store: SqlFailures) -> None:
    """Newest first; either kind, both, neither; up to a limit."""
    store.record([failure(name) for name in "abc"])
    numbers = {row.job_id: row.id for row in store.rows()}
    assert [row.job_id for row in store.rows([numbers["a"]], ["c"])] == ["c", "a"]
    assert [row.job_id for row in store.rows([], ["b", "\udcff", "é"])] == ["b"]
    assert store.rows([]) == []
    assert [row.job_id for row in store.rows(limit=2)] == ["c", "b"]
    assert store.count() == 3


def test_row_of_the_go_program_is_identified_once(database: Database) -> None:
    """The first id given to it stays."""
    store = made_by_go(database)
    row = store.rows()[-1]
    assert store.identify(row.id, "first") == "first"
    assert store.identify(row.id, "second") == "first"
    assert [one.job_id for one in store.rows()] == [None, "first"]


def test_removing_spares_a_row_whose_number_was_reused(store: SqlFailures) -> None:
    """With a job id, only that job's row goes."""
    store.record([failure("a")])
    (row,) = store.rows()
    assert store.remove([(row.id, "another")]) == set()
    assert store.count() == 1
    assert store.remove([(row.id, "a"), (row.id + 7, "a")]) == {row.id}
    assert store.remove([(row.id, "a")]) == set()
    store.record([failure("b")])
    assert store.remove([(row.id, "a")]) == set()
    assert store.remove([(store.rows()[0].id, None)]) != set()
    assert store.count() == 0


def test_clearing_says_how_many(store: SqlFailures) -> None:
    """And the table stays."""
    store.record([failure(name) for name in "abc"])
    assert store.clear() == 3
    assert store.clear() == 0
    assert store.record([failure("a")]) == {}


def test_cleared_job_can_fail_again(store: SqlFailures) -> None:
    """A number may be used again, a job id too."""
    store.record([failure("a")])
    store.clear()
    assert store.record([failure("a")]) == {}
    assert store.count() == 1


def test_failed_job_record_is_an_ordinary_mapped_class(database: Database, store: SqlFailures) -> None:
    """The documented query works in a session of the caller's own."""
    store.record([failure("older", failed_at=AT), failure("newer", failed_at=AT + timedelta(seconds=1))])
    with Session(database.engine) as session:
        found = session.scalars(sa.select(FailedJobRecord).order_by(FailedJobRecord.failed_at.desc()))
        assert [row.job_id for row in found] == ["newer", "older"]
        recent = sa.select(FailedJobRecord.job_id).where(FailedJobRecord.failed_at > AT + timedelta(milliseconds=500))
        assert list(session.scalars(recent)) == ["newer"]


def test_prepare_is_open_to_an_engine_of_the_caller(database: Database) -> None:
    """Such as a migration's."""
    prepare(database.engine)
    assert database.ask("SELECT count(*) FROM kashvi_failed_jobs") == [(0,)]


def together(threads: int, run: Callable[[int], object]) -> list[object]:
    """Run on ``threads`` threads at the same moment."""
    barrier = threading.Barrier(threads)

    def one(number: int) -> object:
        barrier.wait(20)
        return run(number)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(one, range(threads)))
