-- The oldest members, with scores, but for the first ARGV[2]: at the most ARGV[1] and about ARGV[3] bytes. Read only.
-- KEYS: unrecorded
local left, skip, bytes_left, step = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), 16
local found = {}
while left > 0 and bytes_left > 0 do
  local read = redis.call('ZRANGE', KEYS[1], skip, skip + math.min(step, left) - 1, 'WITHSCORES')
  if #read == 0 then break end
  local size = 0
  for i = 1, #read, 2 do
    if bytes_left <= 0 then break end
    found[#found + 1], found[#found + 2] = read[i], read[i + 1]
    skip, left, bytes_left, size = skip + 1, left - 1, bytes_left - #read[i], size + #read[i]
  end
  step = math.max(1, math.min(500, math.floor(bytes_left * #read / 2 / math.max(size, 1))))
end
return found
