-- An attempt at training gets its number, unless the boundary it is for has had its verdict since it was looked at.
if A.boundary ~= '' and int(redis.call('HGET', K.training, 'next')) ~= int(A.boundary) then
  return 0
end
local attempt = text(redis.call('HINCRBY', K.training, 'attempt', 1))
emit('training', 'training:' .. A.strategy .. ':' .. attempt, '{}', { 'strategy', A.strategy, 'attempt', attempt })
return attempt
