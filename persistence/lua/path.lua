-- What the price did until the horizon, whatever became of the position meanwhile: recorded once.
local known = redis.call('HMGET', K.pos, 'status', 'path')
if not known[1] then
  return 'MISSING'
end
if known[2] then
  return 'REPLAY'
end
local counter = A.known == '1' and 'path|known|n' or 'path|unknown|n'
local count = redis.call('HGET', K.metrics, counter)
if count and not (string.find(count, '^%-?%d+$') and #count <= 18) then
  return redis.error_reply('WRONGTYPE a counter holds no whole number')
end
redis.call('HSET', K.pos, 'path', A.path)
redis.call('ZREM', K.awaited, A.member)
redis.call('HINCRBY', K.metrics, counter, 1)
-- A path with a hole teaches nothing: it stays in the record and with its position only.
if A.known == '1' then
  redis.call('RPUSH', K.paths, A.path)
  redis.call('LTRIM', K.paths, '-' .. A.paths_kept, -1)
end
emit('path', 'path:' .. A.sid, A.path, {
  'sid', A.sid, 'prefix', A.prefix, 'strategy', A.strategy, 'symbol', A.symbol, 'known', A.known,
})
return 'DONE'
