"""Jobs in a transaction of Django's own connection: stored by its cursor, so they share the fate of the models' rows.

Nothing here imports Django.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, TypeGuard

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from ..errors import NoOutbox
from .insert import no_table
from .table import OUTBOX

if TYPE_CHECKING:
    from ..dispatch import Sealed
    from ..dispatching import DjangoConnection
    from .database import Outbox

DIALECTS: dict[str, Any] = {"postgresql": postgresql, "sqlite": sqlite}
"""By what Django calls a vendor."""


def is_django(session: object) -> TypeGuard[DjangoConnection]:
    """True for a connection of Django."""
    return hasattr(session, "in_atomic_block") and hasattr(session, "settings_dict")


def url_of(connection: DjangoConnection) -> sa.URL:
    """Where it leads. Raises NoOutbox for a database that relays can't read."""
    about = connection.settings_dict
    name = str(about["NAME"])
    if connection.vendor == "sqlite":
        if name == ":memory:" or name.startswith("file:"):
            raise NoOutbox(f"Django's database is {name}", "Relays need the path of a file; in tests of an app, "
                           "kashvi.testing.assert_dispatched records jobs without a database.")  # fmt: skip
        return sa.URL.create("sqlite", database=name)
    if connection.vendor != "postgresql":
        raise NoOutbox(f"Django's database is {connection.vendor}", "With Django, SQLite and PostgreSQL can.")
    options = {key: one for key, one in about["OPTIONS"].items() if isinstance(one, str) and key != "assume_role"}
    host = about["HOST"] or None
    if host and host.startswith("/"):  # a socket
        options, host = options | {"host": host}, None
    port = int(about["PORT"]) if about["PORT"] else None
    user, password = about["USER"] or None, about["PASSWORD"] or None
    return sa.URL.create("postgresql", user, password, host, port, name or None, options)


def insert(outbox: Outbox, connection: DjangoConnection, sealed: Sequence[Sealed], delay_s: float) -> None:
    """Insert a row for each job. Raises NoOutbox, and Django's errors."""
    if not connection.in_atomic_block or not connection.commit_on_exit:
        why = "Django's connection is in no transaction.atomic() that it begins and ends itself"
        raise NoOutbox(why, "Dispatch within transaction.atomic(), or with ATOMIC_REQUESTS.")
    target = outbox.target()
    rows = [(one.job_id, target, one.envelope, delay_s) for one in sealed]
    with connection.cursor() as cursor:
        try:
            cursor.executemany(_statement(connection.vendor), rows)
        except Exception as error:  # Django's, around that of the database
            if (missing := no_table(error)) is not None:
                raise missing from error
            raise
    connection.on_commit(outbox.hint, robust=True)


@cache
def _statement(vendor: str) -> str:
    """With ``%s`` for the values, as Django's cursors have it for every database."""
    dialect = DIALECTS[vendor].dialect(paramstyle="format")
    names = ["job_id", "target", "envelope", "delay_s"]
    compiled = sa.insert(OUTBOX).inline().compile(dialect=dialect, column_keys=names)
    assert compiled.positiontup == names
    return str(compiled)
