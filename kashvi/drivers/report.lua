-- Keep what a worker is about, and add what it counted to the counts of a minute. One step.
-- KEYS: workers about counts   ARGV: worker, number, about|'' (it leaves), now|'', seconds to keep, the most counts, then
--       per count: field, field in place of a new one beyond that|'', number to add
-- Returns 0 if the worker is not on the list.
local worker, n, about = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local now = tonumber(ARGV[4])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1000000
end
local last = redis.call('HGET', KEYS[2], worker)
local size = redis.call('HLEN', KEYS[3])
if not redis.call('ZSCORE', KEYS[1], worker) then return 0 end
if last and n <= (tonumber(string.match(last, '^%d+')) or 0) then return 1 end
local function keep()
  if #ARGV > 6 then redis.call('EXPIRE', KEYS[3], ARGV[5]) end
end
keep() -- before the first count, too: a report that is refused halfway leaves none for good
for i = 7, #ARGV, 3 do
  local field, instead = ARGV[i], ARGV[i + 1]
  if instead ~= '' and size >= tonumber(ARGV[6]) and redis.call('HEXISTS', KEYS[3], field) == 0 then field = instead end
  if redis.call('HINCRBY', KEYS[3], field, ARGV[i + 2]) == tonumber(ARGV[i + 2]) then size = size + 1 end
end
keep()
if about == '' then
  redis.call('HDEL', KEYS[2], worker)
else
  redis.call('HSET', KEYS[2], worker, n .. ' ' .. string.format('%.17g', now) .. ' ' .. about)
end
if redis.call('HLEN', KEYS[2]) > redis.call('ZCARD', KEYS[1]) then -- of workers that are gone, as others took them off
  for _, name in ipairs(redis.call('HKEYS', KEYS[2])) do
    if not redis.call('ZSCORE', KEYS[1], name) then redis.call('HDEL', KEYS[2], name) end
  end
end
return 1
