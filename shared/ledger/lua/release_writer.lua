-- token force -> 1 when the lease is free now; 0, keeping it, while a chunk waits for the writer
if redis.call('GET', P..'writer') ~= ARGV[1] then return 1 end
if ARGV[2] == '0' then
  for _, ref in ipairs(redis.call('ZRANGE', P..'stage:index', 0, -1)) do
    if redis.call('HGET', P..'chunk:'..ref, 'state') == 'queued' then return 0 end
  end
end
return redis.call('DEL', P..'writer')
