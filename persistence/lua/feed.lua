-- A closed candle for the follower; in a data namespace it also moves the clock, which never goes back.
local id = redis.call('XADD', K.candles, '*', 'symbol', A.symbol, 'timeframe', A.timeframe, 'candle', A.candle)
if redis.call('HGET', K.meta, 'clock') == 'data' and int(A.closes) > int(redis.call('GET', K.clock)) then
  redis.call('SET', K.clock, A.closes)
end
return id
