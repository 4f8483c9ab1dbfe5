"""The faults: an ordered list of rules, each with a name that a user can switch on.

A rule has the calls at which it may strike, before or after the call's effect; its own effect; and its excuses: the
promises that no queue could keep then, and for which jobs. At every call one choice of the tape selects a rule, or
none. A rule's number is its place in the list, so new rules go at the end: old replay tokens keep their meaning.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import msgspec

from kashvi.errors import CommandRefused, DriverUnavailable, InvalidSetting, ReplyLost, StoreUnavailable
from kashvi.worker import Limits

from .. import DRIVERS
from .network import Line
from .runtime import SimRuntime

if TYPE_CHECKING:
    from .world import World

Moment = Literal["before", "after"]
SERVER = frozenset({"push", "exchange", "wait", "next_due", "expired", "unrecorded", "recorded"})
RELAY = frozenset({"take_relay", "relay"})
DATABASE = frozenset({"rows", "delete"})
"""The calls of a relay to the server, and to the outbox."""
CRON = frozenset({"tick"})
"""A worker's call for its cron entries."""
WORKER = SERVER - {"push"}
"""The calls of workers; the dispatching process is neither killed nor stopped."""
ANYWHERE = WORKER | RELAY | DATABASE | CRON | {"handle", "record"}
HOUR, SET_BACK_S = 3600.0, 10.0
LIMITS = (Limits(max_jobs=1), Limits(max_jobs=3), Limits(max_time_s=2.5), Limits("empty"), Limits("drained"))


