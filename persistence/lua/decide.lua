-- The commit of a decision: replay, then age, mode, limits, then what the gate wants.
local known = redis.call('HGETALL', K.sig)
if #known > 0 then
  local entry = {}
  for i = 1, #known, 2 do
    entry[known[i]] = known[i + 1]
  end
  local first = entry.alias or A.sid
  if entry.fp ~= A.fp then
    local seen = entry.conflicts or ''
    local _, count = string.gsub(seen, ',', '')
    if not string.find(seen, A.fp, 1, true) and count < 16 then
      redis.call('HSET', K.sig, 'conflicts', seen .. A.fp .. ',')
      emit('conflict', 'conflict:' .. A.sid .. ':' .. A.fp, A.body, { 'sid', A.sid, 'fp', A.fp })
    end
    return { 'CONFLICT', first, known }
  end
  if entry.alias then
    return { 'DUPLICATE_BAR', first, known }
  end
  return { 'REPLAY', first, known }
end
if K.bar then
  local first = redis.call('GET', K.bar)
  if first then
    redis.call('HSET', K.sig, 'fp', A.fp, 'alias', first, 'at', A.now)
    redis.call('ZADD', K.ledger, A.now, A.sid)
    emit('alias', 'alias:' .. A.sid, '{}', { 'sid', A.sid, 'fp', A.fp, 'first', first })
    return { 'DUPLICATE_BAR', first, {} }
  end
end

local now = int(A.now)
local action, wanted = A.want, A.reasons
local refused, held, full, off = {}, {}, {}, false
local window = text(now - 60000)
if action ~= 'rejected' then
  if now - int(A.signal_ms) > int(A.max_age) then
    refused[1] = 'SIGNAL_EXPIRED'
  elseif int(A.signal_ms) - now > int(A.skew) then
    refused[1] = 'SIGNAL_CLOCK'
  end
  local mode = redis.call('HGET', K.ctl, 'mode')
  if not mode then
    held[1] = 'MODE_MISSING'
  elseif mode == 'HALT' then
    held[1] = 'MODE_HALT'
  elseif mode == 'ML_OFF' then
    action, wanted, off = A.alternative, A.alternative_reasons, true
  elseif mode ~= 'ON' then
    held[1] = 'MODE_MISSING'
  end
  local checks = {
    { A.limit_open, redis.call('ZCARD', K.executed), 'LIMIT_OPEN_POSITIONS' },
    { A.limit_symbol, int(redis.call('HGET', K.symbols, A.symbol)), 'LIMIT_SYMBOL_POSITIONS' },
    { A.limit_rate, redis.call('ZCOUNT', K.executes, '(' .. window, '+inf'), 'LIMIT_EXECUTE_RATE' },
    { A.limit_r, -int(redis.call('HGET', K.day, 'r_micro')), 'LIMIT_DAILY_LOSS_R' },
    { A.limit_money, -int(redis.call('HGET', K.day, 'money_micro')), 'LIMIT_DAILY_LOSS_MONEY' },
    { A.limit_outbox, redis.call('XLEN', K.outbox), 'RECORD_BEHIND' },
  }
  for _, check in ipairs(checks) do
    local limit = int(check[1])
    if limit > 0 and check[2] >= limit then
      held[#held + 1] = check[3]
    end
  end
  local tracked = redis.call('ZCARD', K.open_phantom) + redis.call('ZCARD', K.open_scalp_phantom)
  if tracked >= int(A.limit_tracked) then
    full[1] = 'LIMIT_TRACKED_POSITIONS'
  end
  if #refused + #full > 0 then
    action = 'rejected'
  elseif #held > 0 then
    action = 'phantom'
  end
end
local reasons = {}
for _, list in ipairs({ refused, off and { 'MODE_ML_OFF' } or {}, held, full }) do
  for _, reason in ipairs(list) do
    reasons[#reasons + 1] = reason
  end
end
for reason in string.gmatch(wanted, '[^,]+') do
  reasons[#reasons + 1] = reason
end
local all = table.concat(reasons, ',')
-- ML_OFF changes who answers; it is not what refused.
local blocked = action == 'execute' and '' or refused[1] or held[1] or full[1] or string.match(wanted, '[^,]+')
local expires = action == 'execute' and text(now + int(A.ttl)) or '0'
local tracked_flag = action == 'rejected' and '0' or '1'

if not countable(redis.call('HGET', K.symbols, A.symbol), redis.call('HGET', K.blocked, blocked)) then
  return redis.error_reply('WRONGTYPE a counter holds no whole number')
end
local entry = {
  'fp', A.fp, 'strategy', A.strategy, 'symbol', A.symbol, 'prefix', A.prefix, 'action', action, 'reasons', all,
  'expires', expires, 'ensemble', off and '0' or A.ensemble, 'pos', tracked_flag, 'bar', A.bar,
}
redis.call('HSET', K.sig, 'body', A.body, 'at', A.now, unpack(entry))
redis.call('ZADD', K.ledger, A.now, A.sid)
if K.bar and tracked_flag == '1' then
  redis.call('SET', K.bar, A.sid)
end
if blocked ~= '' then
  redis.call('HINCRBY', K.blocked, blocked, 1)
end
local recorded = { 'sid', A.sid, 'blocked', blocked, 'day', A.day }
for i = 1, #entry do
  recorded[#recorded + 1] = entry[i]
end
emit('decision', 'decision:' .. A.sid, A.body, recorded)

if tracked_flag == '1' then
  local kind = action == 'execute' and 'executed' or 'phantom'
  local member = A.prefix .. ':pos:' .. A.sid
  local terms = {
    'sid', A.sid, 'prefix', A.prefix, 'strategy', A.strategy, 'symbol', A.symbol,
    'entry_ms', A.entry_ms, 'deadline', A.deadline, 'step', A.step, 'track', A.track,
  }
  local opened = { 'position_kind', kind, 'expires', expires }
  for i = 1, #terms do
    opened[#opened + 1] = terms[i]
  end
  local seq = emit('opened', 'opened:' .. A.sid, A.terms, opened)
  redis.call('HSET', K.pos, 'kind', kind, 'status', 'open', 'sim', 'open', 'v', '1', 'at', A.now, 'seq', seq, 'body', A.terms,
    unpack(terms))
  redis.call('ZADD', K['open_' .. A.prefix], seq, member)
  redis.call('ZADD', K.follow, seq, member)
  redis.call('ZADD', K.due, A.deadline, member)
  if kind == 'executed' then
    redis.call('ZADD', K.executed, seq, member)
    redis.call('HINCRBY', K.symbols, A.symbol, 1)
    redis.call('ZADD', K.claims, expires, A.sid)
    redis.call('ZADD', K.executes, A.now, A.sid)
    redis.call('ZREMRANGEBYSCORE', K.executes, '-inf', window)
  end
end
return { 'DONE', A.sid, redis.call('HGETALL', K.sig) }
