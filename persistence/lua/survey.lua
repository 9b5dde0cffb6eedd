-- Everything the reconciliation compares, at one moment: nothing is written, and nothing can move while it is read.
-- Names of keys that depend on what is found are put together from heads that persistence/keys.py spells.
local function zset(key)
  return redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
end
local function lines(list)
  return string.gmatch(list, '[^\n]+')
end
local sets = {}
for i, name in ipairs({ 'open_phantom', 'open_scalp_phantom', 'due', 'executed', 'unreported' }) do
  sets[i] = zset(K[name])
end
local members, known = {}, {}
local function take(member)
  if not known[member] then
    known[member] = true
    members[#members + 1] = member
  end
end
for _, set in ipairs(sets) do
  for i = 1, #set, 2 do
    take(set[i])
  end
end
-- Followed symbols: those somebody saw a key of, and those of the positions.
local symbols, follows = {}, {}
local function follow(symbol)
  if symbol and not symbols[symbol] then
    symbols[symbol] = true
    local set = zset(A.follow .. symbol)
    follows[#follows + 1] = { symbol, set }
    for i = 1, #set, 2 do
      take(set[i])
    end
  end
end
for symbol in lines(A.symbols) do
  follow(symbol)
end
for member in lines(A.members) do
  take(member)
end
local positions, place = {}, 1
while members[place] do
  local member = members[place]
  local found = redis.call('HMGET', A.head .. member, 'status', 'sim', 'kind', 'symbol', 'strategy', 'sid', 'prefix', 'deadline',
    'seq', 'claimed_by', 'unclaimed')
  found[12] = found[6] and redis.call('HGET', A.sig .. found[6], 'bar') or ''
  for i = 1, 12 do
    found[i] = found[i] or ''
  end
  positions[place] = { member, found }
  follow(found[4] ~= '' and found[4] or nil)
  place = place + 1
end
local strategies = {}
for name in lines(A.strategies) do
  strategies[#strategies + 1] = {
    name, redis.call('GET', A['completed:' .. name]) or '', redis.call('GET', A['closed_total:' .. name]) or '',
    redis.call('HGETALL', A['outcomes:' .. name]), redis.call('LLEN', A['trades:' .. name]),
    redis.call('HGETALL', A['training:' .. name]),
  }
end
-- Newest entry ever added: entries up to it belong to this moment, later ones do not.
local newest = '0-0'
if redis.call('EXISTS', K.outbox) == 1 then
  local info = redis.call('XINFO', 'STREAM', K.outbox)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then
      newest = info[i + 1]
    end
  end
end
return {
  redis.call('HGETALL', K.meta), sets, zset(K.claims), redis.call('HGETALL', K.symbols), follows, positions, strategies, newest,
}
