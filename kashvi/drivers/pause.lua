-- Pause a queue, or resume it. Returns the time of the pause that holds, or of the end of one.
-- KEYS: paused delayed   ARGV: 1 to pause, 0 to resume; now|''; queue
local now = tonumber(ARGV[2])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1000000
end
local text = string.format('%.17g', now)
if ARGV[1] == '0' then
  redis.call('ZREM', KEYS[1], ARGV[3])
  return text
end
if redis.call('ZADD', KEYS[1], 'NX', text, ARGV[3]) == 1 then
  redis.pcall('PUBLISH', KEYS[2], text) -- ends waits as a job would that is due now
end
return redis.call('ZSCORE', KEYS[1], ARGV[3])
