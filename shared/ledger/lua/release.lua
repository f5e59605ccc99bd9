-- token delay counted ref... -> how many were given back; `counted` 0 takes the delivery back
local t, released = now(), 0
for i = 4, #ARGV do
  if holds(ARGV[i], ARGV[1]) then
    redis.call('HSET', P..'chunk:'..ARGV[i], 'state', 'delayed', 'token', '')
    if ARGV[3] == '0' then redis.call('HINCRBY', P..'chunk:'..ARGV[i], 'deliveries', -1) end
    redis.call('ZADD', P..'due', t + tonumber(ARGV[2]), ARGV[i])
    released = released + 1
  end
end
return released
