-- A closed position ended otherwise: the label changes at the next fit, the counters do not.
local known = redis.call('HMGET', K.pos, 'status', 'kind', 'claimed_by', 'reports')
if not known[1] then
  return 'MISSING'
end
if contains(known[4], A.report) then
  return 'REPLAY'
end
if known[2] ~= 'executed' or not known[3] then
  return 'NOT_CLAIMED'
end
if known[1] ~= 'closed' then
  return 'STALE'
end
redis.call('HSET', K.pos, 'reports', (known[4] or '') .. A.report .. ',', 'correction', A.result)
-- Also a correction to something no learner takes: it unteaches the row.
local taken = A.learned == '1' or A.timed_out == '1'
redis.call('HSET', K.corrections, A.sid, taken and A.result or '')
emit('corrected', 'corrected:' .. A.sid .. ':' .. A.report, A.result, {
  'sid', A.sid, 'prefix', A.prefix, 'strategy', A.strategy, 'report', A.report, 'learned', A.learned, 'timed_out', A.timed_out,
})
return 'DONE'
