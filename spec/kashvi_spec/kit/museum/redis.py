"""Bugs of keys and scripts: other keys, other ends of the list, keys that expire, steps in the wrong order."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import redis

from kashvi.drivers import connection
from kashvi.drivers import redis as driver
from kashvi.drivers.connection import Connections, Script
from kashvi.drivers.health import Health
from kashvi.drivers.redis import RedisDriver
from kashvi.errors import CommandRefused, DriverError, DriverUnavailable, SettingsRefused
from kashvi.worker.machine.steps import Wait
from kashvi.worker.shell import Worker

from . import Patch, exhibit, value, where


def calling(patch: Patch, change: Any, when: Any) -> None:
    """Send ``change(command)`` instead, if ``when(command)`` holds."""
    where(
        patch, Connections, "call",
        lambda self, *command: when(command),
        lambda real, self, *command: real(self, *change(command)),
    )  # fmt: skip


def scripted(patch: Patch, script: Script, text: str, when: Any = lambda args: True) -> None:
    """Replace the text of a script, if ``when`` holds of its arguments."""
    assert text != script.text
    other: Any = SimpleNamespace(text=text, sha=hashlib.sha1(text.encode()).hexdigest())
    where(
        patch, Connections, "run",
        lambda self, one, keys, args: one is script and when(args),
        lambda real, self, one, keys, args: real(self, other, keys, args),
    )  # fmt: skip


@exhibit(
    "pushed at the right",
    "the newest job is at the head of the list",
    "REDIS-1",
    also="ENVELOPE-1 JOBS-3 MEMORY-3 REDIS-11",
)
def _(patch: Patch) -> None:
    calling(patch, lambda command: ("RPUSH", *command[1:]), lambda command: command[0] == "LPUSH")


@exhibit(
    "another list",
    "kashvi:jobs, which other programs do not know",
    "REDIS-1",
    source="AsyncTasQ: keys of its own",
    also="QUEUES-11 DISPATCH-7 ENVELOPE-1 FAILURES-8 JOBS-3 JOBS-23 MEMORY-3 REDIS-3 REDIS-4 REDIS-5 REDIS-6 "
    "REDIS-7 REDIS-11 REDIS-12 REDIS-13 REDIS-14 REDIS-15",
)
def _(patch: Patch) -> None:
    calling(patch, lambda command: ("LPUSH", "kashvi:jobs", *command[2:]), lambda command: command[0] == "LPUSH")


@exhibit(
    "taken from the left",
    "the newest job is claimed first",
    "REDIS-1",
    also="QUEUES-11 COMMANDS-9 JOBS-3 MEMORY-3 REDIS-11",
)
def _(patch: Patch) -> None:
    text = driver._EXCHANGE.text.replace(
        "'LRANGE', source, -math.min(chunk, last - #claimed), -1", "'LRANGE', source, 0, 0"
    )
    text = text.replace("'LTRIM', source, 0, -#oldest_first - 1", "'LTRIM', source, #oldest_first, -1")
    scripted(patch, driver._EXCHANGE, text)


@exhibit(
    "scores are whole seconds",
    "rounded down, so jobs are due early",
    "REDIS-2",
    source="Go kashvi: floor of the Unix seconds",
    also="MEMORY-3",
)
def _(patch: Patch) -> None:
    due = "now + tonumber(ARGV[1])"
    scripted(patch, driver._DELAY, driver._DELAY.text.replace(due, f"math.floor({due})"))


@exhibit("scores are milliseconds", "for delays of a minute and more", "REDIS-2", source="BullMQ")
def _(patch: Patch) -> None:
    milliseconds = driver._DELAY.text.replace("now + tonumber(ARGV[1])", "(now + tonumber(ARGV[1])) * 1000")
    scripted(patch, driver._DELAY, milliseconds, lambda args: float(args[0]) >= 60)


@exhibit(
    "a delay is a sleeping thread",
    "of the process that dispatched",
    "REDIS-2 REDIS-3",
    source="Go kashvi: a sleeping goroutine",
    also="DISPATCH-7 ENVELOPE-1 MEMORY-3 REDIS-4 REDIS-5 REDIS-7 REDIS-11",
)
def _(patch: Patch) -> None:
    def push(
        real: Any, self: RedisDriver, envelopes: Sequence[bytes], delay_s: float = 0.0, *queues: Any
    ) -> float | None:
        vars(self).setdefault("sleeping", []).append((delay_s, envelopes))
        return time.time() + delay_s

    where(patch, RedisDriver, "push", lambda self, envelopes, delay_s=0.0, *queues: delay_s > 0, push)


@exhibit(
    "a start clears what is delayed",
    "it deletes delayed jobs of ended processes",
    "REDIS-3",
    source="Celery: an ETA is its worker's",
    also="COMMANDS-9 COMMANDS-20 DISPATCH-7",
)
def _(patch: Patch) -> None:
    real = RedisDriver.__init__

    def init(self: RedisDriver, *args: Any, **named: Any) -> None:
        real(self, *args, **named)
        with suppress(DriverError):
            self._server.call("DEL", self._delayed)

    patch.setattr(RedisDriver, "__init__", init)


@exhibit("delayed jobs expire", "an hour after the last of them was dispatched", "REDIS-4")
def _(patch: Patch) -> None:
    def push(
        real: Any, self: RedisDriver, envelopes: Sequence[bytes], delay_s: float = 0.0, *queues: Any
    ) -> float | None:
        due: float | None = real(self, envelopes, delay_s, *queues)
        self._server.call("EXPIRE", self._delayed, 3600)
        return due

    where(patch, RedisDriver, "push", lambda self, envelopes, delay_s=0.0, *queues: delay_s > 0, push)


@exhibit(
    "what a worker holds expires", "when the longest job should have ended", "REDIS-4", source="arq: in-progress keys"
)
def _(patch: Patch) -> None:
    taken = "redis.call('LTRIM', source, 0, -#oldest_first - 1)"
    scripted(patch, driver._EXCHANGE, driver._EXCHANGE.text.replace(taken, f"{taken} redis.call('EXPIRE', held, 600)"))


@exhibit("what is announced expires", "with the longest lease", "REDIS-4")
def _(patch: Patch) -> None:
    announced = "redis.call('LPUSH', running, old)"
    assert announced in driver._EXCHANGE.text
    scripted(
        patch,
        driver._EXCHANGE,
        driver._EXCHANGE.text.replace(announced, f"{announced} redis.call('EXPIRE', running, 99)"),
    )


@exhibit("what was sent back has one key for all", "whatever the prefix", "REDIS-5")
def _(patch: Patch) -> None:
    real = RedisDriver.__init__

    def init(self: RedisDriver, *args: Any, **named: Any) -> None:
        real(self, *args, **named)
        self._retried = "kashvi:queue:retried"

    patch.setattr(RedisDriver, "__init__", init)


@exhibit("one key is forgotten", "the list of workers has the same name for all prefixes", "REDIS-5")
def _(patch: Patch) -> None:
    real = RedisDriver.__init__

    def init(self: RedisDriver, *args: Any, **named: Any) -> None:
        real(self, *args, **named)
        self._workers = "kashvi:queue:workers"

    patch.setattr(RedisDriver, "__init__", init)


@exhibit(
    "a worker's lists have no prefix",
    "a script's keys are in several slots",
    "REDIS-5",
    also="COMMANDS-20 FAILURES-4 REDIS-4",
)
def _(patch: Patch) -> None:
    patch.setattr(RedisDriver, "_lists", lambda self, worker: [f"held:{worker}", f"running:{worker}"])


@exhibit(
    "the client's pool is used",
    "waiting workers use up its connections",
    "REDIS-6",
    source="Go kashvi: twenty workers, and Dispatch times out",
    also="REDIS-12 REDIS-13",
)
def _(patch: Patch) -> None:
    from kashvi.drivers import pools

    patch.setattr(pools, "_own_pool", lambda theirs: theirs)


@exhibit("the client's settings are forgotten", "its database is ignored, so jobs go to another", "REDIS-6")
def _(patch: Patch) -> None:
    from kashvi.drivers import pools

    def own_pool(real: Any, theirs: redis.ConnectionPool) -> redis.ConnectionPool:
        pool: redis.ConnectionPool = real(theirs)
        pool.connection_kwargs["db"] = 0
        return pool

    where(patch, pools, "_own_pool", lambda theirs: theirs.connection_kwargs.get("db"), own_pool)


@exhibit(
    "a refusal is not heard",
    "a full server's refusal is taken for a success",
    "REDIS-7",
    source="Go kashvi: errors ignored",
    also="DISPATCH-7 REDIS-11",
)
def _(patch: Patch) -> None:
    hushed(patch, CommandRefused)


@exhibit(
    "a server that is away is not noticed",
    "the job is lost without an error",
    "REDIS-7",
    also="DISPATCH-7 REDIS-14",
)
def _(patch: Patch) -> None:
    hushed(patch, DriverUnavailable)


def hushed(patch: Patch, kind: type[DriverError]) -> None:
    """Suppress errors of this kind in a push."""
    real = RedisDriver.push

    def push(self: RedisDriver, envelopes: Sequence[bytes], delay_s: float = 0.0, *queues: Any) -> float | None:
        try:
            return real(self, envelopes, delay_s, *queues)
        except kind:
            return None

    patch.setattr(RedisDriver, "push", push)


@exhibit(
    "a worker ends with its connection",
    "after a restart of the server no worker is left",
    "REDIS-8",
    source="Celery #8030",
    also="DELIVERY-1 DELIVERY-5 DISPATCH-1 JOBS-18 WORKERS-11 WORKERS-12 WORKERS-13 WORKERS-20",
)
def _(patch: Patch) -> None:
    gone(patch, lambda self: True)


@exhibit(
    "a worker gives up after a while",
    "after five tries, it waits for a person",
    "REDIS-8",
    source="BullMQ #2466",
    also="DELIVERY-1 DELIVERY-5 DISPATCH-1 JOBS-18 WORKERS-11 WORKERS-12 WORKERS-13 WORKERS-20",
)
def _(patch: Patch) -> None:
    def often(self: Worker) -> bool:
        vars(self)["tries"] = vars(self).get("tries", 0) + 1
        return bool(vars(self)["tries"] > 5)

    gone(patch, often)


def gone(patch: Patch, tired: Any) -> None:
    """Stop a worker while the server is away, if ``tired`` holds."""

    def goes_on(real: Any, self: Worker, request: Any, caught: Exception) -> bool:
        goes: bool = real(self, request, caught)
        if tired(self):
            self._runtime.sleep(1e6)
        return goes

    where(patch, Worker, "_goes_on", lambda self, request, caught: isinstance(caught, DriverUnavailable), goes_on)


@exhibit(
    "removed, then added",
    "a list of the wrong type costs the jobs that were due",
    "REDIS-9",
    source="Go kashvi: ZREM, then LPUSH, errors ignored",
)
def _(patch: Patch) -> None:
    promoting(patch, "redis.call('ZREM', source, unpack(due)) redis.call('LPUSH', KEYS[queue.at], unpack(due))")


@exhibit("an error of a script is passed over", "the jobs in it are lost", "REDIS-9", source="Go kashvi")
def _(patch: Patch) -> None:
    promoting(patch, "redis.call('ZREM', source, unpack(due)) redis.pcall('LPUSH', KEYS[queue.at], unpack(due))")


def promoting(patch: Patch, how: str) -> None:
    """Replace the promotion, in a script that does not check types first."""
    text = driver._EXCHANGE.text.replace("\n  redis.call('LLEN', KEYS[at])\n", "\n")
    step = "redis.call('LPUSH', KEYS[queue.at], unpack(due))\n    redis.call('ZREM', source, unpack(due))"
    assert step in text
    scripted(patch, driver._EXCHANGE, text.replace(step, how))


@exhibit(
    "ten threads poll ten times as often",
    "each new thread is a load for the server",
    "REDIS-10",
    source="Laravel: --sleep",
)
def _(patch: Patch) -> None:
    def wait(real: Any, self: Worker, step: Any) -> None:
        self._driver.wait(self.id, 0.0)
        self._runtime.sleep(0.05)
        with self.lock:
            self.machine.waited(self.now(), Wait(0, self.now()), None)

    where(patch, Worker, "_wait", lambda self, step: self.threads >= 10, wait)


@exhibit("an idle worker exchanges", "in each round, besides its wait", "REDIS-10", source="ours, once")
def _(patch: Patch) -> None:
    def wait(real: Any, self: Worker, step: Any) -> None:
        for _ in range(3):
            self._driver.stats()
        real(self, step)

    where(patch, Worker, "_wait", lambda self, step: self.threads >= 10, wait)


@exhibit("a refused wait is no wait", "so an idle worker exchanges without a pause", "REDIS-10", source="ours, once")
def _(patch: Patch) -> None:
    patch.setattr(Worker, "_rest", lambda self, error, left: None)


FIRST_WRITE = "redis.call('ZREM', workers, '')"


@exhibit("a claim needs room", "so a full server stays full", "REDIS-11", source="ours, once; RQ, Sidekiq: LMOVE")
def _(patch: Patch) -> None:
    assert FIRST_WRITE in driver._EXCHANGE.text
    scripted(patch, driver._EXCHANGE, driver._EXCHANGE.text.replace(FIRST_WRITE, ""))


@exhibit("a delayed job is pushed into a full server", "its limit holds for others", "REDIS-11")
def _(patch: Patch) -> None:
    scripted(patch, driver._DELAY, f"redis.call('ZREM', KEYS[1], '')\n{driver._DELAY.text}")


@exhibit("a replica's no is taken for a server's", "and its connection is kept", "REDIS-12", source="ours, once")
def _(patch: Patch) -> None:
    value(patch, connection, "OF_THE_COMMAND", re.compile(""), Connections, "_text", lambda self, error: True)


@exhibit("one connection is given up", "the others go on leading to the old primary", "REDIS-12")
def _(patch: Patch) -> None:
    patch.setattr(Connections, "_give_up", lambda self, pool: None)


@exhibit("a child has its parent's pool", "its lock stays locked", "REDIS-13", source="redis-py")
def _(patch: Patch) -> None:
    patch.setattr(Connections, "pool", lambda self: self._pool)


@exhibit("a child closes its parent's connections first", "so it needs their lock", "REDIS-13")
def _(patch: Patch) -> None:
    def here(real: Any, self: Connections) -> redis.ConnectionPool:
        self._pool.disconnect()
        pool: redis.ConnectionPool = real(self)
        return pool

    where(patch, Connections, "pool", lambda self: self._pid != os.getpid(), here)


@exhibit("MOVED is an error like any other", "so the URL of another node never works", "REDIS-14", source="ours, once")
def _(patch: Patch) -> None:
    def elsewhere(real: Any, self: Connections, error: Exception, pool: Any) -> CommandRefused:
        return CommandRefused(str(error), self.server)

    where(patch, Connections, "_elsewhere", lambda *_: True, elsewhere)


@exhibit("a prefix without a hash tag is let pass", "jobs are pushed that no script can take", "REDIS-14")
def _(patch: Patch) -> None:
    patch.setattr(connection, "has_hash_tag", lambda prefix: True)


@exhibit("a missing right is met in the middle", "no script looks for it first", "REDIS-15", source="ours, once")
def _(patch: Patch) -> None:
    text = "return {}"
    nothing = SimpleNamespace(text=text, sha=hashlib.sha1(text.encode()).hexdigest())
    value(patch, driver, "_RIGHTS", nothing, RedisDriver, "check", lambda self, **named: True)


@exhibit("what will never work is tried again", "as if it were an outage", "REDIS-15", source="ours, once")
def _(patch: Patch) -> None:
    def check(real: Any, self: RedisDriver, **named: Any) -> list[str]:
        with suppress(DriverError):
            return list(real(self, **named))
        return []

    where(patch, RedisDriver, "check", lambda self, **named: True, check)


@exhibit("eviction is no news", "and a full server drops jobs", "REDIS-16", source="Sidekiq: a page of its wiki")
def _(patch: Patch) -> None:
    patch.setattr(Health, "evicts", False)


@exhibit("who may not ask may not work", "INFO is not for every user", "REDIS-16")
def _(patch: Patch) -> None:
    def check(real: Any, self: RedisDriver, **named: Any) -> list[str]:
        try:
            self.health()
        except CommandRefused as error:
            if "NOPERM" in str(error):
                raise SettingsRefused(str(error)) from error
        return list(real(self, **named))

    where(patch, RedisDriver, "check", lambda self, **named: True, check)
