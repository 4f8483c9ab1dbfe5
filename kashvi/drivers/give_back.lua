-- Give a key back if a job has it still. KEYS: unique   ARGV: key, the job's id
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
return redis.call('HDEL', KEYS[1], ARGV[1])
