-- token lease ref... -> how many of the leases are still held
local held, t = 0, now()
for i = 3, #ARGV do
  if holds(ARGV[i], ARGV[1]) then
    redis.call('ZADD', P..'due', t + tonumber(ARGV[2]), ARGV[i])
    held = held + 1
  end
end
return held
