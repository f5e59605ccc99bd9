-- id -> 1: the expired job's keys are gone, if they were not before; 0 when it has not expired
local id = ARGV[1]
local expiry = redis.call('ZSCORE', P..'expiry', id)
if not expiry or tonumber(expiry) > now() then return 0 end
forget(id)
redis.call('ZREM', P..'expiry', id)
return 1
