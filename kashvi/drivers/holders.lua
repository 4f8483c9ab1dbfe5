-- Workers at one moment. Read only.
-- KEYS: workers serves, held and running of each   ARGV: now|'', the name of each
-- Returns per worker: the seconds that are left of its lease, as text, '' if it is gone; what it serves; how much it has.
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1000000
end
local found = {}
for i = 2, #ARGV do
  local lease_end = redis.call('ZSCORE', KEYS[1], ARGV[i])
  found[i - 1] = {
    lease_end and string.format('%.17g', tonumber(lease_end) - now) or '', redis.call('HGET', KEYS[2], ARGV[i]) or '',
    redis.call('LLEN', KEYS[2 * i - 1]) + redis.call('LLEN', KEYS[2 * i]),
  }
end
return found
