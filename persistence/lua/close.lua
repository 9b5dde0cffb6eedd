-- The end of a position: closed once, counted once, handed to the learner once.
local known = redis.call('HMGET', K.pos, 'status', 'kind', 'claimed_by', 'v', 'sim', 'reports')
local status, kind, claimed, version, sim = known[1], known[2], known[3], known[4], known[5]
if not status then
  return 'MISSING'
end
if status == 'closed' then
  return 'REPLAY'
end
if A.how == 'simulation' and kind == 'executed' then
  return 'EXECUTED'
end
if A.how ~= 'simulation' and not (kind == 'executed' and claimed) then
  return 'NOT_CLAIMED'
end
if A.how ~= 'report' and version ~= A.v then
  return 'STALE'
end
local today = redis.call('HMGET', K.day, 'r_micro', 'money_micro')
if not countable(redis.call('GET', K.closed_total), redis.call('GET', K.completed), today[1], today[2],
    redis.call('HGET', K.outcomes, A.outcome), redis.call('HGET', K.symbols, A.symbol)) then
  return redis.error_reply('WRONGTYPE a counter holds no whole number')
end
-- Rolling figures of every close, also of those that ask for no training.
local ending = kind .. '|' .. A.outcome
local counted, steps = { ending .. '|n', ending .. '|r_micro' }, { '1', A.r_micro }
if A.learned == '1' then
  for group in string.gmatch(A.groups, '[^,]+') do
    for name, step in pairs({ n = '1', wins = A.win, r_micro = A.r_micro }) do
      counted[#counted + 1], steps[#steps + 1] = group .. '|' .. name, step
    end
  end
end
for _, sum in ipairs(redis.call('HMGET', K.metrics, unpack(counted))) do
  -- Wider than a day's counter, since these run for ever: an absurd result must not stop every close after it.
  if sum and not (string.find(sum, '^%-?%d+$') and #sum <= 18) then
    return redis.error_reply('WRONGTYPE a counter holds no whole number')
  end
end
local next_version = text(int(version) + 1)
redis.call('HSET', K.pos, 'status', 'closed', 'v', next_version, 'outcome', A.outcome, 'how', A.how,
  'closed_at', A.now, 'result', A.result)
if A.report ~= '' then
  redis.call('HSET', K.pos, 'reports', (known[6] or '') .. A.report .. ',')
end
if A.how ~= 'report' then
  if sim == 'open' then
    redis.call('HSET', K.pos, 'track', A.track)
  end
  redis.call('HSET', K.pos, 'sim', 'done')
  stop_following(A.member)
end
redis.call('ZREM', K.open, A.member)
redis.call('ZREM', K.claims, A.sid)
redis.call('ZADD', K.closed, A.now, A.member)
if kind == 'executed' then
  free_limits(A.member, A.symbol)
  redis.call('ZREM', K.unreported, A.member)
  redis.call('HINCRBY', K.day, 'r_micro', A.r_micro)
  redis.call('HINCRBY', K.day, 'money_micro', A.money_micro)
end
if kind == 'executed' and intact then
  for _, unit in ipairs({ 'r', 'money' }) do
    B['equity_' .. unit] = text(redis.call('HINCRBY', K.breakers, 'equity_' .. unit, A[unit .. '_micro']))
    if int(B['equity_' .. unit]) > int(B['high_' .. unit]) then
      B['high_' .. unit] = B['equity_' .. unit]
      redis.call('HSET', K.breakers, 'high_' .. unit, B['high_' .. unit])
    end
  end
  -- What lost money goes on with a streak, whatever it is called.
  if A.outcome == 'loss' or int(A.r_micro) < 0 then
    B.streak = text(redis.call('HINCRBY', K.breakers, 'streak', 1))
  elseif A.outcome == 'win' then
    B.streak = '0'
    redis.call('HSET', K.breakers, 'streak', '0')
  end
end
redis.call('INCR', K.closed_total)
redis.call('HINCRBY', K.outcomes, A.outcome, 1)
for i, name in ipairs(counted) do
  redis.call('HINCRBY', K.metrics, name, steps[i])
end
if A.learned == '1' then
  redis.call('INCR', K.completed)
  redis.call('RPUSH', K.trades, A.result)
  redis.call('LTRIM', K.trades, '-' .. A.trades_kept, -1)
  redis.call('LPUSH', K.win_rate, A.win)
  redis.call('LTRIM', K.win_rate, 0, int(A.win_rate_window) - 1)
elseif A.outcome == 'timeout' then
  redis.call('RPUSH', K.timeouts, A.result)
  redis.call('LTRIM', K.timeouts, '-' .. A.trades_kept, -1)
end
emit('closed', 'closed:' .. A.sid, A.result, {
  'sid', A.sid, 'prefix', A.prefix, 'strategy', A.strategy, 'v', next_version, 'how', A.how, 'outcome', A.outcome,
  'track', A.track, 'learned', A.learned, 'win', A.win, 'r_micro', A.r_micro, 'money_micro', A.money_micro, 'day', A.day,
  'report', A.report, 'position_kind', kind, 'groups', A.groups,
})
if kind == 'executed' then
  read_own()
  record_turned()
end
-- One request per boundary, in the commit that reaches it: no kill and no race can skip or repeat it.
if A.learned == '1' then
  local training = redis.call('HMGET', K.training, 'next', 'requested')
  local boundary, count = training[1], redis.call('GET', K.completed)
  if int(boundary) > 0 and int(count) >= int(boundary) and training[2] ~= boundary then
    redis.call('HSET', K.training, 'requested', boundary)
    emit('retrain', 'retrain:' .. A.strategy .. ':' .. boundary, '{}',
      { 'strategy', A.strategy, 'boundary', boundary, 'count', count })
  end
end
return 'DONE'
