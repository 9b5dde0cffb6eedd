-- A worker will not serve what a pointer names: recorded once for each reason, for the operator to see.
if redis.call('HSETNX', K.refusals, A.address .. '|' .. A.code, A.now .. ' ' .. A.detail) == 0 then
  return 0
end
emit('refused', 'refused:' .. A.strategy .. ':' .. A.address .. ':' .. A.code, '{}', {
  'strategy', A.strategy, 'address', A.address, 'code', A.code, 'detail', A.detail,
})
return 1
