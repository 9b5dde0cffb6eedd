-- Change the mode. A missing control key stays missing: only creation and rebuild write it.
local gen = redis.call('HGET', K.ctl, 'gen')
if gen and (A.expected == '' or A.expected == gen) then
  local next_gen = text(int(gen) + 1)
  redis.call('HSET', K.ctl, 'mode', A.mode, 'gen', next_gen, 'by', A.by, 'reason', A.reason, 'at', A.now)
  emit('control', 'control:' .. next_gen, '{}', { 'mode', A.mode, 'gen', next_gen, 'by', A.by, 'reason', A.reason })
end
return redis.call('HGETALL', K.ctl)
