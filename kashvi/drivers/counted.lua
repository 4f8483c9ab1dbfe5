-- The counts of some minutes. Read only. KEYS: counts of each
local found = {}
for i, key in ipairs(KEYS) do found[i] = redis.call('HGETALL', key) end
return found
