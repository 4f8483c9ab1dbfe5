-- Make a worker known that is about to claim its first job by a wait: what it holds is looked for from now on.
-- KEYS: workers   ARGV: worker lease now|''
local now = tonumber(ARGV[3])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1000000
end
return redis.call('ZADD', KEYS[1], 'NX', string.format('%.17g', now + tonumber(ARGV[2])), ARGV[1])
