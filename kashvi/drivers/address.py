"""Makes a client of a Redis URL. Errors do not show the URL, which may hold a password."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import redis

from ..errors import UnusableSetting

SCHEMES = ("redis://", "rediss://", "unix://")
_UNESCAPED = re.compile(r"://[^/?#]*([/#][^?]*|\?[^=]*)@")
"""A password with an unescaped /, # or ?: a part of it would be read as the host."""


def client_of(url: str) -> redis.Redis:
    """A client for a ``redis://``, ``rediss://`` or ``unix://`` URL, stripped.

    Raises InvalidSetting.
    """
    text = url.strip()
    try:
        why = _why_unusable(text)
        if not why:
            client: redis.Redis = redis.Redis.from_url(text)
            return client
    except (ValueError, TypeError, AttributeError):
        why = "its port is not a number or an option does not fit; write / ? # in a password as %2F %3F %23"
    raise UnusableSetting("the Redis URL", why)  # out here, where the error that shows the URL is gone


def _why_unusable(text: str) -> str:
    if not text.startswith(SCHEMES):
        return "it must be a redis://, rediss:// or unix:// URL"
    if re.search(r"\s", text):
        return "it contains a blank or a line end"
    if not text.startswith("unix://") and _UNESCAPED.search(text):
        return "write / ? # in a password as %2F %3F %23"
    where = urlsplit(text)
    if where.fragment:
        return "nothing comes after a #; write # in a password as %23"
    if where.scheme == "unix" and not where.path.strip("/"):
        return "it names no socket; unix:///run/redis.sock does"
    if where.scheme != "unix" and not re.fullmatch(r"(/[0-9]*)?/?", where.path):
        return "its path must be the number of a database, as in redis://host/0"
    if where.scheme != "unix" and where.port == 0:
        return "no server has the port 0"
    return ""
