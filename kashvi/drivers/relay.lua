-- Let a relay of an outbox in, or push its rows.
-- KEYS: relay relayed; to push also: names unique, jobs and delayed of each queue
-- ARGV: outbox token now|'' seconds n. To be let in n is 0, then: the relay's token before, or ''.
--       To push, then: the number of queues, their names, the number of ids whose rows are gone, these ids, and of each
--       row: the number of its queue, its delay|'', its id, its key|'', the envelope
-- relay: HASH outbox -> 'token n until done_at'. relayed: HASH id -> 'token n holder': the push.
-- Returns to a relay to be let in: { 1 } or { 0, seconds }. To one that pushes: { 0 }, or { 1, done_at, of each row
-- 'token n holder' }.
local outbox, token, now, seconds, n = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1000000
end
local function text(number) return string.format('%.17g', number) end
local record = redis.call('HGET', KEYS[1], outbox) or ''
local let_in, last, ends, done_at = string.match(record, '^(%S+) (%S+) (%S+) (%S+)$')
last, ends = tonumber(last), tonumber(ends)

if n == 0 then
  local left = let_in and let_in ~= ARGV[6] and ends - now or 0
  if left > 0 and left <= seconds then return { 0, text(left) } end
  redis.call('HGET', KEYS[2], '')
  redis.call('HSET', KEYS[1], outbox, table.concat({ token, '0', text(now + seconds), text(now) }, ' '))
  return { 1 }
end

if let_in ~= token then return { 0 } end
local queues = tonumber(ARGV[6])
local gone = tonumber(ARGV[7 + queues])
local first = 8 + queues + gone
local answers = {}
if n <= last then
  for i = first, #ARGV, 5 do answers[#answers + 1] = redis.call('HGET', KEYS[2], ARGV[i + 2]) or '' end
  return { 1, done_at, answers }
end
-- Fail before the first write if another program made a key something else.
local names = redis.call('TYPE', KEYS[3]).ok
if names ~= 'set' and names ~= 'none' then return redis.error_reply('WRONGTYPE ' .. KEYS[3] .. ' is no set') end
redis.call('HGET', KEYS[2], '')
redis.call('HGET', KEYS[4], '')
for i = 5, #KEYS, 2 do
  redis.call('LLEN', KEYS[i])
  redis.call('ZCARD', KEYS[i + 1])
end
-- The first write is one that a full server refuses.
redis.call('HSET', KEYS[1], outbox, table.concat({ token, text(n), text(now + seconds), text(now) }, ' '))
for i = 8 + queues, first - 1 do redis.call('HDEL', KEYS[2], ARGV[i]) end
local ready, soonest = {}, {}
for i = first, #ARGV, 5 do
  local queue, delay, id, key = tonumber(ARGV[i]), tonumber(ARGV[i + 1]), ARGV[i + 2], ARGV[i + 3]
  local answer = redis.call('HGET', KEYS[2], id)
  if not answer then
    local holder = key ~= '' and redis.call('HGET', KEYS[4], key) or ''
    if holder == '' then
      local due = delay and text(now + delay)
      if delay then
        redis.call('ZADD', KEYS[4 + 2 * queue], due, ARGV[i + 4])
        if delay < (soonest[queue] or 0.6) then soonest[queue] = delay end
      else
        redis.call('LPUSH', KEYS[3 + 2 * queue], ARGV[i + 4])
        ready[queue] = true
      end
      if key ~= '' then redis.call('HSET', KEYS[4], key, id) end
      if ARGV[6 + queue] ~= 'default' then redis.call('SADD', KEYS[3], ARGV[6 + queue]) end
    end
    answer = table.concat({ token, ARGV[5], holder }, ' ')
    redis.call('HSET', KEYS[2], id, answer)
  end
  answers[#answers + 1] = answer
end
for queue = 1, queues do
  -- wakes who would wait for longer, and who waits for another of its queues
  if soonest[queue] then redis.pcall('PUBLISH', KEYS[4 + 2 * queue], text(now + soonest[queue])) end
  if ready[queue] and ARGV[6 + queue] ~= 'default' then redis.pcall('PUBLISH', KEYS[3 + 2 * queue], text(now)) end
end
return { 1, text(now), answers }
