"""Makes an engine of a database URL."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.pool import NullPool, QueuePool

from ..errors import UnusableSetting

DRIVERS = {
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mariadb+pymysql",
}

EXTRAS = {"psycopg": "'kashvi[postgresql]'", "pymysql": "'kashvi[mysql]'"}
# Short timeouts: a worker that ends waits for its last rows. STRICT: a value too long is an error and is not cut.
_MYSQL = {"connect_timeout": "5", "read_timeout": "10", "write_timeout": "10", "sql_mode": "STRICT_ALL_TABLES"}
DEFAULTS = {
    "postgresql+psycopg": {"connect_timeout": "5", "tcp_user_timeout": "10000"},
    "mysql+pymysql": _MYSQL,
    "mariadb+pymysql": _MYSQL,
}


def engine_of(database: sa.Engine | str) -> sa.Engine:
    """An engine for a URL, ``postgresql://…`` with the drivers kashvi's extras install. Raises InvalidSetting."""
    if isinstance(database, sa.Engine):
        return database
    url = _url_of(database)
    shown = shown_of(url)
    url = url.set(drivername=DRIVERS.get(url.drivername, url.drivername))
    url = url.set(query=DEFAULTS.get(url.drivername, {}) | dict(url.query))
    try:
        if in_memory(url):
            # One connection for all threads: each connection to :memory: is another database.
            options = {"poolclass": QueuePool, "pool_size": 1, "max_overflow": 0}
            engine = sa.create_engine(url, connect_args={"check_same_thread": False}, hide_parameters=True, **options)
        else:
            # No pool: failures are rare, and a fork would share an idle connection.
            engine = sa.create_engine(url, poolclass=NullPool, hide_parameters=True)
    except ImportError as error:
        package = EXTRAS.get(error.name or "") or error.name or url.drivername
        why = f"its driver is not installed; pip install {package}"
        raise UnusableSetting(f"the database URL {shown}", why) from None
    except NoSuchModuleError:
        raise UnusableSetting(f"the database URL {shown}", "SQLAlchemy has no such database or driver") from None
    except (ArgumentError, ValueError, TypeError, LookupError):
        raise UnusableSetting(f"the database URL {shown}", "its driver rejects the options after the ?") from None
    if engine.dialect.is_async:
        why = "its driver is async; leave the driver out, as in postgresql://…"
        raise UnusableSetting(f"the database URL {shown}", why)
    return engine


def _url_of(database: str) -> sa.URL:
    """The URL, stripped. Raises InvalidSetting without the URL, which may hold a password."""
    try:
        url = sa.make_url(database.strip())
    except (ArgumentError, ValueError, AttributeError):
        url = None
    if url is None or re.search(r"[\r\n\t]", database.strip()):
        raise UnusableSetting("the database URL", "it must be an SQLAlchemy URL such as sqlite:///kashvi.db")
    if "@" in (url.host or "") or (url.host and "@" in (url.database or "")):  # an unescaped @ in the password
        raise UnusableSetting("the database URL", "write @ in a password as %40")
    return url


def shown_of(url: sa.URL) -> str:
    """The URL without secrets: a query may hold a password too."""
    return url.set(query={}).render_as_string(hide_password=True)


def is_no_file(url: sa.URL) -> bool:
    """True if it is an SQLite file that is not there: to connect would make it."""
    if url.get_backend_name() != "sqlite" or in_memory(url):
        return False
    name = str(url.database)
    file = Path(unquote(name.removeprefix("file:").removeprefix("//")) if name.startswith("file:") else name)
    return not file.exists() and file.parent.is_dir()


def in_memory(url: sa.URL) -> bool:
    """True for an SQLite database in memory."""
    if url.get_backend_name() != "sqlite":
        return False
    return not url.database or ":memory:" in url.database or url.query.get("mode") == "memory"
