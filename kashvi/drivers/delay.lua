-- KEYS: delayed   ARGV: delay now|'' envelope...   Returns when they become due, by the server's clock.
local now = tonumber(ARGV[2])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1000000
end
local due = string.format('%.17g', now + tonumber(ARGV[1]))
for i = 3, #ARGV do redis.call('ZADD', KEYS[1], due, ARGV[i]) end
return due
