-- One exchange of one worker: renew the lease, settle, promote what is due, claim. One atomic step.
--
-- KEYS: jobs delayed workers exchanges unrecorded paused held running [held running of each other owner]
-- ARGV: worker n want lease now|'' gone_after chunk,
--       then per settlement: move, owner, index of its list in KEYS, old, new, in_s,
--       and for another owner: the end of its lease as it was read, or '';
--       for done, new is '' or the number of its follow-ups, and these come last: envelope, in_s|'' each;
--       or '', k, and k times old: the worker's own, held, are done
--
-- Envelopes are bytes here: nothing decodes them.
local jobs, delayed, workers, exchanges, unrecorded, paused, held, running = unpack(KEYS, 1, 8)
local worker, n, want = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local lease, gone_after = tonumber(ARGV[4]), tonumber(ARGV[6])
local chunk = tonumber(ARGV[7]) -- how many jobs are about READ_MAX_BYTES
local PROMOTE_MAX, READ_MAX_BYTES = 500, 4194304

local now = tonumber(ARGV[5])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1000000
end
local function text(number) return string.format('%.17g', number) end

-- Every key is read before any is written: a key of the wrong type fails the call with nothing changed.
local last, last_at, last_refused = string.match(
  redis.call('HGET', exchanges, worker) or '0 0 ', '^(%d+) (%S+) (.*)$')
last = tonumber(last)
redis.call('LLEN', jobs)
local some_delayed = redis.call('ZCARD', delayed) > 0
redis.call('ZCARD', unrecorded)
local is_paused = redis.call('ZSCORE', paused, 'default')
for i = 7, #KEYS do redis.call('LLEN', KEYS[i]) end

local function answer(settled_at, refused, claimed, held_list, running_list)
  local first = some_delayed and redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES') or {}
  return {
    text(now), settled_at, refused, redis.call('LLEN', held) + redis.call('LLEN', running), redis.call('LLEN', jobs),
    redis.call('ZCARD', unrecorded), first[2] and text(tonumber(first[2]) - now) or '', claimed,
    held_list and 1 or 0, held_list or {}, running_list or {}, is_paused and 1 or 0,
  }
end

if n < last then
  return redis.error_reply('exchange ' .. n .. ' of worker ' .. worker .. ' comes after ' .. last)
end
if n == last then
  return answer(last_at, last_refused, {}, redis.call('LRANGE', held, 0, -1), redis.call('LRANGE', running, 0, -1))
end

-- The first write is one that a full server allows and a read-only one refuses (as it does where workers is no ZSET);
-- after it, none is refused. Settling and claiming make room: only a push may be refused for want of it.
redis.call('ZREM', workers, '')
redis.call('ZADD', workers, text(now + lease), worker)

local function holds_nothing(owner_held, owner_running)
  return redis.call('LLEN', owner_held) + redis.call('LLEN', owner_running) == 0
end

local function delay(envelope, in_s)
  local due = text(now + in_s)
  redis.call('ZADD', delayed, due, envelope)
  if in_s < 0.6 then redis.pcall('PUBLISH', delayed, due) end -- wakes who would wait for longer
  some_delayed = true
end

-- The follow-ups in ARGV: an envelope and its in_s each.
local function follow(first, last)
  for i = first, last, 2 do
    if ARGV[i + 1] == '' then
      redis.call('LPUSH', jobs, ARGV[i])
    else
      delay(ARGV[i], tonumber(ARGV[i + 1]))
    end
  end
end

-- Check, add, then remove. first, last: where the follow-ups are in ARGV.
local function settle(move, owner, list_index, old, new, in_s, read_end, first, last)
  local list = KEYS[list_index]
  local lease_end = now + lease
  if owner ~= worker then
    lease_end = tonumber(redis.call('ZSCORE', workers, owner) or now + 1)
    if lease_end > now then return false end
    if read_end ~= '' and lease_end ~= tonumber(read_end) then return false end
  end
  if move == 'done' and new == '' then return redis.call('LREM', list, -1, old) == 1 end
  if move == 'leave' then
    if owner == worker then return true end
    if lease_end > now - gone_after or not holds_nothing(list, KEYS[list_index + 1]) then return false end
    redis.call('ZREM', workers, owner)
    redis.call('HDEL', exchanges, owner)
    return true
  end
  local from = move == 'return' and 1 or -1 -- jobs come back the newest first, all others leave about in order
  if not redis.call('LPOS', list, old, 'RANK', from) then return false end
  if move == 'done' then
    follow(first, last)
  elseif move == 'retry' then
    delay(new, tonumber(in_s))
  elseif move == 'fail' then
    redis.call('ZADD', unrecorded, text(now + tonumber(in_s)), new)
  elseif move == 'return' then
    redis.call('RPUSH', jobs, new)
  elseif move == 'start' then
    redis.call('LPUSH', running, old)
  end
  redis.call('LREM', list, from, old)
  return true
end

local refused, leaving = {}, false
local at, index = 8, 0
local function note(settled)
  if not settled then refused[#refused + 1] = index end
  index = index + 1
end
while at <= #ARGV do
  local move, owner = ARGV[at], ARGV[at + 1]
  if move == '' then
    local last_old = at + 1 + tonumber(owner)
    for i = at + 2, last_old do note(redis.call('LREM', held, -1, ARGV[i]) == 1) end
    at = last_old + 1
  else
    leaving = leaving or (move == 'leave' and owner == worker)
    local new, first = ARGV[at + 4], at + (owner == worker and 6 or 7)
    local last = first - 1 + (move == 'done' and new ~= '' and 2 * tonumber(new) or 0)
    note(settle(move, owner, tonumber(ARGV[at + 2]), ARGV[at + 3], new, ARGV[at + 5], ARGV[at + 6], first, last))
    at = last + 1
  end
end
refused = table.concat(refused, ' ')
redis.call('HSET', exchanges, worker, n .. ' ' .. text(now) .. ' ' .. refused)

local promoted = 0
while some_delayed and promoted < PROMOTE_MAX do
  local most = math.min(chunk, PROMOTE_MAX - promoted)
  local due = redis.call('ZRANGEBYSCORE', delayed, '-inf', text(now), 'LIMIT', 0, most)
  if #due == 0 then break end
  redis.call('LPUSH', jobs, unpack(due))
  redis.call('ZREM', delayed, unpack(due))
  promoted = promoted + #due
end

local claimed, size = {}, 0
while #claimed < want and size < READ_MAX_BYTES and not is_paused do
  local part = redis.call('LRANGE', jobs, -math.min(chunk, want - #claimed), -1)
  if #part == 0 then break end
  local oldest_first = {}
  for i = #part, 1, -1 do
    if size >= READ_MAX_BYTES then break end
    size = size + #part[i]
    oldest_first[#oldest_first + 1] = part[i]
    claimed[#claimed + 1] = part[i]
  end
  redis.call('LPUSH', held, unpack(oldest_first))
  redis.call('LTRIM', jobs, 0, -#oldest_first - 1)
end

if leaving and holds_nothing(held, running) then
  redis.call('ZREM', workers, worker)
  redis.call('HDEL', exchanges, worker)
end
return answer(text(now), refused, claimed)
