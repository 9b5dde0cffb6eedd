-- A profile's settings, recorded when they change, and the founding keys of its strategy.
if redis.call('HGET', K.profile, 'settings') == A.settings then
  return 'REPLAY'
end
redis.call('HSET', K.profile, 'settings', A.settings, 'at', A.now)
redis.call('HSETNX', K.training, 'next', A.first)
redis.call('SET', K.threshold, A.threshold)
redis.call('SETNX', K.completed, '0')
redis.call('SETNX', K.closed_total, '0')
redis.call('SETNX', K.nn_enabled, '0')
redis.call('SETNX', K.trained, '0')
redis.call('SETNX', K.qcal_thr, '{}')
redis.call('SETNX', K.qcal_trained, '0')
local nextseq = text(int(redis.call('HGET', K.meta, 'seq')) + 1)
emit('profile', 'profile:' .. A.strategy .. ':' .. nextseq, A.settings,
  { 'strategy', A.strategy, 'threshold', A.threshold, 'first', A.first })
return 'DONE'
