-- A part of some lists, or of a sorted set, up to a number of entries and of bytes. Read only.
-- KEYS: lists, read one after another from the right end; or one sorted set
-- ARGV: 'lists' or 'set', how many to skip (of the first list, or of the entries with the lowest score), the most
--       entries, the most bytes, the lowest score
-- Returns where it ended: the number of the list and the entries of it that were skipped or read, 0 if that is the end;
-- then for each entry: the number of its list, or its score, and the entry.
local skip, most, bytes_left = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local found, count, list, at = {}, 0, 1, skip
local function read(n)
  if ARGV[1] == 'set' then
    return redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[5], '+inf', 'WITHSCORES', 'LIMIT', at, n)
  end
  return redis.call('LRANGE', KEYS[list], -at - n, -at - 1)
end
local size = 1
while list <= #KEYS and count < most and bytes_left > 0 do
  size = math.min(size, most - count)
  local part, before = read(size), bytes_left
  local n = ARGV[1] == 'set' and #part / 2 or #part
  for i = 1, n do
    local entry = ARGV[1] == 'set' and part[2 * i - 1] or part[n + 1 - i]
    found[#found + 1] = ARGV[1] == 'set' and part[2 * i] or list
    found[#found + 1] = entry
    bytes_left = bytes_left - #entry
  end
  at, count = at + n, count + n
  if n < size then list, at = list + 1, 0 end
  size = math.max(1, math.min(100, math.floor(bytes_left * n / math.max(before - bytes_left, 1))))
end
return { list <= #KEYS and list or 0, at, found }
