-- token delay counted waits reason ref... -> how many were given back; `counted` 0 takes the delivery back. With `waits` 1 they
-- hold up no other job meanwhile: they leave the queue of fetch or encode, and their job sends no more chunks.
local t, released = now(), 0
for i = 6, #ARGV do
  if holds(ARGV[i], ARGV[1]) then
    redis.call('HSET', P..'chunk:'..ARGV[i], 'state', 'delayed', 'token', '', 'reason', ARGV[5])
    redis.call('HSETNX', P..'chunk:'..ARGV[i], 'released', t)
    if ARGV[3] == '0' then redis.call('HINCRBY', P..'chunk:'..ARGV[i], 'deliveries', -1) end
    redis.call('ZADD', P..'due', t + tonumber(ARGV[2]), ARGV[i])
    local stage = redis.call('HGET', P..'chunk:'..ARGV[i], 'stage')
    mark_stage(stage, 'had')
    if ARGV[4] == '1' and stage ~= 'index' then
      redis.call('ZREM', P..'stage:'..stage, ARGV[i])
      redis.call('SREM', P..'aside', ARGV[i])
      redis.call('SADD', P..'away', ARGV[i])
      redis.call('HSET', P..'job:'..split(ARGV[i]), 'held', t + tonumber(ARGV[2]),
        'lacking', t + tonumber(ARGV[2]))
    end
    released = released + 1
  end
end
return released
