-- Workers whose lease ran out, longest first, each with its deadline. Read only.
-- KEYS: workers   ARGV: now|''
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1000000
end
local text = string.format('%.17g', now)
return { text, redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', text, 'WITHSCORES') }
