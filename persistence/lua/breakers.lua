-- Second head of the scripts that read or move the breakers: the rule of persistence/breakers.py, in whole numbers.
local LIMITS = {
  'drawdown_r', 'drawdown_share', 'starting_equity', 'losing_streak', 'order_rate', 'slippage', 'slippage_floor',
  'confidence', 'latency', 'periods', 'watch',
}
local COUNTERS = {
  'gen', 'equity_r', 'high_r', 'equity_money', 'high_money', 'streak', 'slips', 'slip_sum', 'slip_expected',
}
local SLIPS_KEPT, LATENCIES_KEPT, LARGEST_LATENCY = 20, 100, 1000000000000000

local function whole(value)
  return value and string.find(value, '^%-?%d+$') ~= nil and #value <= (string.byte(value) == 45 and 17 or 16)
end

-- A hash that lacks a field has been tampered with: it blocks, and nothing is written into it.
local B, intact = {}, true
do
  local flat = redis.call('HGETALL', K.breakers)
  for i = 1, #flat, 2 do
    B[flat[i]] = flat[i + 1]
  end
  for _, name in ipairs(COUNTERS) do
    intact = intact and whole(B[name])
  end
  for _, name in ipairs(LIMITS) do
    intact = intact and whole(B['limit_' .. name])
  end
end

local function limit_of(name)
  return int(B['limit_' .. name])
end

-- amount * ratio / 1e6 rounded down, in products that stay whole: fmod is exact where a division is not.
local function share(amount, ratio)
  local rest = math.fmod(amount, 1000000)
  local part = rest * ratio
  return (amount - rest) / 1000000 * ratio + (part - math.fmod(part, 1000000)) / 1000000
end

local turned = {}

-- Note what differs from the record. Writing it down is for later: a script may still refuse.
local function read(name, value, limit, tripped)
  if tripped ~= (B['trip:' .. name] ~= nil) then
    turned[#turned + 1] = { name, value, limit, tripped }
  end
  return tripped
end

local function latched(name, value, limit)
  return read(name, value, limit, limit > 0 and (B['trip:' .. name] ~= nil or value >= limit))
end

local function drawdown_r()
  return latched('drawdown_r', int(B.high_r) - int(B.equity_r), limit_of('drawdown_r'))
end

local function drawdown_money()
  local start, high = limit_of('starting_equity'), int(B.high_money)
  local limit = start > 0 and share(start + high, limit_of('drawdown_share')) or 0
  return latched('drawdown_money', high - int(B.equity_money), limit)
end

local function losing_streak()
  local value, limit = int(B.streak), limit_of('losing_streak')
  return read('losing_streak', value, limit, limit > 0 and value >= limit)
end

local function slippage()
  local ratio, expected, value = limit_of('slippage'), int(B.slip_expected), int(B.slip_sum)
  local limit = share(math.max(0, expected), ratio)
  local armed = ratio > 0 and int(B.slips) >= SLIPS_KEPT and expected > 0
  return read('slippage', value, limit, armed and value >= limit)
end

local function order_rate(now)
  local value = redis.call('ZCOUNT', K.claimed, '(' .. text(now - 1000), '+inf')
  local limit = limit_of('order_rate')
  return read('order_rate', value, limit, limit > 0 and value >= limit)
end

-- The 99th of a hundred by size is the second largest. `newer` are latencies this commit brings along, newest first.
local function latency(newer)
  local limit = limit_of('latency')
  if limit == 0 then
    return read('latency', 0, limit, false)
  end
  local count, largest, second = 0, 0, 0
  for _, list in ipairs({ newer, redis.call('LRANGE', K.latencies, 0, LATENCIES_KEPT - 1 - #newer) }) do
    for _, word in ipairs(list) do
      local value = whole(word) and tonumber(word) or LARGEST_LATENCY
      if count == LATENCIES_KEPT then
        break
      elseif value > largest then
        largest, second = value, largest
      elseif value > second then
        second = value
      end
      count = count + 1
    end
  end
  if count < LATENCIES_KEPT then
    return read('latency', 0, limit, false)
  end
  return read('latency', second, limit, second > limit)
end

-- A moment that has not come yet says nothing about what is known now.
local function stale(stamp, allowed, now)
  if not whole(stamp) then
    return true, 0
  end
  local age = now - int(stamp)
  return age > allowed or age < -int(A.skew), age
end

local function feed(name, step, stamp, now)
  local periods = limit_of('periods')
  local old, age = stale(stamp, periods * step, now)
  old = old and periods > 0
  -- Symbols nobody ever fed are refused but not listed: anybody can make up names.
  if stamp then
    read('stale_feed:' .. name, age, periods * step, old)
  end
  return old
end

local function inputs_stale(step, now)
  local periods, interval = limit_of('periods'), limit_of('watch')
  -- On a data clock time comes in candles.
  if redis.call('HGET', K.meta, 'clock') == 'data' then
    interval = math.max(interval, step)
  end
  local old, age = stale(redis.call('HGET', K.seen, 'watched'), periods * interval, now)
  return read('stale_breakers', age, periods * interval, old and periods > 0)
end

-- What closes and fills move.
local function read_own()
  if intact then
    drawdown_r()
    drawdown_money()
    losing_streak()
    slippage()
  end
end

-- All reasons against an order, in the order of the control table, each with whether it blocks.
local function standing(symbol, step, now, confidence, newer)
  if not intact then
    return { { 'BREAKER_MISSING', true } }
  end
  local name = symbol .. '|' .. text(step)
  local found = {
    { drawdown_r(), 'BREAKER_DRAWDOWN_R', true },
    { drawdown_money(), 'BREAKER_DRAWDOWN_MONEY', true },
    { losing_streak(), 'BREAKER_LOSING_STREAK', false },
    { order_rate(now), 'LIMIT_ORDER_RATE', true },
    { slippage(), 'BREAKER_SLIPPAGE', false },
    { confidence >= 0 and confidence < limit_of('confidence'), 'BREAKER_REGIME_CONFIDENCE', false },
    { latency(newer), 'BREAKER_LATENCY', false },
    { feed(name, step, redis.call('HGET', K.seen, name), now), 'DATA_STALE_FEED', true },
    { inputs_stale(step, now), 'DATA_STALE_BREAKERS', true },
  }
  local reasons = {}
  for _, one in ipairs(found) do
    if one[1] then
      reasons[#reasons + 1] = { one[2], one[3] }
    end
  end
  return reasons
end

-- The limit in R or money of a strategy against the losses of the day.
local function daily_loss(name, limit, loss)
  local reached = limit > 0 and loss >= limit
  if intact then
    read(name, loss, limit, reached)
  end
  return reached
end

local function record_turn(name, change, value, limit, by)
  local gen = text(redis.call('HINCRBY', K.breakers, 'gen', 1))
  if change == 'tripped' then
    redis.call('HSET', K.breakers, 'trip:' .. name, value .. ':' .. limit .. ':' .. A.now .. ':' .. gen)
  else
    redis.call('HDEL', K.breakers, 'trip:' .. name)
  end
  redis.call('LPUSH', K.history, table.concat({ A.now, name, change, value, limit, by }, ' '))
  redis.call('LTRIM', K.history, 0, 99)
  emit('breaker', 'breaker:' .. gen, '{}', {
    'name', name, 'change', change, 'value', value, 'limit', limit, 'gen', gen, 'by', by,
  })
end

-- Every transition is one fact.
local function record_turned()
  for _, turn in ipairs(turned) do
    record_turn(turn[1], turn[4] and 'tripped' or 'cleared', text(turn[2]), text(turn[3]), 'gate')
  end
  turned = {}
end
