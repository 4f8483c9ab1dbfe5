-- Add jobs to several queues, all or none, but for unique ones whose key is taken.
-- KEYS: names unique, jobs and delayed of each queue
-- ARGV: delay|'' now|'' the number of queues, 1 if there are keys else 0, the name of each queue, then of each job: the
--       number of its queue, the envelope, and if there are keys: its key|'', its id
-- Returns the server's time, when they become due ('' without a delay), and of each the id that has its key, or ''.
local now, queues, step = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4] == '1' and 4 or 2
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1000000
end
local function text(number) return string.format('%.17g', number) end
local delay = tonumber(ARGV[1])
local due = delay and text(now + delay) or ''
local names = redis.call('TYPE', KEYS[1]).ok
if names ~= 'set' and names ~= 'none' then return redis.error_reply('WRONGTYPE ' .. KEYS[1] .. ' is no set') end
redis.call('HGET', KEYS[2], '')
for i = 3, #KEYS, 2 do
  redis.call('LLEN', KEYS[i])
  redis.call('ZCARD', KEYS[i + 1])
end
local holders, added = {}, {}
for i = 5 + queues, #ARGV, step do
  local number, key = tonumber(ARGV[i]), step == 4 and ARGV[i + 2] or ''
  local at, holder = 1 + 2 * number, key ~= '' and redis.call('HGET', KEYS[2], key)
  holders[#holders + 1] = holder or ''
  if not holder then
    -- The first write is one that a full server refuses.
    if delay then redis.call('ZADD', KEYS[at + 1], due, ARGV[i + 1]) else redis.call('LPUSH', KEYS[at], ARGV[i + 1]) end
    if key ~= '' then redis.call('HSET', KEYS[2], key, ARGV[i + 3]) end
    added[number] = true
  end
end
for i = 1, queues do
  local name = added[i] and ARGV[4 + i] or 'default'
  if name ~= 'default' then redis.call('SADD', KEYS[1], name) end
  if added[i] and delay and delay < 0.6 then redis.pcall('PUBLISH', KEYS[2 * i + 2], due) end -- wakes who would wait for longer
  if not delay and name ~= 'default' then redis.pcall('PUBLISH', KEYS[2 * i + 1], text(now)) end -- and who waits elsewhere
end
return { text(now), due, holders }
