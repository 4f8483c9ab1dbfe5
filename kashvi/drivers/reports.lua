-- The last reports of those of some workers that are on the list. Read only.
-- KEYS: workers about   ARGV: their names   Returns one text each, '' if there is none.
local found = {}
for i, name in ipairs(ARGV) do
  found[i] = redis.call('ZSCORE', KEYS[1], name) and redis.call('HGET', KEYS[2], name) or ''
end
return found
