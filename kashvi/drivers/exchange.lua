-- One exchange of one worker: renew the lease, settle, promote what is due, claim. One atomic step.
--
-- KEYS: jobs delayed workers exchanges unrecorded paused held running cancelled, of the default queue and the worker;
--       [names serves unique, jobs and delayed of each other queue] [held and running of each other owner]
-- ARGV: worker n want lease now|'' gone_after chunk, the number of queues it names, and if that is not 0:
--         the queues it serves, as text, and of each it names: name, index of its jobs in KEYS, share|'' if it is not
--         served; with 0 it serves the default queue alone;
--       then per settlement: move, owner, index of its list in KEYS, old, new, in_s, index of its queue's jobs in KEYS,
--       the key of a unique job|'', the job's id,
--       and for another owner: the end of its lease as it was read, or '';
--       for done, new is '' or the number of its follow-ups, in_s is 1 if the last is the next link of a chain, and
--       these come last: envelope, in_s|'', index, key|'', id each;
--       or '', k, and k times old: the worker's own, held, are done
--
-- Envelopes are bytes here: nothing decodes them.
local jobs, delayed, workers, exchanges, unrecorded, paused, held, running, cancelled = unpack(KEYS, 1, 9)
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
redis.call('ZCARD', unrecorded)
local newest_mark = redis.call('ZRANGE', cancelled, -1, -1, 'WITHSCORES')[2]

