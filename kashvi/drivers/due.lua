-- When the first delayed job is due, in Unix seconds; 'paused' while all queues are paused; '' if there is none. Read only.
-- KEYS: paused, delayed of each queue   ARGV: the name of each queue
local first, open = nil, false
for i, name in ipairs(ARGV) do
  if not redis.call('ZSCORE', KEYS[1], name) then
    open = true
    local due = redis.call('ZRANGE', KEYS[i + 1], 0, 0, 'WITHSCORES')[2]
    if due and (not first or tonumber(due) < tonumber(first)) then first = due end
  end
end
return open and (first or '') or 'paused'
