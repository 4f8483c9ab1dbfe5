"""Each rule of the scripts for exchanges, relays and ticks, broken by hand: the steps say so, and name a clause; and so
do the vectors for exchanges.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import fakeredis
import pytest
from kashvi_spec.kit.driver.steps import STEPS, Bench
from kashvi_spec.kit.driver.subject import subject_of
from kashvi_spec.kit.driver.vectors import OnRedis, differences
from kashvi_spec.kit.driver.vectors import load as vectors

from kashvi.drivers import redis
from kashvi.drivers.connection import Script

SCRIPT = redis._EXCHANGE
BROKEN = [
    ("n < last then", "n < -1 then"),
    ("if n == last then", "if n == -5 then"),
    ("text(now + lease), worker)", "text(now + lease / 2), worker)"),
    (
        "redis.call('ZADD', workers, text(now + lease), worker)",
        "redis.call('ZADD', workers, 'NX', text(now + lease), worker)",
    ),
    ("if lease_end > now then return false end", "if false then return false end"),
    ("if read_end ~= '' and lease_end ~= tonumber(read_end) then return false end", ""),
    ("lease_end ~= tonumber(read_end)", "tonumber(read_end) > now"),
    ("if owner ~= worker then read_end, first = ARGV[first], first + 1 end", ""),
    ("if lease_end > now - gone_after or not holds_nothing", "if not holds_nothing"),
    (
        "if lease_end > now - gone_after or not holds_nothing(list, KEYS[list_index + 1]) then",
        "if lease_end > now - gone_after then",
    ),
    ("and not (queue.paused or queue.empty) do", "and not queue.empty do"),
    ("running_list or {}, #paused_queues == #served and 1 or 0", "running_list or {}, 0"),
    ("if not redis.call('LPOS', list, old, 'RANK', from) then return false end", ""),
    ("local due = text(now + in_s)", "local due = text(now + in_s * 0.9)"),
    ("delay(new, tonumber(in_s), queue)", "delay(old, tonumber(in_s), queue)"),
    ("local due = text(now + in_s)", "local due = string.format('%d', now + in_s)"),
    ("if move == 'done' and new == '' then", "if move == 'done' then"),
    ("for i = first, last, 5 do\n    local queue", "for i = first, last - 5, 5 do\n    local queue"),
    ("redis.call('LPUSH', KEYS[queue], ARGV[i])", "redis.call('RPUSH', KEYS[queue], ARGV[i])"),
    ("delay(ARGV[i], tonumber(ARGV[i + 1]), queue)", "redis.call('LPUSH', KEYS[queue], ARGV[i])"),
    (
        "local list = KEYS[list_index]",
        "local list = KEYS[list_index] if move == 'done' and new ~= '' then follow(first, last) end",
    ),
    (
        "redis.call('ZADD', unrecorded, text(now + tonumber(in_s)), new)",
        "redis.call('ZADD', unrecorded, text(now), new)",
    ),
    (
        "redis.call('ZADD', unrecorded, text(now + tonumber(in_s)), new)",
        "redis.call('ZADD', unrecorded, text(now + tonumber(in_s)), old)",
    ),
    ("redis.call('RPUSH', KEYS[queue], new)", "redis.call('LPUSH', KEYS[queue], new)"),
    ("redis.call('RPUSH', KEYS[queue], new)", "redis.call('RPUSH', KEYS[queue], old)"),
    ("redis.call('LPUSH', running, old)", ""),
    ("  redis.call('LREM', list, from, old)\n", ""),
    ("note(redis.call('LREM', held, -1, ARGV[i]) == 1)", "note(redis.call('LREM', held, 0, ARGV[i]) > 0)"),
    ("note(redis.call('LREM', held, -1, ARGV[i]) == 1)", "redis.call('LREM', held, -1, ARGV[i]); note(true)"),
    ("if settled ~= true then refused", "if false then refused"),
    ("n .. ' ' .. text(now) .. ' ' .. refused)", "n .. ' ' .. text(now) .. ' ')"),
    ("n .. ' ' .. text(now) .. ' ' .. refused)", "n .. ' ' .. text(now + 1) .. ' ' .. refused)"),
    ("ZRANGEBYSCORE', source, '-inf', text(now)", "ZRANGEBYSCORE', source, '-inf', text(now + 0.6)"),
    ("    redis.call('ZREM', source, unpack(due))\n    promoted", "    promoted"),
    ("redis.call('LPUSH', KEYS[queue.at], unpack(due))", "redis.call('RPUSH', KEYS[queue.at], unpack(due))"),
    ("redis.call('LPUSH', held, unpack(oldest_first))", "redis.call('RPUSH', held, unpack(oldest_first))"),
    ("redis.call('LTRIM', source, 0, -#oldest_first - 1)", "redis.call('LTRIM', source, 0, -#oldest_first)"),
    ("math.min(chunk, last - #claimed)", "chunk"),
    ("if leaving and holds_nothing(held, running) then", "if leaving then"),
    ("if leaving and holds_nothing(held, running) then", "if false then"),
    ("redis.call('LLEN', held) + redis.call('LLEN', running), ready", "redis.call('LLEN', held), ready"),
    (
        "redis.call('LRANGE', held, 0, -1), redis.call('LRANGE', running, 0, -1))",
        "redis.call('LRANGE', held, 0, -1), {})",
    ),
    ("first and text(first - now)", "first and text(first - now + 3)"),
]
FOR_VECTORS = [
    *BROKEN,
    ("running_list or {}, #paused_queues == #served and 1 or 0", "running_list or {}, #paused_queues > 0 and 1 or 0"),
    ("claimed_of, paused_queues,", "claimed_of, {},"),
    ("claimed_of, paused_queues,", "{}, paused_queues,"),
    ("if named == 0 or not queue.paused then", "if true then"),
    ("first = tonumber(due) end", "first = first or tonumber(due) end"),
    ("(not first or tonumber(due) < first)", "(not first)"),
    ("local last = math.min(before + most, want)", "local last = want"),
    ("claim(queue, want) end -- what", "claim(queue, 0) end -- what"),
    ("#claimed - before", "#claimed"),
    ("for _, queue in ipairs(served) do promote(queue) end", "promote(served[1])"),
    ("KEYS[queue], new)\n    ring", "KEYS[1], new)\n    ring"),
    ("'ZADD', KEYS[queue + 1], due, envelope", "'ZADD', KEYS[2], due, envelope"),
    ("redis.call('LPUSH', KEYS[queue], ARGV[i])", "redis.call('LPUSH', KEYS[1], ARGV[i])"),
    ("if (move == 'retry' or move == 'return') and wrong[queue] then return false end", ""),
    ("if without then return without end", ""),
    ("if without then return without end", "if without then return false end"),
    ("index .. '!' .. settled or index", "index .. '!0' or index"),
    ("return (i - first) / 5 end\n", "return 0 end\n"),
    ("if some_delayed[1] == nil then other(1) end", "redis.call('LLEN', jobs)"),
    ("redis.call('HSET', KEYS[11], worker, ARGV[9])", ""),
    ("if named > 0 then redis.call('HDEL', KEYS[11], owner) end", ""),
    ("redis.call('SADD', KEYS[10], ARGV[i])", ""),
    ("redis.call('HGET', KEYS[12], key) == id then redis.call('HDEL'", "true then redis.call('HDEL'"),
    ("    free(key, id)\n    return true", "    return true"),
    ("if move == 'done' or move == 'fail' then free(key, id) end", "if move == 'done' then free(key, id) end"),
    ("if move == 'done' or move == 'fail' then free(key, id) end", "if move == 'fail' then free(key, id) end"),
    ("if key ~= '' and not taken then", "if false then"),
    ("    if taken then\n", "    if false then\n"),
    ("index .. '.' .. (i - first) / 5", "index .. '.0'"),
    ("or now + 1)", "or now - 1)"),
    ("if lease_end > now then return false end", "if lease_end >= now then return false end"),
    ("if lease_end > now - gone_after or", "if lease_end >= now - gone_after or"),
    ("for i = first_list, #KEYS do redis.call('LLEN', KEYS[i]) end", ""),
    ("redis.call('ZCARD', unrecorded)\nlocal newest", "local newest"),
    ("redis.call('HDEL', exchanges, owner)", ""),
    ("or (set ~= 'zset' and set ~= 'none')", ""),
    ("'%.17g'", "'%.14g'"),
    ("not newest_mark or redis.call('ZREM', cancelled, id) == 0", "true"),
    ("redis.call('ZREM', cancelled, id) == 0", "not redis.call('ZSCORE', cancelled, id)"),
    ("refused[#refused + 1] = 'c' .. index", ""),
    ("(move == 'retry' or move == 'fail' or move == 'return') and ends(id)", "move ~= 'done' and ends(id)"),
    ("(move == 'retry' or move == 'fail' or move == 'return') and ends(id)", "ends(id)"),
    ("(move == 'retry' or move == 'fail' or move == 'return')", "(move == 'retry' or move == 'fail')"),
    ("(move == 'retry' or move == 'fail' or move == 'return')", "(move == 'retry' or move == 'return')"),
    ("(move == 'retry' or move == 'fail' or move == 'return')", "(move == 'fail' or move == 'return')"),
    ("and ends(id) then\n    redis.call('LREM', list, from, old)", "and ends(id) then\n    "),
    ("    redis.call('LREM', list, from, old)\n    free(key, id)", "    redis.call('LREM', list, from, old)"),
    ("if move == 'done' and in_s == '1' and ends(id) then last = last - 5 end", ""),
    ("if move == 'done' and in_s == '1' and ends(id) then", "if move == 'done' and ends(id) then"),
    ("local newest_mark = redis.call('ZRANGE', cancelled, -1, -1, 'WITHSCORES')[2]", "local newest_mark = nil"),
    ("redis.call('ZRANGE', cancelled, -1, -1,", "redis.call('ZRANGE', cancelled, 0, 0,"),
]
"""And what no driver can be brought to by calls alone, such as a list of an unknown worker."""
RELAY = redis.RedisDriver._RELAY
OF_RELAYS = [
    ("let_in ~= ARGV[6] and ends - now or 0", "ends - now or 0"),
    ("left > 0 and left <= seconds", "left > 0"),
    ("left > 0 and left <= seconds", "false"),
    ("if let_in ~= token then return { 0 } end", ""),
    ("if n <= last then", "if n < last then"),
    ("if n <= last then", "if n == last then"),
    ("return { 1, done_at, answers }", "return { 1, text(now), answers }"),
    ("text(n), text(now + seconds)", "text(n), text(now)"),
    ("for i = 8 + queues, first - 1 do redis.call('HDEL', KEYS[2], ARGV[i]) end", ""),
    ("if not answer then", "if true then"),
    ("if holder == '' then", "if true then"),
    ("redis.call('HSET', KEYS[4], key, id)", ""),
    ("redis.call('SADD', KEYS[3], ARGV[6 + queue])", ""),
    ("text(now + delay)", "text(now)"),
    ("redis.call('HSET', KEYS[2], id, answer)", ""),
    ("redis.call('LPUSH', KEYS[3 + 2 * queue]", "redis.call('RPUSH', KEYS[3 + 2 * queue]"),
]
TICK = redis._TICK
OF_TICKS = [
    ("if not (last >= 0 and last <= latest) then last, ahead = now, true end", ""),
    ("last <= latest) then", "last <= now) then"),
    ("if not (begun >= 0 and begun <= latest) then begun, ahead = now, true end", ""),
    ("elseif asked > oldest then", "elseif true then"),
    ("elseif asked > oldest then", "elseif false then"),
    ("elseif not since then\n  outcome = 'first'", "elseif false then"),
    ("tonumber(ARGV[3]) ~= last", "false"),
    ("through > now and 'early' or 'fired'", "'fired'"),
    ("and through > last then", "then"),
    ("math.max(last, since)", "last"),
    ("math.max(last, since)", "since"),
    ("redis.call('HSET', KEYS[3], key, ARGV[i + 3])", ""),
    ("redis.call('SADD', KEYS[2], queue)", ""),
    ("newest = through", "newest = last"),
    ("text(math.min(one[3], now))", "text(one[3])"),
    ("redis.call('LPUSH', KEYS[4]", "redis.call('RPUSH', KEYS[4]"),
]
FAKEREDIS = subject_of("fakeredis")


def broken(patch: pytest.MonkeyPatch, rule: str, instead: str, script: Script = SCRIPT) -> None:
    """A rule that is not in the script any more has to be looked for."""
    assert rule in script.text
    text = script.text.replace(rule, instead)
    patch.setattr(script, "text", text)
    patch.setattr(script, "sha", hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def rejecting(area: str = "") -> Iterator[str]:
    """The clauses of the area whose steps fail."""
    for step in (one for one in STEPS if one.clause.startswith(area)):
        try:
            step.run(Bench(FAKEREDIS))
        except Exception:
            yield step.clause


@pytest.mark.parametrize(("rule", "instead"), BROKEN, ids=[f"{n}" for n, _ in enumerate(BROKEN)])
def test_a_rule_of_the_exchange_can_not_be_broken_unseen(
    rule: str, instead: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the steps, through the driver's calls."""
    broken(monkeypatch, rule, instead)
    assert any(rejecting())


@pytest.mark.parametrize(("rule", "instead"), FOR_VECTORS, ids=[f"{n}" for n, _ in enumerate(FOR_VECTORS)])
def test_a_vector_sees_each_broken_rule_of_the_exchange(
    rule: str, instead: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker in another language that passes them keeps the rule."""
    broken(monkeypatch, rule, instead)
    client = fakeredis.FakeRedis()
    assert any(seen for one in vectors() for seen in differences(one, lambda now: OnRedis(client, now)))


BESIDE = [(RELAY, "OUTBOX", *one) for one in OF_RELAYS] + [(TICK, "CRON", *one) for one in OF_TICKS]


@pytest.mark.parametrize(("script", "area", "rule", "instead"), BESIDE, ids=[f"{n}" for n, _ in enumerate(BESIDE)])
def test_a_rule_of_relays_or_ticks_can_not_be_broken_unseen(
    script: Script, area: str, rule: str, instead: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the steps of its own kind."""
    broken(monkeypatch, rule, instead, script)
    assert any(rejecting(area))


def test_the_script_as_it_is_breaks_none() -> None:
    """Or the test above would hold of anything."""
    assert list(rejecting()) == []
