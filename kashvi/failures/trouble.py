"""Classifies a database's error: it may pass, or the row's content is refused; and shortens its text for a log."""

from __future__ import annotations

import re

from sqlalchemy import exc

from ..ports import Refusal

TROUBLE = (exc.SQLAlchemyError, OSError, ValueError, TypeError)
"""The exceptions of a database call; ValueError: text that the driver can't encode; TypeError: an option it lacks."""

# Codes of errors that may pass; all others are about the row. A row is tried again either way, sooner after an error
# that may pass. A lost connection is not listed: if other rows can be written before and after it, this row is what
# the server disconnects on.
_SQLITE = frozenset((3, 5, 6, 7, 8, 9, 10, 13, 14, 15, 23))
"""PERM BUSY LOCKED NOMEM READONLY INTERRUPT IOERR FULL CANTOPEN PROTOCOL AUTH."""
_POSTGRESQL = frozenset(("25", "40", "53", "55", "57", "58"))
"""Classes: transaction state (read only), rollback (deadlock), resources (disk, memory, connections), not in the
state for it (locks), operator (shutdown, time limits), system."""
_MYSQL = frozenset(
    (
        *(1021, 1028, 1030, 1037, 1038, 1041, 1114, 1135, 1180),  # disk, memory, threads; the table is full
        *(1040, 1129, 1203, 1226, 1637),  # too many connections, a quota
        *(1205, 1206, 1213, 1412, 1615, 3572),  # locks; the table is being changed
        *(1290, 1792, 1836),  # read only
        *(1053, 1317, 1927, 1969, 3024),  # shutdown, time limits
    )
)


def refusal_of(error: BaseException, dialect: str) -> Refusal:
    """The Refusal for a database's error."""
    return Refusal(why(error), _passes(error, dialect))


def _passes(error: BaseException, dialect: str) -> bool:
    if not isinstance(error, exc.DBAPIError):
        return isinstance(error, exc.TimeoutError) or (
            isinstance(error, OSError) and not isinstance(error, ConnectionError)
        )
    if error.connection_invalidated:
        return False
    of_driver = error.orig
    if dialect == "sqlite":
        code = getattr(of_driver, "sqlite_errorcode", None)
        return code is not None and code & 0xFF in _SQLITE
    if dialect == "postgresql":
        state = getattr(of_driver, "sqlstate", None)
        return state is not None and state[:2] in _POSTGRESQL
    if dialect in ("mysql", "mariadb"):
        return of_driver is not None and bool(of_driver.args) and of_driver.args[0] in _MYSQL
    return isinstance(error, exc.OperationalError | exc.InternalError)


def why(error: BaseException) -> str:
    """The database's own text, without the statement and its values, which follow on later lines."""
    text = str(getattr(error, "orig", None) or error).strip()
    if isinstance(error, UnicodeError):
        text = "text that the connection can't encode"
    return re.sub(r"\s+", " ", text.partition("\n")[0])[:300] or type(error).__name__
