-- KEYS: delayed   ARGV: delay now|'' envelope...   Returns when they become due, by the server's clock.
local now = tonumber(ARGV[2])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1000000
end
local due = string.format('%.17g', now + tonumber(ARGV[1]))
for i = 3, #ARGV do redis.call('ZADD', KEYS[1], due, ARGV[i]) end
if tonumber(ARGV[1]) < 0.6 then redis.pcall('PUBLISH', KEYS[1], due) end -- wakes who would wait for longer
return due
