-- Checkpoint of a simulation, compared and set on the position's version.
local known = redis.call('HMGET', K.pos, 'sim', 'v')
if not known[1] then
  return 'MISSING'
end
if known[1] ~= 'open' then
  return 'REPLAY'
end
if known[2] ~= A.v then
  return 'STALE'
end
local version = text(int(A.v) + 1)
redis.call('HSET', K.pos, 'track', A.track, 'v', version)
if A.done == '1' then
  redis.call('HSET', K.pos, 'sim', 'done', 'twin', A.result)
  stop_following(A.member)
end
emit('touched', 'touched:' .. A.sid .. ':' .. version, A.result, {
  'sid', A.sid, 'prefix', A.prefix, 'v', version, 'last_ts', A.last_ts, 'track', A.track, 'done', A.done,
})
return 'DONE'
