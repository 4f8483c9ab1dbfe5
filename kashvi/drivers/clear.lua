-- Remove jobs from the end of a list where the oldest are, or from a sorted set, and give their keys back.
-- KEYS: the list or set, unique   ARGV: now|'', then of each job: envelope, key|'', id
-- Returns the server's time, and the numbers, from 0, of those that were there. What has come meanwhile stays.
local key, unique = KEYS[1], KEYS[2]
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1000000
end
redis.call('HGET', unique, '')
local taken = {}
local function gone(i)
  taken[#taken + 1] = (i - 2) / 3
  if ARGV[i + 1] ~= '' and redis.call('HGET', unique, ARGV[i + 1]) == ARGV[i + 2] then
    redis.call('HDEL', unique, ARGV[i + 1])
  end
end
if redis.call('TYPE', key).ok == 'zset' then
  for i = 2, #ARGV, 3 do
    if redis.call('ZREM', key, ARGV[i]) == 1 then gone(i) end
  end
else
  local wanted, kept = {}, {}
  for i = 2, #ARGV, 3 do
    wanted[ARGV[i]] = wanted[ARGV[i]] or {}
    table.insert(wanted[ARGV[i]], i)
  end
  local part = redis.call('LRANGE', key, -(#ARGV - 1) / 3, -1)
  for _, envelope in ipairs(part) do
    local i = wanted[envelope] and table.remove(wanted[envelope])
    if i then gone(i) else kept[#kept + 1] = envelope end
  end
  redis.call('LTRIM', key, 0, -#part - 1)
  if #kept > 0 then redis.call('RPUSH', key, unpack(kept)) end
end
return { string.format('%.17g', now), taken }
