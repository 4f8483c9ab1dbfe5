-- What stands in some lists, newest first, ARGV[1] items at the most in all. Read only.
-- KEYS: lists   Returns one array per list.
local left, found = tonumber(ARGV[1]), {}
for i, list in ipairs(KEYS) do
  local part = left > 0 and redis.call('LRANGE', list, 0, left - 1) or {}
  left = left - #part
  found[i] = part
end
return found
