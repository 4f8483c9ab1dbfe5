-- Count at one moment. KEYS: unrecorded workers, jobs and delayed of each queue, held and running of each worker the
-- caller knows   ARGV: the number of queues
-- Returns ready, delayed, unrecorded, held, and the workers there are: if others than known, ask again.
local ready, delayed, held, lists = 0, 0, 0, 2 + 2 * tonumber(ARGV[1])
for i = 3, lists, 2 do
  ready, delayed = ready + redis.call('LLEN', KEYS[i]), delayed + redis.call('ZCARD', KEYS[i + 1])
end
for i = lists + 1, #KEYS do held = held + redis.call('LLEN', KEYS[i]) end
return { ready, delayed, redis.call('ZCARD', KEYS[1]), held, redis.call('ZRANGE', KEYS[2], 0, -1) }
