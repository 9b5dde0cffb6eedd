-- The heuristic's thresholds: once for each number of outcomes, never back to fewer.
local known = redis.call('HMGET', K.training, 'table_count', 'table', 'table_before')
if int(known[1]) >= int(A.count) then
  return 0
end
local last, before = known[2], known[3]
if last and last ~= A.address then
  -- A decision that has read the pointer just now still finds what it points to.
  if before and before ~= A.address then
    redis.call('HDEL', K.tables, before)
  end
  redis.call('HSET', K.training, 'table_before', last)
end
redis.call('HSET', K.tables, A.address, A.table)
redis.call('HSET', K.training, 'table', A.address, 'table_count', A.count)
show_thresholds()
redis.call('SET', K.qcal_trained, A.count)
emit('table', 'table:' .. A.strategy .. ':' .. A.count, A.table, {
  'strategy', A.strategy, 'count', A.count, 'address', A.address, 'detail', A.detail,
})
return 1
