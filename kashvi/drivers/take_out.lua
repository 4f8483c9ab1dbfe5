-- Remove a cancelled job that no worker has, its key and its mark.
-- KEYS: its list or sorted set, cancelled, unique   ARGV: envelope, id, key|'', now|''
-- Returns the server's time, or '' if it is not there.
local of_set = redis.call('TYPE', KEYS[1]).ok == 'zset'
redis.call('ZCARD', KEYS[2])
local holder = ARGV[3] ~= '' and redis.call('HGET', KEYS[3], ARGV[3])
local removed = of_set and redis.call('ZREM', KEYS[1], ARGV[1]) or redis.call('LREM', KEYS[1], 1, ARGV[1])
if removed == 0 then return '' end
if holder == ARGV[2] then redis.call('HDEL', KEYS[3], ARGV[3]) end
redis.call('ZREM', KEYS[2], ARGV[2])
local now = tonumber(ARGV[4])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1000000
end
return string.format('%.17g', now)
