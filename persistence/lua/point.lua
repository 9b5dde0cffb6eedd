-- Back to an earlier bundle, or forward again: only among published ones, only from the one that was looked at.
local known = redis.call('HMGET', K.training, 'bundle', 'moves')
if (known[1] or '') ~= A.expected or A.address == A.expected or redis.call('HEXISTS', K.bundles, A.address) == 0 then
  return 0
end
local move = text(int(known[2]) + 1)
redis.call('HSET', K.training, 'previous', known[1], 'bundle', A.address, 'moves', move)
show_thresholds()
emit('pointed', 'pointed:' .. A.strategy .. ':' .. move, '{}', {
  'strategy', A.strategy, 'address', A.address, 'expected', A.expected, 'by', A.by, 'move', move,
})
return 1
