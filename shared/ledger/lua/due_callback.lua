-- hold -> a job whose callback is due, for nobody else until `hold` seconds from now, or nothing
local id = redis.call('ZRANGEBYSCORE', P..'callbacks', '-inf', now(), 'LIMIT', 0, 1)[1]
if id then redis.call('ZADD', P..'callbacks', now() + tonumber(ARGV[1]), id) end
return id
