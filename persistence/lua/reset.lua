-- A person lets a breaker count anew. The generation is the one they looked at: of its trip, else of all breakers.
local known = string.match(B['trip:' .. A.name] or '', ':(%d+)$') or B.gen
if not intact or known ~= A.expected then
  return 0
end
local value = '0'
if A.name == 'drawdown_r' then
  value = text(int(B.high_r) - int(B.equity_r))
  redis.call('HSET', K.breakers, 'high_r', B.equity_r)
elseif A.name == 'drawdown_money' then
  value = text(int(B.high_money) - int(B.equity_money))
  redis.call('HSET', K.breakers, 'high_money', B.equity_money)
elseif A.name == 'losing_streak' then
  value = B.streak
  redis.call('HSET', K.breakers, 'streak', '0')
elseif A.name == 'slippage' then
  value = B.slip_sum
  redis.call('DEL', K.slips)
  redis.call('HSET', K.breakers, 'slips', '0', 'slip_sum', '0', 'slip_expected', '0')
else
  return 0
end
record_turn(A.name, 'reset', value, '0', A.by)
return 1
