-- A bundle comes into force: one pointer moves, and an attempt that is over cannot move it back. It ends every attempt
-- begun so far: a boundary has one verdict, that of whoever is ready first.
local known = redis.call('HMGET', K.training, 'published', 'bundle', 'settled', 'attempt')
if int(known[1]) == int(A.attempt) and known[2] == A.address then
  return 'REPLAY'
end
if int(known[3]) >= int(A.attempt) or int(A.attempt) > int(known[4]) then
  return 'FENCED'
end
if known[2] and known[2] ~= A.address then
  redis.call('HSET', K.training, 'previous', known[2])
end
redis.call('HSET', K.training, 'bundle', A.address, 'published', A.attempt, 'settled', known[4], 'next', A.next)
redis.call('HSET', K.bundles, A.address, A.manifest)
redis.call('SET', K.nn_enabled, A.network)
redis.call('SET', K.trained, A.count)
redis.call('SET', K.trained_ts, A.now)
redis.call('HSET', K.tables, A.address, A.tables)
show_thresholds()
redis.call('SET', K.qcal_trained, A.count)
emit('published', 'published:' .. A.strategy .. ':' .. A.attempt, A.manifest, {
  'strategy', A.strategy, 'attempt', A.attempt, 'address', A.address, 'count', A.count, 'next', A.next,
  'network', A.network, 'tables', A.tables,
})
return 'DONE'
