-- An execute nobody claimed in time goes on as a phantom and frees its limits.
local expires = redis.call('ZSCORE', K.claims, A.sid)
if not expires or int(A.now) <= int(expires) then
  return 0
end
local prefix = redis.call('HGET', K.sig, 'prefix')
local pos, member = K['pos_' .. prefix], prefix .. ':pos:' .. A.sid
local known = redis.call('HMGET', pos, 'symbol', 'sim', 'unclaimed')
local symbol = known[1]
-- A simulation that ended first still has to be closed: its claim is swept until that is done.
if known[3] == '1' then
  return 1
end
redis.call('HSET', pos, 'kind', 'phantom', 'unclaimed', '1')
if known[2] == 'open' then
  redis.call('ZREM', K.claims, A.sid)
end
free_limits(member, symbol)
emit('unclaimed', 'unclaimed:' .. A.sid, '{}', { 'sid', A.sid, 'prefix', prefix })
return 1
