-- token lease ref... -> how many of the leases are still held
local held, t = 0, now()
for i = 3, #ARGV do
  if holds(ARGV[i], ARGV[1]) then
    redis.call('ZADD', P..'due', t + tonumber(ARGV[2]), ARGV[i])
    -- For which it was given back before: this time it lasts. (The writer's is quick, or hangs for the same reason.)
    if redis.call('HGET', P..'chunk:'..ARGV[i], 'stage') ~= 'index' then redis.call('HDEL', P..'chunk:'..ARGV[i], 'reason') end
    held = held + 1
  end
end
return held
