-- The names of all queues, except the default one. Read only. KEYS: names
return redis.call('SMEMBERS', KEYS[1])
