-- What some owners have, one after another, until there are ARGV[1] entries or about ARGV[2] bytes: all of `running`,
-- then `held`, of which one at least, each newest first. Read only.
-- KEYS: running and held of each owner   Returns whether that is all, then one array per list.
local left, bytes_left, step = tonumber(ARGV[1]), tonumber(ARGV[2]), 16
local found = { 1 }
for i = 1, #KEYS, 2 do
  local running, held = {}, {}
  if left > 0 and bytes_left > 0 then
    running = redis.call('LRANGE', KEYS[i], 0, -1)
    for _, item in ipairs(running) do left, bytes_left = left - 1, bytes_left - #item end
    repeat
      local read = redis.call('LRANGE', KEYS[i + 1], #held, #held + math.max(1, math.min(step, left)) - 1)
      local size = 0
      for _, item in ipairs(read) do
        held[#held + 1] = item
        left, bytes_left, size = left - 1, bytes_left - #item, size + #item
        if bytes_left <= 0 then break end
      end
      step = math.max(1, math.min(500, math.floor(bytes_left * #read / math.max(size, 1))))
    until #read == 0 or left <= 0 or bytes_left <= 0
  end
  if redis.call('LLEN', KEYS[i]) > #running or redis.call('LLEN', KEYS[i + 1]) > #held then found[1] = 0 end
  found[i + 1], found[i + 2] = running, held
end
return found
