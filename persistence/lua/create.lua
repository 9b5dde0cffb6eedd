-- Create the namespace once; its clock can never change.
local clock = redis.call('HGET', K.meta, 'clock')
if clock then
  return clock
end
redis.call('HSET', K.meta, 'schema', A.schema, 'clock', A.clock, 'created_at', A.now, 'epoch', '1')
for name in string.gmatch(A.breakers, '[^,]+') do
  redis.call('HSET', K.breakers, name, '0')
end
emit('created', 'created:1', '{}', { 'clock', A.clock })
redis.call('HSET', K.ctl, 'mode', 'ON', 'gen', '1', 'by', 'system', 'reason', 'namespace created', 'at', A.now)
emit('control', 'control:1', '{}', { 'mode', 'ON', 'gen', '1', 'by', 'system', 'reason', 'namespace created' })
return A.clock
