-- The go before an order: one engine, in time, with mode and breakers still allowing it.
local entry = {}
local flat = redis.call('HGETALL', K.sig)
for i = 1, #flat, 2 do
  entry[flat[i]] = flat[i + 1]
end
if #flat == 0 then
  return { 'CLAIM_UNKNOWN' }
end
if entry.alias then
  return { 'ALIAS', entry.alias }
end
if entry.action ~= 'execute' then
  return { 'CLAIM_NOT_EXECUTE' }
end
-- Another id for the same candle is another order: it never shares a claim, not even its own engine's.
if entry.claimed_by and (entry.claimed_by ~= A.engine or (entry.claimed_as or A.sid) ~= A.asked) then
  return { 'CLAIM_TAKEN' }
end
local pos = K['pos_' .. entry.prefix]
local position = redis.call('HMGET', pos, 'kind', 'status', 'deadline', 'symbol', 'step')
if position[1] ~= 'executed' or position[2] ~= 'open' or int(A.now) > int(entry.expires) then
  return { 'CLAIM_EXPIRED' }
end
local mode = redis.call('HGET', K.ctl, 'mode')
if (mode ~= 'ON' and mode ~= 'ML_OFF') or (mode == 'ML_OFF' and entry.ensemble == '1') then
  return { 'CLAIM_REVOKED' }
end
-- The breakers again: between the decision and its order they may have tripped.
local now = int(A.now)
local standings = standing(position[4], int(position[5]), now, -1, {})
local losses = redis.call('HMGET', K.day, 'r_micro', 'money_micro')
for place, kind in ipairs({ { 'r', 'LIMIT_DAILY_LOSS_R' }, { 'money', 'LIMIT_DAILY_LOSS_MONEY' } }) do
  local name = 'daily_loss_' .. kind[1] .. ':' .. entry.strategy
  if daily_loss(name, int(entry['limit_' .. kind[1]]), 0 - int(losses[place])) then
    standings[#standings + 1] = { kind[2], true }
  end
end
record_turned()
for _, one in ipairs(standings) do
  -- A claim asked for again is no new order.
  local counts = one[1] ~= 'LIMIT_ORDER_RATE' or not entry.claimed_by
  if counts and (one[2] or entry.ensemble == '1') then
    return { one[1] }
  end
end
if entry.claimed_by then
  -- The same word once more: whether it is on the disk is asked next, and only a write of this socket can be asked for.
  redis.call('HSET', K.sig, 'claimed_by', A.engine)
  return { 'CLAIM_GO' }
end
redis.call('ZADD', K.claimed, A.now, A.sid)
redis.call('ZREMRANGEBYSCORE', K.claimed, '-inf', text(now - 1000))
redis.call('HSET', K.sig, 'claimed_by', A.engine, 'claimed_as', A.asked)
redis.call('HSET', pos, 'claimed_by', A.engine, 'claimed_at', A.now)
redis.call('ZREM', K.claims, A.sid)
redis.call('ZADD', K.unreported, text(int(position[3]) + int(A.grace)), entry.prefix .. ':pos:' .. A.sid)
emit('claimed', 'claimed:' .. A.sid, '{}',
  { 'sid', A.sid, 'prefix', entry.prefix, 'engine', A.engine, 'asked', A.asked })
return { 'CLAIM_GO' }
