-- token ttl_ms -> 1 when this token is the one that asks
local asking = redis.call('GET', P..'writer:wanted')
if asking and asking ~= ARGV[1] then return 0 end
redis.call('SET', P..'writer:wanted', ARGV[1], 'PX', ARGV[2])
return 1
