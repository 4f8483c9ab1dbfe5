-- Count at one moment. KEYS: jobs delayed unrecorded workers [held and running of each worker the caller knows]
-- Returns ready, delayed, unrecorded, held, and the workers there are: if others than known, ask again.
local held = 0
for i = 5, #KEYS do held = held + redis.call('LLEN', KEYS[i]) end
return {
  redis.call('LLEN', KEYS[1]), redis.call('ZCARD', KEYS[2]), redis.call('ZCARD', KEYS[3]), held,
  redis.call('ZRANGE', KEYS[4], 0, -1),
}
