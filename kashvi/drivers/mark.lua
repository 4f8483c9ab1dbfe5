-- Mark a job as cancelled, or again: workers that hold jobs then ask about them. Marks are kept for 90 days.
-- KEYS: cancelled   ARGV: id now|''   Returns the server's time.
local now = tonumber(ARGV[2])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1000000
end
local function text(number) return string.format('%.17g', number) end
redis.call('ZADD', KEYS[1], text(now), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', text(now - 90 * 86400))
return text(now)
