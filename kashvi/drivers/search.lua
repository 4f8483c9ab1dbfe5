-- The entries of a part of a list or a sorted set that contain a text. Read only.
-- It counts from the end at which entries come in: what leaves at the other end moves none of them.
-- KEYS: the list or set   ARGV: text, the first entry to read, the most entries, the most bytes
-- Returns how many were read, 1 if there may be more, and those that contain the text.
local key, text, first = KEYS[1], ARGV[1], tonumber(ARGV[2])
local most, bytes_left, step = tonumber(ARGV[3]), tonumber(ARGV[4]), 16
local of_set = redis.call('TYPE', key).ok == 'zset'
local found, at, ended = {}, 0, false
while at < most and bytes_left > 0 and not ended do
  step = math.min(step, most - at)
  local from, to, part, size = first + at, first + at + step - 1, nil, 0
  if of_set then part = redis.call('ZRANGE', key, -to - 1, -from - 1) else part = redis.call('LRANGE', key, from, to) end
  for _, entry in ipairs(part) do
    size = size + #entry
    if string.find(entry, text, 1, true) then found[#found + 1] = entry end
  end
  at, bytes_left, ended = at + #part, bytes_left - size, #part < step
  step = math.max(1, math.min(500, math.floor(bytes_left * #part / math.max(size, 1))))
end
return { at, ended and 0 or 1, found }
