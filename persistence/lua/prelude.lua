-- Shared head of every script. Keys arrive by name: ARGV[1] lists the names of KEYS, then name/value pairs follow.
-- Nothing here computes with prices: they pass through as text. Integers stay below 2^53.
local K, A = {}, {}
do
  local i = 1
  for name in string.gmatch(ARGV[1], '[^,]+') do
    K[name] = KEYS[i]
    i = i + 1
  end
  for j = 2, #ARGV, 2 do
    A[ARGV[j]] = ARGV[j + 1]
  end
end

-- A script is isolated but not transactional: a wrong type found half-way would leave the first half behind.
-- So every key is checked before the first write.
local TYPES = {
  meta = 'hash', ctl = 'hash', sig = 'hash', pos = 'hash', pos_phantom = 'hash', pos_scalp_phantom = 'hash',
  symbols = 'hash', day = 'hash', blocked = 'hash', outcomes = 'hash', corrections = 'hash', profile = 'hash', training = 'hash',
  bundles = 'hash', tables = 'hash', attempts = 'hash', refusals = 'hash', metrics = 'hash',
  bundles = 'hash', breakers = 'hash', seen = 'hash', claimed = 'zset', history = 'list', slips = 'list', latencies = 'list',
  ledger = 'zset', executed = 'zset', executes = 'zset', claims = 'zset', unreported = 'zset', due = 'zset',
  follow = 'zset', awaited = 'zset', open = 'zset', closed = 'zset', open_phantom = 'zset', open_scalp_phantom = 'zset',
  bar = 'string', completed = 'string', closed_total = 'string', threshold = 'string', nn_enabled = 'string',
  trained = 'string', trained_ts = 'string', qcal_thr = 'string', qcal_trained = 'string', trained_ts = 'string', clock = 'string',
  trades = 'list', timeouts = 'list', paths = 'list', win_rate = 'list', outbox = 'stream', candles = 'stream',
}
for name, key in pairs(K) do
  local found = redis.call('TYPE', key).ok
  if found ~= 'none' and found ~= TYPES[name] then
    return redis.error_reply('WRONGTYPE ' .. name .. ' holds a ' .. found)
  end
end

-- After a wipe nothing may be written on top of nothing: the record would get facts that no state stands behind.
if not A.schema and redis.call('EXISTS', K.meta) == 0 then
  return redis.error_reply('NOSTATE the namespace has not been created')
end

local function int(text)
  return tonumber(text or '0') or 0
end

local function text(number)
  return string.format('%.0f', number)
end

local function contains(list, item)
  return list and string.find(',' .. list, ',' .. item .. ',', 1, true) ~= nil
end

-- A counter somebody wrote by hand would stop a script half-way: ask before the first write.
local function countable(...)
  for i = 1, select('#', ...) do
    local value = select(i, ...)
    if value and not (string.find(value, '^%-?%d+$') and #value <= 15) then
      return false
    end
  end
  return true
end

-- Postgres learns of a change only through the fact that the same script writes.
local function emit(kind, id, body, fields)
  local seq = text(redis.call('HINCRBY', K.meta, 'seq', 1))
  local entry = { 'seq', seq, 'kind', kind, 'id', id, 'at', A.now, 'body', body }
  for i = 1, #fields do
    entry[#entry + 1] = fields[i]
  end
  redis.call('XADD', K.outbox, '*', unpack(entry))
  return seq
end

-- Limits of a position that no longer counts as executed.
local function free_limits(member, symbol)
  redis.call('ZREM', K.executed, member)
  redis.call('HINCRBY', K.symbols, symbol, -1)
end

-- The founding key shows what scores are compared with: the model's own tables, then the heuristic's.
local function show_thresholds()
  local shown = {}
  for _, place in ipairs({ 'bundle', 'table' }) do
    local address = redis.call('HGET', K.training, place)
    local tables = address and redis.call('HGET', K.tables, address)
    if tables and tables ~= '' then
      shown[#shown + 1] = tables
    end
  end
  redis.call('SET', K.qcal_thr, '{"tables":[' .. table.concat(shown, ',') .. ']}')
end

local function stop_following(member)
  redis.call('ZREM', K.follow, member)
  redis.call('ZREM', K.due, member)
end
