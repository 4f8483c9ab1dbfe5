-- The exchange of spec/protocol.md, step by step. On a Redis Cluster all keys would have to come as KEYS.
-- KEYS: prefix   ARGV: worker n lease want now|'', then per settlement: move owner place old new in_s lease_end|'' queue
-- key|'' id|'' k, and k times envelope in_s queue of a follow-up; for done, in_s is 1 if the last is a chain's next link
local prefix, worker = KEYS[1], ARGV[1]
local n, lease, want, now = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1000000
end
local function text(number) return string.format('%.17g', number) end
local function key(name, owner) return prefix .. ':' .. name .. (owner and ':' .. owner or '') end
local jobs, delayed, workers = key('jobs'), key('delayed'), key('workers')
local exchanges, unrecorded = key('exchanges'), key('unrecorded')
local function count(owner)
  return redis.call('LLEN', key('held', owner)) + redis.call('LLEN', key('running', owner))
end

-- 1: a key of the wrong type fails here, before anything is changed.
redis.call('LLEN', jobs)
redis.call('ZCARD', delayed)
redis.call('ZCARD', workers)
redis.call('ZCARD', unrecorded)
local newest_mark = redis.call('ZRANGE', key('cancelled'), -1, -1, 'WITHSCORES')[2]
local paused = redis.call('ZSCORE', key('paused'), 'default') and true
count(worker)
local settlements, at = {}, 6
while at <= #ARGV do
  settlements[#settlements + 1] = at
  count(ARGV[at + 1])
  at = at + 11 + 3 * ARGV[at + 10]
end

-- 2: which number was the last?
local stored = redis.call('HGET', exchanges, worker) or '0 0 '
local last, settled_at, refused = string.match(stored, '^(%d+) (%S+) (.*)$')
last = tonumber(last)
if n < last then return redis.error_reply('exchange ' .. n .. ' after ' .. last) end
local repeated = n == last

-- The list or the sorted set of a queue. Jobs go back to their own one, though this worker serves only the default.
local function of(queue, name) return key(queue == 'default' and name or queue .. ':' .. name) end

local function known(queue)
  if queue ~= 'default' then redis.call('SADD', key('names'), queue) end
end

local function delay(envelope, in_s, queue)
  known(queue)
  redis.call('ZADD', of(queue, 'delayed'), text(now + in_s), envelope)
  if in_s < 0.6 then redis.pcall('PUBLISH', of(queue, 'delayed'), text(now + in_s)) end
end

local function add(push, envelope, queue)
  known(queue)
  redis.call(push, of(queue, 'jobs'), envelope)
  if queue ~= 'default' then redis.pcall('PUBLISH', of(queue, 'jobs'), text(now)) end
end

local function is_right(queue)
  local list, set = redis.call('TYPE', of(queue, 'jobs')).ok, redis.call('TYPE', of(queue, 'delayed')).ok
  return (list == 'list' or list == 'none') and (set == 'zset' or set == 'none')
end

local refused_now = {}

-- A cancelled job becomes ready no more: where it would, it comes to its end.
local function ends(index, id)
  if not newest_mark or redis.call('ZREM', key('cancelled'), id) == 0 then return false end
  refused_now[#refused_now + 1] = 'c' .. index
  return true
end

local function free(lock, id)
  if lock ~= '' and redis.call('HGET', key('unique'), lock) == id then redis.call('HDEL', key('unique'), lock) end
end

local function settle(index, at, move, owner, place, old, new, in_s, read_end, queue, lock, id, follow_ups)
  if owner ~= worker then
    local ends = tonumber(redis.call('ZSCORE', workers, owner) or now + 1)
    if ends > now or (read_end ~= '' and ends ~= tonumber(read_end)) then return false end
    if move == 'leave' then
      if ends > now - 3600 or count(owner) > 0 then return false end
      redis.call('ZREM', workers, owner)
      redis.call('HDEL', exchanges, owner)
      redis.call('HDEL', key('serves'), owner)
      return true
    end
  end
  if move == 'leave' then return true end
  local list, from = key(place, owner), move == 'return' and 1 or -1
  if not redis.call('LPOS', list, old, 'RANK', from) then return false end
  local first, last = at + 11, at + 8 + 3 * follow_ups
  if (move == 'retry' or move == 'fail' or move == 'return') and ends(index, id) then
    redis.call('LREM', list, from, old)
    free(lock, id)
    return true
  end
  if not is_right(queue) then return false end
  for i = first, last, 3 do
    if not is_right(ARGV[i + 2]) then return (i - first) / 3 end
  end
  if move == 'done' and tonumber(in_s) == 1 and ends(index, id) then last = last - 3 end
  for i = first, last, 3 do
    local envelope, due_in, its = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2]
    if due_in > 0 then delay(envelope, due_in, its) else add('LPUSH', envelope, its) end
  end
  if move == 'retry' then delay(new, tonumber(in_s), queue) end
  if move == 'fail' then redis.call('ZADD', unrecorded, text(now + in_s), new) end
  if move == 'return' then add('RPUSH', new, queue) end
  if move == 'start' then redis.call('LPUSH', key('running', owner), old) end
  redis.call('LREM', list, from, old)
  if move == 'done' or move == 'fail' then free(lock, id) end
  return true
end

local claimed = {}
if not repeated then
  redis.call('ZREM', workers, '') -- a full server allows it, and with it all that follows
  redis.call('ZADD', workers, text(now + lease), worker) -- 3: renew
  local found, leaving = refused_now, false
  for i, first in ipairs(settlements) do -- 4: settle
    leaving = leaving or (ARGV[first] == 'leave' and ARGV[first + 1] == worker)
    local settled = settle(i - 1, first, unpack(ARGV, first, first + 10))
    if settled ~= true then found[#found + 1] = settled and i - 1 .. '!' .. settled or i - 1 end
  end
  settled_at, refused = text(now), table.concat(found, ' ')
  redis.call('HSET', exchanges, worker, n .. ' ' .. settled_at .. ' ' .. refused) -- 5: remember
  for _, due in ipairs(redis.call('ZRANGEBYSCORE', delayed, '-inf', text(now), 'LIMIT', 0, 500)) do -- 6: promote
    redis.call('LPUSH', jobs, due)
    redis.call('ZREM', delayed, due)
  end
  local size = 0
  while #claimed < want and size < 4194304 and not paused do -- 7: claim
    local envelope = redis.call('LMOVE', jobs, key('held', worker), 'RIGHT', 'LEFT')
    if not envelope then break end
    claimed[#claimed + 1] = envelope
    size = size + #envelope
  end
  if leaving and count(worker) == 0 then -- 8: leave
    redis.call('ZREM', workers, worker)
    redis.call('HDEL', exchanges, worker)
  end
end
local first = redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')[2]
return {
  text(now), settled_at, refused, count(worker), redis.call('LLEN', jobs), redis.call('ZCARD', unrecorded),
  first and text(tonumber(first) - now) or '', claimed, repeated and 1 or 0,
  redis.call('LRANGE', key('held', worker), 0, -1), redis.call('LRANGE', key('running', worker), 0, -1),
  paused and 1 or 0, newest_mark or '',
}
