-- Remove jobs from the end of a list where the oldest are, or from a sorted set, and give their keys back.
-- KEYS: the list or set, unique   ARGV: of each job: envelope, key|'', id
-- Returns how many were there. What has come or gone meanwhile stays as it is.
local key, unique = KEYS[1], KEYS[2]
redis.call('HGET', unique, '')
local removed = 0
local function gone(i)
  removed = removed + 1
  if ARGV[i + 1] ~= '' and redis.call('HGET', unique, ARGV[i + 1]) == ARGV[i + 2] then
    redis.call('HDEL', unique, ARGV[i + 1])
  end
end
if redis.call('TYPE', key).ok == 'zset' then
  for i = 1, #ARGV, 3 do
    if redis.call('ZREM', key, ARGV[i]) == 1 then gone(i) end
  end
  return removed
end
local wanted, kept = {}, {}
for i = 1, #ARGV, 3 do
  wanted[ARGV[i]] = wanted[ARGV[i]] or {}
  table.insert(wanted[ARGV[i]], i)
end
local part = redis.call('LRANGE', key, -#ARGV / 3, -1)
for _, envelope in ipairs(part) do
  local i = wanted[envelope] and table.remove(wanted[envelope])
  if i then gone(i) else kept[#kept + 1] = envelope end
end
redis.call('LTRIM', key, 0, -#part - 1)
if #kept > 0 then redis.call('RPUSH', key, unpack(kept)) end
return removed
