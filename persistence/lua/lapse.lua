-- An execute nobody claimed in time goes on as a phantom and frees its limits.
local expires = redis.call('ZSCORE', K.claims, A.sid)
if not expires or int(A.now) <= int(expires) then
  return 0
end
local prefix = redis.call('HGET', K.sig, 'prefix')
local pos, member = K['pos_' .. prefix], prefix .. ':pos:' .. A.sid
local symbol = redis.call('HGET', pos, 'symbol')
redis.call('HSET', pos, 'kind', 'phantom', 'unclaimed', '1')
redis.call('ZREM', K.claims, A.sid)
free_limits(member, symbol)
emit('unclaimed', 'unclaimed:' .. A.sid, '{}', { 'sid', A.sid, 'prefix', prefix })
return 1
