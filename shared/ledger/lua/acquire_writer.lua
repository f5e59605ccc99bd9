-- token ttl_ms -> 1 when the lease is this token's now; 0 while it is another's, or while another asks for it
local asking = redis.call('GET', P..'writer:wanted')
if asking and asking ~= ARGV[1] then return 0 end
if not redis.call('SET', P..'writer', ARGV[1], 'NX', 'PX', ARGV[2]) then return 0 end
if asking then redis.call('DEL', P..'writer:wanted') end
return 1
