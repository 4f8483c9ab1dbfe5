-- Which of these jobs are marked as cancelled? Read only.
-- KEYS: cancelled   ARGV: ids   Returns the numbers of those that are, counted from 1.
local found = {}
for i, id in ipairs(ARGV) do
  if redis.call('ZSCORE', KEYS[1], id) then found[#found + 1] = i end
end
return found
