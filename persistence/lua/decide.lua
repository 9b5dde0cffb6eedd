-- The commit of a decision: replay, then age, mode, breakers, limits, then what the gate wants.
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
local noted, alone = {}, false
local latencies = {}
for word in string.gmatch(A.latencies, '[^,]+') do
  latencies[#latencies + 1] = word
end
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
  noted[1] = held[1]
  for _, one in ipairs(standing(A.symbol, int(A.step), now, int(A.confidence), latencies)) do
    noted[#noted + 1] = one[1]
    -- What was drawn against its score stands on nothing that rules could stand in for.
    if one[2] or (A.explored == '1' and not off) then
      held[#held + 1] = one[1]
    else
      alone = true
    end
  end
  -- Where the model's word does not count, its execute becomes what the rules alone say; a phantom stays one.
  alone = alone and not off and A.ensemble == '1' and action == 'execute'
  if alone then
    action, wanted = A.alternative, A.alternative_reasons
  end
  local checks = {
    { A.limit_open, redis.call('ZCARD', K.executed), 'LIMIT_OPEN_POSITIONS' },
    { A.limit_symbol, int(redis.call('HGET', K.symbols, A.symbol)), 'LIMIT_SYMBOL_POSITIONS' },
    { A.limit_rate, redis.call('ZCOUNT', K.executes, '(' .. window, '+inf'), 'LIMIT_EXECUTE_RATE' },
  }
  for _, check in ipairs(checks) do
    local limit = int(check[1])
    if limit > 0 and check[2] >= limit then
      held[#held + 1], noted[#noted + 1] = check[3], check[3]
    end
  end
  local losses = redis.call('HMGET', K.day, 'r_micro', 'money_micro')
  for place, kind in ipairs({ { 'r', 'LIMIT_DAILY_LOSS_R' }, { 'money', 'LIMIT_DAILY_LOSS_MONEY' } }) do
    local name = 'daily_loss_' .. kind[1] .. ':' .. A.strategy
    if daily_loss(name, int(A['limit_' .. kind[1]]), 0 - int(losses[place])) then
      held[#held + 1], noted[#noted + 1] = kind[2], kind[2]
    end
  end
  if int(A.limit_outbox) > 0 and redis.call('XLEN', K.outbox) >= int(A.limit_outbox) then
    held[#held + 1], noted[#noted + 1] = 'RECORD_BEHIND', 'RECORD_BEHIND'
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
for _, list in ipairs({ refused, off and { 'MODE_ML_OFF' } or {}, noted, full }) do
  for _, reason in ipairs(list) do
    reasons[#reasons + 1] = reason
  end
end
for reason in string.gmatch(wanted, '[^,]+') do
  reasons[#reasons + 1] = reason
end
local all = table.concat(reasons, ',')
-- ML_OFF and breakers that leave it to the rules change who answers; they are not what refused.
local blocked = action == 'execute' and '' or refused[1] or held[1] or full[1] or string.match(wanted, '[^,]+')
local expires = action == 'execute' and text(now + int(A.ttl)) or '0'
local tracked_flag = action == 'rejected' and '0' or '1'

if not countable(redis.call('HGET', K.symbols, A.symbol), redis.call('HGET', K.blocked, blocked)) then
  return redis.error_reply('WRONGTYPE a counter holds no whole number')
end
local entry = {
  'fp', A.fp, 'strategy', A.strategy, 'symbol', A.symbol, 'prefix', A.prefix, 'action', action, 'reasons', all,
  'expires', expires, 'ensemble', (off or alone) and '0' or A.ensemble, 'pos', tracked_flag, 'bar', A.bar,
  'limit_r', A.limit_r, 'limit_money', A.limit_money,
}
record_turned()
for place = #latencies, 1, -1 do
  redis.call('LPUSH', K.latencies, latencies[place])
end
if #latencies > 0 then
  redis.call('LTRIM', K.latencies, 0, LATENCIES_KEPT - 1)
end
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
  redis.call('ZADD', K.awaited, seq, member)
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