class PlannedFault(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A fault that strikes at its first chance after ``at_s``; in process number ``process``, if given."""

    at_s: Annotated[float, msgspec.Meta(ge=0)]
    fault: str
    process: int | None = None


class Scene(NamedTuple):
    """The call at which a rule strikes. ``effect`` carries a late request out."""

    world: World
    process: SimRuntime
    call: str
    effect: Callable[[], object] | None

    def one_of(self, *values: float) -> float:
        return values[self.world.tape.faults.choose(len(values))]

    @property
    def line(self) -> Line:
        return self.world.line_of(self.process)


class Blow(NamedTuple):
    """What a strike does to its call: it holds the call up, and then it may fail it."""

    held_up_s: float
    error: Exception | None = None


class Rule(NamedTuple):
    name: str
    about: str
    moments: tuple[Moment, ...]
    calls: frozenset[str]
    strike: Callable[[Scene], Blow | None]
    excuses: str = ""
    drivers: tuple[str, ...] = DRIVERS
    """One fault. It strikes at a port or at the whole server, so nearly all rules apply to every driver."""


def _kill(s: Scene) -> None:
    delay = s.one_of(0.0, 0.01, 0.5, 3.0)
    if delay == 0.0:
        s.world.end(s.process)
        return

    def fate() -> None:
        s.world.kernel.sleep(delay)
        if not s.process.dead:
            s.world.end(s.process)

    s.world.kernel.spawn(fate, "fate")


def _sigterm(s: Scene) -> None:
    s.world.terminate(s.process)


def _pause(s: Scene) -> Blow:
    s.process.stand_still(s.one_of(0.1, 1.0, 1.5 * s.world.lease_s, 3 * s.world.lease_s))
    return Blow(0.0)


def _lost(s: Scene) -> Blow:
    return Blow(s.one_of(0.0, 0.5, 10.0), ReplyLost("timed out", "the simulated server"))


def _latency(s: Scene) -> Blow:
    return Blow(s.one_of(0.001, 0.05, 1.0))


def _applied_late(s: Scene) -> None:
    delay, effect = s.one_of(0.01, 1.0, 1.2 * s.world.lease_s), s.effect
    assert effect is not None

    def arrive() -> None:
        s.world.kernel.sleep(delay)
        s.world.late -= 1
        with suppress(CommandRefused):  # a later exchange came first: its number was lower
            effect()

    s.world.late += 1
    s.world.kernel.spawn(arrive, "late request")
    raise ReplyLost("timed out", "the simulated server")


def _reset(s: Scene) -> None:
    s.line.cut_off()
    raise ReplyLost("connection reset by peer", "the simulated server")


def _unreachable(s: Scene) -> None:
    s.line.unreachable_until = s.world.kernel.time + s.one_of(1.0, 10.0, 2 * s.world.lease_s)
    raise DriverUnavailable("no route to host", "the simulated server")


def _restart(s: Scene) -> None:
    s.world.roll_back("restart", after_s=s.one_of(0.0, 0.1, 1.0), down_s=s.one_of(0.5, 5.0))


def _failover(s: Scene) -> None:
    s.world.roll_back("failover", after_s=s.one_of(0.0, 0.05, 0.5), down_s=0.0)


def _out_of_memory(s: Scene) -> None:
    why = "OOM command not allowed when used memory > 'maxmemory'"
    s.world.refuse(frozenset({"push", "exchange", "wait"}) | RELAY | CRON, why, s.one_of(1.0, 5.0))


def _read_only(s: Scene) -> None:
    why = "READONLY You can't write against a read only replica"
    s.world.refuse(frozenset({"push", "exchange", "wait", "recorded"}) | RELAY | CRON, why, s.one_of(1.0, 5.0))


def _insert_fails(s: Scene) -> None:
    raise StoreUnavailable("deadlock detected")


def _insert_reply_lost(s: Scene) -> None:
    raise StoreUnavailable("server closed the connection unexpectedly")


def _database_down(s: Scene) -> None:
    s.world.database_down_until = s.world.kernel.time + s.one_of(5.0, 60.0, 300.0)


def _skew(s: Scene) -> None:
    s.process.skew_s = s.one_of(HOUR, -HOUR, 0.4, -0.4)


def _drift(s: Scene) -> None:
    s.process.drift = s.one_of(0.05, -0.05)


def _jump_back(s: Scene) -> None:
    s.process.skew_s -= s.one_of(HOUR, 1.0)


def _jump_forward(s: Scene) -> None:
    s.process.skew_s += s.one_of(HOUR, 1.0)


def _garbage(s: Scene) -> None:
    garbage = (
        b"\xff\xfe no envelope",
        b'{"type":"jobs.Unheard","payload":{}}',
        b'{"type":"%s","payload":{"no_such":1}}' % s.world.registry.names()[0].encode(),
        b"null",
    )
    s.world.inject(garbage[s.world.tape.faults.choose(len(garbage))])


def _base_exception(s: Scene) -> None:
    raise (SystemExit("handler"), KeyboardInterrupt(), GeneratorExit())[s.world.tape.faults.choose(3)]


def _poison(s: Scene) -> None:
    s.world.poison_current(s.process)


def _row_refused(s: Scene) -> None:
    assert s.effect is not None
    job_ids: object = s.effect()
    assert isinstance(job_ids, list)
    job_id = job_ids[s.world.tape.faults.choose(len(job_ids))]
    s.world.refused_rows[job_id] = s.world.kernel.time + s.one_of(10.0, math.inf)


def _database_slow(s: Scene) -> Blow:
    return Blow(s.one_of(1.0, 5.0, 20.0))


def _server_back(s: Scene) -> None:
    by = s.one_of(1.0, SET_BACK_S)
    s.world.set_clock("server_back", -by)


def _server_forward(s: Scene) -> None:
    s.world.set_clock("server_forward", s.one_of(1.0, 60.0))


def _interrupt(s: Scene) -> None:
    s.world.interrupt(s.process)


def _exit(s: Scene) -> None:
    s.world.queues[s.process.number].leave()


def _sigterm_soon(s: Scene) -> None:
    first, second = s.one_of(0.0, 0.001, 0.02, 0.3, 2.0), s.one_of(0.0, 0.01, 0.3)

    def signals() -> None:
        for delay in (first, second):
            s.world.kernel.sleep(delay)
            if not s.process.dead:
                s.world.terminate(s.process)

    s.world.kernel.spawn(signals, "signals")


def _short_read(s: Scene) -> None:
    s.process.reads_most = 1 + s.world.tape.faults.choose(3)


def _limited(s: Scene) -> None:
    s.process.limits = LIMITS[s.world.tape.faults.choose(len(LIMITS))]


def _equal_jobs(s: Scene) -> None:
    names = s.world.registry.names()
    name = names[s.world.tape.faults.choose(len(names))]
    for _ in range(2 + s.world.tape.faults.choose(2)):
        s.world.inject(b'{"type":"%s","payload":{"n":0},"sent_by":"go"}' % name.encode())


def _repeated_id(s: Scene) -> None:
    s.world.repeat()


_BOTH: tuple[Moment, ...] = ("before", "after")
_BEFORE: tuple[Moment, ...] = ("before",)
_AFTER: tuple[Moment, ...] = ("after",)
_STORE = frozenset({"record"})
_START = frozenset({"start"})
_HANDLE = frozenset({"handle"})
_PUSH = frozenset({"push"})
_SERVER = SERVER | RELAY | CRON
_TABLES = _STORE | DATABASE
_TAIL = (
    "none lost and drains, for jobs dispatched after the restored state; all but attempts bounded, "
    "for jobs claimed or settled after it"
)

RULES: tuple[Rule, ...] = (
    Rule("kill", "SIGKILL, at once or up to 3 s later", _BOTH, ANYWHERE, _kill),
    Rule("sigterm", "SIGTERM: the process stops, and another starts", _BEFORE, ANYWHERE, _sigterm),
    Rule("pause", "the process stands still, up to three leases", _BOTH, ANYWHERE, _pause),
    Rule("request_lost", "no effect, no answer", _BEFORE, _SERVER, _lost),
    Rule("reply_lost", "carried out, no answer", _AFTER, _SERVER, _lost),
    Rule("latency", "up to 1 s on the way", _BOTH, _SERVER, _latency),
    Rule("applied_late", "no answer; carried out up to 1.2 leases later", _BEFORE, _SERVER, _applied_late),
    Rule("reset", "all connections of the process are cut", _BEFORE, _SERVER, _reset),
    Rule(
        "unreachable", "the server can't be reached from one process, up to two leases", _BEFORE, _SERVER, _unreachable
    ),
    Rule("restart", "the server restarts and has lost up to 1 s", _BEFORE, _SERVER, _restart, _TAIL),
    Rule("failover", "a replica that is up to 0.5 s behind takes over", _BEFORE, _SERVER, _failover, _TAIL),
    Rule("out_of_memory", "the server refuses commands that need memory, up to 5 s", _BEFORE, _SERVER, _out_of_memory),
    Rule("read_only", "the server refuses all writes, up to 5 s", _BEFORE, _SERVER, _read_only),
    Rule("insert_fails", "the database rejects a batch", _BEFORE, _TABLES, _insert_fails),
    Rule("insert_reply_lost", "the rows are in, and the confirmation is lost", _AFTER, _TABLES, _insert_reply_lost),
    Rule("database_down", "the database is down, up to 5 min", _BEFORE, _TABLES, _database_down),
    Rule("skew", "a process's clock is off, up to an hour", _BEFORE, _START, _skew),
    Rule("drift", "a process's clock gains or loses 5 %", _BEFORE, _START, _drift),
    Rule("jump_back", "a process's clock jumps back, up to an hour", _BEFORE, ANYWHERE, _jump_back),
    Rule("jump_forward", "a process's clock jumps forward, up to an hour", _BEFORE, ANYWHERE, _jump_forward),
    Rule("garbage", "another program pushes bytes that are not a job", _BEFORE, _PUSH, _garbage),
    Rule("base_exception", "handle() raises a BaseException", _BEFORE, _HANDLE, _base_exception),
    Rule("poison", "a job kills its process, each time", _BEFORE, _HANDLE, _poison),
    Rule("row_refused", "the database refuses one row, for 10 s or for good", _BEFORE, _STORE, _row_refused),
    Rule("database_slow", "the database takes up to 20 s", _BOTH, _TABLES, _database_slow),
    Rule(
        "server_back", "the server's clock is set back, up to 10 s", _BEFORE, _SERVER, _server_back,
        "predicates that compare the server's times from before it and after it",
    ),
    Rule(
        "server_forward", "the server's clock is set forward, up to a minute", _BEFORE, _SERVER, _server_forward,
        "in time",
    ),
    Rule("interrupt", "Ctrl-C in work(), at any moment", _BEFORE, ANYWHERE, _interrupt),
    Rule("equal_jobs", "another program pushes equal jobs without ids", _BEFORE, _PUSH, _equal_jobs),
    Rule(
        "repeated_id", "a producer sends a job again, with its id", _AFTER, _PUSH, _repeated_id,
        "all but none lost and drains, for that job",
    ),
    Rule("exit", "the process exits in the middle of its work, and hands back", _BEFORE, ANYWHERE, _exit),
    Rule("sigterm_soon", "SIGTERM up to 2 s after the start, and once more", _BEFORE, _START, _sigterm_soon),
    Rule("short_read", "reads of what the dead held end early, as if it were large", _BEFORE, _START, _short_read),
    Rule("limited", "the worker ends after some jobs, after a time, or if none is left", _BEFORE, _START, _limited),
)  # fmt: skip


def rules_named(names: str) -> tuple[Rule, ...]:
    """The rules for ``none``, ``all``, or comma-separated names. Raises InvalidSetting."""
    if names == "none":
        return ()
    if names == "all":
        return RULES
    wanted = [name.strip() for name in names.split(",")]
    known = [rule.name for rule in RULES]
    for name in wanted:
        if name not in known:
            raise InvalidSetting("a fault", name, f"none, all, or some of {', '.join(known)}")
    return tuple(rule for rule in RULES if rule.name in wanted)


RARE = {"record": 8, "recorded": 8, "unrecorded": 4, "start": 8, "expired": 2}
"""Factors by which faults are more likely at rare calls."""


class Faults:
    """The rules in force, and the planned faults. ``odds``: the chance that a rule strikes at a call."""

    def __init__(
        self, rules: Sequence[Rule], odds: float, until_s: float, planned: Sequence[PlannedFault] = ()
    ) -> None:
        self.rules = rules
        self.none = not (rules or planned)
        self.until_s = until_s
        self._odds = odds
        numbers = {rule.name: number for number, rule in enumerate(RULES, 1)}
        self._at: dict[tuple[str, str], list[int]] = {}
        for rule in rules:
            for moment in rule.moments:
                for call in rule.calls:
                    self._at.setdefault((moment, call), []).append(numbers[rule.name])
        self._planned = [(plan, rules_named(plan.fault)[0]) for plan in planned]

    def draw(self, world: World, moment: Moment, call: str, process: SimRuntime) -> Rule | None:
        """The rule that strikes here, or None. Takes one choice of the tape at every call, whatever the rules."""
        for entry in self._planned:
            plan, rule = entry
            if (
                world.elapsed_s >= plan.at_s
                and moment in rule.moments
                and call in rule.calls
                and plan.process in (None, process.number)
            ):
                self._planned.remove(entry)
                return rule
        if not self.rules or world.elapsed_s >= self.until_s:
            return None
        number = world.tape.faults.rarely(self._odds * RARE.get(call, 1), self._at.get((moment, call), ()))
        return RULES[number - 1] if number else None
