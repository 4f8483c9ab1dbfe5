-- Fire ticks of a cron entry: compare with the last one, store, push. ticks.py has the same rules for memory.
-- KEYS: cron names unique, and the queue's jobs
-- ARGV: name, schedule, the last tick that the caller knows|'', the newest that it fires|'', now|'', queue, how far ahead a time
--       may be, how long a schedule is kept that is not asked for, then of each job: tick, envelope, key|'', id
-- Returns the outcome, now, last, since, and of each job the id that has its key, or ''.
-- The record: last, then of each schedule: its key, since when it is known, when it was last asked for.
local now, through = tonumber(ARGV[5]), tonumber(ARGV[4])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1000000
end
local function text(number) return string.format('%.17g', number) end
local name, schedule, queue, latest, oldest = ARGV[1], ARGV[2], ARGV[6], now + tonumber(ARGV[7]), now - tonumber(ARGV[8])

local words, ahead = {}, false
for word in string.gmatch(redis.call('HGET', KEYS[1], name) or text(now), '%S+') do words[#words + 1] = word end
local last = tonumber(words[1]) or now
if not (last >= 0 and last <= latest) then last, ahead = now, true end
local since, others = nil, {}
for i = 2, #words - 2, 3 do
  local begun, asked = tonumber(words[i + 1]) or now, tonumber(words[i + 2]) or now
  if not (begun >= 0 and begun <= latest) then begun, ahead = now, true end
  if words[i] == schedule then
    since = begun
  elseif asked > oldest then
    others[#others + 1] = { words[i], begun, asked }
  end
end
local outcome = 'unchanged'
if ahead then
  outcome = 'reset'
elseif not since then
  outcome = 'first'
elseif ARGV[3] ~= '' and tonumber(ARGV[3]) ~= last then
  outcome = 'moved'
elseif ARGV[3] ~= '' and through and through > last then
  outcome = through > now and 'early' or 'fired'
end
since = since or now

local holders, newest = {}, last
if outcome == 'fired' then
  local names = redis.call('TYPE', KEYS[2]).ok
  if queue ~= 'default' and names ~= 'set' and names ~= 'none' then
    return redis.error_reply('WRONGTYPE ' .. KEYS[2] .. ' is no set')
  end
  redis.call('HGET', KEYS[3], '')
  redis.call('LLEN', KEYS[4])
  for i = 9, #ARGV, 4 do
    local key = ARGV[i + 2]
    local holder = tonumber(ARGV[i]) <= math.max(last, since) and ARGV[i + 3]
    if not holder and key ~= '' then holder = redis.call('HGET', KEYS[3], key) end
    holders[#holders + 1] = holder or ''
    if not holder then
      -- The first write is one that a full server refuses.
      redis.call('LPUSH', KEYS[4], ARGV[i + 1])
      if key ~= '' then redis.call('HSET', KEYS[3], key, ARGV[i + 3]) end
    end
  end
  if queue ~= 'default' and #holders > 0 then
    redis.call('SADD', KEYS[2], queue)
    redis.pcall('PUBLISH', KEYS[4], text(now)) -- wakes workers that wait for another of their queues
  end
  newest = through
end
local record = { text(newest), schedule, text(since), text(now) }
for _, one in ipairs(others) do
  record[#record + 1], record[#record + 2], record[#record + 3] = one[1], text(one[2]), text(math.min(one[3], now))
end
redis.call('HSET', KEYS[1], name, table.concat(record, ' '))
return { outcome, text(now), text(newest), text(since), holders }
