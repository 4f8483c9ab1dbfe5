-- Send a failed job back once, however often it is asked within 90 days, unless another job has its key.
-- KEYS: jobs retried names unique   ARGV: what names the failure, envelope, now|'', queue, key|'', id
-- Returns 1 if it was sent now, 0 if it was sent before, or the id of the job that has its key.
if redis.call('ZSCORE', KEYS[2], ARGV[1]) then return 0 end
redis.call('LLEN', KEYS[1])
local holder = ARGV[5] ~= '' and redis.call('HGET', KEYS[4], ARGV[5])
if holder then return holder end
local now = tonumber(ARGV[3])
if not now then now = tonumber(redis.call('TIME')[1]) end
-- The first write is one that a full server refuses.
if ARGV[4] ~= 'default' then redis.call('SADD', KEYS[3], ARGV[4]) end
redis.call('LPUSH', KEYS[1], ARGV[2])
if ARGV[5] ~= '' then redis.call('HSET', KEYS[4], ARGV[5], ARGV[6]) end
redis.call('ZADD', KEYS[2], string.format('%.17g', now), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('%.17g', now - 90 * 86400))
if ARGV[4] ~= 'default' then
  redis.pcall('PUBLISH', KEYS[1], string.format('%.17g', now)) -- wakes who waits for another of its queues
end
return 1
