-- Add jobs to several queues, all or none. Returns when they become due, by the server's clock; '' without a delay.
-- KEYS: names, jobs and delayed of each queue
-- ARGV: delay|'' now|'' the number of queues, the name of each, then of each job: the number of its queue and the envelope
local now, queues = tonumber(ARGV[2]), tonumber(ARGV[3])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1000000
end
local function text(number) return string.format('%.17g', number) end
local delay = tonumber(ARGV[1])
local due = delay and text(now + delay) or ''
local names = redis.call('TYPE', KEYS[1]).ok
if names ~= 'set' and names ~= 'none' then return redis.error_reply('WRONGTYPE ' .. KEYS[1] .. ' is no set') end
for i = 2, #KEYS, 2 do
  redis.call('LLEN', KEYS[i])
  redis.call('ZCARD', KEYS[i + 1])
end
for i = 4 + queues, #ARGV, 2 do
  local at = 2 * tonumber(ARGV[i])
  if delay then redis.call('ZADD', KEYS[at + 1], due, ARGV[i + 1]) else redis.call('LPUSH', KEYS[at], ARGV[i + 1]) end
end
for i = 1, queues do
  local name = ARGV[3 + i]
  if name ~= 'default' then redis.call('SADD', KEYS[1], name) end
  if delay and delay < 0.6 then redis.pcall('PUBLISH', KEYS[2 * i + 1], due) end -- wakes who would wait for longer
  if not delay and name ~= 'default' then redis.pcall('PUBLISH', KEYS[2 * i], text(now)) end -- and who waits elsewhere
end
return due
