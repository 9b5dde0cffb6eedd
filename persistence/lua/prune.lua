-- Forget one closed position or one answer; the caller names it, the script checks that it may go.
if A.what == 'position' then
  if redis.call('HGET', K.pos, 'sim') ~= 'done' then
    return 0
  end
  redis.call('DEL', K.pos)
  redis.call('ZREM', K.closed, A.member)
  redis.call('ZREM', K.awaited, A.member)
  return 1
end
if redis.call('EXISTS', K.pos_phantom) + redis.call('EXISTS', K.pos_scalp_phantom) > 0 then
  return 0
end
-- A refused signal names a bar it never held.
if K.bar and redis.call('GET', K.bar) == A.sid then
  redis.call('DEL', K.bar)
end
redis.call('DEL', K.sig)
redis.call('ZREM', K.ledger, A.sid)
return 1
