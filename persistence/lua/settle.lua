-- An attempt gave no bundle: the incumbent stays, and the next boundary is set.
local known = redis.call('HMGET', K.training, 'settled', 'attempt')
if int(known[1]) >= int(A.attempt) or int(A.attempt) > int(known[2]) then
  return 0
end
redis.call('HSET', K.training, 'next', A.next, 'settled', A.attempt, 'why', A.reason)
emit('untrained', 'untrained:' .. A.strategy .. ':' .. A.attempt, '{}', {
  'strategy', A.strategy, 'attempt', A.attempt, 'reason', A.reason, 'detail', A.detail, 'next', A.next,
})
return 1
