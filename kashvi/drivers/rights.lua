-- May this user do all that scripts do? Returns the names of commands it may not. Leaves no key behind.
-- KEYS: jobs delayed workers exchanges unrecorded retried held running: held and running are of no worker
local none = KEYS[7]
local missing = {}
local REFUSALS = { 'NOPERM', 'ACL failure', "can't run this command" } -- as servers and their versions put it
local function refused(text)
  for _, words in ipairs(REFUSALS) do
    if string.find(tostring(text), words, 1, true) then return true end
  end
end
local function may(...)
  local answer = redis.pcall(...)
  if type(answer) ~= 'table' or not answer.err then return true end
  if not refused(answer.err) then error(answer.err, 0) end
  missing[#missing + 1] = (...)
  return false
end

may('TIME') may('LLEN', none) may('LRANGE', none, 0, 0) may('LPOS', none, '')
may('ZCARD', none) may('ZSCORE', none, '') may('ZRANGE', none, 0, 0) may('ZRANGEBYSCORE', none, 0, 0)
may('HGET', none, '') may('TYPE', none) may('SMEMBERS', none)
-- What removes comes first, so that what adds can be taken back; a full server allows it, too.
may('ZREM', none, '') may('ZREMRANGEBYSCORE', none, 0, 0) may('LTRIM', none, 0, -1) may('ZADD', none, 'XX', 0, '')
local undo = may('LREM', none, 0, '')
if may('SREM', none, '') and may('SADD', none, '') then redis.call('SREM', none, '') end
if may('HDEL', none, '') and may('HSET', none, '', '') then redis.call('HDEL', none, '') end
for _, push in ipairs({ 'LPUSH', 'RPUSH' }) do
  if undo and may(push, none, '') then redis.call('LREM', none, 0, '') end
end
return missing
