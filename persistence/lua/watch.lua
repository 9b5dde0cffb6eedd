-- Somebody is looking: say so, and record what time alone has turned.
redis.call('HSET', K.seen, 'watched', A.now)
if not intact then
  return 0
end
local now = int(A.now)
read_own()
order_rate(now)
latency({})
local flat, names, seen = redis.call('HGETALL', K.seen), {}, {}
for i = 1, #flat, 2 do
  names[#names + 1] = flat[i]
  seen[flat[i]] = flat[i + 1]
end
table.sort(names)
for _, name in ipairs(names) do
  local step = string.match(name, '|(%d+)$')
  if step then
    feed(name, int(step), seen[name], now)
  end
end
local losses = redis.call('HMGET', K.day, 'r_micro', 'money_micro')
local fields = {}
for field in pairs(B) do
  fields[#fields + 1] = field
end
table.sort(fields)
for _, field in ipairs(fields) do
  local name = string.match(field, '^trip:(daily_loss_.*)$')
  if name then
    local limit = int(string.match(B[field], '^[^:]*:([^:]*)'))
    local loss = 0 - int(string.find(name, '^daily_loss_money:') and losses[2] or losses[1])
    read(name, loss, limit, loss >= limit)
  end
end
inputs_stale(0, now)
record_turned()
return 1
