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
local expected = ''
if A.slip ~= '' and intact then
  expected = text(math.max(int(A.expected), limit_of('slippage_floor')))
  redis.call('LPUSH', K.slips, A.slip .. ':' .. expected)
  redis.call('LTRIM', K.slips, 0, SLIPS_KEPT - 1)
  local sum, allowed, kept = 0, 0, redis.call('LRANGE', K.slips, 0, -1)
  for _, pair in ipairs(kept) do
    local slip, share_of = string.match(pair, '^([^:]*):(.*)$')
    sum, allowed = sum + int(slip), allowed + int(share_of)
  end
  B.slips, B.slip_sum, B.slip_expected = text(#kept), text(sum), text(allowed)
  redis.call('HSET', K.breakers, 'slips', B.slips, 'slip_sum', B.slip_sum, 'slip_expected', B.slip_expected)
end
emit('fill', 'fill:' .. A.sid .. ':' .. A.fill, A.body, {
  'sid', A.sid, 'prefix', A.prefix, 'fill', A.fill, 'slip', expected ~= '' and A.slip or '', 'expected', expected,
})
read_own()
record_turned()
return 'DONE'
