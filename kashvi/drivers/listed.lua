-- What stands in some lists, newest first, at the most ARGV[1] items and about ARGV[2] bytes in all. Read only.
-- KEYS: lists   Returns whether that is all, then one array per list.
local left, bytes_left, step = tonumber(ARGV[1]), tonumber(ARGV[2]), 16
local found = { 1 }
for i, list in ipairs(KEYS) do
  local part = {}
  while left > 0 and bytes_left > 0 do
    local read = redis.call('LRANGE', list, #part, #part + math.min(step, left) - 1)
    if #read == 0 then break end
    local size = 0
    for _, item in ipairs(read) do
      if bytes_left <= 0 then break end
      part[#part + 1] = item
      left, bytes_left, size = left - 1, bytes_left - #item, size + #item
    end
    step = math.max(1, math.min(500, math.floor(bytes_left * #read / math.max(size, 1))))
  end
  if (left <= 0 or bytes_left <= 0) and redis.call('LLEN', list) > #part then found[1] = 0 end
  found[i + 1] = part
end
return found
