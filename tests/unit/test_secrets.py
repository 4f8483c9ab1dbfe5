"""A URL's password is shown nowhere: in no exception, chain, repr or log."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from typing import Any

import pytest
import redis
from redis.exceptions import AuthenticationError, ResponseError

from kashvi.drivers.address import client_of
from kashvi.drivers.redis import RedisDriver
from kashvi.errors import DriverError, InvalidSetting, KashviError, StoreError
from kashvi.failures.sql import SqlFailures
from kashvi.queue import Queue
from kashvi.text import without_password, without_passwords

HEAD, TAIL = "hunter", "seventeen"
PASSWORDS = [f"{HEAD}{sign}{TAIL}" for sign in ("", *"@:/?#%&=+;,!$*~^|<>()[]{}'\"\\` \n")]


def shown(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) + repr(error) + str(vars(error))


def clean(text: str) -> bool:
    """No part of the password."""
    return HEAD not in text and TAIL not in text


def use(url: str) -> Callable[[], object]:
    def call() -> object:
        queue: Queue = Queue(url)
        assert clean(repr(queue.driver))
        return queue.stats()

    return call


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize(
    "url", ["redis://:{}@127.0.0.1:1/0", "redis://me:{}@127.0.0.1:1", "http://:{}@x", "rediss://:{}@127.0.0.1:1/0?a=b"]
)
def test_redis_password_is_in_no_error(password: str, url: str) -> None:
    """Whatever it is made of, and whether the URL can be used or the server is away."""
    with pytest.raises(KashviError) as caught:
        use(url.format(password))()
    assert clean(shown(caught.value))


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize(
    "url", ["postgresql://me:{}@127.0.0.1:1/app", "mysql://me:{}@127.0.0.1:1/app", "nonsense://me:{}@x/y"]
)
def test_database_password_is_in_no_error(password: str, url: str, caplog: pytest.LogCaptureFixture) -> None:
    """An unescaped @ makes its end the host; that is said, instead of showing the host."""
    caplog.set_level(logging.DEBUG)

    def use_it() -> None:
        store = SqlFailures(url.format(password))
        assert clean(repr(store))
        Queue(database=url.format(password))
        store.count()

    with pytest.raises((InvalidSetting, StoreError)) as caught:
        use_it()
    assert clean(shown(caught.value))
    assert clean(caplog.text)


@pytest.mark.parametrize(
    "error",
    [
        ResponseError(
            f"ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `default`, `{HEAD}{TAIL[:3]}"
        ),
        ResponseError(f"ERR unknown command 'AUTH' {HEAD}{TAIL}"),
        redis.ConnectionError(f"a proxy says {HEAD}{TAIL}"),
        AuthenticationError("AUTH failed"),
    ],
)
def test_server_that_repeats_the_password_is_not_quoted(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one does that does not know HELLO."""
    driver = RedisDriver(f"redis://:{HEAD}{TAIL}@127.0.0.1:1")

    def refuse(*args: Any, **named: Any) -> None:
        raise error

    monkeypatch.setattr(redis.ConnectionPool, "get_connection", refuse)
    with pytest.raises(DriverError) as caught:
        driver.stats()
    assert clean(shown(caught.value))


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("can't reach redis://:pw@host:1/0 now", "can't reach redis://***@host:1/0 now"),
        ("postgresql://me:***@host/app is away", "postgresql://me:***@host/app is away"),
        ("postgresql://me:***@ss@host/app", "postgresql://***@host/app"),
        ("https://a@b, http://c", "https://***@b, http://c"),
        ("me@example.com and sqlite:///kashvi.db", "me@example.com and sqlite:///kashvi.db"),
    ],
)
def test_credentials_of_any_url_are_starred(text: str, safe: str) -> None:
    """In every message of kashvi."""
    assert without_passwords(text) == safe
    assert str(KashviError(text)) == safe


def test_a_short_password_garbles_no_words() -> None:
    """A longer one is masked within words, too."""
    assert without_password("invalid password a, a cat", "a") == "invalid password ***, *** cat"
    assert without_password("AUTHhunter2: no", "hunter2") == "AUTH***: no"
    assert without_password("no (.*) here", ".*") == "no (***) here"


@pytest.mark.parametrize("url", [" redis://shop:1/0", "redis://shop:1/0\n", "\tredis://shop:1/0\r\n"])
def test_blanks_around_a_redis_url_are_dropped(url: str) -> None:
    """A secret read from a file ends in a line end."""
    assert repr(RedisDriver(url)) == "redis at shop:1"


def test_blanks_around_a_database_url_are_dropped() -> None:
    """No file of that name is made."""
    assert repr(SqlFailures(" sqlite:///kashvi.db\n")) == "sqlite:///kashvi.db"


@pytest.mark.parametrize(
    "url", ["redis://ho st", "redis://host\n/0", "redis://h/0?a=b c", "", "localhost:6379", "redis:/x"]
)
def test_redis_url_that_is_none_says_what_one_is(url: str) -> None:
    """In a whole sentence."""
    with pytest.raises(InvalidSetting, match=r"^the Redis URL can't be used: .*\.$"):
        client_of(url)


@pytest.mark.parametrize("url", ["redis://:6379/seventeen@shop", "redis://:6379#hunter@shop", "redis://:1?hunter@shop"])
def test_password_that_looks_like_a_port_is_not_taken_for_one(url: str) -> None:
    """Its beginning would be shown as the server's port."""
    with pytest.raises(InvalidSetting, match="%2F %3F %23"):
        client_of(url)
