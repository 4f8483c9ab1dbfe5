-- Mark a job as cancelled, or again: workers that hold jobs then ask about them. Marks are kept for 90 days.
-- Each mark is newer than all, also if the clock was set back: a worker asks when the newest one changes.
-- KEYS: cancelled   ARGV: id now|''   Returns the mark's time.
local now = tonumber(ARGV[2])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1000000
end
local function text(number) return string.format('%.17g', number) end
local newest = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2]
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', text(now - 90 * 86400)) -- first, as a full server allows it
if newest then now = math.max(now, tonumber(newest) + 0.000001) end
redis.call('ZADD', KEYS[1], text(now), ARGV[1])
return text(now)
