-- When the first delayed job is due, in Unix seconds; 'paused' while the queue is paused; '' if there is none. Read only.
-- KEYS: delayed paused
if redis.call('ZSCORE', KEYS[2], 'default') then return 'paused' end
local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
return first[2] or ''
