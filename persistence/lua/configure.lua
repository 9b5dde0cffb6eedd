-- Thresholds of the breakers. State that is missing stays missing: only creation and rebuild write it.
if not intact then
  return 0
end
local changed, named = {}, {}
for _, name in ipairs(LIMITS) do
  if B['limit_' .. name] ~= A['limit_' .. name] then
    changed = named
  end
  named[#named + 1] = 'limit_' .. name
  named[#named + 1] = A['limit_' .. name]
end
if changed == named then
  redis.call('HSET', K.breakers, unpack(named))
  local gen = text(redis.call('HINCRBY', K.breakers, 'gen', 1))
  named[#named + 1] = 'gen'
  named[#named + 1] = gen
  emit('thresholds', 'thresholds:' .. gen, '{}', named)
end
return 1
