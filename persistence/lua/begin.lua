-- An attempt at training gets its number: every earlier one is fenced out by it.
local attempt = text(redis.call('HINCRBY', K.training, 'attempt', 1))
emit('training', 'training:' .. A.strategy .. ':' .. attempt, '{}', { 'strategy', A.strategy, 'attempt', attempt })
return attempt
