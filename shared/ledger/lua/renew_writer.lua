-- token ttl_ms -> 1 while the lease is (again) this token's
if redis.call('GET', P..'writer') ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', P..'writer', ARGV[2])
