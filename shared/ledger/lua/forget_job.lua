-- id -> 1: the expired job's keys are gone; 0 when it has not expired
local id = ARGV[1]
local expiry = redis.call('ZSCORE', P..'expiry', id)
if not expiry or tonumber(expiry) > now() then return 0 end
forget_callback(id)
for _, name in ipairs({'job:', 'states:', 'errors:'}) do redis.call('DEL', P..name..id) end
for _, name in ipairs({'jobs', 'expiry', 'reading'}) do redis.call('ZREM', P..name, id) end
redis.call('LREM', P..'open', 0, id)
return 1
