-- An attempt gave no bundle: the incumbent stays, the next boundary is set, and every attempt begun so far is over.
local known = redis.call('HMGET', K.training, 'settled', 'attempt')
if int(known[1]) >= int(A.attempt) or int(A.attempt) > int(known[2]) then
  return 0
end
redis.call('HSET', K.training, 'next', A.next, 'settled', known[2], 'why', A.reason)
redis.call('HSET', K.attempts, A.attempt, A.body)
emit('untrained', 'untrained:' .. A.strategy .. ':' .. A.attempt, A.body, {
  'strategy', A.strategy, 'attempt', A.attempt, 'reason', A.reason, 'detail', A.detail, 'next', A.next,
})
return 1
