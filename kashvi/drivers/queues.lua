-- Each queue at one moment. Read only.
-- KEYS: paused workers serves, jobs and delayed of each queue   ARGV: now|'', the name of each
-- Returns now, and per queue: ready, delayed, paused, served, and the job that is claimed next, or ''.
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1000000
end
local served = {}
for _, worker in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. string.format('%.17g', now), '+inf')) do
  for name in string.gmatch(redis.call('HGET', KEYS[3], worker) or 'default', '[^,]+') do served[name] = true end
end
local found = { string.format('%.17g', now) }
for i = 2, #ARGV do
  local jobs = KEYS[2 * i]
  found[i] = {
    redis.call('LLEN', jobs), redis.call('ZCARD', KEYS[2 * i + 1]), redis.call('ZSCORE', KEYS[1], ARGV[i]) and 1 or 0,
    served[ARGV[i]] and 1 or 0, redis.call('LRANGE', jobs, -1, -1)[1] or '',
  }
end
return found
