-- A fill of a claimed position, once per fill id.
local known = redis.call('HMGET', K.pos, 'status', 'kind', 'claimed_by', 'fill_ids', 'fills')
if not known[1] then
  return 'MISSING'
end
if contains(known[4], A.fill) then
  return 'REPLAY'
end
if known[2] ~= 'executed' or not known[3] then
  return 'NOT_CLAIMED'
end
if known[1] ~= 'open' then
  return 'CLOSED'
end
redis.call('HSET', K.pos, 'fill_ids', (known[4] or '') .. A.fill .. ',',
  'fills', known[5] and (known[5] .. '\n' .. A.body) or A.body)
emit('fill', 'fill:' .. A.sid .. ':' .. A.fill, A.body, { 'sid', A.sid, 'prefix', A.prefix, 'fill', A.fill })
return 'DONE'