-- The queues: those that it serves, and those of other workers that it settles to. A key of another's queue that is of
-- the wrong type fails the settlements to it, not the call.
local served, wrong, some_delayed = {}, {}, {}
local function serve(name, at, share)
  redis.call('LLEN', KEYS[at])
  some_delayed[at] = redis.call('ZCARD', KEYS[at + 1]) > 0
  served[#served + 1] = { name = name, at = at, share = share, paused = redis.call('ZSCORE', paused, name) }
end
local function other(at)
  local list, set = redis.call('TYPE', KEYS[at]).ok, redis.call('TYPE', KEYS[at + 1]).ok
  wrong[at] = (list ~= 'list' and list ~= 'none') or (set ~= 'zset' and set ~= 'none')
end
local named = tonumber(ARGV[8])
local at, first_list = 9, 10
if named == 0 then
  serve('default', 1, want)
else
  at, first_list = 10 + 3 * named, 13
  for i = 10, at - 1, 3 do
    local key = tonumber(ARGV[i + 1])
    first_list = math.max(first_list, key + 2)
    if ARGV[i + 2] == '' then other(key) else serve(ARGV[i], key, tonumber(ARGV[i + 2])) end
  end
  local names = redis.call('TYPE', KEYS[10]).ok
  if names ~= 'set' and names ~= 'none' then return redis.error_reply('WRONGTYPE ' .. KEYS[10] .. ' is no set') end
  redis.call('HGET', KEYS[11], worker)
  redis.call('HGET', KEYS[12], '')
  if some_delayed[1] == nil then other(1) end
end
redis.call('LLEN', held)
redis.call('LLEN', running)
for i = first_list, #KEYS do redis.call('LLEN', KEYS[i]) end

local function answer(settled_at, refused, claimed, claimed_of, held_list, running_list)
  local ready, first, paused_queues = 0, nil, {}
  for _, queue in ipairs(served) do
    if queue.paused then paused_queues[#paused_queues + 1] = queue.name end
    if named == 0 or not queue.paused then
      ready = ready + redis.call('LLEN', KEYS[queue.at])
      local due = some_delayed[queue.at] and redis.call('ZRANGE', KEYS[queue.at + 1], 0, 0, 'WITHSCORES')[2]
      if due and (not first or tonumber(due) < first) then first = tonumber(due) end
    end
  end
  return {
    text(now), settled_at, refused, redis.call('LLEN', held) + redis.call('LLEN', running), ready,
    redis.call('ZCARD', unrecorded), first and text(first - now) or '', claimed,
    held_list and 1 or 0, held_list or {}, running_list or {}, #paused_queues == #served and 1 or 0,
    claimed_of, paused_queues, newest_mark or '',
  }
end

if n < last then
  return redis.error_reply('exchange ' .. n .. ' of worker ' .. worker .. ' comes after ' .. last)
end
if n == last then
  return answer(last_at, last_refused, {}, {}, redis.call('LRANGE', held, 0, -1), redis.call('LRANGE', running, 0, -1))
end

-- The first write is one that a full server allows and a read-only one refuses (as it does where workers is no ZSET);
-- after it, none is refused. Settling and claiming make room: only a push may be refused for want of it.
redis.call('ZREM', workers, '')
redis.call('ZADD', workers, text(now + lease), worker)

local function forget(owner)
  redis.call('ZREM', workers, owner)
  redis.call('HDEL', exchanges, owner)
  if named > 0 then redis.call('HDEL', KEYS[11], owner) end
end

local function holds_nothing(owner_held, owner_running)
  return redis.call('LLEN', owner_held) + redis.call('LLEN', owner_running) == 0
end

local function delay(envelope, in_s, queue)
  local due = text(now + in_s)
  redis.call('ZADD', KEYS[queue + 1], due, envelope)
  if in_s < 0.6 then redis.pcall('PUBLISH', KEYS[queue + 1], due) end -- wakes who would wait for longer
  some_delayed[queue] = true
end

-- A worker that waits for a job of another of its queues does not see this one come.
local function ring(queue)
  if queue > 1 then redis.pcall('PUBLISH', KEYS[queue], text(now)) end
end

-- A key is given back only by the job that has it: its copies, and a stale attempt, have the same id.
local function free(key, id)
  if key ~= '' and redis.call('HGET', KEYS[12], key) == id then redis.call('HDEL', KEYS[12], key) end
end

local refused, leaving = {}, false
local index = 0

-- A cancelled job becomes ready no more: where another one would be added again, it comes to its end.
local function ends(id)
  if not newest_mark or redis.call('ZREM', cancelled, id) == 0 then return false end
  refused[#refused + 1] = 'c' .. index
  return true
end

-- The follow-ups in ARGV: an envelope, its in_s, the index of its queue, its key and its id each.
local function follow(first, last)
  for i = first, last, 5 do
    local queue, key = tonumber(ARGV[i + 2]), ARGV[i + 3]
    local taken = key ~= '' and redis.call('HGET', KEYS[12], key)
    if key ~= '' and not taken then redis.call('HSET', KEYS[12], key, ARGV[i + 4]) end
    if taken then
      refused[#refused + 1] = index .. '.' .. (i - first) / 5
    elseif ARGV[i + 1] == '' then
      redis.call('LPUSH', KEYS[queue], ARGV[i])
      ring(queue)
    else
      delay(ARGV[i], tonumber(ARGV[i + 1]), queue)
    end
  end
end

-- The number of the first follow-up that can't be added.
local function unsendable(first, last)
  for i = first, last, 5 do
    if wrong[tonumber(ARGV[i + 2])] then return (i - first) / 5 end
  end
end

-- Check, add, then remove. first, last: where the follow-ups are in ARGV.
local function settle(move, owner, list_index, old, new, in_s, queue, key, id, read_end, first, last)
  local list = KEYS[list_index]
  local lease_end = now + lease
  if owner ~= worker then
    lease_end = tonumber(redis.call('ZSCORE', workers, owner) or now + 1)
    if lease_end > now then return false end
    if read_end ~= '' and lease_end ~= tonumber(read_end) then return false end
  end
  if move == 'done' and new == '' then
    if redis.call('LREM', list, -1, old) == 0 then return false end
    free(key, id)
    return true
  end
  if move == 'leave' then
    if owner == worker then return true end
    if lease_end > now - gone_after or not holds_nothing(list, KEYS[list_index + 1]) then return false end
    forget(owner)
    return true
  end
  local from = move == 'return' and 1 or -1 -- jobs come back the newest first, all others leave about in order
  if not redis.call('LPOS', list, old, 'RANK', from) then return false end
  if (move == 'retry' or move == 'fail' or move == 'return') and ends(id) then
    redis.call('LREM', list, from, old)
    free(key, id)
    return true
  end
  if (move == 'retry' or move == 'return') and wrong[queue] then return false end
  local without = move == 'done' and unsendable(first, last)
  if without then return without end
  if move == 'done' and in_s == '1' and ends(id) then last = last - 5 end
  if move == 'retry' then
    delay(new, tonumber(in_s), queue)
  elseif move == 'fail' then
    redis.call('ZADD', unrecorded, text(now + tonumber(in_s)), new)
  elseif move == 'return' then
    redis.call('RPUSH', KEYS[queue], new)
    ring(queue)
  elseif move == 'start' then
    redis.call('LPUSH', running, old)
  end
  redis.call('LREM', list, from, old)
  if move == 'done' or move == 'fail' then free(key, id) end
  if move == 'done' then follow(first, last) end
  return true
end

local function note(settled)
  if settled ~= true then refused[#refused + 1] = settled and index .. '!' .. settled or index end
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
    local new, key, id, first = ARGV[at + 4], ARGV[at + 7], ARGV[at + 8], at + 9
    local read_end = ''
    if owner ~= worker then read_end, first = ARGV[first], first + 1 end
    local last = first - 1 + (move == 'done' and new ~= '' and 5 * tonumber(new) or 0)
    local list, queue = tonumber(ARGV[at + 2]), tonumber(ARGV[at + 6])
    note(settle(move, owner, list, ARGV[at + 3], new, ARGV[at + 5], queue, key, id, read_end, first, last))
    at = last + 1
  end
end
refused = table.concat(refused, ' ')
redis.call('HSET', exchanges, worker, n .. ' ' .. text(now) .. ' ' .. refused)

local function promote(queue)
  local promoted, source = 0, KEYS[queue.at + 1]
  while some_delayed[queue.at] and promoted < PROMOTE_MAX do
    local most = math.min(chunk, PROMOTE_MAX - promoted)
    local due = redis.call('ZRANGEBYSCORE', source, '-inf', text(now), 'LIMIT', 0, most)
    if #due == 0 then break end
    redis.call('LPUSH', KEYS[queue.at], unpack(due))
    redis.call('ZREM', source, unpack(due))
    promoted = promoted + #due
  end
end

local claimed, claimed_of, size = {}, {}, 0
local function claim(queue, most)
  local before, source = #claimed, KEYS[queue.at]
  local last = math.min(before + most, want)
  while #claimed < last and size < READ_MAX_BYTES and not (queue.paused or queue.empty) do
    local part = redis.call('LRANGE', source, -math.min(chunk, last - #claimed), -1)
    if #part == 0 then
      queue.empty = true
      break
    end
    local oldest_first = {}
    for i = #part, 1, -1 do
      if size >= READ_MAX_BYTES then break end
      size = size + #part[i]
      oldest_first[#oldest_first + 1] = part[i]
      claimed[#claimed + 1] = part[i]
    end
    redis.call('LPUSH', held, unpack(oldest_first))
    redis.call('LTRIM', source, 0, -#oldest_first - 1)
  end
  if #claimed > before and named > 0 then
    claimed_of[#claimed_of + 1], claimed_of[#claimed_of + 2] = queue.name, #claimed - before
  end
end
for _, queue in ipairs(served) do promote(queue) end
for _, queue in ipairs(served) do claim(queue, queue.share) end
for _, queue in ipairs(served) do claim(queue, want) end -- what others leave of their shares

local new = named > 0 and ARGV[9] ~= '' and redis.call('HGET', KEYS[11], worker) ~= ARGV[9]
if new then redis.call('HSET', KEYS[11], worker, ARGV[9]) end
for i = 10, 7 + 3 * named, 3 do
  if ARGV[i] ~= 'default' and (new or ARGV[i + 2] == '') then redis.call('SADD', KEYS[10], ARGV[i]) end
end
if leaving and holds_nothing(held, running) then forget(worker) end
return answer(text(now), refused, claimed, claimed_of)
